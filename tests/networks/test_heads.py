"""Heads: a distribution for every action space, σ as rl_games parametrises it, values for every kind of critic.

Letters in shapes: B batch, F features.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxrl.functional import distributions, values
from jaxrl.functional.distributions import Categorical, Joint, MultiCategorical, Normal, TanhNormal
from jaxrl.networks import actor_critic, heads
from jaxrl.types import Box, ConfigError, Discrete, MultiDiscrete

BATCH, FEATURES = 4, 5
X = np.random.default_rng(0).normal(0, 1, (BATCH, FEATURES)).astype(np.float32)


def network(**changes) -> ConfigDict:
    """The defaults of the group `network` but for some."""
    config = actor_critic.default_config()
    config.update(changes)
    return config


def begin(head, *inputs):
    """The head's first parameters, and what it makes of the inputs with them."""
    params = head.init(jax.random.key(0), *inputs)["params"]
    return params, head.apply({"params": params}, *inputs)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def dense(size):
    return {"kernel": (FEATURES, size), "bias": (size,)}


@pytest.mark.parametrize(
    ("space", "kind", "params", "sample"),
    [
        (Box((3,)), Normal, {"mean": dense(3), "log_std": (3,)}, (BATCH, 3)),
        (Box(()), Normal, {"mean": dense(1), "log_std": (1,)}, (BATCH, 1)),
        (Box((2, 3)), Normal, {"mean": dense(6), "log_std": (6,)}, (BATCH, 6)),
        (Discrete(4), Categorical, {"logits": dense(4)}, (BATCH,)),
        (MultiDiscrete((2, 3)), MultiCategorical, {"logits": dense(5)}, (BATCH, 2)),
        (
            (Discrete(2), Box((1,))),
            Joint,
            {"parts_0": {"logits": dense(2)}, "parts_1": {"mean": dense(1), "log_std": (1,)}},
            ((BATCH,), (BATCH, 1)),
        ),
    ],
)
def test_each_space_has_its_head(space, kind, params, sample):
    actual, distribution = begin(heads.make(space, network()), X)
    assert type(distribution) is kind
    assert shapes(actual) == params
    assert shapes(distribution.sample(jax.random.key(1))) == shapes(distribution.mode()) == sample
    assert distribution.log_prob(distribution.mode()).shape == distribution.entropy().shape == (BATCH,)
    # The first weights are small: nearly every option is as probable as another, every mean near 0.
    assert np.all(np.abs(distribution.means()) < 0.1)


def test_a_thing_that_is_no_space_is_refused():
    with pytest.raises(TypeError, match="'left' is no action space"):
        heads.make("left", network())


@pytest.mark.parametrize(("name", "kind"), [("normal", Normal), ("tanh_normal", TanhNormal)])
def test_the_plain_gaussian_head_computes_as_it_always_did(name, kind):
    head = heads.make(Box((3,)), network(distribution=name, log_std_bounds=(-0.5, 0.5)))
    params, _ = begin(head, X)
    params["log_std"] = jnp.array([-1.0, 0.25, 3.0])
    distribution = head.apply({"params": params}, X)
    assert type(distribution) is kind
    # To the bit: checkpoints and results stay what they were.
    np.testing.assert_array_equal(distribution.log_std, np.tile(np.float32([-0.5, 0.25, 0.5]), (BATCH, 1)))
    np.testing.assert_array_equal(distribution.mean, jnp.asarray(X) @ params["mean"]["kernel"] + params["mean"]["bias"])


def oracle_std(kind, raw, min_std, bounds):
    """rl_games' three formulas, float64."""
    raw = np.float64(raw)
    softplus = lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)  # noqa: E731
    if kind == "exp":
        return np.exp(np.clip(raw, *bounds)) + min_std
    floor = {"softplus": min_std, "linear": max(min_std, 1e-3)}[kind]
    return softplus(raw - (floor if kind == "linear" else 0.0)) + floor


