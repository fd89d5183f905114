"""The nouns of jaxrl: what flows between the floors, as NamedTuples.

Letters in shapes: T steps of a rollout, N environments over all devices, K bootstrap slots, A action size.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed key, from jax.random.key
PyTree = Any


class ConfigError(ValueError):
    """What a user asked for cannot be done; the message is one line that names the key, the value and the cure."""


class Box(NamedTuple):
    """A continuous space: real vectors between two bounds."""

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0


class Discrete(NamedTuple):
    """One of `size` options: an int32 in [0, size)."""

    size: int


class MultiDiscrete(NamedTuple):
    """One option of each of K parts: int32 [K], part k in [0, sizes[k])."""

    sizes: tuple[int, ...]


Space = Box | Discrete | MultiDiscrete | tuple  # a tuple holds a part for each of its spaces


class Spec(NamedTuple):
    """What is known of an environment before it runs."""

    num_envs: int
    obs: PyTree  # of jax.ShapeDtypeStruct, without the leading [N]
    action: Space
    truncation_interval: int  # steps in which no environment truncates twice; 1 if nothing is known
    num_agents: int = 1
    num_value_heads: int = 1
    traceable: bool = True  # reset and step can be jitted
    all_valid: bool = False  # `valid` is True in every step; to know it before saves what would look

    def __repr__(self):
        """Arrays by type and shape, 'float32[8]', without the axis of N."""
        reward = f"float32[{self.num_value_heads}]" if self.num_value_heads > 1 else "float32[]"
        obs = jax.tree.map(_Form, self.obs)
        rest = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields[2:], self[2:], strict=True))
        return f"Spec(num_envs={self.num_envs}, obs={obs}, reward={reward}, {rest})"


class _Form(str):
    """The type and shape of an array, as a repr shows them."""

    def __new__(cls, array):
        return super().__new__(cls, f"{array.dtype}[{', '.join(map(str, array.shape))}]")

    def __repr__(self):
        return str(self)


class Timestep(NamedTuple):
    """What N environments show after a step or a reset."""

    obs: PyTree  # [N, ...] already of the next episode where one ended
    reward: Array  # [N], or [N, H] with H > 1 value heads
    terminated: Array  # [N] bool: nothing is worth anything from here on
    truncated: Array  # [N] bool: the clock stopped, the task did not: worth V(final_obs)
    final_obs: PyTree  # [N, ...] the true observation after this step, also where an episode ended
    metrics: dict[str, Array]  # [N] per-step numbers that the environment reports
    valid: Array  # [N] bool: False where the action went unused: a reset in the step after an end, another's turn


class Environment(NamedTuple):
    """N environments that restart themselves."""

    reset: Callable  # key -> (env_state, Timestep); on the host perhaps also (key, saved env_state), see wrappers.begin
    step: Callable  # (env_state, action [N, A]) -> (env_state, Timestep)
    spec: Spec


class Network(NamedTuple):
    """Policy and value in one; the carry is () unless it is recurrent."""

    init: Callable  # key -> params
    carry: Callable  # N -> carry [N, ...]
    apply: Callable  # (params, carry, obs, reset), [T, N, ...] -> distribution, values, carry
    value: Callable  # (params, carry, obs, reset), [T, N, ...] -> values, of functional/values.py, [T, N, ...]
    auxiliary: Callable | None = None  # (params, carry, obs, reset) -> dict of losses, added to the policy's


class Rollout(NamedTuple):
    """T steps of N environments under one policy."""

    obs: PyTree  # [T, N, ...] what the policy saw
    reset: Array  # [T, N] bool: obs is the first of its episode
    reward: Array  # [T, N] or [T, N, H]
    terminated: Array  # [T, N] bool
    truncated: Array  # [T, N] bool
    valid: Array  # [T, N] bool: False where there was no transition, so nothing to learn
    memo: PyTree  # [T, N, ...] what `act` wants to remember of each step
    carry: PyTree  # [K, N, ...] recurrent state before the first of each T/K steps
    final_obs: PyTree  # [K, N, ...] last observation of the episode truncated within each T/K steps
    final_carry: PyTree  # [K, N, ...] recurrent state that goes with it
    last_obs: PyTree  # [N, ...] the observation after the last step
    last_carry: PyTree  # [N, ...]
    last_reset: Array  # [N] bool


class Algorithm(NamedTuple):
    """A way to learn; everything that changes is in its state."""

    init: Callable  # (key, hyper) -> state
    act: Callable  # (state, carry, obs, reset, key), [N, ...] -> action [N, A], carry, memo
    policy: Callable  # (state, carry, obs, reset), [N, ...] -> action [N, A], carry: what is evaluated and exported
    update: Callable  # (state, rollout, key) -> state, metrics
    carry: Callable  # N -> carry [N, ...]
    hyper: Any  # the numbers that may change without recompiling, as the config gives them
    unroll_length: int  # T, the steps of one rollout
    segment_length: int  # steps after which a rollout keeps the carry, from which learning starts again
    random_steps: int = 0  # env steps of random actions that `look` is shown before training
    look: Callable | None = None  # (state, obs [T, N, ...], valid [T, N]) -> state


class TrainState(NamedTuple):
    """All there is to save: restoring it resumes the run bit for bit."""

    agent: PyTree  # params, optimiser, normalisers, Hyper: the same on every device
    actor: PyTree  # recurrent carry, env_state, obs, episode statistics: [N, ...], split over devices
    key: Key
    iterations: Array  # [] int32 rollouts and updates done; env steps = iterations * N * T, a Python int on the host


class Writer(NamedTuple):
    """Where rows of metrics go."""

    write: Callable  # row (dict of str -> number, with env_steps and wall_seconds) -> None
    close: Callable  # () -> None
