"""Cores: LSTM and GRU against float64 NumPy and torch, and where they forget.

Letters in shapes: T steps, N environments, F features, H size.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import actor_critic, cores

T, N, F, H = 5, 2, 3, 4
X = np.random.default_rng(0).normal(0, 1, (T, N, F)).astype(np.float32)
NEVER = np.zeros((T, N), bool)
SOMETIMES = np.array([[0, 1], [0, 0], [1, 0], [0, 1], [0, 1]], bool)
KINDS = list(cores.LAYERS)


def network(core, **changes):
    """The defaults of the group `network` but for some."""
    config = actor_critic.default_config()
    config.update({"core": core, "core_size": H} | changes)
    return config


@functools.cache
def build(core, changes=()):
    """Parameters drawn anew, and a compiled (params, carry, x [T, N, F], reset) -> (carry, [T, N, ...])."""
    config = network(core, **dict(changes))
    module = cores.Core(config)

    @jax.jit
    def run(params, carry, x, reset):
        x = cores.rows(jnp.asarray(x))
        carry, out = module.apply({"params": params}, carry, x, x, reset)
        return carry, cores.steps(out, reset.shape)

    x = jnp.zeros((T * N, F))
    first = jax.eval_shape(module.init, jax.random.key(0), cores.start(config, N), x, x, NEVER)["params"]
    leaves, tree = jax.tree.flatten(first)
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}
    random = np.random.default_rng(1)
    return tree.unflatten([random.normal(0, 0.6, leaf.shape).astype(np.float32) for leaf in leaves]), run


def zeros(core, **changes):
    return cores.start(network(core, **changes), N)


def some_carry(core, **changes):
    """A carry in the middle of an episode."""
    random = np.random.default_rng(2)
    draw = lambda x: jnp.asarray(random.uniform(-0.8, 0.8, x.shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, zeros(core, **changes))


# The oracle: one step of one environment after the other.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(state, x, h):
    i, f, g, o = np.split(x + h, 4)
    memory = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(memory), memory


def gru_step(state, x, h):
    (r, z, n), (r_h, z_h, n_h) = np.split(x, 3), np.split(h, 3)
    update = sigmoid(z + z_h)
    return ((1 - update) * np.tanh(n + sigmoid(r + r_h) * n_h) + update * state[0],)


def layer(core, params, state, x, reset):
    """States [N, H] and x [T, N, F] → states, [T, N, H]."""
    step = {"lstm": lstm_step, "gru": gru_step}[core]
    params = jax.tree.map(np.float64, params)
    ends, out = [], np.zeros((T, N, H))
    for n in range(N):
        own = tuple(np.float64(part[n]) for part in state)
        for t in range(T):
            own = tuple(np.zeros(H) for _ in own) if reset[t, n] else own
            from_input = x[t, n] @ params["input"]["kernel"] + params["input"]["bias"]
            own = step(own, from_input, own[0] @ params["state_kernel"] + params["state_bias"])
            out[t, n] = own[0]
        ends.append(own)
    return tuple(np.stack(part) for part in zip(*ends, strict=True)), out


def assert_close(actual, expected, atol=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.float64(one), np.float64(other), atol=atol)


@pytest.mark.parametrize("core", KINDS)
def test_two_layers_follow_the_equations_and_start_again_where_episodes_do(core):
    params, run = build(core, (("core_layers", 2),))
    carry = some_carry(core, core_layers=2)
    ends, out = [], np.float64(X)
    for number, state in enumerate(carry[0]):
        end, out = layer(core, params[f"layer_{number}"], state, out, SOMETIMES)
        ends.append(end)
    assert_close(run(params, carry, X, SOMETIMES), ((tuple(ends),), out))


def test_concatenations_and_layer_norm_stand_where_rl_games_has_them():
    wishes = (("core_concat_input", True), ("core_concat_output", True), ("core_layer_norm", True))
    params, run = build("gru", wishes)
    assert params["layer_0"]["input"]["kernel"].shape == (F + F, 3 * H)  # torso's output, encoder's output
    end, out = layer("gru", params["layer_0"], zeros("gru")[0][0], np.concatenate([X, X], -1), SOMETIMES)
    out = out - out.mean(-1, keepdims=True)
    out = out / np.sqrt(np.square(out).mean(-1, keepdims=True) + 1e-5)
    out = out * np.float64(params["norm"]["scale"]) + np.float64(params["norm"]["bias"])
    out = np.concatenate([out, X], -1)  # the encoder's output is not normed
    assert_close(run(params, zeros("gru"), X, SOMETIMES), (((end,),), out), atol=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize("core", KINDS)
def test_numbers_are_pytorchs(core):
    import torch

    params, run = build(core, (("core_layers", 2),))
    theirs = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[core](F, H, num_layers=2).double()
    for number in range(2):
        ours = params[f"layer_{number}"]
        for name, value in {
            f"weight_ih_l{number}": ours["input"]["kernel"].T,
            f"bias_ih_l{number}": ours["input"]["bias"],
            f"weight_hh_l{number}": ours["state_kernel"].T,
            f"bias_hh_l{number}": ours["state_bias"],
        }.items():
            getattr(theirs, name).data = torch.tensor(np.float64(value))
    carry = some_carry(core, core_layers=2)
    state = tuple(torch.tensor(np.float64(np.stack(part))) for part in zip(*carry[0], strict=True))
    out, _ = theirs(torch.tensor(np.float64(X)), state if core == "lstm" else state[0])
    np.testing.assert_allclose(run(params, carry, X, NEVER)[1], out.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("core", KINDS)
@pytest.mark.parametrize("start", range(T))
def test_an_episode_that_begins_at_any_step_is_as_if_it_were_alone(core, start):
    params, run = build(core)
    reset = NEVER.copy()
    reset[start] = True
    carry, out = run(params, some_carry(core), X, reset)
    before = run(params, some_carry(core), X, NEVER)[1]
    alone = run(params, zeros(core), np.roll(X, -start, axis=0), NEVER)[1]
    np.testing.assert_array_equal(out[:start], before[:start])
    np.testing.assert_allclose(out[start:], alone[: T - start], atol=1e-6)
    np.testing.assert_allclose(carry[0][0][0], alone[T - start - 1], atol=1e-6)
    assert np.abs(out[start:] - before[start:]).max() > 1e-3


@pytest.mark.parametrize("core", KINDS)
def test_one_step_after_the_other_is_the_whole_sequence(core):
    params, run = build(core, (("core_layers", 2),))
    carry = some_carry(core, core_layers=2)
    whole = run(params, carry, X, SOMETIMES)
    out = []
    for t in range(T):
        carry, one = run(params, carry, X[t : t + 1], SOMETIMES[t : t + 1])
        out.append(one[0])
    assert_close((carry, np.stack(out)), whole, atol=1e-6)


@pytest.mark.parametrize("core", KINDS)
def test_a_kept_carry_lives_on_when_episodes_end(core):
    params, run = build(core, (("core_keeps_carry", True),))
    _, forgetful = build(core)
    carry = some_carry(core)
    kept = run(params, carry, X, SOMETIMES)
    assert_close(kept, forgetful(params, carry, X, NEVER), atol=1e-6)
    assert np.abs(kept[1] - forgetful(params, carry, X, SOMETIMES)[1]).max() > 1e-3


@pytest.mark.parametrize("core", KINDS)
def test_gradients_do_not_cross_the_beginning_of_an_episode(core):
    params, run = build(core)
    reset = NEVER.copy()
    reset[3, 1] = True  # of the second environment alone

    def last(carry, x):
        return jnp.sum(run(params, carry, x, reset)[1][-1])

    carry, x = jax.jit(jax.grad(last, argnums=(0, 1)))(some_carry(core), X)
    np.testing.assert_array_equal(x[:3, 1], 0)
    assert np.all(x[3:, 1] != 0) and np.all(x[:, 0] != 0)
    for part in jax.tree.leaves(carry):
        np.testing.assert_array_equal(part[1], 0)
        assert np.all(part[0] != 0)


@pytest.mark.parametrize("core", KINDS)
def test_bfloat16_is_close_and_the_state_stays_float32(core):
    params, run = build(core, (("dtype", "bfloat16"),))
    _, exact = build(core)
    carry, out = run(params, some_carry(core), X, SOMETIMES)
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {np.dtype("float32")}
    assert out.dtype == jnp.bfloat16
    # Outputs lie in (-1, 1) and inputs carry 8 bits: a few times 0.4 %.
    np.testing.assert_allclose(np.float32(out), exact(params, some_carry(core), X, SOMETIMES)[1], atol=0.03)


@pytest.mark.parametrize("core", KINDS)
def test_all_matrix_products_are_of_the_dtype(core):
    params, run = build(core, (("dtype", "bfloat16"),))
    program = run.lower(params, zeros(core), X, NEVER).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert products
    for line in products:
        operands = line.rsplit(" : (", 1)[1].split(") -> ")[0]
        assert operands.count("bf16") == 2 and "f32" not in operands, line


def test_the_first_carry_is_zeros_of_every_layer():
    lstm, gru = (cores.start(network(core, core_layers=2), 7) for core in KINDS)
    assert jax.tree.map(jnp.shape, lstm) == ((((7, H), (7, H)),) * 2,)
    assert jax.tree.map(jnp.shape, gru) == ((((7, H),),) * 2,)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((lstm, gru)))


def test_without_a_core_there_is_no_carry_and_nothing_happens():
    config = network("none")
    assert cores.start(config, N) == ()
    assert cores.make(config, "core")((), X, X, NEVER) == ((), X)


def test_first_weights_are_drawn_for_each_gate_alone_and_the_forget_gate_is_open():
    config = network("lstm", initializer="orthogonal")
    x = jnp.zeros((T * N, F))
    init = jax.jit(cores.Core(config).init)
    params = init(jax.random.key(0), cores.start(config, N), x, x, NEVER)["params"]["layer_0"]
    gates = np.split(np.float64(params["state_kernel"]), 4, axis=1)
    for gate in gates:
        np.testing.assert_allclose(gate.T @ gate, np.eye(H), atol=1e-5)
    assert np.abs(gates[0] - gates[1]).max() > 0.1
    np.testing.assert_array_equal(np.split(params["input"]["bias"], 4), [[0] * H, [1] * H, [0] * H, [0] * H])
    np.testing.assert_array_equal(params["state_bias"], 0)


def test_rows_put_environments_first_and_steps_undo_it():
    x = np.arange(T * N * F).reshape(T, N, F)
    rows = cores.rows(jnp.asarray(x))
    np.testing.assert_array_equal(rows[:T], x[:, 0])
    np.testing.assert_array_equal(cores.steps(rows, (T, N)), x)
