"""Trained policies, from the checkpoints of a run folder: found, verified, restored and called.

Nothing is executed that lies in the run folder. A checkpoint is read whole, as its checksum is over all of it, but only
the agent is kept: how many environments trained it, on how many devices, plays no part.

What the policy sees and does stands in the run's spec.json; of a run that has none, one environment is made to ask it,
so its suite must be installed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl import envs, find
from jaxrl.host import checkpoint, keys, run_folder
from jaxrl.types import Algorithm, Array, ConfigError, Key, PyTree, Spec, TrainState

SELECTORS = ("latest", "best")
CHECKPOINTS = "checkpoints"  # the folder of them in a run's


class Found(NamedTuple):
    """A run, and one of its checkpoints, or of another run that fits it."""

    config: ConfigDict  # of the run, resolved
    folder: Path  # that the checkpoint lies in
    env_steps: int  # of the checkpoint, which are its name
    spec: Spec | None = None  # of its environment, where the run has it written down


class Policy:
    """A trained policy with its normaliser inside: observations in, actions out.

        policy = jaxrl.load_policy("runs/ant")
        action = policy(obs)

    `obs` is what `jaxrl.make_env` shows of the run's environment, as numpy or jax arrays: one observation, in the form
    of `policy.spec.obs`, or N of them, [N, ...]. Of a dict, `critic` may be left out: acting does not need it. The
    action, or N of them, comes back as jax arrays of the space `policy.spec.action`; a Gaussian's may lie outside of
    its bounds, where the environment clips it. It is the mode of the policy, or, with deterministic=False, a sample.
    Each new N compiles once.

    A policy with memory (`policy.is_recurrent`) keeps it from call to call; a call is then one step of each episode:

        policy.reset()                                  # all episodes begin with the next call
        while not done:
            action = policy(obs)
            ...
        action = policy(obs, begins=done)               # of N episodes, those begin anew with these observations

    `policy.step` keeps nothing: the same as a pure function, to be jitted, mapped and scanned.

        carry = policy.carry(N)
        action, carry = policy.step(obs, carry, begins)

    Attributes:
        spec: of the environment, a jaxrl.types.Spec; its num_envs means nothing here.
        config: of the run, resolved.
        env_steps: after which the checkpoint was saved.
        algorithm, agent: what acts: algorithm.policy(agent, carry, obs, reset).
        carry: N -> the memory before the first step, [N, ...]; () without one.
        is_recurrent: whether there is a memory.
    """

    def __init__(self, algorithm: Algorithm, agent: PyTree, spec: Spec, config: ConfigDict, env_steps: int):
        self.algorithm, self.agent, self.spec, self.config, self.env_steps = algorithm, agent, spec, config, env_steps
        self.carry: Callable[[int], PyTree] = algorithm.carry
        self.is_recurrent = bool(jax.tree.leaves(jax.eval_shape(lambda: algorithm.carry(1))))
        # All that a call looks at is looked at as it is traced: what remains is jit's own way to a compiled program.
        self._jitted = jax.jit(self._act)
        self.reset()

    def __call__(
        self,
        obs: PyTree,
        *,
        deterministic: bool = True,
        key: Key | None = None,
        begins: Array | np.ndarray | None = None,
    ) -> PyTree:
        """The action for one observation, or the actions for N.

        Args:
            obs: one observation, or N of them, [N, ...].
            deterministic: the mode; else a sample, drawn with `key`.
            key: of jax.random, a new one for each call.
            begins: [N] bool, the episodes that begin with these observations; only a memory cares.

        Raises:
            ConfigError: the observation is not of the form that the policy was trained on; a sample without a key; N is
                not that of the episodes it remembers.
        """
        if deterministic == (key is not None):
            _refuse_key(deterministic)
        action, self._carry = self._jitted(self.agent, obs, self._carry, begins, key)
        return action

    def reset(self) -> None:
        """Forgets: all episodes begin with the next call."""
        self._carry = None if self.is_recurrent else ()

    def step(
        self, obs: PyTree, carry: PyTree, begins: Array, *, deterministic: bool = True, key: Key | None = None
    ) -> tuple[PyTree, PyTree]:
        """One step of N episodes, as a pure function.

        Args:
            obs: [N, ...].
            carry: [N, ...], of `carry(N)` or the step before.
            begins: [N] bool, the episodes that begin with these observations.
            deterministic, key: as in a call.

        Returns:
            Actions and carry, [N, ...].
        """
        if deterministic == (key is not None):
            _refuse_key(deterministic)
        return self._act(self.agent, obs, carry, begins, key)

    def __repr__(self):
        return f"Policy({self.config.env.suite}/{self.config.env.name}, {self.env_steps:,} env steps, {self.spec!r})"

    def _act(self, agent, obs, carry, begins, key):
        """(action, carry) for one observation or N; carry None: all episodes begin; begins None: no other does."""
        obs, is_one = self._understand(obs)
        num = jax.tree.leaves(obs)[0].shape[0]
        fresh = carry is None
        carry = self.carry(num) if fresh else carry
        remembered = {leaf.shape[0] for leaf in jax.tree.leaves(carry)} - {num}
        if remembered:
            raise ConfigError(
                f"obs is of {num} episodes, and the policy remembers {remembered.pop()}; call reset() before others."
            )
        begins = jnp.full(num, fresh) if fresh or begins is None else jnp.asarray(begins, bool).reshape(num)
        if key is None:
            action, carry = self.algorithm.policy(agent, carry, obs, begins)
        else:
            action, carry, _ = self.algorithm.act(agent, carry, obs, begins, key)
        return (jax.tree.map(lambda x: x[0], action) if is_one else action), carry

    def _understand(self, obs: PyTree) -> tuple[PyTree, bool]:
        """The observations [N, ...] in the form of training, and whether there was only one, without N."""
        like = self.spec.obs
        given = obs
        if isinstance(like, Mapping) and isinstance(obs, Mapping) and "critic" in like and "critic" not in obs:
            like = {name: part for name, part in like.items() if name != "critic"}
        if jax.tree.structure(obs) != jax.tree.structure(like):
            raise self._misfit(given)
        axes = {jnp.ndim(x) - each.ndim for x, each in zip(jax.tree.leaves(obs), jax.tree.leaves(like), strict=True)}
        if axes not in ({0}, {1}):
            raise self._misfit(given)
        is_one = axes == {0}
        obs = jax.tree.map(lambda x: x[None] if is_one else x, jax.tree.map(jnp.asarray, obs))
        num = jax.tree.leaves(obs)[0].shape[0]

        def cast(x, each):
            # Numbers in [0, 1] would be a black image in uint8; all other casts keep what the environment meant.
            loses = jnp.issubdtype(x.dtype, jnp.floating) and not jnp.issubdtype(each.dtype, jnp.floating)
            if x.shape != (num, *each.shape) or loses:
                raise self._misfit(given)
            return x.astype(each.dtype)

        obs = jax.tree.map(cast, obs, like)
        if like is not self.spec.obs:
            blank = lambda x: jnp.zeros((num, *x.shape), x.dtype)  # noqa: E731
            obs = {**obs, "critic": jax.tree.map(blank, self.spec.obs["critic"])}
        return obs, is_one

    def _misfit(self, obs) -> ConfigError:
        seen = jax.tree.map(lambda x: f"{jnp.asarray(x).dtype}{list(jnp.shape(x))}", obs)
        expected = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", self.spec.obs)
        return keys.error(f"obs is {seen}, and the policy was trained on {expected}; give one of these, or [N, ...]")


def _refuse_key(deterministic: bool):
    if deterministic:
        raise ConfigError("key is given, and deterministic=True draws nothing; say deterministic=False, or leave it.")
    raise ConfigError("deterministic=False draws a sample; give it a key=jax.random.key(...), a new one in each call.")


def load(run: str | Path, selector: str | int | Path = "latest") -> Policy:
    """The policy of a run at one of its checkpoints.

    Args:
        run: the run folder.
        selector: 'latest', 'best' (by eval/episode_return), the env steps of a checkpoint, or the path of its folder.

    Raises:
        ConfigError: there is no such run or checkpoint, it is damaged, or it is of another agent than the config
            describes; the run has no spec.json, and its environment cannot be made.
    """
    found = locate(run, selector)
    spec = found.spec or envs.make(found.config.env, 1, restarts=False).spec
    algorithm = find.find("algorithms", found.config.algorithm).make(found.config, spec)
    return Policy(algorithm, restore(found, algorithm), spec, found.config, found.env_steps)


def restore(found: Found, algorithm: Algorithm) -> PyTree:
    """The agent of a checkpoint, verified, bit for bit; on the default device.

    Raises:
        ConfigError: it is damaged, or of another agent than `algorithm` makes.
    """
    agent = jax.eval_shape(algorithm.init, jax.random.key(0), algorithm.hyper)
    saver = _open(found.folder, found.config)
    try:
        state, _ = saver.restore(TrainState(agent, (), (), ()), found.env_steps, partial=True)
    finally:
        saver.close()
    return state.agent


def locate(run: str | Path, selector: str | int | Path = "latest") -> Found:
    """The checkpoint that is meant; see `load`. That it is unharmed is for `restore` to see."""
    run = Path(run)
    config, spec = config_of(run), run_folder.read_spec(run)
    text = str(selector)
    number = text.replace(",", "").replace("_", "")
    if not (text in SELECTORS or number.isdecimal()):
        folder, number = _of_path(run, config, text)
    else:
        folder = run / CHECKPOINTS
    there = steps(folder, config)
    if not there:
        raise keys.error(f"{run} has no checkpoint yet; the first is saved while it trains, and when it is stopped")
    choice = ", ".join(map(str, there))
    if text == "latest":
        return Found(config, folder, there[-1], spec)
    if text == "best":
        best = _ask(folder, config, checkpoint.Checkpointer.best)
        if best is None:
            raise keys.error(
                f"no checkpoint of {run} was evaluated, so none is best; choose latest, or one of {choice}"
            )
        return Found(config, folder, best, spec)
    if int(number) not in there:
        nearest = min(there, key=lambda step: abs(step - int(number)))
        raise keys.error(f"checkpoint {text} is not in {folder}; the nearest of {choice} is {nearest}")
    return Found(config, folder, int(number), spec)


def config_of(run: str | Path) -> ConfigDict:
    """The resolved config of a run; ConfigError if there is no such run."""
    run = Path(run)
    if not run_folder.is_run(run):
        raise _no_run(run)
    return run_folder.read_config(run)


def steps(folder: Path, config: ConfigDict) -> list[int]:
    """The env steps of the checkpoints in a folder, ascending."""
    return _ask(folder, config, checkpoint.Checkpointer.steps)


def _ask(folder, config, question):
    saver = _open(folder, config)
    try:
        return question(saver)
    finally:
        saver.close()


def _open(folder, config):
    return checkpoint.Checkpointer(folder, config.checkpoint)


def _of_path(run, config, text) -> tuple[Path, str]:
    """The folder that a checkpoint's folder lies in, and its name."""
    path = Path(text)
    there = ", ".join(map(str, steps(run / CHECKPOINTS, config))) or "none yet"
    if path.name.isdecimal() and path.is_dir():
        return path.parent, path.name
    if path.exists():
        raise keys.error(f"checkpoint {text} is no folder named by its env steps; there are {there}")
    cure = find.nearest(text, [*SELECTORS, *there.split(", ")])
    raise keys.error(f"checkpoint {text!r} does not exist; {cure}")


def _no_run(run: Path) -> ConfigError:
    """What to say of a folder that is no run's: what else may be meant."""
    above = [folder for folder in run.parents if run_folder.is_run(folder)]
    if above:
        return keys.error(f"{run} is a part of the run {above[0]}; give that, and --checkpoint={run.name}")
    if not run.exists():
        around = run.parent.iterdir() if run.parent.is_dir() else ()
        known = sorted(str(folder) for folder in around if folder.is_dir() and run_folder.is_run(folder))
        cure = find.nearest(str(run), known) if known else "give the --workdir of a training run"
        return keys.error(f"{run} does not exist; {cure}")
    return keys.error(f"{run} is no run folder: it has no {run_folder.CONFIG}; give the --workdir of a training run")
