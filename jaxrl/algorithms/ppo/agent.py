"""PPO as an Algorithm: what its config chooses, how its agent begins, and how it acts."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from jaxrl import find
from jaxrl.algorithms.ppo import config as configs
from jaxrl.algorithms.ppo import exploration, learning, terms
from jaxrl.algorithms.ppo.config import Hyper
from jaxrl.algorithms.ppo.parts import Memo, Parts, Phase, State
from jaxrl.functional import normalize, rewards, schedules, vectors
from jaxrl.functional.symmetry import Symmetry
from jaxrl.networks import actor_critic, novelty
from jaxrl.types import Algorithm, Array, Key, PyTree, Spec


def make(config: ConfigDict, spec: Spec) -> Algorithm:
    """PPO for the environments of `spec`.

    Args:
        config: the whole resolved config, of which it reads `ppo`, `network` and `total_env_steps`.
        spec: of the environments it will learn in.

    Raises:
        ConfigError: sizes that do not divide, options that exclude each other.
    """
    ppo = config.ppo
    num_minibatches, groups = configs.check_sizes(ppo)
    configs.check_options(ppo, config.network, spec)
    network = actor_critic.make(config.network, spec)
    reference, note = configs.KL_REFERENCES[ppo.kl_reference]
    keep = lambda moments, x: x  # noqa: E731
    stay = lambda moments, x, valid: moments  # noqa: E731
    parts = Parts(
        network=network,
        auxiliary=network.auxiliary or (lambda params, carry, obs, reset: {}),
        optimizer=optax.scale_by_adam(eps=ppo.adam_epsilon),
        spec=spec,
        config=ppo,
        segment_length=ppo.segment_length or ppo.unroll_length,
        groups=groups,
        num_minibatches=num_minibatches,
        num_updates=config.total_env_steps / (spec.num_envs * ppo.unroll_length),
        phases=phases(ppo, note),
        bonus=exploration.make(ppo, spec),
        symmetries=symmetries(ppo, spec),
        reference=reference,
        note=note,
        shape_reward=functools.partial(
            rewards.shape,
            scale=ppo.reward_scale,
            shift=ppo.reward_shift,
            bounds=ppo.reward_bounds,
            log=ppo.reward_log,
        ),
        bootstrap=configs.BOOTSTRAPS[ppo.bootstrap],
        normalize_obs=functools.partial(normalize.normalize, clip=ppo.obs_clip) if ppo.normalize_obs else keep,
        follow_obs=stay if ppo.random_steps else normalize.update,
        normalize_value=normalize.normalize if ppo.normalize_value else keep,
        denormalize_value=normalize.denormalize if ppo.normalize_value else keep,
        normalize_advantage={
            "batch": lambda moments, x, valid: normalize.standardize(x, valid),
            "running": lambda moments, x, valid: normalize.normalize(moments, x),
        }.get(ppo.normalize_advantage, lambda moments, x, valid: x),
        follow_advantage=normalize.update if ppo.normalize_advantage == "running" else stay,
        normalize_minibatch=(normalize.standardize if ppo.normalize_advantage == "minibatch" else lambda x, valid: x),
        decay=schedules.DECAYS.get(ppo.learning_rate_schedule, schedules.constant),
        decay_clip=schedules.DECAYS[ppo.clip_schedule],
        decay_entropy=schedules.DECAYS[ppo.entropy_schedule],
    )
    return Algorithm(
        init=functools.partial(init, parts),
        act=functools.partial(act, parts),
        policy=functools.partial(policy, parts),
        update=functools.partial(learning.update, parts),
        carry=network.carry,
        hyper=configs.hyper_of(ppo, spec),
        unroll_length=ppo.unroll_length,
        segment_length=parts.segment_length,
        random_steps=ppo.random_steps,
        look=look,
    )


def phases(ppo: ConfigDict, note: Callable) -> dict[str, Phase]:
    """What learns in which order: policy and critic at once, or the critic alone before the policy."""
    adapt = schedules.unmoved
    if ppo.learning_rate_schedule in schedules.ADAPTATIONS:
        low, high = ppo.learning_rate_bounds
        adapt = functools.partial(schedules.ADAPTATIONS[ppo.learning_rate_schedule], minimum=low, maximum=high)
    is_critic = lambda name: name.startswith("value_")  # noqa: E731
    is_novelty = lambda name: name == novelty.PREDICTOR or name == novelty.TARGET  # noqa: E731
    joint = Phase(
        loss=terms.joint_loss,
        epochs=ppo.update_epochs,
        rate="learning_rate",
        metric="update/",
        owns=lambda name: not is_novelty(name),
        note=note,
        adapt=adapt if ppo.adapt_interval == "minibatch" else schedules.unmoved,
        adapt_pass=adapt if ppo.adapt_interval == "pass" else schedules.unmoved,
    )
    critic = Phase(
        loss=terms.critic_loss,
        epochs=ppo.critic_epochs,
        rate="critic_learning_rate",
        metric="update/critic_",
        owns=is_critic,
        note=lambda distribution: (),
        adapt=schedules.unmoved,
        adapt_pass=schedules.unmoved,
    )
    policy = joint._replace(loss=terms.policy_loss, owns=lambda name: not (is_critic(name) or is_novelty(name)))
    predictor = critic._replace(
        loss=terms.novelty_loss,
        epochs=ppo.rnd_epochs,
        rate="rnd_learning_rate",
        metric="update/rnd_",
        owns=lambda name: name == novelty.PREDICTOR,
    )
    learners = {"critic": critic, "policy": policy} if ppo.critic_epochs else {"joint": joint}
    return learners | ({"novelty": predictor} if ppo.rnd_weight else {})


def symmetries(ppo: ConfigDict, spec: Spec) -> tuple[Symmetry, ...]:
    """The mirrors that the user's module gives; none without one."""
    if not ppo.symmetry:
        return ()
    contract = "make(spec) -> tuple of jaxrl.functional.symmetry.Symmetry"
    return tuple(find.users("algorithms", ppo.symmetry, "config.ppo.symmetry", contract).make(spec))


