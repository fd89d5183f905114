"""Steps that were no transitions: the resets of environments that restart in the step after an episode's end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.acting import epoch, rollout, statistics
from jaxrl.algorithms.ppo import agent
from jaxrl.envs import probe, wrappers
from jaxrl.functional import masked, normalize, returns
from jaxrl.types import Box, Environment, Rollout, Spec

pytestmark = [pytest.mark.slow, pytest.mark.learning]

GAMMA = 0.9


def test_means_are_those_of_the_rows_that_count():
    x = np.random.default_rng(0).normal(3.0, 2.0, (5, 4, 3)).astype(np.float32)
    valid = np.random.default_rng(1).random((5, 4)) < 0.6
    rows = x[valid].astype(np.float64)
    x[~valid] = np.nan  # whatever stands there
    np.testing.assert_allclose(masked.mean(x, valid), rows.mean(), rtol=1e-6)
    moments = normalize.update(normalize.init(jnp.zeros(3)), x, valid)
    np.testing.assert_allclose(moments.mean[0], rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance[0], rows.var(0), rtol=1e-5)
    assert moments.count[0] == len(rows)
    standard = normalize.standardize(x[..., 0], valid)[valid]
    np.testing.assert_allclose(standard, (rows[:, 0] - rows[:, 0].mean()) / rows[:, 0].std(), rtol=1e-5)
    target = np.where(valid, np.nan_to_num(x[..., 0]), np.nan)
    explained = returns.explained_variance(target / 2, target, valid)
    np.testing.assert_allclose(explained, 0.75, rtol=1e-5)  # 1 - (½)²


def test_means_of_several_terms_are_those_of_each_alone():
    x = np.random.default_rng(0).normal(3.0, 2.0, (5, 4, 3)).astype(np.float32)
    valid = np.random.default_rng(1).random((5, 4)) < 0.6
    rows = x[valid].astype(np.float64)
    x[~valid] = np.nan
    found = masked.means({"vectors": x, "numbers": x[..., 0], "flags": x[..., :1] > 3}, valid)
    expected = {"vectors": rows.mean(), "numbers": rows[:, 0].mean(), "flags": (rows[:, 0] > 3).mean()}
    assert list(found) == list(expected)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-6)
    assert masked.means({"none": x}, np.zeros_like(valid)) == {"none": 0}


def test_nothing_is_learned_from_no_rows():
    valid = np.zeros((2, 2), bool)
    moments = normalize.init(jnp.zeros(()))
    jax.tree.map(np.testing.assert_array_equal, normalize.update(moments, jnp.ones((2, 2)), valid), moments)
    assert masked.mean(jnp.ones((2, 2)), valid) == 0


OPTIONS = [
    {},
    {"ppo.normalize_advantage": "batch", "ppo.value_clip": 0.2, "ppo.bound_cost": 0.1, "ppo.kl_cost": 0.1},
    {"ppo.normalize_advantage": "running", "ppo.rnd_weight": 0.5, "ppo.critic_epochs": 2},
]


def updated(options, whole, **spec):
    """What an algorithm of as many environments as the rollout `whole` has makes of it: its state and its metrics."""
    num_envs = whole.reward.shape[1]
    config = jaxrl.configure(
        {},
        {
            "network.hidden_sizes": (8,),
            "ppo.num_envs": num_envs,
            "ppo.unroll_length": 4,
            "ppo.num_minibatches": 1,
            "ppo.update_epochs": 2,
            "ppo.entropy_cost": 0.01,
            "ppo.learning_rate": 1e-2,
            "ppo.learning_rate_schedule": "adaptive_kl",
        }
        | options,
    )
    spec = Spec(num_envs, jax.ShapeDtypeStruct((3,), jnp.float32), Box((2,)), truncation_interval=4, **spec)
    algorithm = agent.make(config, spec)
    state = algorithm.init(jax.random.key(0), algorithm.hyper)
    return jax.jit(algorithm.update)(state, whole, jax.random.key(1))


def played():
    """A rollout of 4 steps of 4 environments, of numbers at random."""
    numbers = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(numbers.normal(size=shape), jnp.float32)  # noqa: E731
    spec = Spec(4, jax.ShapeDtypeStruct((3,), jnp.float32), Box((2,)), truncation_interval=4)
    algorithm = agent.make(jaxrl.configure({}, {"network.hidden_sizes": (8,)}), spec)
    state = algorithm.init(jax.random.key(0), algorithm.hyper)
    obs = draw(4, 4, 3)
    acted = [algorithm.act(state, (), obs[t], jnp.zeros(4, bool), jax.random.key(t))[2] for t in range(4)]
    return Rollout(
        obs=obs,
        reset=jnp.zeros((4, 4), bool),
        reward=draw(4, 4),
        terminated=jnp.asarray(numbers.random((4, 4)) < 0.2),
        truncated=jnp.zeros((4, 4), bool),
        valid=jnp.ones((4, 4), bool),
        memo=jax.tree.map(lambda *x: jnp.stack(x), *acted),
        carry=(),
        final_obs=draw(1, 4, 3),
        final_carry=(),
        last_obs=draw(4, 3),
        last_carry=(),
        last_reset=jnp.zeros(4, bool),
    )


def assert_same(one, two):
    """The same state and metrics, up to rounding."""
    (state, told), (other_state, other_told) = one, two
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), state, other_state)
    assert told.keys() == other_told.keys()
    for name in told:
        np.testing.assert_allclose(told[name], other_told[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("options", OPTIONS)
def test_environments_without_transitions_might_as_well_not_be_there(options):
    """Four environments of which two never moved teach what the other two teach alone."""
    whole = played()
    void = jnp.arange(4) >= 2
    garbage = lambda x: jnp.where(void.reshape(4, *([1] * (x.ndim - 2))), 1e3, x)  # noqa: E731
    whole = whole._replace(
        obs=garbage(whole.obs),
        reward=garbage(whole.reward),
        valid=jnp.broadcast_to(~void, (4, 4)),
        memo=whole.memo._replace(log_prob=garbage(whole.memo.log_prob)),
    )
    last = {name: getattr(whole, name)[:2] for name in ("last_obs", "last_reset")}
    rest = whole._replace(last_obs=(), last_reset=())
    alone = jax.tree.map(lambda x: x[:, :2], rest)._replace(**last)
    assert_same(updated(options, whole), updated(options, alone))


@pytest.mark.parametrize("options", OPTIONS)
def test_where_all_rows_are_known_to_be_valid_nobody_asks(options):
    whole = played()
    asked = updated(options, whole)
    assert_same(updated(options, whole, all_valid=True), asked)
    unasked = updated(options, whole._replace(valid=jnp.zeros((4, 4), bool)), all_valid=True)
    assert_same(unasked, asked)


def next_step(env):
    """`env` with its resets in the step after an episode's end, as gymnasium's vector environments have them."""

    def reset(key):
        state, timestep = env.reset(key)
        return (state, timestep), timestep

    def step(state, action):
        inner, before = state
        ended = before.terminated | before.truncated
        moved_state, moved = env.step(inner, action)
        # Where an episode has ended, the environment stands still and only shows what it restarted with.
        keep = lambda old, new: wrappers.select(ended, old, new) if new.shape[:1] == ended.shape else new  # noqa: E731
        now = jax.tree.map(keep, before, moved)
        inner = jax.tree.map(keep, inner, moved_state)
        nothing = jnp.zeros_like(ended)
        after = now._replace(terminated=nothing & now.terminated, truncated=nothing)
        shown = wrappers.select(ended, after._replace(reward=jnp.zeros_like(now.reward)), now)
        over = shown.terminated | shown.truncated
        shown = shown._replace(obs=wrappers.select(over, now.final_obs, now.obs), valid=~ended)
        stored = wrappers.select(ended, after, now)
        return (inner, stored), shown

    return Environment(reset, step, env.spec)


def learner(name, num_envs, **overrides):
    """(algorithm, environment) of a probe that resets in the step after an end."""
    base = {
        "env.suite": "probe",
        "env.name": name,
        "network.hidden_sizes": (32,),
        "network.activation": "tanh",
        "ppo.num_envs": num_envs,
        "ppo.num_minibatches": 2,
        "ppo.gamma": GAMMA,
    }
    config = jaxrl.configure({}, base | overrides)
    env = next_step(probe.make(config.env, num_envs))
    return agent.make(config, env.spec), env


def test_a_step_after_an_end_is_marked_and_what_follows_is_a_first_observation():
    algorithm, env = learner("fuse", 4, **{"ppo.unroll_length": 16})
    state = algorithm.init(jax.random.key(0), algorithm.hyper)
    actor, nothing = rollout.start(env, algorithm, jax.random.key(0)), statistics.nothing(4)
    _, finished, seen = rollout.rollout(
        env, algorithm, state, actor, nothing, jax.random.split(jax.random.key(1), algorithm.unroll_length)
    )
    # Three steps, the last of which terminates, then one that is none.
    np.testing.assert_array_equal(seen.valid[:, 0], [True, True, True, False] * 4)
    np.testing.assert_array_equal(seen.terminated[:, 0], [False, False, True, False] * 4)
    # The row that is none comes after an end, and the row after it is the first of the next episode.
    np.testing.assert_array_equal(seen.reset[:, 0], [True] + [False, False, True, True] * 3 + [False, False, True])
    summary = statistics.summarize(finished)
    assert summary["rollout/episode_length"] == 3
    assert summary["rollout/episode_return"] == 3
    assert summary["rollout/reward"] == 1


@pytest.mark.parametrize(("name", "best"), [("clock", 1 / (1 - GAMMA)), ("constant", 1.0)])
def test_values_are_learned_through_resets_in_the_next_step(name, best):
    rate = {"ppo.learning_rate": 1e-2, "ppo.learning_rate_schedule": "linear", "total_env_steps": 32 * 8 * 150}
    algorithm, env = learner(name, 32, **rate, **{"ppo.unroll_length": 8})
    init, one_epoch = epoch.make(env, algorithm)
    state = jax.jit(init)(jax.random.key(0), algorithm.hyper)
    state, metrics = jax.jit(one_epoch)(state, jnp.int32(150))
    # 1,200 steps on, all clocks stand in the middle of an episode (9 steps with the reset), constant at its beginning.
    _, _, memo = algorithm.act(state.agent, (), state.actor.obs, state.actor.reset, jax.random.key(0))
    np.testing.assert_allclose(memo.value, best, rtol=0.02)
    assert metrics["rollout/reward"] == 1
