"""The competitors, one a file.

A file exports `make(problem, shared) -> step`, where `step() -> int` runs `problem.iterations` PPO iterations, blocks,
and returns the env steps done. One that has a recipe for Ant exports `learn(seed, interval) -> step, act` too: a step
of at least `interval` env steps, and the deterministic policy as it is by then, `act(obs [N, ...]) -> action [N, A]` in
[-1, 1], arrays of JAX.
"""

from typing import NamedTuple


class System(NamedTuple):
    """A competitor: a module of this folder with the kind of net it trains."""

    module: str
    shared: bool  # one trunk for policy and value
    net: str  # what a table says of it
    install: str  # what a user types when it is absent


SYSTEMS = {
    "physics": System("physics", False, "none", "pip install brax"),
    "jaxrl_shared": System("jaxrl", True, "shared", "pip install -e ."),
    "jaxrl_separate": System("jaxrl", False, "separate", "pip install -e ."),
    "brax": System("brax", False, "separate", "pip install brax==0.14.2"),
    "rl_games": System("rl_games", True, "shared", "pip install torch rl_games==1.6.5"),
    "purejaxrl": System(
        "purejaxrl",
        False,
        "separate",
        "pip install distrax gymnax; git clone https://github.com/luchris429/purejaxrl; --purejaxrl PATH",
    ),
    "stable_baselines3": System("stable_baselines3", False, "separate", "pip install stable-baselines3"),
}
