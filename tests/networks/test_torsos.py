"""Torsos: dense layers, their norm, D2RL and first weights, against float64 NumPy.

Letters in shapes: R rows, F features.
"""

import functools
import math

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import torsos

F32 = jnp.dtype("float32")
X = np.random.default_rng(0).normal(0, 1, (5, 3)).astype(np.float32)
ERF = np.vectorize(math.erf)
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "softplus": lambda x: np.log1p(np.exp(x)),
}


def begin(mlp, x=X):
    """Parameters drawn anew (biases and norms too, whose first values would hide mistakes), and the output."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(mlp.init, jax.random.key(0), x))
    random = np.random.default_rng(1)
    variables = tree.unflatten([random.normal(0.2, 0.7, leaf.shape).astype(np.float32) for leaf in leaves])
    return variables.get("params"), np.asarray(jax.jit(mlp.apply)(variables, x))


def dense(params, x):
    return x @ np.float64(params["kernel"]) + np.float64(params["bias"])


def normed(params, x):
    deviation = x - x.mean(-1, keepdims=True)
    scaled = deviation / np.sqrt((deviation**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * np.float64(params["scale"]) + np.float64(params["bias"])


@pytest.mark.parametrize("activation", torsos.ACTIVATIONS)
def test_each_layer_is_followed_by_its_activation(activation):
    params, actual = begin(torsos.MLP((4, 2), activation, "default", F32))
    expected = np.float64(X)
    for layer in ("Dense_0", "Dense_1"):
        expected = ACTIVATIONS[activation](dense(params[layer], expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_layer_norm_stands_behind_each_activation():
    params, actual = begin(torsos.MLP((4, 2), "elu", "default", F32, layer_norm=True))
    expected = np.float64(X)
    for layer in range(2):
        expected = ACTIVATIONS["elu"](dense(params[f"Dense_{layer}"], expected))
        expected = normed(params[f"LayerNorm_{layer}"], expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_layer_norm_keeps_the_digits_of_features_far_from_zero():
    # mean(x²) - mean(x)² would lose all digits of a variance of 1 beside a mean of 1e4.
    x = (1e4 + X).astype(np.float32)
    params = {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)}
    actual = jax.jit(torsos.norm(F32).apply)({"params": params}, x)
    expected = normed(params, np.float64(x))
    np.testing.assert_allclose(actual, expected, atol=2e-3)


def test_d2rl_shows_the_input_to_every_layer_after_the_first():
    params, actual = begin(torsos.MLP((4, 2, 6), "tanh", "default", F32, d2rl=True))
    widths = [params[f"Dense_{layer}"]["kernel"].shape for layer in range(3)]
    assert widths == [(3, 4), (4 + 3, 2), (2 + 3, 6)]
    expected = np.tanh(dense(params["Dense_0"], np.float64(X)))
    for layer in ("Dense_1", "Dense_2"):
        expected = np.tanh(dense(params[layer], np.concatenate([expected, X], axis=1)))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_no_layers_give_the_input_itself():
    _, actual = begin(torsos.MLP((), "elu", "default", F32, layer_norm=True, d2rl=True))
    np.testing.assert_array_equal(actual, X)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("default", 1 / (3 * 200)),  # torch's Linear: uniform in ±1/√fan_in
        ("lecun", 1 / 200),
        ("glorot", 2 / (200 + 300)),
        ("glorot_normal", 2 / (200 + 300)),
        ("kaiming", 2 / 200),
        ("orthogonal", 2 / 300),  # gain √2, and 200 orthonormal rows of 300
    ],
)
def test_first_weights_have_the_variance_of_their_name(name, variance):
    weights = torsos.INITIALIZERS[name]()(jax.random.key(0), (200, 300), jnp.float32)
    # 60,000 numbers: the standard error of their variance is below 1 %, of their mean 0.5 % of the deviation.
    np.testing.assert_allclose(np.var(weights), variance, rtol=0.03)
    np.testing.assert_allclose(np.mean(weights), 0, atol=0.02 * math.sqrt(variance))


@pytest.mark.parametrize(("name", "bound"), [("default", 1 / math.sqrt(16)), ("glorot", math.sqrt(6 / (16 + 64)))])
def test_uniform_weights_lie_within_their_bound_and_reach_it(name, bound):
    weights = np.abs(torsos.INITIALIZERS[name]()(jax.random.key(0), (16, 64), jnp.float32))
    assert 0.98 * bound < weights.max() <= bound


def test_orthogonal_weights_are_orthogonal():
    weights = np.float64(torsos.INITIALIZERS["orthogonal"]()(jax.random.key(0), (8, 5), jnp.float32))
    np.testing.assert_allclose(weights.T @ weights, 2 * np.eye(5), atol=1e-5)


def test_constant_weights_are_the_gain():
    params = torsos.MLP((4,), "elu", "constant", F32, gain=0.3).init(jax.random.key(0), X)["params"]
    np.testing.assert_allclose(params["Dense_0"]["kernel"], np.full((3, 4), 0.3), rtol=1e-6)
    np.testing.assert_array_equal(params["Dense_0"]["bias"], 0)


def test_the_gain_multiplies_the_first_weights():
    def first(gain):
        return torsos.MLP((4,), "elu", "orthogonal", F32, gain=gain).init(jax.random.key(0), X)["params"]["Dense_0"]

    np.testing.assert_allclose(first(3.0)["kernel"], 3 * first(1.0)["kernel"], rtol=1e-6)


def test_bfloat16_computes_close_to_float32_on_float32_parameters():
    mlp = functools.partial(torsos.MLP, (4, 4), "elu", "default", layer_norm=True, d2rl=True)
    _, actual = begin(mlp(jnp.dtype("bfloat16")))
    _, expected = begin(mlp(F32))
    first = jax.eval_shape(mlp(jnp.dtype("bfloat16")).init, jax.random.key(0), X)
    assert {leaf.dtype for leaf in jax.tree.leaves(first)} == {F32}
    assert actual.dtype == jnp.bfloat16
    # bfloat16 keeps 8 bits, 0.4 %; features behind a layer norm are of size 1.
    np.testing.assert_allclose(np.float32(actual), expected, atol=0.08)
    assert np.any(np.float32(actual) != expected)


def test_slope_of_elu_is_that_of_its_formula():
    x = np.array([-30.0, -2.0, -1e-3, -1e-6, 0.0, 1e-6, 1e-3, 2.0, 30.0], np.float32)
    slope = jax.vmap(jax.grad(torsos.elu))(x)
    np.testing.assert_allclose(slope, np.where(x > 0, 1.0, np.exp(x.astype(np.float64))), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (3, 3, 2, 6), (64, 1)])
def test_orthogonal_weights_are_flax_s_but_for_rounding(shape):
    ours, theirs = torsos.orthogonal(1.5), flax.linen.initializers.orthogonal(1.5)
    key = jax.random.key(3)
    with jax.debug_key_reuse(False):
        np.testing.assert_allclose(ours(key, shape), theirs(key, shape), atol=1e-5)
    matrix = np.asarray(ours(jax.random.key(4), shape), np.float64).reshape(-1, shape[-1])
    small = matrix.T @ matrix if len(matrix) >= shape[-1] else matrix @ matrix.T
    np.testing.assert_allclose(small, 1.5**2 * np.eye(len(small)), atol=1e-5)


def test_orthogonal_weights_of_many_seeds_are_those_of_each(keys_unchecked):
    def draw(seed):
        keys = jax.random.split(jax.random.key(seed), 8)
        return [torsos.orthogonal()(key, (64, 64)) for key in keys]

    seeds = np.arange(5, dtype=np.uint32)
    together = jax.jit(jax.vmap(draw))(seeds)
    alone = jax.jit(draw)(seeds[3])
    for many, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(many[3], one, atol=1e-5)
