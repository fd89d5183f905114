"""N environments that restart themselves: what they show as an episode ends, and what they restart from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.envs import transforms, wrappers
from jaxrl.types import Box, ConfigError, Environment, Spec

LIMIT = 5


def counter(num_envs, terminate_at=None, time_limit=LIMIT, restarts=True, period=wrappers.PERIOD):
    """Environments whose state is (where the episode began, steps since); the observation is their sum."""

    def reset(key):
        began = jax.random.uniform(key, minval=100.0, maxval=200.0)
        return (began, jnp.float32(0)), began

    def step(state, action):
        began, steps = state
        steps = steps + 1
        ends = jnp.array(False) if terminate_at is None else steps >= terminate_at
        return (began, steps), wrappers.Single(began + steps, action[0], ends, {"steps": steps})

    reset, step = wrappers.restarting(reset, step, num_envs, Box((1,)), time_limit, restarts, period)
    return jax.jit(reset), jax.jit(step)


def play(reset, step, num_envs, num_steps):
    state, first = reset(jax.random.key(0))
    timesteps = [first]
    for _ in range(num_steps):
        state, timestep = step(state, jnp.ones((num_envs, 1)))
        timesteps.append(timestep)
    return jax.tree.map(lambda *x: np.stack(x), *timesteps)


def test_time_limit_truncates_and_does_not_terminate():
    seen = play(*counter(4), 4, 2 * LIMIT)
    expected = np.zeros(2 * LIMIT + 1, bool)
    expected[[LIMIT, 2 * LIMIT]] = True
    np.testing.assert_array_equal(seen.truncated, np.repeat(expected[:, None], 4, axis=1))
    assert not seen.terminated.any()


def test_termination_wins_over_the_clock_and_restarts_it():
    seen = play(*counter(4, terminate_at=LIMIT), 4, 2 * LIMIT)
    assert not seen.truncated.any()
    np.testing.assert_array_equal(np.flatnonzero(seen.terminated[:, 0]), [LIMIT, 2 * LIMIT])


def test_final_obs_is_the_true_last_observation_and_obs_the_next_episodes_first():
    seen = play(*counter(4), 4, LIMIT)
    np.testing.assert_allclose(seen.final_obs[LIMIT], seen.obs[0] + LIMIT, rtol=1e-6)
    assert (seen.obs[LIMIT] != seen.final_obs[LIMIT]).all()
    np.testing.assert_allclose(seen.final_obs[1:LIMIT], seen.obs[1:LIMIT])


@pytest.mark.parametrize("period", [1, 4, wrappers.PERIOD])
def test_each_episode_begins_somewhere_else(period):
    num_envs, episodes = 32, 6
    seen = play(*counter(num_envs, time_limit=8, period=period), num_envs, 8 * episodes)
    starts = seen.obs[::8]  # [episodes + 1, N]
    assert len(np.unique(starts)) == starts.size


def test_within_a_period_an_episode_begins_as_the_one_before_and_after_it_does_not():
    seen = play(*counter(8, terminate_at=8, time_limit=100, period=24), 8, 48)
    starts = seen.obs[::8]  # at steps 0, 8, 16, 24, ...; drawn anew at steps 24 and 48
    np.testing.assert_array_equal(starts[1], starts[2])
    np.testing.assert_array_equal(starts[3], starts[4])
    assert (starts[3] != starts[2]).all() and (starts[6] != starts[5]).all() and (starts[1] != starts[0]).all()


def told(num_envs, **options):
    """`counter` as an Environment that waits to be told."""
    reset, step = counter(num_envs, restarts=wrappers.TOLD, **options)
    return Environment(reset, step, Spec(num_envs, jax.ShapeDtypeStruct((), jnp.float32), Box((1,)), 100))


@pytest.mark.parametrize("terminate_at", [8, 4])
def test_who_waits_to_be_told_goes_through_the_stores_again_and_again(monkeypatch, terminate_at):
    monkeypatch.setattr(wrappers, "STORED", 32)  # four in store, for eight steps each
    env = told(8, terminate_at=terminate_at, time_limit=100, period=8)
    starts = play(env.reset, env.step, 8, 72).obs[::terminate_at]  # of the first episode, and of those that began anew
    first, restarts = starts[0], starts[1:].reshape(9, 8 // terminate_at, 8)  # [periods, restarts in each, N]
    np.testing.assert_array_equal(restarts, np.broadcast_to(restarts[:, -1:], restarts.shape))  # within a period
    np.testing.assert_array_equal(restarts[4:8], restarts[:4])
    assert len(np.unique([first, *restarts[:4, -1]])) == 5 * 8


def test_a_renewal_draws_all_stores_anew_once_each_had_its_turn_and_leaves_the_rest(monkeypatch):
    monkeypatch.setattr(wrappers, "STORED", 32)
    env = told(8, terminate_at=3, time_limit=100, period=8)
    renew = jax.jit(wrappers.renewal(env))
    state, _ = env.reset(jax.random.key(0))
    for _ in range(31):
        state, _ = env.step(state, jnp.ones((8, 1)))
        same(renew(state), state)  # one is left
    state, _ = env.step(state, jnp.ones((8, 1)))
    new = renew(state)
    assert int(state.left) == 0 and int(new.left) == 32
    same((new.state, new.steps), (state.state, state.steps))
    began = [np.asarray(each.fresh[1]) for each in (state, new)]
    assert began[0].shape == (8, 4) and len(np.unique(began)) == 2 * 32
    again = renew(new._replace(left=jnp.int32(-5)))  # an epoch longer than they last
    assert len(np.unique([*began, np.asarray(again.fresh[1])])) == 3 * 32


def test_a_renewal_finds_the_stores_of_an_environment_that_others_look_at(monkeypatch):
    monkeypatch.setattr(wrappers, "STORED", 8)
    bare = told(4, time_limit=8, period=8)
    env = transforms.stick_actions(transforms.show_time(transforms.stack_frames(flat(bare), 3)), 0.5)
    state, _ = env.reset(jax.random.key(0))
    due = jax.tree.map(lambda x: x._replace(left=jnp.int32(0)) if is_store(x) else x, state, is_leaf=is_store)
    new = wrappers.renewal(env)(due)
    [(old, found)] = zip(stores(due), stores(new), strict=True)
    assert (old.fresh[1] != found.fresh[1]).all()
    drop = lambda x: (x.state, x.steps) if is_store(x) else x  # noqa: E731
    same(*(jax.tree.map(drop, each, is_leaf=is_store) for each in (due, new)))


def same(tree, other):
    """To the bit, keys too."""
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    bare = lambda tree: jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, bare(tree), bare(other))


def flat(env):
    """Its observations as vectors of one number."""
    see = lambda timestep: timestep._replace(obs=timestep.obs[:, None], final_obs=timestep.final_obs[:, None])  # noqa: E731
    reset = lambda key: (lambda state, timestep: (state, see(timestep)))(*env.reset(key))  # noqa: E731
    step = lambda state, action: (lambda state, timestep: (state, see(timestep)))(*env.step(state, action))  # noqa: E731
    return Environment(reset, step, env.spec._replace(obs=jax.ShapeDtypeStruct((1,), jnp.float32)))


def is_store(x):
    return isinstance(x, wrappers.State)


def stores(state):
    return [x for x in jax.tree.leaves(state, is_leaf=is_store) if is_store(x)]


def test_without_stores_there_is_nothing_to_renew():
    reset, step = counter(4, restarts=False)
    assert wrappers.renewal(Environment(reset, step, Spec(4, None, Box((1,)), LIMIT))) is None


def test_the_step_of_who_waits_to_be_told_draws_nothing():
    drawing = {}
    for restarts in (True, wrappers.TOLD, False):
        reset, step = counter(4, restarts=restarts)
        state, _ = reset(jax.random.key(0))
        drawing[restarts] = "random_bits" in str(jax.make_jaxpr(step)(state, jnp.ones((4, 1))))
    assert drawing == {True: True, wrappers.TOLD: False, False: False}


@pytest.mark.parametrize(("num_envs", "period", "count"), [(8, 32, 16), (256, 32, 2), (4096, 32, 1), (16, 128, 4)])
def test_stores_last_for_some_steps_or_are_enough_together(num_envs, period, count):
    env = told(num_envs, time_limit=1000, period=period)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    assert state.fresh[1].shape == (num_envs, count)


def test_a_mapped_seed_renews_as_it_does_alone(monkeypatch):
    monkeypatch.setattr(wrappers, "STORED", 8)
    env = told(4, time_limit=3, period=2)
    renew = wrappers.renewal(env)

    def run(key, length):
        state, _ = env.reset(key)
        state = jax.lax.fori_loop(0, length, lambda _, state: env.step(state, jnp.ones((4, 1)))[0], state)
        state = renew(state)
        return jax.lax.scan(lambda state, _: env.step(state, jnp.ones((4, 1))), state, None, length=12)[1].obs

    keys, lengths = jax.random.split(jax.random.key(0), 3), jnp.array([8, 7, 11])  # two are due, one is not
    together = jax.jit(jax.vmap(run))(keys, lengths)
    for i, (key, length) in enumerate(zip(keys, lengths, strict=True)):
        np.testing.assert_array_equal(together[i], jax.jit(run)(key, length))


def test_what_is_not_wanted_is_not_computed_also_where_it_is_mapped():
    computed = []

    def double(x, offset):
        jax.debug.callback(lambda: computed.append(1))
        return 2 * x + offset

    def choose(when, x, offset):
        return wrappers.sometimes(when, double, x, offset)

    x, offset = jnp.arange(6.0).reshape(3, 2), jnp.ones((3, 2))
    for mapped in (jax.vmap(choose), jax.vmap(jax.vmap(choose, in_axes=(None, 0, 0)), in_axes=(0, 0, 0))):
        computed.clear()
        np.testing.assert_array_equal(jax.jit(mapped)(jnp.zeros(3, bool), x, offset), x)
        jax.effects_barrier()
        assert not computed
        one = jax.jit(mapped)(jnp.array([False, True, False]), x, offset)
        jax.effects_barrier()
        np.testing.assert_array_equal(one, [x[0], 2 * x[1] + 1, x[2]])
        assert computed
    np.testing.assert_array_equal(jax.jit(choose)(True, x, offset), 2 * x + offset)


def test_a_mapped_seed_restarts_as_it_does_alone():
    reset, step = counter(4, time_limit=3, period=2)

    def run(key):
        state, first = reset(key)
        go = lambda state, _: step(state, jnp.ones((4, 1)))  # noqa: E731
        return first.obs, jax.lax.scan(go, state, None, length=12)[1].obs

    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.jit(jax.vmap(run))(keys)
    for i, key in enumerate(keys):
        for one, alone in zip(together, jax.jit(run)(key), strict=True):
            np.testing.assert_array_equal(one[i], alone)


def test_state_has_no_weak_types_and_keeps_its_types():
    reset, step = counter(4)
    state, _ = reset(jax.random.key(0))
    after, _ = step(state, jnp.ones((4, 1)))
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert not getattr(other.aval, "weak_type", False)


def test_held_action_sums_rewards_and_stops_at_termination():
    def step(state, action):
        state = state + 1
        return state, wrappers.Single(state, state.astype(jnp.float32), state >= 4, {})

    repeated = wrappers.repeat_action(step, 3)
    state, single = repeated(jnp.int32(0), None)
    assert (state, single.reward, bool(single.terminated)) == (3, 1 + 2 + 3, False)
    state, single = repeated(state, None)  # terminates at its first step: the other two do not happen
    assert (state, single.reward, bool(single.terminated)) == (4, 4, True)


def test_without_restarts_an_episode_is_the_same_and_keeps_no_store():
    with_store, without = (counter(4, restarts=restarts) for restarts in (True, False))
    assert without[0](jax.random.key(0))[0].fresh == ()
    seen, once = play(*with_store, 4, LIMIT), play(*without, 4, LIMIT)
    np.testing.assert_array_equal(once.truncated, seen.truncated)
    np.testing.assert_array_equal(once.obs - once.obs[:1], once.final_obs - once.final_obs[:1])  # it goes on
    np.testing.assert_array_equal(once.obs[-1] - once.obs[0], np.full(4, LIMIT, np.float32))


def test_hidden_numbers_are_not_in_the_observation():
    def make(**options):
        return jaxrl.make_env("probe/matching", 4, episode_length=8, **options)

    whole, blind = make(), make(masked=(0, 4))
    assert blind.spec.obs == jax.ShapeDtypeStruct((5,), jnp.float32)
    action = jnp.zeros((4, 2), jnp.int32)
    for a, b in zip(play_once(whole, action), play_once(blind, action), strict=True):
        np.testing.assert_array_equal(b.obs, a.obs[:, [1, 2, 3, 5, 6]])
        np.testing.assert_array_equal(b.final_obs, a.final_obs[:, [1, 2, 3, 5, 6]])
        np.testing.assert_array_equal(b.reward, a.reward)


def play_once(env, action):
    state, first = env.reset(jax.random.key(0))
    return first, env.step(state, action)[1]


@pytest.mark.parametrize(
    "name, masked, cure",
    [
        ("matching", (1, 7), r"positions in \[0, 6\]"),
        ("matching", tuple(range(7)), "not all of them"),
        ("image", (0,), "none, for its observation is no vector"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_line_with_the_cure(name, masked, cure):
    with pytest.raises(ConfigError, match=rf"^config.env.masked=[^\n]*{cure}[^\n]*$"):
        jaxrl.make_env(f"probe/{name}", 4, masked=masked)


def test_a_dict_whose_vector_has_another_name_is_one_line():
    parts = {"joints": jax.ShapeDtypeStruct((3,), jnp.float32)}
    env = Environment(None, None, Spec(4, parts, Box((1,)), 1))
    with pytest.raises(ConfigError, match=r"^config.env.masked=\(0,\) [^\n]*its observation is no vector[^\n]*$"):
        transforms.hide(env, (0,))


@pytest.mark.parametrize(
    ("total_bytes", "num_envs", "size"),
    [
        (350_000, 4096, 4096),  # all fit
        (2540 * 256, 256, 128),  # Brax's ant
        (2540 * 4096, 4096, 128),
        (700_001, 768, 256),  # a third of 768, as half of it is still too large
        (10**9, 1024, 128),  # not below the least
        (10**9, 100, 100),  # too few to be cut
        (10**9, 254, 254),  # in no equal shares
    ],
)
def test_pieces_fit_the_cache_or_are_the_least(total_bytes, num_envs, size):
    assert wrappers.piece(total_bytes, num_envs) == size


def test_pieces_step_as_all_at_once(monkeypatch):
    def step(state, action):
        state = {"x": state["x"] + action, "n": state["n"] + 1}
        return state, wrappers.Single(state["x"], state["x"].sum(), state["n"] > 2, {"n": state["n"]})

    state = {"x": jnp.arange(512.0).reshape(256, 2), "n": jnp.arange(256) % 4}
    action = jnp.ones((256, 2))
    monkeypatch.setattr(wrappers, "CACHED", 1500)
    pieces = jax.make_jaxpr(wrappers.together(step))(state, action)
    assert "length=2" in str(pieces)
    one, other = wrappers.together(step)(state, action), jax.vmap(step)(state, action)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "scan" not in str(jax.make_jaxpr(wrappers.together(step))(state, action))


def test_small_steps_are_mapped_with_the_environments_last_on_a_cpu_alone(monkeypatch):
    def step(state, action):
        state = state @ state + action
        return state, wrappers.Single(state[0], state.sum(), state[0, 0] > 0, {})

    state, action = jnp.ones((256, 2, 2)), jnp.ones((256, 1, 2))
    traced = lambda: str(jax.make_jaxpr(wrappers.together(step, is_small=True))(state, action))  # noqa: E731
    assert "f32[2,2,256]" in traced() and "dot_general" not in traced()
    for one, other in zip(
        *map(jax.tree.leaves, (wrappers.together(step, True)(state, action), jax.vmap(step)(state, action))),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "f32[2,2,256]" not in traced() and "dot_general" in traced()


def test_a_lean_state_has_what_is_read_or_shown_and_plays_the_same():
    def reset(key):
        x = jax.random.uniform(key, (2,))
        return {"x": x, "speed": x * 0, "cache": x @ jnp.ones((2, 9)), "drawn": x, "key": jax.random.key_data(key)}, x

    def step(state, action):
        key, drawn = jax.random.key_data(jax.random.split(jax.random.wrap_key_data(state["key"])))
        speed = state["speed"] + action + 0.1 * jax.random.normal(jax.random.wrap_key_data(drawn), (2,))
        x = state["x"] + speed
        after = {"x": x, "speed": speed, "cache": x @ jnp.ones((2, 9)), "drawn": 2 * x, "key": key}
        return after, wrappers.Single(x, -jnp.abs(x).sum(), x[0] > 3, {"far": jnp.abs(x).max()})

    space = Box((2,))
    light = wrappers.lean(reset, step, space, lambda state: state["drawn"])
    plays, states = [], []
    for one in ((reset, step), light):
        begin, go_on = wrappers.restarting(*one, 4, space, time_limit=5, period=3)
        state, timestep = jax.jit(begin)(jax.random.key(0))
        plays.append([timestep])
        for action in jnp.linspace(-0.5, 1.0, 12 * 8).reshape(12, 4, 2):
            state, timestep = jax.jit(go_on)(state, action)
            plays[-1].append(timestep)
        states.append(state)
    assert state.state["cache"] is None and state.fresh[0]["cache"] is None
    np.testing.assert_array_equal(states[0].state["drawn"], state.state["drawn"])
    for full, lean in zip(*plays, strict=True):
        jax.tree.map(np.testing.assert_array_equal, full, lean)
    assert any(timestep.terminated.any() for timestep in plays[1]) and any(t.truncated.any() for t in plays[1])
