"""Encoders: convolutions against loops of float64 NumPy, and which encoder reads what.

Letters in shapes: R rows, H height, W width, L length, C channels.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import actor_critic, encoders
from jaxrl.types import ConfigError

TINY = {
    "cnn_filters": (3, 2),
    "cnn_kernels": (3, 2),
    "cnn_strides": (2, 1),
    "impala_filters": (2, 3),
    "cnn_activation": "elu",
}
IMAGE = np.random.default_rng(0).normal(0, 1, (2, 9, 8, 2)).astype(np.float32)
SEQUENCE = np.random.default_rng(1).normal(0, 1, (2, 9, 2)).astype(np.float32)
SHOWN = {
    "camera": jax.ShapeDtypeStruct((10, 10, 3), jnp.uint8),
    "map": jax.ShapeDtypeStruct((12, 4), jnp.float32),
    "speed": jax.ShapeDtypeStruct((5,), jnp.float32),
}


def network(**changes):
    """The defaults of the group `network` but for some."""
    config = actor_critic.default_config()
    config.update(TINY | changes)
    return config


def encode(kind, x, **changes):
    """Parameters drawn anew, and what the encoder makes of x, [R, F]."""
    encoder = encoders.Encoder(network(**changes), {"x": kind})
    leaves, tree = jax.tree.flatten(jax.eval_shape(encoder.init, jax.random.key(0), {"x": x}))
    assert {leaf.dtype for leaf in leaves} <= {np.dtype("float32")}
    random = np.random.default_rng(2)
    variables = tree.unflatten([random.normal(0.1, 0.5, leaf.shape).astype(np.float32) for leaf in leaves])
    return variables.get("params", {}).get("x"), jax.jit(encoder.apply)(variables, {"x": x})


# The oracle: one number at a time.


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def padded(x, kernel, stride, value):
    """[R, *space, C] with what `same` adds: as much on both sides, the odd one behind, for ⌈size / stride⌉ places."""
    widths = [(0, 0)]
    for size in x.shape[1:-1]:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        widths.append((total // 2, total - total // 2))
    return np.pad(x, [*widths, (0, 0)], constant_values=value)


def windows(x, kernel, stride):
    """Yields (place, [R, kernel, ..., C]) for all places of a window in the space of x [R, *space, C]."""
    sizes = [(size - kernel) // stride + 1 for size in x.shape[1:-1]]
    for place in itertools.product(*(range(size) for size in sizes)):
        yield place, x[(slice(None), *(slice(i * stride, i * stride + kernel) for i in place))]


def convolved(params, x, stride, same):
    kernel = np.float64(params["kernel"])
    x = padded(x, len(kernel), stride, 0) if same else x
    found = {
        place: np.tensordot(window, kernel, axes=kernel.ndim - 1) + np.float64(params["bias"])
        for place, window in windows(x, len(kernel), stride)
    }
    return gathered(found)


def pooled(x):
    return gathered({place: window.max((1, 2)) for place, window in windows(padded(x, 3, 2, -np.inf), 3, 2)})


def gathered(found):
    """{place: [R, C]} → [R, *space, C]."""
    space = [size + 1 for size in max(found)]
    channels = np.stack([found[place] for place in sorted(found)], axis=1)
    return channels.reshape(len(channels), *space, -1)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("kind", "x"), [("cnn", IMAGE), ("cnn1d", SEQUENCE)])
def test_cnn_is_a_chain_of_convolutions_and_activations(kind, x, padding):
    params, actual = encode(kind, x, cnn_padding=padding)
    expected = np.float64(x)
    for layer, stride in enumerate((2, 1)):
        expected = elu(convolved(params[f"Conv_{layer}"], expected, stride, padding == "same"))
    np.testing.assert_allclose(actual, expected.reshape(2, -1), rtol=1e-4, atol=1e-5)


def test_impala_is_two_residual_blocks_behind_each_halving():
    params, actual = encode("impala", IMAGE)
    names = (f"Conv_{number}" for number in range(10))

    def convolution(x):
        return convolved(params[next(names)], x, 1, True)

    x = np.float64(IMAGE)
    for _ in range(2):
        x = pooled(convolution(x))
        for _ in range(2):
            x = x + convolution(elu(convolution(elu(x))))
    np.testing.assert_allclose(actual, elu(x).reshape(2, -1), rtol=1e-4, atol=1e-4)
    assert x.shape == (2, 3, 2, 3)  # 9 x 8, halved twice, rounded up
    assert len(params) == 2 * 5


@pytest.mark.parametrize("kind", ["flatten", "cnn"])
def test_bytes_are_scaled_to_the_unit_interval(kind):
    pixels = np.random.default_rng(3).integers(0, 256, (2, 5, 5, 2), dtype=np.uint8)
    _, actual = encode(kind, pixels)
    _, expected = encode(kind, np.float32(pixels / 255))
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.array([3, -1], np.int32), [[3], [-1]]),
        (np.array([[True, False], [False, True]]), [[1, 0], [0, 1]]),
        (np.array([[[1.5, 2], [3, 4]], [[5, 6], [7, 8]]], np.float32), [[1.5, 2, 3, 4], [5, 6, 7, 8]]),
    ],
)
def test_flatten_makes_a_vector_of_anything(x, expected):
    _, actual = encode("flatten", x)
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == jnp.float32


def test_features_stand_in_the_order_of_the_keys():
    obs = {"b": jnp.full((2, 1), 2.0), "a": jnp.full((2, 2), 1.0), "c": jnp.full((2,), 3)}
    encoder = encoders.Encoder(network(), dict.fromkeys(obs, "flatten"))
    np.testing.assert_array_equal(encoder.apply({}, obs), [[1, 1, 2, 3]] * 2)


@pytest.mark.parametrize("kind", ["cnn", "impala"])
def test_bfloat16_is_close_to_float32_on_float32_parameters(kind):
    _, expected = encode(kind, IMAGE)
    _, actual = encode(kind, IMAGE, dtype="bfloat16")
    assert actual.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(actual), expected, atol=0.03 * np.abs(expected).max())


# Which encoder reads what.


def test_auto_reads_images_with_the_cnn_and_flattens_the_rest():
    assert encoders.choose(network(), SHOWN) == {"camera": "cnn", "map": "flatten", "speed": "flatten"}


def test_an_encoder_reads_what_it_can_and_the_rest_is_flattened():
    chosen = encoders.choose(network(encoder="impala"), SHOWN)
    assert chosen == {"camera": "impala", "map": "flatten", "speed": "flatten"}


def test_single_keys_choose_their_own_encoder():
    chosen = encoders.choose(network(encoders=("camera=flatten", "map=cnn1d", "speed=auto")), SHOWN)
    assert chosen == {"camera": "flatten", "map": "cnn1d", "speed": "flatten"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoders": ("camra=cnn",)}, ["'camra'", "'camera', 'map', 'speed'"]),
        ({"encoders": ("camera=resnet",)}, ["'resnet'", "impala"]),
        ({"encoders": ("camera",)}, ["'camera'", "camera=flatten"]),
        ({"encoders": (3,)}, ["encoders=3", "camera=flatten"]),
        ({"encoders": ("speed=cnn",)}, ["[H, W, C]", "(5,)", "speed=flatten"]),
        ({"cnn_kernels": (3,)}, ["cnn_filters=(3, 2)", "cnn_kernels=(3,)", "equally long"]),
        ({"cnn_kernels": (8, 4), "cnn_strides": (4, 2)}, ["(10, 10, 3)", "cnn_padding='same'", "cnn_kernels=(3,)"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_with_its_cure(changes, words):
    with pytest.raises(ConfigError) as error:
        encoders.choose(network(**changes), SHOWN)
    message = str(error.value)
    assert message.startswith("config.network.") and "\n" not in message
    assert not [word for word in words if word not in message], message


def test_an_encoder_that_can_read_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"encoder='impala' reads \[H, W, C\].*'speed' \(5,\).*'auto'"):
        encoders.choose(network(encoder="impala"), {"speed": SHOWN["speed"]})


def test_every_cure_for_a_small_image_works():
    small = {"obs": jax.ShapeDtypeStruct((10, 10, 4), jnp.bool_)}
    defaults = actor_critic.default_config()
    with pytest.raises(ConfigError):
        encoders.choose(defaults, small)
    one_layer = {"cnn_filters": (16,), "cnn_kernels": (3,), "cnn_strides": (1,)}
    for cure, features in ({"cnn_padding": "same"}, 2 * 2 * 64), (one_layer, 8 * 8 * 16):
        config = defaults.copy_and_resolve_references()
        config.update(cure)
        encoder = encoders.Encoder(config, encoders.choose(config, small))
        shape = jax.eval_shape(encoder.init_with_output, jax.random.key(0), {"obs": jnp.zeros((1, 10, 10, 4), bool)})[0]
        assert shape.shape == (1, features)
