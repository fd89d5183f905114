"""The network of actor and critic: what each reads, what they share, and that every option builds.

Letters in shapes: T steps, N environments, A action size.
"""

import functools
import itertools
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import actor_critic
from jaxrl.types import Box, ConfigError, Discrete, MultiDiscrete, Spec

T, N = 5, 2
TINY = {
    "hidden_sizes": (6, 4),
    "core_size": 4,
    "cnn_filters": (2, 3),
    "cnn_kernels": (3, 2),
    "cnn_strides": (2, 1),
    "impala_filters": (2,),
    "value_bins": 5,
    "policy_gain": 1.0,
}
VECTOR = jax.ShapeDtypeStruct((3,), jnp.float32)
IMAGE = jax.ShapeDtypeStruct((6, 6, 2), jnp.uint8)
ASYMMETRIC = {"pose": VECTOR, "speed": jax.ShapeDtypeStruct((2,), jnp.float32), "critic": {"state": VECTOR}}
NEVER = np.zeros((T, N), bool)


def network(**changes):
    """The defaults of the group `network`, small, but for some changes."""
    config = actor_critic.default_config()
    config.update(TINY | changes)
    return config


def spec(obs=VECTOR, action=Box((2,)), num_value_heads=1):  # noqa: B008
    return Spec(N, obs, action, truncation_interval=100, num_value_heads=num_value_heads)


def some(obs):
    """Observations [T, N, ...] of a shape."""
    random = np.random.default_rng(0)
    draw = lambda x: random.integers(0, 2 if x.dtype == bool else 256, (T, N, *x.shape)).astype(x.dtype)  # noqa: E731
    real = lambda x: random.normal(0, 1, (T, N, *x.shape)).astype(np.float32)  # noqa: E731
    return jax.tree.map(lambda x: real(x) if x.dtype == jnp.float32 else draw(x), obs)


@functools.cache
def built(changes=(), key="vector"):
    """Network, parameters drawn anew, compiled apply and value for one of the environments."""
    obs = {"vector": VECTOR, "asymmetric": ASYMMETRIC}[key]
    net = actor_critic.make(network(**dict(changes)), spec(obs))
    return net, drawn(net), jax.jit(net.apply), jax.jit(net.value)