def init(parts: Parts, key: Key, hyper: Hyper) -> State:
    """An agent that has learned nothing; hyper: Hyper of Python or device numbers."""
    network_key, bonus_key = jax.random.split(key)
    params = parts.network.init(network_key) | parts.bonus.init(bonus_key)
    spec = parts.spec
    value = jnp.zeros(() if spec.num_value_heads == 1 else (spec.num_value_heads,))
    return State(
        params=params,
        optimizer={
            name: parts.optimizer.init(vectors.join(learning.split(params, phase.owns)[0]))
            for name, phase in parts.phases.items()
        },
        obs_moments=normalize.init(spec.obs),
        value_moments=normalize.init(value),
        advantage_moments=normalize.init(jnp.zeros(())),
        novelty_moments=normalize.init(jnp.zeros(())),
        hyper=jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), hyper),
        updates=jnp.int32(0),
    )


def look(state: State, obs: PyTree, valid: Array) -> State:
    """The agent whose normaliser has seen obs [T, N, ...], of which those count that are valid [T, N]."""
    return state._replace(obs_moments=normalize.update(state.obs_moments, obs, valid))


def act(parts: Parts, state: State, carry: PyTree, obs: PyTree, reset: Array, key: Key) -> tuple[PyTree, PyTree, Memo]:
    """Samples actions for N environments and remembers what learning from them takes."""
    distribution, values, carry = _apply(parts, state, carry, obs, reset)
    sample = distribution.sample(key)
    value = parts.denormalize_value(state.value_moments, values.expectation()[0])
    distribution, sample, log_prob = jax.tree.map(lambda x: x[0], (distribution, sample, distribution.log_prob(sample)))
    return distribution.action(sample), carry, Memo(sample, log_prob, value, distribution)


def policy(parts: Parts, state: State, carry: PyTree, obs: PyTree, reset: Array) -> tuple[PyTree, PyTree]:
    """The deterministic actions of N environments: what is evaluated and exported."""
    distribution, _, carry = _apply(parts, state, carry, obs, reset)
    return jax.tree.map(lambda x: x[0], distribution.action(distribution.mode())), carry


def _apply(parts, state, carry, obs, reset):
    """The network's outputs for one step, [1, N, ...]."""
    obs = jax.tree.map(lambda x: x[None], parts.normalize_obs(state.obs_moments, obs))
    return parts.network.apply(state.params, carry, obs, reset[None])
