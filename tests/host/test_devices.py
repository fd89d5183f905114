"""One, two and eight devices are the same learner, and next to nothing crosses between them.

What crosses is read from the compiled program, in tests/host/hlo.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.host import checkpoint, program, sharding
from jaxrl.host.sweeping import wave
from tests.host import hlo, shared_environments

pytestmark = pytest.mark.slow

BASE = {
    "env.suite": "probe",
    "env.name": "target",
    "network.hidden_sizes": (8,),
    "network.core_size": 8,
    "ppo.num_envs": 128,
    "ppo.unroll_length": 4,
    "ppo.num_minibatches": 16,
    "ppo.update_epochs": 1,
    "ppo.learning_rate": 1e-3,
    "eval.episodes": 0,
}
# The memory learns from segments of two steps, of which each rollout has two; it chooses one of two options.
LEARNERS = {
    "continuous": {"ppo.normalize_advantage": "minibatch"},
    "discrete": {"env.name": "masked_arms", "ppo.learning_rate_schedule": "adaptive_kl"},
    "with memory": {"env.name": "recall", "network.core": "gru", "ppo.segment_length": 2},
}
UPDATES = 3


def compiled(num_devices, **overrides):
    mesh = sharding.mesh(jax.devices()[:num_devices])
    source = program.make(jaxrl.configure({}, BASE | overrides), mesh)
    return program.compile(source, mesh, seed=3)


@pytest.fixture(scope="module")
def learner():
    """(name in LEARNERS, number of devices) -> Program, each compiled once."""
    if jax.device_count() < 8:
        pytest.fail("the test suite runs on 8 fake devices; see tests/conftest.py")
    built = {}

    def get(name, num_devices):
        key = name, num_devices
        if key not in built:
            built[key] = compiled(num_devices, **LEARNERS[name])
        return built[key]

    return get


def curve(programs):
    """The parameters after UPDATES updates, and the metrics of each."""
    state, rows = programs.init(), []
    one = jax.device_put(np.int32(1), programs.template.iterations.sharding)
    for _ in range(UPDATES):
        state, metrics = programs.epoch(state, one)
        rows.append(jax.device_get(metrics))
    return jax.device_get(state.agent.params), rows


def alike(one, other, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.parametrize("name", LEARNERS)
def test_any_number_of_devices_gives_the_same_parameters_and_curve(name, learner):
    params, rows = curve(learner(name, 1))
    before = jax.device_get(learner(name, 1).init().agent.params)
    moved = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (before, params)), strict=True)]
    assert max(moved) > 1e-2  # 48 steps of Adam, of up to 1e-3 each
    for num_devices in (2, 8):
        others, metrics = curve(learner(name, num_devices))
        alike(params, others, rtol=0, atol=1e-5)
        alike(rows, metrics, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_minibatch_exchanges_one_gradient_and_nothing_else_is_larger_than_a_few_numbers(name, learner):
    programs = learner(name, 8)
    found = hlo.collectives(programs.epoch.run.as_text())
    parameters = program.num_parameters(programs.template.agent)
    assert {each.kind for each in found} == {"all-reduce"}
    [gradient] = [each for each in found if max(each.sizes) > 16]
    assert max(gradient.sizes) == parameters  # as one vector
    assert sum(gradient.sizes) <= parameters + 16  # terms of the loss ride with it
    # Loops: iterations, passes and minibatches in one or two, and no other, such as one back through time.
    in_minibatches = [each for each in found if each.loops == gradient.loops]
    statistics = [each for each in found if each.loops != gradient.loops]
    assert len(gradient.loops) >= 2
    # How many samples are valid must be known before a gradient; standardising advantages takes their mean twice and
    # their deviation.
    assert len(in_minibatches) <= (5 if name == "continuous" else 2)
    assert all(each.num_bytes <= 64 for each in in_minibatches if each is not gradient)
    # The rest is of whole iterations: moments of advantages, values and observations; and of the epoch: its metrics.
    assert {each.loops for each in statistics} <= {(), gradient.loops[:1]}
    assert all(each.num_bytes <= 64 for each in statistics)


def test_the_rollout_exchanges_nothing(learner):
    mesh = sharding.mesh(jax.devices())
    source = program.make(jaxrl.configure({}, BASE | LEARNERS["with memory"]), mesh)
    template = learner("with memory", 8).template

    def play(state, keys):
        def one_step(actor, key):
            action, carry, memo = source.algorithm.act(state.agent, actor.carry, actor.obs, actor.reset, key)
            env_state, timestep = source.env.step(actor.env_state, action)
            reset = timestep.terminated | timestep.truncated
            actor = actor._replace(carry=carry, env_state=env_state, obs=timestep.obs, reset=reset)
            return actor, (timestep, memo)

        return jax.lax.scan(one_step, state.actor, keys)

    everywhere = sharding.replicated(mesh)
    keys = jax.ShapeDtypeStruct((4,), jax.random.key(0).dtype, sharding=everywhere)
    played = jax.jit(sharding.over(play, mesh)).lower(template, keys).compile()
    assert hlo.collectives(played.as_text()) == []


def test_one_learner_for_each_device_of_a_pmap_is_each_alone(learner, keys_unchecked):
    source = program.make(jaxrl.configure({}, BASE | LEARNERS["continuous"]), None)
    seeds, devices = np.arange(2, dtype=np.uint32), jax.devices()[:2]
    init = lambda seed: source.init(seed, jax.tree.map(jnp.float32, source.algorithm.hyper))  # noqa: E731
    states = jax.pmap(init, devices=devices)(seeds)
    mine = [jax.device_get(jax.tree.map(lambda x, i=i: x[i], plain(states))) for i in seeds]
    states, metrics = jax.pmap(source.epoch, devices=devices, in_axes=(0, None))(states, UPDATES)
    alone = learner("continuous", 1)
    number = jax.device_put(np.int32(UPDATES), alone.template.iterations.sharding)
    for i, state in enumerate(mine):
        whole, told = alone.epoch(jax.tree.map(born, state, alone.template), number)
        alike(whole.agent.params, jax.tree.map(lambda x, i=i: x[i], states.agent.params), rtol=0, atol=1e-6)
        alike(told, jax.tree.map(lambda x, i=i: x[i], metrics), rtol=1e-5, atol=1e-6)
    assert not np.array_equal(*np.asarray(states.actor.obs))


def plain(state):
    """Keys as the numbers that they are."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, state)