def drawn(net):
    """Parameters of a network, none of them zero, without compiling its `init`."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(net.init, jax.random.key(0)))
    random = np.random.default_rng(1)
    return tree.unflatten([random.normal(0, 0.5, leaf.shape).astype(np.float32) for leaf in leaves])


def paths(params):
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(params)}


LSTM = (("core", "lstm"),)


def test_the_default_parameters_keep_their_names():
    # Checkpoints hold these; whoever renames one makes old runs unreadable.
    _, params, _, _ = built()
    layers = ["policy_torso/Dense_0", "policy_torso/Dense_1", "policy_head/mean", "value_head/Dense_0"]
    layers += ["value_torso/Dense_0", "value_torso/Dense_1"]
    expected = {f"{layer}/{leaf}" for layer in layers for leaf in ("kernel", "bias")} | {"policy_head/log_std"}
    assert paths(params) == expected
    assert params["policy_torso"]["Dense_0"]["kernel"].shape == (3, 6)
    assert params["policy_head"]["mean"]["kernel"].shape == (4, 2)


def test_the_default_network_is_two_stacks_of_dense_layers():
    _, params, apply, _ = built()
    obs = some(VECTOR)
    distribution, value, carry = apply(params, (), obs, NEVER)

    def dense(name, x):
        return x @ np.float64(params[name[0]][name[1]]["kernel"]) + np.float64(params[name[0]][name[1]]["bias"])

    def torso(name):
        x = np.float64(obs)
        for layer in ("Dense_0", "Dense_1"):
            x = dense((name, layer), x)
            x = np.where(x > 0, x, np.expm1(x))
        return x

    mean = dense(("policy_head", "mean"), torso("policy_torso"))
    np.testing.assert_allclose(distribution.mean, mean, rtol=1e-5, atol=1e-6)
    expected = dense(("value_head", "Dense_0"), torso("value_torso"))[..., 0]
    np.testing.assert_allclose(value.expectation(), expected, rtol=1e-5, atol=1e-6)
    assert carry == ()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("core", ["none", "gru"])
def test_value_alone_is_the_value_of_the_whole(core, shared):
    net, params, apply, value = built((("core", core), ("shared", shared)))
    obs, carry = some(VECTOR), jax.tree.map(lambda x: x + 0.3, net.carry(N))
    reset = NEVER.copy()
    reset[2, 1] = True
    whole = apply(params, carry, obs, reset)[1].expectation()
    assert whole.shape == (T, N)
    np.testing.assert_allclose(value(params, carry, obs, reset).expectation(), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("changes", [(), LSTM], ids=["feed-forward", "lstm"])
def test_what_is_the_critics_own_is_named_value_and_moves_the_value_alone(changes):
    net, params, apply, _ = built(changes, "asymmetric")
    obs, carry = some(ASYMMETRIC), net.carry(N)

    def outputs(params):
        distribution, value, _ = apply(params, carry, obs, NEVER)
        return jnp.sum(distribution.mean) + jnp.sum(distribution.log_std), jnp.sum(value.expectation())

    of_policy, of_value = jax.jit(jax.jacrev(outputs))(params)
    moved = lambda tree: {name for name, leaves in tree.items() if any(map(np.any, jax.tree.leaves(leaves)))}  # noqa: E731
    assert moved(of_value) == {name for name in params if name.startswith("value_")}
    assert moved(of_policy) == {name for name in params if not name.startswith("value_")}


def test_a_shared_network_has_no_tower_of_the_critic():
    _, params, _, _ = built((("core", "gru"), ("shared", True)))
    assert set(params) == {"policy_torso", "policy_core", "policy_head", "value_head"}


# Asymmetric observations and masks.


@pytest.mark.parametrize("changes", [(), LSTM], ids=["feed-forward", "lstm"])
def test_policy_and_critic_read_nothing_of_each_other(changes):
    net, params, apply, value = built(changes, "asymmetric")
    obs, carry = some(ASYMMETRIC), net.carry(N)
    mean, values = (lambda out: (out[0].mean, out[1].expectation()))(apply(params, carry, obs, NEVER))
    other_critic = obs | {"critic": {"state": obs["critic"]["state"] + 1}}
    other_policy = obs | {"speed": obs["speed"] + 1}
    distribution, new, _ = apply(params, carry, other_critic, NEVER)
    np.testing.assert_array_equal(distribution.mean, mean)
    assert np.all(new.expectation() != values)
    distribution, new, _ = apply(params, carry, other_policy, NEVER)
    np.testing.assert_array_equal(new.expectation(), values)
    np.testing.assert_allclose(value(params, carry, other_policy, NEVER).expectation(), values, rtol=1e-5, atol=1e-6)
    assert np.all(distribution.mean != mean)


def test_the_policy_reads_its_keys_in_sorted_order():
    _, params, apply, _ = built((), "asymmetric")
    _, plain, plain_apply, _ = built()
    obs = some(ASYMMETRIC)
    kernel = params["policy_torso"]["Dense_0"]["kernel"]
    assert kernel.shape == (3 + 2, 6)
    # Without the second key the rows of its weights count for nothing, and `pose` is all there is.
    plain = plain | {name: params[name] for name in ("policy_torso", "policy_head")}
    plain["policy_torso"] = plain["policy_torso"] | {
        "Dense_0": params["policy_torso"]["Dense_0"] | {"kernel": kernel[:3]}
    }
    expected = plain_apply(plain, (), obs["pose"], NEVER)[0].mean
    actual = apply(params, (), obs | {"speed": np.zeros((T, N, 2), np.float32)}, NEVER)[0].mean
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("critic", [{}, {"critic": VECTOR}], ids=["shared view", "own view"])
def test_a_mask_reaches_the_head_and_is_read_by_nobody_else(critic):
    shown = {"x": VECTOR, "action_mask": jax.ShapeDtypeStruct((3,), jnp.bool_)} | critic
    net = actor_critic.make(network(), spec(shown, Discrete(3)))
    params, apply = drawn(net), jax.jit(net.apply)
    assert params["value_torso"]["Dense_0"]["kernel"].shape == (3, 6)
    obs = some(shown) | {"action_mask": np.broadcast_to([True, False, True], (T, N, 3))}
    distribution, value, _ = apply(params, (), obs, NEVER)
    probability = np.exp([distribution.log_prob(jnp.full((T, N), option)) for option in range(3)])
    np.testing.assert_array_equal(probability[1], 0)
    np.testing.assert_allclose(probability.sum(0), 1, rtol=1e-5)
    everything = obs | {"action_mask": np.ones((T, N, 3), bool)}
    open_, same, _ = apply(params, (), everything, NEVER)
    np.testing.assert_array_equal(same.expectation(), value.expectation())
    assert np.all(open_.log_prob(jnp.full((T, N), 1)) > -10)


# Cores.


def test_actor_and_critic_have_a_core_each_or_one_together():
    net, _, _, _ = built(LSTM)
    policy, critic = net.carry(7)
    assert jax.tree.map(jnp.shape, policy) == jax.tree.map(jnp.shape, critic) == (((7, 4), (7, 4)),)
    shared, params, apply, _ = built((("core", "gru"), ("shared", True)))
    assert jax.tree.map(jnp.shape, shared.carry(7)) == ((((7, 4),),),)
    end = apply(params, shared.carry(N), some(VECTOR), NEVER)[2]
    assert jax.tree.structure(end) == jax.tree.structure(shared.carry(N))


def test_the_buffers_of_a_carry_are_distinct():
    # Donation of one buffer that stands in two places is an error.
    leaves = jax.tree.leaves(built(LSTM)[0].carry(N))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves) == 4


def test_each_core_continues_from_its_own_part_of_the_carry():
    net, params, apply, value = built(LSTM)
    obs, (policy, critic) = some(VECTOR), net.carry(N)
    elsewhere = jax.tree.map(lambda x: x + 0.5, critic)
    distribution, values, carry = apply(params, (policy, critic), obs, NEVER)
    same, moved, other = apply(params, (policy, elsewhere), obs, NEVER)
    np.testing.assert_array_equal(same.mean, distribution.mean)
    assert np.all(moved.expectation() != values.expectation())
    alone = value(params, (policy, elsewhere), obs, NEVER).expectation()
    np.testing.assert_allclose(alone, moved.expectation(), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(jax.tree.leaves(carry[0])[0], jax.tree.leaves(other[0])[0])


@pytest.mark.parametrize("before", [False, True], ids=["behind the torso", "before the torso"])
def test_the_core_stands_where_it_is_wished_and_forgets_at_resets(before):
    wishes = {"core": "gru", "core_before_torso": before, "core_concat_output": True}
    net, params, apply, _ = built(tuple(wishes.items()))
    shapes = jax.tree.map(jnp.shape, params)
    torso, core = (shapes["policy_torso"]["Dense_0"]["kernel"], shapes["policy_core"]["layer_0"]["input"]["kernel"])
    head = shapes["policy_head"]["mean"]["kernel"]
    # obs 3 wide, core 4, torso (6, 4); the core's output has the obs beside it.
    assert (torso, core, head) == (((4 + 3, 6), (3, 12), (4, 2)) if before else ((3, 6), (4, 12), (4 + 3, 2)))
    obs, carry = some(VECTOR), net.carry(N)
    reset = NEVER.copy()
    reset[2] = True
    whole = apply(params, carry, obs, reset)[0].mean
    alone = apply(params, carry, np.roll(obs, -2, axis=0), NEVER)[0].mean
    np.testing.assert_allclose(whole[2:], alone[:3], atol=1e-6)
    assert np.abs(whole - apply(params, carry, obs, NEVER)[0].mean)[2:].max() > 1e-4


# Every option.

OPTIONS = [
    *({"activation": name, "layer_norm": True} for name in ("relu", "gelu")),
    *({"initializer": name} for name in actor_critic.CHOICES["initializer"]),
    {"d2rl": True, "shared": True},
    {"hidden_sizes": ()},
    {"value_hidden_sizes": (5,)},
    {"distribution": "tanh_normal", "log_std": "state"},
    {"log_std": "fixed", "std_parametrization": "softplus", "min_std": 0.1},
    {"std_parametrization": "linear"},
    {"value_kind": "two_hot"},
    {"value_kind": "hl_gauss", "shared": True},
    {"dtype": "bfloat16"},
    {"dtype": "bfloat16", "core": "lstm", "core_layer_norm": True},
    *(
        {"core": core, "shared": shared, "core_concat_input": not before, "core_before_torso": before}
        for core, shared, before in itertools.product(("lstm", "gru"), (False, True), (False, True))
    ),
    {"core": "gru", "core_layers": 2, "core_keeps_carry": True, "d2rl": True, "layer_norm": True},
]
ENVIRONMENTS = {
    "image": (IMAGE, Discrete(3), {}),
    "shared image": (IMAGE, Discrete(3), {"shared": True, "cnn_padding": "same"}),
    "impala": (IMAGE, Discrete(3), {"encoder": "impala", "core": "lstm"}),
    "cnn1d": (jax.ShapeDtypeStruct((6, 2), jnp.float32), Box((2,)), {"encoder": "cnn1d"}),
    "keys": ({"eye": IMAGE, "hand": VECTOR}, MultiDiscrete((2, 3)), {"encoders": ("eye=impala",)}),
    "asymmetric image": ({"a": VECTOR, "critic": IMAGE}, Box((2,)), {"encoders": ("critic=cnn",)}),
    "numbers": ({"n": jax.ShapeDtypeStruct((), jnp.int32), "x": VECTOR}, (Discrete(2), Box((1,))), {}),
}


def check(net, shown, num_value_heads=1):
    """Shapes and dtypes of all that a network gives; traced, not run."""
    params = jax.eval_shape(net.init, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    obs, carry = some(shown), net.carry(N)

    def act(params, carry):
        distribution, value, carry = net.apply(params, carry, obs, NEVER)
        return distribution, distribution.entropy(), value.expectation(), carry, net.value(params, carry, obs, NEVER)

    distribution, entropy, value, end, alone = jax.eval_shape(act, params, carry)
    assert {leaf.shape[:2] for leaf in jax.tree.leaves((distribution, alone))} == {(T, N)}
    assert {leaf.dtype for leaf in jax.tree.leaves((distribution, alone))} == {np.dtype("float32")}
    assert entropy.shape == (T, N)
    assert value.shape == ((T, N) if num_value_heads == 1 else (T, N, num_value_heads))
    assert jax.tree.structure(end) == jax.tree.structure(carry)
    ends, starts = jax.tree.leaves(end), jax.tree.leaves(carry)
    assert [(leaf.shape, leaf.dtype) for leaf in ends] == [(leaf.shape, leaf.dtype) for leaf in starts]


@pytest.mark.parametrize("changes", OPTIONS, ids=lambda changes: ",".join(f"{k}={v}" for k, v in changes.items()))
def test_every_option_builds(changes):
    check(actor_critic.make(network(**changes), spec()), VECTOR)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_kind_of_observation_and_action_is_taken(name):
    shown, action, changes = ENVIRONMENTS[name]
    check(actor_critic.make(network(**changes), spec(shown, action, 2)), shown, 2)


def test_bfloat16_is_close_to_float32():
    wishes = (("core", "lstm"), ("layer_norm", True))
    net, params, apply, _ = built(wishes)
    _, _, rough, _ = built((*wishes, ("dtype", "bfloat16")))
    obs = some(VECTOR)
    exact, close = (run(params, net.carry(N), obs, NEVER) for run in (apply, rough))
    np.testing.assert_allclose(close[0].mean, exact[0].mean, atol=0.03)
    np.testing.assert_allclose(close[1].value, exact[1].value, atol=0.03)
    assert np.any(close[0].mean != exact[0].mean)


# What cannot be.


@pytest.mark.parametrize(
    ("changes", "shown", "words"),
    [
        ({"shared": True}, ASYMMETRIC, ["shared=True", "observations of its own", "set it to False"]),
        ({"core": "gru", "core_concat_input": True, "core_before_torso": True}, VECTOR, ["core_concat_input=True"]),
        ({}, {"critic": VECTOR}, ["shows the policy nothing"]),
        ({"encoders": ("critic.stat=flatten",)}, ASYMMETRIC, ["'critic.stat'", "'pose', 'speed', 'critic.state'"]),
        ({}, jax.ShapeDtypeStruct((2, 2, 1), jnp.uint8), ["'obs'", "(2, 2, 1)", "cnn_padding='same'"]),
        ({"initial_std": 0.1, "min_std": 0.2}, VECTOR, ["initial_std"]),
        ({"module": "torsoes"}, VECTOR, ["module='torsoes'", "torsos"]),
        ({"module": "nowhere.network"}, VECTOR, ["module='nowhere.network'", "PYTHONPATH"]),
        ({"module": "json"}, VECTOR, ["module='json'"]),
        ({"module": "email.charset"}, VECTOR, ["module='email.charset'", "make(config, spec)"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, shown, words):
    with pytest.raises(ConfigError) as error:
        actor_critic.make(network(**changes), spec(shown))
    message = str(error.value)
    assert message.startswith("config.") and "\n" not in message
    assert not [word for word in words if word not in message], message


# The user's own.


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a module and gives the dotted path to it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        folder = tmp_path / f"own_{name}"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "network.py").write_text(textwrap.dedent(text))
        return f"own_{name}.network"

    return write


def test_a_users_module_gives_the_network_and_may_build_on_the_built_in_one(package):
    name = package(
        "twice",
        """
        from jaxrl.networks import actor_critic

        def make(config, spec):
            inner = actor_critic.build(config, spec)
            return inner._replace(carry=lambda num: ("mine", inner.carry(num)))
        """,
    )
    net = actor_critic.make(network(module=name), spec())
    assert net.carry(N) == ("mine", ())
    assert set(jax.eval_shape(net.init, jax.random.key(0))) == set(built()[1])


def test_a_users_module_that_fails_is_told_in_one_line(package):
    name = package("broken", "raise RuntimeError('two\\nlines')")
    with pytest.raises(
        ConfigError, match=rf"config.network.module='{name}' cannot be imported \(RuntimeError: two lines"
    ):
        actor_critic.make(network(module=name), spec())