@pytest.mark.parametrize("min_std", [0.0, 0.1])
@pytest.mark.parametrize("kind", list(heads.STD_PARAMETRIZATIONS))
def test_std_is_rl_games(kind, min_std):
    raw = np.array([-12.0, -5.0, -2.0, -0.3, 0.0, 0.4, 1.0, 3.0, 12.0], np.float32)
    config = network(std_parametrization=kind, min_std=min_std, log_std_bounds=(-4.0, 2.0))
    head = heads.make(Box((raw.size,)), config)
    params, _ = begin(head, X)
    std = np.exp(np.float64(head.apply({"params": params | {"log_std": raw}}, X).log_std))
    expected = oracle_std(kind, raw, min_std, (-4.0, 2.0))
    np.testing.assert_allclose(std, np.tile(expected, (BATCH, 1)), rtol=2e-6)


@pytest.mark.parametrize("log_std", ["free", "state", "fixed"])
@pytest.mark.parametrize("kind", list(heads.STD_PARAMETRIZATIONS))
@pytest.mark.parametrize(("initial_std", "min_std"), [(1.0, 0.0), (0.25, 0.2), (5.0, 0.5), (2e-3, 1e-3)])
def test_std_starts_at_initial_std_however_it_is_parametrised(kind, log_std, initial_std, min_std):
    config = network(
        std_parametrization=kind, log_std=log_std, initial_std=initial_std, min_std=min_std, policy_gain=0.0
    )
    params, distribution = begin(heads.make(Box((2,)), config), X)
    np.testing.assert_allclose(np.exp(distribution.log_std), initial_std, rtol=1e-5)
    assert shapes(params).get("log_std") == {"free": (2,), "state": dense(2), "fixed": None}[log_std]


def test_std_of_the_state_follows_the_features():
    _, distribution = begin(heads.make(Box((2,)), network(log_std="state", policy_gain=1.0)), X)
    assert np.all(np.std(distribution.log_std, axis=0) > 0)


