"""The compiled program: compiled once, nothing crosses to the host in it, and as many devices as you like."""

import dataclasses
import gc
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.acting import epoch as epochs
from jaxrl.host import program, sharding
from jaxrl.types import ConfigError


def config(**overrides):
    base = {
        "env.suite": "probe",
        "env.name": "target",
        "network.hidden_sizes": (16, 16),
        "ppo.num_envs": 64,
        "ppo.unroll_length": 8,
        "ppo.num_minibatches": 4,
        "ppo.learning_rate": 1e-3,
        "eval.episodes": 16,
    }
    return jaxrl.configure({}, base | overrides)


def compiled(num_devices, **overrides):
    mesh = sharding.mesh(jax.devices()[:num_devices])
    source = program.make(config(**overrides), mesh)
    return source, mesh, program.compile(source, mesh, seed=3)


@pytest.fixture(scope="module")
def on_one():
    return compiled(1)


@pytest.fixture(scope="module")
def on_eight():
    if jax.device_count() < 8:
        pytest.fail("the test suite runs on 8 fake devices; see tests/conftest.py")
    return compiled(8)


def run(built, iterations):
    _, mesh, programs = built
    number = jax.device_put(np.int32(iterations), sharding.replicated(mesh))
    return programs.epoch(programs.init(), number)