def born(x, like):
    """An array where a program expects it."""
    return jax.device_put(jax.random.wrap_key_data(x) if is_key(like) else x, like.sharding)


def is_key(x):
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


# Sweeps.


@pytest.mark.parametrize("name", LEARNERS)
def test_a_vmapped_seed_is_the_seed_alone_bit_for_bit(name):
    """What a user maps by hand, as in the README, over seeds and over the numbers of Hyper."""
    learner = jaxrl.build(jaxrl.configure({}, BASE | LEARNERS[name] | {"eval.episodes": 8}))
    seeds, hyper = jnp.arange(3, dtype=jnp.uint32), learner.algorithm.hyper
    hypers = jax.tree.map(lambda x: jnp.full(3, x, jnp.float32), hyper)._replace(
        learning_rate=jnp.float32([1e-3, 3e-3, 2e-4])
    )
    mapped = jax.jit(jax.vmap(learner.init))(seeds, hypers)
    mapped, rows = jax.jit(jax.vmap(learner.epoch, in_axes=(0, None)))(mapped, UPDATES)
    rows |= jax.jit(jax.vmap(learner.evaluate, in_axes=(0, None, 0)))(mapped.agent, jnp.uint32(7), mapped.iterations)
    init, epoch, evaluate = map(jax.jit, (learner.init, learner.epoch, learner.evaluate))
    for i in range(3):
        state, row = epoch(init(seeds[i], jax.tree.map(lambda x: x[i], hypers)), UPDATES)  # noqa: B023
        row |= evaluate(state.agent, jnp.uint32(7), state.iterations)
        assert checkpoint.fingerprint(state) == checkpoint.fingerprint(jax.tree.map(lambda x: x[i], mapped))  # noqa: B023
        alike(jax.tree.map(lambda x: x[i], rows), row, rtol=0)  # noqa: B023


@pytest.mark.parametrize("mapping", ["map", "vmap"])
def test_members_that_do_not_divide_over_the_devices_share_them_all(mapping, learner, keys_unchecked_in_threads):
    """Three on two devices: each is split, and is what it would be alone."""
    config = jaxrl.configure({}, BASE | LEARNERS["continuous"])
    mesh = sharding.mesh(jax.devices()[:2])
    hyper = jaxrl.build(config).algorithm.hyper
    built = wave.compile(config, hyper, 3, mesh, mapping)
    seeds = (3, 5, 8)
    states = wave.put([wave.to_host(built.init(seed, hyper)) for seed in seeds], built.place)
    assert states.actor.obs.sharding.shard_shape(states.actor.obs.shape)[:2] == (3, 64)
    states, metrics = built.epoch(states, built.put_numbers([UPDATES] * 3, np.int32))
    alone = learner("continuous", 1)
    number = jax.device_put(np.int32(UPDATES), alone.template.iterations.sharding)
    whole, told = alone.epoch(alone.init(), number)
    alike(whole.agent.params, jax.tree.map(lambda x: x[0], states.agent.params), rtol=0, atol=1e-5)
    alike(told, jax.tree.map(lambda x: x[0], metrics), rtol=1e-4, atol=1e-5)
    first = np.asarray(jax.tree.leaves(states.agent.params)[0])
    assert len({member.tobytes() for member in first}) == 3


# Environments.


def test_environments_of_several_agents_are_split_with_their_rows():
    config = jaxrl.configure({}, BASE | {"env.suite": "tests.host.shared_environments", "env.name": "pairs"})
    mesh = sharding.mesh(jax.devices())
    programs = program.compile(program.make(config, mesh), mesh, seed=0)
    actor = programs.template.actor
    shown, state = actor.obs, jax.tree.leaves(actor.env_state)[0]
    assert (shown.shape, shown.sharding.shard_shape(shown.shape)) == ((256, 1), (32, 1))
    assert (state.shape, state.sharding.shard_shape(state.shape)) == ((128,), (16,))
    found = hlo.collectives(programs.epoch.run.as_text())
    assert {each.kind for each in found} == {"all-reduce"}
    assert max(each.num_bytes for each in found) <= 4 * program.num_parameters(programs.template.agent) + 64


def test_physics_that_the_compiler_cannot_share_out_is_stepped_by_each_device_for_its_own():
    mesh = sharding.mesh(jax.devices())
    env = shared_environments.lapack(64, True)
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    place = lambda tree: jax.device_put(tree, sharding.split(tree, env.spec, mesh))  # noqa: E731
    arguments = place(state), place(jnp.zeros((64, 1)))
    gathered = jax.jit(env.step).lower(*arguments).compile()
    shared = jax.jit(sharding.over(env.step, mesh)).lower(*arguments).compile()
    assert [(each.kind, each.sizes) for each in hlo.collectives(gathered.as_text())] == [("all-gather", (64,))]
    assert hlo.collectives(shared.as_text()) == []
    for step in (gathered, shared):
        seen = np.asarray(step(*arguments)[1].obs)[:, 0]
        np.testing.assert_allclose(seen, np.sqrt(np.square(np.asarray(state.state)) + 1), rtol=1e-6)
