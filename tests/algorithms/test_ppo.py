"""PPO on probes whose values and best policies are known, and the promises its users rely on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.algorithms import ppo
from jaxrl.types import ConfigError

GAMMA = 0.9


def small(name, **overrides):
    """The config of a small learner on a probe."""
    base = {
        "env.suite": "probe",
        "env.name": name,
        "network.hidden_sizes": (16,),
        "network.activation": "tanh",
        "ppo.num_envs": 16,
        "ppo.unroll_length": 8,
        "ppo.num_minibatches": 2,
        "ppo.learning_rate": 1e-2,
        "ppo.gamma": GAMMA,
        "ppo.learning_rate_schedule": "linear",
        "total_env_steps": 200 * 16 * 8,
        "eval.episodes": 16,
    }
    return jaxrl.configure({}, base | overrides)


def learn(config, iterations, seed=0):
    """The trained state, a function of observations [B, 2] to (values [B], mean actions [B]), and the last metrics."""
    source = jaxrl.build(config)
    state = jax.jit(source.init)(jnp.uint32(seed), source.algorithm.hyper)
    state, metrics = jax.jit(source.epoch)(state, jnp.int32(iterations))

    def look(obs):
        obs = jnp.asarray(obs, jnp.float32)
        reset = jnp.zeros(len(obs), bool)
        _, _, memo = source.algorithm.act(state.agent, (), obs, reset, jax.random.key(0))
        action, _ = source.algorithm.policy(state.agent, (), obs, reset)
        return np.asarray(memo.value), np.asarray(action[:, 0])

    return state, look, metrics


TARGETS = np.linspace(-0.9, 0.9, 7)


def at(step):
    return np.stack([np.full(7, step), TARGETS], axis=1)


@pytest.mark.parametrize("normalize_value", [True, False])
def test_value_of_a_constant_reward_is_that_reward(normalize_value):
    _, look, _ = learn(small("constant", **{"ppo.normalize_value": normalize_value}), 100)
    np.testing.assert_allclose(look(at(0))[0], 1.0, atol=0.05)


def test_value_of_a_delayed_reward_is_discounted():
    _, look, _ = learn(small("delayed"), 150)
    np.testing.assert_allclose(look(at(0))[0], GAMMA, atol=0.06)
    np.testing.assert_allclose(look(at(1))[0], 1.0, atol=0.06)


def test_a_clock_that_truncates_does_not_end_what_the_future_is_worth():
    # With truncation taken for termination it would be 1 + 0.9 + 0.81 + 0.729 = 3.4 at the first step of four.
    _, look, _ = learn(small("clock", **{"env.episode_length": 4}), 200)
    np.testing.assert_allclose(look(at(0))[0], 1 / (1 - GAMMA), rtol=0.05)


def test_termination_ends_what_the_future_is_worth():
    _, look, _ = learn(small("fuse"), 200)
    for step, value in enumerate((1 + GAMMA + GAMMA**2, 1 + GAMMA, 1.0)):
        np.testing.assert_allclose(look(at(step))[0], value, atol=0.15)


@pytest.mark.parametrize("distribution", ["normal", "tanh_normal"])
@pytest.mark.parametrize("log_std", ["free", "state", "fixed"])
def test_a_one_step_policy_finds_the_target(distribution, log_std):
    overrides = {"network.distribution": distribution, "network.log_std": log_std, "network.initial_std": 0.2}
    _, look, _ = learn(small("target", **overrides), 200)
    np.testing.assert_allclose(look(at(0))[1], TARGETS / 2, atol=0.1)


def test_of_two_arms_it_pulls_the_one_that_pays():
    _, look, _ = learn(small("arms"), 60)
    assert (look(at(0))[1] > 0.3).all()


@pytest.mark.parametrize(
    "overrides",
    [
        {"ppo.value_loss": "smooth_l1", "ppo.value_clip": 0.2, "ppo.surrogate": "smooth_clip"},
        {"ppo.learning_rate_schedule": "adaptive_kl", "ppo.normalize_advantage": "minibatch", "ppo.bound_cost": 1e-3},
        {"ppo.learning_rate_schedule": "cosine", "ppo.segment_length": 1, "ppo.entropy_cost": 1e-3},
        {"network.shared": True, "ppo.normalize_obs": False, "ppo.num_minibatches": 1, "ppo.max_gradient_norm": 0.0},
    ],
)
def test_every_option_still_learns(overrides):
    _, look, _ = learn(small("target", **overrides), 200)
    np.testing.assert_allclose(look(at(0))[1], TARGETS / 2, atol=0.15)


def test_same_seed_gives_the_same_run_and_another_does_not():
    states = [learn(small("target"), 3, seed)[0] for seed in (0, 0, 1)]
    first, again, other = (jax.tree.leaves(state.agent.params) for state in states)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_first_minibatch_sees_the_policy_that_acted():
    # One pass over one minibatch: nothing has been learned before its loss is taken.
    _, _, metrics = learn(small("target", **{"ppo.num_minibatches": 1, "ppo.update_epochs": 1}), 1)
    assert abs(metrics["update/kl"]) < 1e-6
    assert metrics["update/clip_fraction"] == 0


def test_linear_rate_falls_by_the_share_of_the_run_done():
    steps = 16 * 8
    config = small("constant", **{"total_env_steps": 10 * steps})
    rates = [float(learn(config, n)[2]["update/learning_rate"]) for n in (1, 10)]
    np.testing.assert_allclose(rates, [1e-2, 1e-2 * np.mean(np.linspace(1.0, 0.1, 10))], rtol=1e-5)


def test_global_norm_clip_scales_the_whole_gradient():
    # Adam's first step does not depend on the gradient's scale, its moments do: |m| = (1 - β₁) · limit.
    config = small("target", **{"ppo.max_gradient_norm": 1e-3, "ppo.num_minibatches": 1, "ppo.update_epochs": 1})
    state, _, metrics = learn(config, 1)
    assert metrics["update/gradient_norm"] > 1e-3
    np.testing.assert_allclose(np.linalg.norm(state.agent.optimizer["joint"].mu), 0.1 * 1e-3, rtol=1e-4)


@pytest.mark.usefixtures("keys_unchecked")
def test_seeds_are_a_vmap():
    source = jaxrl.build(small("target"))
    seeds = jnp.arange(3, dtype=jnp.uint32)
    states = jax.jit(jax.vmap(source.init, in_axes=(0, None)))(seeds, source.algorithm.hyper)
    states, _ = jax.jit(jax.vmap(source.epoch, in_axes=(0, None)))(states, jnp.int32(4))
    alone, _, _ = learn(small("target"), 4, seed=1)
    for together, single in zip(jax.tree.leaves(states.agent.params), jax.tree.leaves(alone.agent.params), strict=True):
        np.testing.assert_allclose(together[1], single, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("keys_unchecked")
def test_rates_are_a_vmap():
    source = jaxrl.build(small("target"))
    rates = jnp.array([0.0, 1e-2])
    hypers = source.algorithm.hyper._replace(learning_rate=rates)
    axes = ppo.Hyper(*(0 if name == "learning_rate" else None for name in ppo.Hyper._fields))
    init = jax.jit(jax.vmap(source.init, in_axes=(None, axes)))
    before = init(jnp.uint32(0), hypers)
    after, _ = jax.jit(jax.vmap(source.epoch, in_axes=(0, None)))(before, jnp.int32(2))
    moved = [
        np.abs(np.asarray(a) - np.asarray(b)).reshape(2, -1).max(axis=1)
        for a, b in zip(jax.tree.leaves(after.agent.params), jax.tree.leaves(before.agent.params), strict=True)
    ]
    assert np.max([m[0] for m in moved]) == 0
    assert np.max([m[1] for m in moved]) > 0


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"ppo.num_minibatches": 3}, "num_minibatches=3 .* nearest that does is (2|4)"),
        ({"ppo.segment_length": 5}, "segment_length=5 .* nearest that does is 4"),
    ],
)
def test_sizes_that_do_not_divide_name_the_nearest_that_do(overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        jaxrl.build(small("target", **overrides))
    assert "\n" not in str(error.value)