def test_eight_devices_give_the_parameters_of_one(on_one, on_eight):
    (one, metrics_of_one), (eight, metrics_of_eight) = run(on_one, 3), run(on_eight, 3)
    for a, b in zip(jax.tree.leaves(one.agent.params), jax.tree.leaves(eight.agent.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for name, value in metrics_of_one.items():
        np.testing.assert_allclose(value, metrics_of_eight[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_environments_are_split_and_the_agent_is_everywhere(on_eight):
    state, _ = run(on_eight, 1)
    assert state.actor.obs.sharding.shard_shape(state.actor.obs.shape) == (8, 2)
    for leaf in jax.tree.leaves(state.agent):
        assert leaf.sharding.is_fully_replicated


def test_only_gradients_and_statistics_cross_between_devices(on_eight):
    source, mesh, programs = on_eight
    parameters = program.num_parameters(programs.template.agent)
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=sharding.replicated(mesh))
    place = jax.tree.map(lambda x: x.sharding, programs.template)
    epoch = jax.jit(source.epoch, donate_argnums=0, out_shardings=(place, sharding.replicated(mesh)))
    text = epoch.lower(programs.template, number).compile().as_text()
    assert not re.findall(r"= \S+ (all-gather|all-to-all|collective-permute)\(", text)
    crossing = re.findall(r"= (\([^=]*?\)|\S+) all-reduce(?:-start)?\(", text)
    assert crossing, "eight devices that never exchange a gradient do not learn together"
    sizes = [
        sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in re.findall(r"\w+\[([\d,]*)\]", kinds))
        for kinds in crossing
    ]
    assert max(sizes) <= parameters + 16  # one gradient, with the scalars of the loss beside it
    assert sum(size > 16 for size in sizes) <= 1 + len(jax.tree.leaves(programs.template.agent.params))


@pytest.mark.parametrize("where", ["on_one", "on_eight"])
def test_initial_states_are_drawn_anew_before_the_epoch_in_which_all_would_have_had_their_turn(where, request):
    _, mesh, programs = request.getfixturevalue(where)
    state, began = programs.init(), []
    for length in (7, 1, 1):  # of 8 steps; there are eight in store, for 8 steps each
        began.append((int(state.actor.env_state.left), np.asarray(state.actor.env_state.fresh[1][..., 1])))
        state, _ = programs.epoch(state, jax.device_put(np.int32(length), sharding.replicated(mesh)))
    left, fresh = int(state.actor.env_state.left), np.asarray(state.actor.env_state.fresh[1][..., 1])
    assert [each for each, _ in began] + [left] == [64, 8, 0, 56]
    assert fresh.shape[:2] == (64, 8)
    for _, before in began:
        np.testing.assert_array_equal(before, began[0][1])
        assert (before != fresh).all()


def test_epochs_of_any_length_compile_once(on_one):
    _, mesh, programs = on_one
    state = programs.init()
    place = jax.tree.map(lambda x: x.sharding, programs.template)
    epoch = jax.jit(on_one[0].epoch, donate_argnums=0, out_shardings=(place, sharding.replicated(mesh)))
    for length in (1, 2, 5):
        state, _ = epoch(state, jax.device_put(np.int32(length), sharding.replicated(mesh)))
    assert epoch._cache_size() == 1
    assert int(state.iterations) == 8


def test_an_iteration_is_traced_once(monkeypatch):
    """Tracing an iteration of Brax's ant takes seconds."""
    traced, rollout = [], epochs.rollout
    monkeypatch.setattr(epochs, "rollout", lambda *arguments: traced.append(1) or rollout(*arguments))
    source = program.make(config(), mesh=None)
    state = jax.eval_shape(source.init, jnp.uint32(0), source.algorithm.hyper)
    jax.jit(source.epoch).trace(state, jnp.int32(1))
    assert traced == [1]


def test_an_epoch_carries_nothing_of_an_environment_that_it_does_not_need():
    """Brax's systems have a hundred arrays, most of which a step has no use for."""
    source = program.make(config(), mesh=None)
    unused = jnp.ones((5, 7))

    def step(env_state, action):
        add = lambda carry, _: ((carry[0], carry[1] + unused.sum()), None)  # noqa: E731
        (action, _), _ = jax.lax.scan(add, (action, jnp.zeros(())), None, length=2)
        return source.env.step(env_state, action)

    _, epoch = epochs.make(source.env._replace(step=step), source.algorithm)
    state = jax.eval_shape(source.init, jnp.uint32(0), source.algorithm.hyper)
    assert "5x7xf32" not in jax.jit(epoch).lower(state, jnp.int32(1)).as_text()


def test_a_beginning_is_traced_once(monkeypatch):
    traced, start = [], epochs.start
    monkeypatch.setattr(epochs, "start", lambda *arguments: traced.append(1) or start(*arguments))
    compiled(1, **{"eval.episodes": 0})
    assert traced == [1]


def test_what_takes_longest_to_compile_is_traced_first_and_alone():
    mesh = sharding.mesh(jax.devices()[:1])
    source, told = program.make(config(), mesh), []

    def telling(name, stage):
        def function(*arguments):
            told.append(name)
            result = stage(*arguments)
            told.append(name)
            return result

        return function

    stages = {name: telling(name, getattr(source.evaluate, name)) for name in ("deal", "play")}
    parts = {name: telling(name, getattr(source.epoch, name)) for name in ("run", "renew")}
    source = source._replace(
        init=telling("init", source.init),
        epoch=dataclasses.replace(source.epoch, **parts),
        evaluate=dataclasses.replace(source.evaluate, **stages),
    )
    program.compile(source, mesh, seed=0)
    # A beginning tells the shapes of the rest, and is not traced again.
    assert told == ["init", "init", "run", "run", "deal", "deal", "play", "play", "renew", "renew"]


def test_nothing_crosses_to_the_host_inside_an_epoch(on_one):
    _, mesh, programs = on_one
    state = programs.init()
    number = jax.device_put(np.int32(2), sharding.replicated(mesh))
    with jax.transfer_guard("disallow_explicit"):
        state, metrics = programs.epoch(state, number)
        jax.block_until_ready((state, metrics))


def test_the_state_that_goes_in_is_donated(on_one):
    _, mesh, programs = on_one
    state = programs.init()
    programs.epoch(state, jax.device_put(np.int32(1), sharding.replicated(mesh)))
    assert state.actor.obs.is_deleted()


def test_one_long_epoch_equals_many_short_ones(on_one):
    _, mesh, programs = on_one
    long, _ = run(on_one, 6)
    short = programs.init()
    for length in (1, 2, 3):
        short, _ = programs.epoch(short, jax.device_put(np.int32(length), sharding.replicated(mesh)))
    assert all(np.array_equal(a, b) for a, b in zip(*map(plain, (long, short)), strict=True))


def plain(state):
    """The leaves of a state as arrays of numbers."""
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(state)]


def test_evaluation_leaves_training_as_it_was(on_one):
    _, mesh, programs = on_one
    state = programs.init()
    before = plain(state)
    first, again = programs.evaluate(state), programs.evaluate(state)
    assert all(np.array_equal(a, b) for a, b in zip(before, plain(state), strict=True))
    assert first["eval/episode_return"] == again["eval/episode_return"]
    assert first["eval/episodes"] == 16
    assert first["eval/episode_return_min"] <= first["eval/episode_return"] <= first["eval/episode_return_max"]


def test_the_two_stages_of_an_evaluation_are_one_function(on_one, on_eight):
    source, _, programs = on_one
    state = programs.init()
    whole = jax.jit(source.evaluate)(state.agent, jnp.uint32(3), state.iterations)
    other = jax.jit(source.evaluate)(state.agent, jnp.uint32(4), state.iterations)
    for name, value in whole.items():
        np.testing.assert_allclose(programs.evaluate(state)[name], value, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(on_eight[2].evaluate(on_eight[2].init())[name], value, rtol=1e-5, err_msg=name)
    assert abs(other["eval/episode_return"] - whole["eval/episode_return"]) > 1e-3  # another seed deals others


def test_evaluation_plays_whole_episodes():
    _, _, programs = compiled(1, **{"env.name": "clock", "env.episode_length": 13})
    metrics = programs.evaluate(programs.init())
    assert metrics["eval/episode_return"] == metrics["eval/episode_return_min"] == metrics["eval/episode_length"] == 13


def test_environments_that_devices_cannot_share_are_refused():
    with pytest.raises(ConfigError, match="config.ppo.num_envs=60 cannot be shared by 8 devices; the nearest is 64"):
        compiled(8, **{"ppo.num_envs": 60})
    assert gc.isenabled()  # again


def test_a_checkpoint_is_what_orbax_is_imported_for():
    code = "import jaxrl, jaxrl.train, sys; jaxrl.configure({}); print('orbax.checkpoint' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
