"""A checkpoint of rl_games becomes a run of ours: weights, normalisers, Adam's moments, the rate and the counters.

The checkpoint that is written holds the agent alone: environments begin anew as the run goes on, as in rl_games.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl import find
from jaxrl.algorithms.ppo import agent as ppo
from jaxrl.functional import normalize
from jaxrl.host import checkpoint, policies, run_folder
from jaxrl.host.keys import error
from jaxrl.host.rl_games import learner, sizes, weights
from jaxrl.host.rl_games.found import Checkpoint
from jaxrl.host.rl_games.source import Source
from jaxrl.types import PyTree, Spec, TrainState

# Parts of a checkpoint that have no place here, and why.
LEFT = {
    "last_mean_rewards": "the best training return there; here checkpoints are compared by evaluations",
    "env_state": "environments begin anew",
    "scaler": "of mixed precision, which needs none here",
    "advantage_mean_std": "advantages are normalised anew",
    "reward_mean_std": "the same as model.value_mean_std",
    "running_mean_std": "the same as model.running_mean_std",
}


class Agent(NamedTuple):
    """What is moved, and to be written down."""

    state: PyTree  # of the algorithm
    iterations: int
    env_steps: int
    spec: Spec
    moved: list[str]
    left: list[str]


def move(found: Checkpoint, source: Source, config: ConfigDict) -> Agent:
    """The agent of a checkpoint.

    Args:
        found: the checkpoint.
        source: the yaml that it was trained with.
        config: resolved, of the experiment that the yaml became.

    Raises:
        ConfigError: they do not belong together, or the environment shows something else.
    """
    spec, origin = sizes.find(found.tensors, source, config)
    state = _blank(config, spec)
    obs = sizes.encoded(spec)
    sizes.check_padding(source, config.network, obs)
    likes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state.params)

    def translate(tensors):
        return weights.move(tensors, source, config.network, likes, obs)

    report = learner.Report([], [])
    params = translate(found.tensors)
    report.moved.extend([origin, f"weights: {sum(x.size for x in jax.tree.leaves(params)):,} numbers"])
    if any(weights.stays(name, source) for name in found.tensors):
        report.left.append("the policy's own value head: the central value is the critic here")
    report.left.extend(f"{name}: {LEFT.get(name, 'unknown here')}" for name in found.others)
    state = state._replace(params=params, **learner.moments(found, source, state, spec, report))
    owns = {name: phase.owns for name, phase in ppo.phases(config.ppo, note=None).items()}
    state = learner.optimizers(found, source, state, owns, translate, report)
    if config.ppo.learning_rate_schedule == "adaptive_kl":
        state = learner.rate(found, state, report)
    iterations, env_steps = learner.count(found, config, report)
    return Agent(state._replace(updates=jnp.int32(iterations)), iterations, env_steps, spec, *report)


def _blank(config, spec):
    """An agent that has seen nothing, its weights 0; made without compiling anything."""
    algorithm = find.find("algorithms", config.algorithm).make(config, spec)
    state = jax.eval_shape(algorithm.init, jax.random.key(0), algorithm.hyper)
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    # What begins at another number than 0.
    likes = {"obs_moments": spec.obs} | {
        name: getattr(state, name).mean[0] for name in ("value_moments", "advantage_moments", "novelty_moments")
    }
    return state._replace(
        hyper=jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), algorithm.hyper),
        **{name: normalize.init(like) for name, like in likes.items()},
    )


def write(agent: Agent, config: ConfigDict, workdir: Path, command_line: list[str]) -> Path:
    """Makes the run folder with one checkpoint, from which the run goes on.

    Raises:
        ConfigError: the folder holds something already, or cannot be written.
    """
    check_new(workdir)
    devices = {"kind": jax.devices()[0].device_kind, "count": jax.device_count()}
    folder = run_folder.open_run(workdir, config, command_line, devices, agent.spec)
    lines: list[str] = []
    saver = checkpoint.Checkpointer(folder / policies.CHECKPOINTS, config.checkpoint, lines.append)
    saver.save(TrainState(agent.state, (), (), jnp.int32(agent.iterations)), agent.env_steps, {})
    if not saver.close():
        raise error(f"the checkpoint was not written to {folder}: {' '.join(lines)}")
    return folder


def check_new(workdir: Path) -> None:
    """ConfigError if there is something in the way of a new run folder."""
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise error(f"--workdir={workdir} is there already; give a new one")