@pytest.mark.parametrize("raw", [-300.0, 300.0])
@pytest.mark.parametrize("min_std", [0.0, 0.1])
@pytest.mark.parametrize("kind", list(heads.STD_PARAMETRIZATIONS))
def test_far_raw_numbers_have_a_finite_std_and_gradient(kind, min_std, raw):
    config = network(std_parametrization=kind, min_std=min_std)
    log_std = lambda raw: heads.STD_PARAMETRIZATIONS[kind].log_std(raw, heads.std_floor(config), (-10.0, 2.0))  # noqa: E731
    assert np.all(np.isfinite(jax.value_and_grad(log_std)(jnp.float32(raw))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initial_std": 0.5, "min_std": 0.5}, "initial_std=0.5 cannot be: .*min_std=0.5 .* greater than 0.5"),
        ({"initial_std": 1e-3, "std_parametrization": "linear"}, "'linear' it must be greater than 0.001"),
        ({"initial_std": 10.0}, r"initial_std=10 cannot be: .*log_std_bounds=\(-10.0, 2.0\).* \[4.54e-05, 7.389\]"),
        ({"initial_std": 0.21, "min_std": 0.2, "log_std_bounds": (-4.0, 2.0)}, r"must be in \[0.2183, 7.589\]"),
    ],
)
def test_an_initial_std_out_of_reach_is_refused_before_anything_is_traced(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        heads.make((Discrete(2), Box((2,))), network(**changes))
    assert "\n" not in str(caught.value)


def test_a_std_beyond_the_bounds_of_exp_can_be_had_of_softplus():
    _, distribution = begin(heads.make(Box((2,)), network(initial_std=10.0, std_parametrization="softplus")), X)
    np.testing.assert_allclose(np.exp(distribution.log_std), 10.0, rtol=1e-5)


def test_a_mask_is_dealt_to_the_discrete_parts_in_order():
    space = (Discrete(2), Box((1,)), (MultiDiscrete((3, 2)), Discrete(4)))
    random = np.random.default_rng(1)
    mask = random.uniform(size=(BATCH, 11)) < 0.5
    mask[:, [0, 3, 6, 8]] = True  # an option of each part
    _, distribution = begin(heads.make(space, network()), X, mask)
    inner = distribution.parts[2]
    parts = [distribution.parts[0], *inner.parts[0].parts, inner.parts[1]]
    assert [part.logits.shape[-1] for part in parts] == [2, 3, 2, 4]
    np.testing.assert_array_equal(np.concatenate([np.exp(part.log_probs()) > 0 for part in parts], axis=-1), mask)


@pytest.mark.parametrize("space", [Discrete(4), MultiDiscrete((2, 2)), (Discrete(4), Box((2,)))])
def test_without_a_mask_all_is_allowed(space):
    params, free = begin(heads.make(space, network()), X)
    allowed = heads.make(space, network()).apply({"params": params}, X, np.ones((BATCH, 4), bool))
    for one, other in zip(jax.tree.leaves(free), jax.tree.leaves(allowed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("space", "options"), [(Box((2,)), 0), (Discrete(4), 4), (MultiDiscrete((2, 3)), 5), ((Discrete(4), Box((2,))), 4)]
)
def test_a_mask_of_another_size_is_refused(space, options):
    with pytest.raises(ValueError, match=f"has 3 elements; the action space has {options} discrete options"):
        begin(heads.make(space, network()), X, np.ones((BATCH, 3), bool))


def test_masked_weights_have_no_gradient():
    head = heads.make(Discrete(3), network())
    mask = np.tile([True, False, True], (BATCH, 1))
    params, _ = begin(head, X, mask)

    def loss(params):
        distribution = head.apply({"params": params}, X, mask)
        return jnp.sum(distribution.log_prob(jnp.zeros(BATCH, int)) + distribution.entropy())

    gradient = jax.grad(loss)(params)["logits"]
    np.testing.assert_array_equal(gradient["kernel"][:, 1], 0.0)
    assert np.all(gradient["kernel"][:, [0, 2]] != 0)


@pytest.mark.parametrize("heads_", [1, 3])
def test_a_point_head_says_a_number_for_each_head(heads_):
    params, value = begin(heads.make_value(network(), heads_), X)
    assert shapes(params) == {"Dense_0": dense(heads_)}  # as checkpoints have it
    expected = X @ np.asarray(params["Dense_0"]["kernel"])
    np.testing.assert_allclose(value.expectation(), expected[:, 0] if heads_ == 1 else expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", list(values.SPREADS))
@pytest.mark.parametrize("heads_", [1, 3])
def test_a_histogram_head_starts_at_zero_for_each_head(kind, heads_):
    config = network(value_kind=kind, value_bins=21, value_range=3.0, value_smoothing=0.5)
    _, value = begin(heads.make_value(config, heads_), X)
    assert (value.limit, value.spread, value.smoothing) == (3.0, kind, 0.5)
    np.testing.assert_array_equal(value.logits, np.zeros((BATCH, 21) if heads_ == 1 else (BATCH, heads_, 21)))
    np.testing.assert_allclose(value.expectation(), np.zeros((BATCH, heads_)[: 1 + (heads_ > 1)]), atol=1e-6)


def test_heads_compute_in_float32_whatever_the_torso():
    head = heads.make((Box((2,)), Discrete(3)), network(log_std="state"))
    params, distribution = begin(head, X.astype(jnp.bfloat16))
    for leaf in jax.tree.leaves((params, distribution)):
        assert leaf.dtype == jnp.float32
    for kind in ("point", *values.SPREADS):
        params, value = begin(heads.make_value(network(value_kind=kind), 2), X.astype(jnp.bfloat16))
        for leaf in jax.tree.leaves((params, value)):
            assert leaf.dtype == jnp.float32


def test_option_sizes_and_masks_of_the_border_agree_with_the_heads():
    space = (Discrete(2), Box((1,)), MultiDiscrete((3, 2)))
    mask = np.ones((BATCH, 7), bool)
    distributions.check_mask(mask, distributions.option_sizes(space))
    _, distribution = begin(heads.make(space, network()), X, mask)
    assert sum(leaf.shape[-1] for leaf in jax.tree.leaves((distribution.parts[0], distribution.parts[2]))) == 7
