"""Plays full episodes of a run's policy, and says how good they were.

Letters in shapes: N episodes, A agents of each.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxrl import envs, find
from jaxrl.host import evaluation, policies, statistics
from jaxrl.types import ConfigError, PyTree


class Played(NamedTuple):
    """Episodes that were played to their end."""

    config: ConfigDict  # of the run
    env_steps: int  # of the checkpoint
    returns: np.ndarray  # [N, A], over the value heads, if there are several
    lengths: np.ndarray  # [N, A] steps
    ended: np.ndarray  # [N, A] bool; else cut off after config.eval.max_steps

    def __repr__(self):
        """A line, where a notebook would show all the numbers."""
        told = describe(self)
        return (
            f"Played({len(self.returns)} episodes after {self.env_steps:,} env steps: "
            f"return {told['mean']:.6g} ± {told['std']:.3g}, IQM {told['iqm']:.6g} "
            f"[{told['iqm_low']:.6g}, {told['iqm_high']:.6g}], "
            f"length {told['length_mean']:.6g} ({told['length_min']} to {told['length_max']}))"
        )


def play(
    run: str | Path, selector: str | int | Path = "latest", episodes: int = 128, sampled: bool = False, seed: int = 0
) -> Played:
    """Plays as a run's evaluations do, each episode in an environment of its own.

    Args:
        run, selector: as `policies.load` takes them.
        episodes: N.
        sampled: actions are drawn from the policy; else they are its mode.
        seed: of the initial states, and of what is drawn.

    Raises:
        ConfigError: as `policies.load`; no episodes.
    """
    check(episodes, seed)
    found = policies.locate(run, selector)
    player = Player(found.config, episodes, sampled)
    return player.play(found, policies.restore(found, player.algorithm), seed)


def check(episodes: int, seed: int) -> None:
    """ConfigError if either is out of range."""
    if episodes < 1:
        raise ConfigError(f"episodes={episodes} is out of range; choose 1 or more.")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed={seed} is out of range; choose one in [0, 2**32).")


class Player:
    """Plays the checkpoints of a run, one after the other; compiled once for all of them.

    Args:
        config: of the run.
        episodes, sampled: as `play` takes them.

    Attributes:
        algorithm: whose agents play.
    """

    def __init__(self, config: ConfigDict, episodes: int, sampled: bool = False):
        env = envs.make(config.env, episodes, restarts=False)
        self.algorithm = find.find("algorithms", config.algorithm).make(config, env.spec)
        self._episodes = episodes
        setting = config.eval.copy_and_resolve_references()
        setting.deterministic = not sampled
        evaluate = evaluation.make(env, self.algorithm, setting, report=evaluation.episodes)
        self._evaluate = jax.jit(evaluate) if env.spec.traceable else evaluate

    def play(self, found: policies.Found, agent: PyTree, seed: int = 0) -> Played:
        """One episode in each environment, with the agent of that checkpoint."""
        told = jax.device_get(self._evaluate(agent, jax.random.key(seed)))
        rows = {name: np.asarray(value).reshape(self._episodes, -1) for name, value in told.items()}
        return Played(found.config, found.env_steps, rows["return"], rows["length"], rows["ended"])


def describe(played: Played, seed: int = 0) -> dict[str, Any]:
    """The numbers that sum it up, by name; std is over the N·A returns, and the interval is `interval`'s."""
    returns, lengths = played.returns.astype(np.float64), played.lengths
    low, high = interval(returns, seed)
    return {
        "mean": returns.mean().item(),
        "std": returns.std().item(),
        "iqm": iqm(returns),
        "iqm_low": low,
        "iqm_high": high,
        "min": returns.min().item(),
        "max": returns.max().item(),
        "length_mean": lengths.mean().item(),
        "length_min": lengths.min().item(),
        "length_max": lengths.max().item(),
        "cut_off": int((~played.ended).sum()),
    }


def iqm(values: np.ndarray) -> float:
    """The interquartile mean of all values at once; see `statistics.iqm`."""
    return statistics.iqm([values.reshape(-1)]).item()


def interval(returns: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the IQM by the percentile bootstrap over episodes; see `statistics.interval`.

    It says how sure these episodes make the IQM of this one policy. Other seeds of training would differ by more: that
    takes several runs, and a bootstrap stratified by task, as `jaxrl.plot` has it.

    Args:
        returns: [N] or [N, A]; the episode is drawn, with all of its agents.
        seed: of the draws.
    """
    agents = returns.reshape(len(returns), -1).T  # [A, N]
    low, high = statistics.interval([agents], lambda drawn: statistics.iqm(list(drawn[0])), seed)
    return low.item(), high.item()
