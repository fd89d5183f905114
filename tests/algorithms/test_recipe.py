"""Every option of the recipe learns: probes with known answers, each trained as a user would."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.acting import statistics
from jaxrl.functional.symmetry import Symmetry
from jaxrl.host import guard
from jaxrl.networks import actor_critic
from jaxrl.types import ConfigError, Discrete, MultiDiscrete

pytestmark = [pytest.mark.slow, pytest.mark.learning]

GAMMA = 0.9


def small(name, **overrides):
    """The config of a small learner on a probe."""
    base = {
        "env.suite": "probe",
        "env.name": name,
        "network.hidden_sizes": (32,),
        "network.activation": "tanh",
        "ppo.num_envs": 32,
        "ppo.unroll_length": 8,
        "ppo.num_minibatches": 2,
        "ppo.learning_rate": 1e-2,
        "ppo.learning_rate_schedule": "linear",
        "ppo.gamma": GAMMA,
        "eval.episodes": 64,
    }
    overrides = {key.replace("__", "."): value for key, value in overrides.items()}
    config = jaxrl.configure({}, base | overrides)
    return config


def trained(iterations=150, **overrides):
    """(source, TrainState, metrics of training, metrics of an evaluation)."""
    config = small(**overrides)
    total = iterations * config.ppo.num_envs * config.ppo.unroll_length
    config = jaxrl.configure(config, {"total_env_steps": total})
    source = jaxrl.build(config)
    state = jax.jit(source.init)(jnp.uint32(0), source.algorithm.hyper)
    state, metrics = jax.jit(source.epoch)(state, jnp.int32(iterations))
    return source, state, metrics, jax.jit(source.evaluate)(state.agent, jnp.uint32(1), jnp.int32(0))


def values_of(source, state, obs):
    """V of observations [B, ...], in units of the return."""
    num = len(jax.tree.leaves(obs)[0])
    carry = source.algorithm.carry(num)
    return np.asarray(source.algorithm.act(state.agent, carry, obs, jnp.zeros(num, bool), jax.random.key(0))[2].value)


MEMORY = {"name": "recall", "env__delay": 3, "ppo__unroll_length": 16, "ppo__gamma": 0.99}


@pytest.mark.parametrize("core", ["lstm", "gru"])
def test_a_recurrent_policy_recalls_the_bit(core):
    *_, result = trained(300, **MEMORY, network__core=core, network__core_size=16, ppo__segment_length=8)
    assert result["eval/episode_return"] >= -0.05  # the best without memory is -1


def test_without_memory_the_bit_is_a_guess():
    *_, result = trained(150, **MEMORY)
    assert -1.6 < result["eval/episode_return"] < -0.4


def test_masked_arms_are_never_taken_and_the_best_allowed_one_is():
    source, state, metrics, result = trained(name="masked_arms")
    assert metrics["rollout/reward"] <= 3.0  # a masked arm would pay 100
    assert result["eval/episode_return_max"] <= 3.0
    masks = np.array([[bool(number >> arm & 1) for arm in range(4)] for number in range(1, 16)])
    obs = {"policy": jnp.zeros((15, 1)), "action_mask": jnp.asarray(masks)}
    # The policy does not see which arms pay what is allowed, but learns to take the highest that is.
    action, _ = source.algorithm.policy(state.agent, (), obs, jnp.zeros(15, bool))
    np.testing.assert_array_equal(action, [max(np.flatnonzero(mask)) for mask in masks])


def test_an_observation_that_allows_nothing_is_counted_and_ends_the_run():
    obs = {
        "policy": jnp.zeros((4, 1)),
        "action_mask": jnp.array([[1, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0], [1, 0, 1, 0]]) > 0,
    }
    everywhere = jnp.ones(4, bool)
    counted = statistics.blocked(obs, everywhere, MultiDiscrete((2, 2)))
    assert counted["rollout/blocked"] == 0.5  # the second of its first part, the third of its second
    # Where nothing is chosen, nothing need be allowed.
    counted = statistics.blocked(obs, everywhere.at[1].set(False), MultiDiscrete((2, 2)))
    np.testing.assert_allclose(counted["rollout/blocked"], 1 / 3)
    assert statistics.blocked(obs["policy"], everywhere, Discrete(4)) == {}
    row = {"env_steps": 128, "rollout/blocked": 0.5}
    with pytest.raises(guard.BlockedError, match="allowed no option .* in 50.00% of the steps before 128"):
        guard.check(row, jaxrl.configure({}).guard)


CNN = {
    "network__cnn_filters": (8, 8),
    "network__cnn_kernels": (3, 3),
    "network__cnn_strides": (2, 1),
    "network__cnn_padding": "same",
}
IMPALA = {"network__encoder": "impala", "network__impala_filters": (4, 4)}


@pytest.mark.parametrize(
    ("name", "best", "options"),
    [
        ("matching", 2.0, {}),
        ("matching", 2.0, {"network__d2rl": True, "network__hidden_sizes": (16, 16, 16), "network__layer_norm": True}),
        ("matching", 2.0, {"network__dtype": "bfloat16"}),
        ("mixture", 1.0, {}),
        ("image", 1.0, CNN),
        ("image", 1.0, IMPALA),
    ],
)
def test_every_action_space_and_encoder_finds_its_best(name, best, options):
    *_, result = trained(name=name, **options)
    assert result["eval/episode_return"] >= best - 0.05


CAUSE = {"policy": jnp.zeros((2, 1)), "critic": jnp.array([[-1.0], [1.0]])}


@pytest.mark.parametrize("options", [{}, {"ppo__critic_epochs": 2, "ppo__critic_learning_rate": 1e-2}])
def test_a_critic_that_sees_more_knows_what_the_policy_cannot(options):
    source, state, metrics, _ = trained(60, name="asymmetric", **options)
    np.testing.assert_allclose(values_of(source, state, CAUSE), [-1.0, 1.0], atol=0.1)
    assert metrics["update/explained_variance"] > 0.5  # from the policy's view it is 0


def test_two_value_heads_converge_to_the_values_of_their_own_rewards_and_discounts():
    source, state, *_ = trained(150, name="two_heads", ppo__gammas=(0.9, 0.5), ppo__lambda_=1.0)
    at = np.stack([np.arange(3.0), np.zeros(3)], axis=1).astype(np.float32)
    expected = [[1 + 0.9 + 0.81, 5 * 0.25], [1 + 0.9, 5 * 0.5], [1.0, 5.0]]
    np.testing.assert_allclose(values_of(source, state, jnp.asarray(at)), expected, atol=0.15)


@pytest.mark.parametrize("kind", ["two_hot", "hl_gauss"])
def test_a_critic_of_histograms_learns_the_values(kind):
    source, state, *_ = trained(100, name="fuse", network__value_kind=kind, ppo__lambda_=1.0)
    at = np.stack([np.arange(3.0), np.zeros(3)], axis=1).astype(np.float32)
    np.testing.assert_allclose(values_of(source, state, jnp.asarray(at)), [2.71, 1.9, 1.0], atol=0.1)


def mirrored(monkeypatch):
    package, module = types.ModuleType("users"), types.ModuleType("users.mirror")
    module.make = lambda spec: (Symmetry(lambda obs: obs * jnp.array([1.0, -1.0]), lambda action: -action),)
    monkeypatch.setitem(sys.modules, "users", package)
    monkeypatch.setitem(sys.modules, "users.mirror", module)
    return {"name": "target", "ppo__symmetry": "users.mirror"}


@pytest.mark.parametrize("options", [{"ppo__mirror_cost": 1.0}, {"ppo__symmetry_weight": 0.0, "ppo__mirror_cost": 1.0}])
def test_with_a_mirror_the_policy_becomes_symmetric(options, monkeypatch):
    source, state, metrics, _ = trained(60, **mirrored(monkeypatch), **options)
    x = np.linspace(-0.9, 0.9, 7).astype(np.float32)
    obs = jnp.stack([jnp.zeros(7), jnp.asarray(x)], axis=1)
    action, _ = source.algorithm.policy(state.agent, (), obs, jnp.zeros(7, bool))
    np.testing.assert_allclose(action[:, 0], 0.5 * x, atol=0.1)
    assert metrics["loss/mirror"] < 0.01


def test_a_users_network_adds_losses_of_its_own_whatever_they_are_called(monkeypatch):
    module = types.ModuleType("users.network")

    def make(config, spec):
        network = actor_critic.build(config, spec)
        size = lambda params, *_: {"mirror": jnp.sum(jnp.square(params["policy_head"]["mean"]["kernel"]))}  # noqa: E731
        return network._replace(auxiliary=size)

    module.make = make
    monkeypatch.setitem(sys.modules, "users", types.ModuleType("users"))
    monkeypatch.setitem(sys.modules, "users.network", module)
    _, with_loss, metrics, _ = trained(20, name="target", network__module="users.network", network__policy_gain=1.0)
    _, without, _, _ = trained(20, name="target", network__policy_gain=1.0)
    kernels = [np.square(s.agent.params["policy_head"]["mean"]["kernel"]).sum() for s in (with_loss, without)]
    assert kernels[0] < 0.5 * kernels[1]
    assert np.isfinite(metrics["loss/mirror"])


def test_novelty_pays_less_for_what_was_seen_often():
    options = {
        "ppo__rnd_weight": 1.0,
        "ppo__rnd_hidden_sizes": (16,),
        "ppo__rnd_features": 8,
        "ppo__normalize_obs": False,
    }
    _, early, first, _ = trained(2, name="target", **options)
    _, late, last, _ = trained(60, name="target", **options)
    assert last["loss/novelty"] < 0.5 * first["loss/novelty"]
    for before, after in zip(*(jax.tree.leaves(s.agent.params["rnd_target"]) for s in (early, late)), strict=True):
        np.testing.assert_array_equal(before, after)  # the target stays as it was drawn


OPTIONS = [
    {"ppo__kl_reference": "previous", "ppo__learning_rate_schedule": "adaptive_kl"},
    {"ppo__adapt_interval": "pass", "ppo__learning_rate_schedule": "adaptive_kl"},
    {"ppo__shuffle": False, "ppo__minibatch_size": 64, "ppo__num_minibatches": 1},
    {"ppo__clip_schedule": "linear", "ppo__entropy_schedule": "cosine", "ppo__entropy_cost": 1e-3},
    {"ppo__kl_cost": 0.1, "ppo__bound_loss": "regularisation", "ppo__bound_cost": 1e-4},
    {"ppo__reward_scale": 0.1, "ppo__reward_shift": 1.0, "ppo__reward_bounds": (-10.0, 10.0)},
    {"ppo__bootstrap": "last_obs", "ppo__value_loss": "smooth_l1", "ppo__value_clip": 0.2},
    {"network__std_parametrization": "softplus", "network__min_std": 0.05, "network__log_std": "state"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: next(iter(options)).split("__")[1])
def test_every_option_still_learns(options):
    *_, result = trained(100, name="target", **options)
    assert result["eval/episode_return"] > -0.02  # the best is 0; a policy that does nothing has -1/12


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"ppo__gammas": (0.9, 0.5)}, "1 value heads"),
        ({"ppo__reward_bounds": (1.0,)}, "low < high"),
        ({"ppo__reward_log": True}, "above 0"),
        ({"ppo__critic_epochs": 1, "network__shared": True}, "network.shared=False"),
        ({"ppo__mirror_cost": 1.0}, "name a symmetry"),
        ({"ppo__symmetry": "nobodys.module"}, "nobodys.module"),
        ({"ppo__minibatch_size": 100}, "nearest that does is 128"),
    ],
)
def test_options_that_exclude_each_other_are_one_line(options, cure):
    with pytest.raises(ConfigError, match=cure) as caught:
        jaxrl.build(small("target", **options))
    assert "\n" not in str(caught.value)
