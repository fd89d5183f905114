"""PGX's games with their players in rows; checked against PGX's own step and against games played by hand."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import pgx as suite
from jaxrl.envs.spaces import example
from jaxrl.types import ConfigError, Discrete

NUM_GAMES = 4
# Who begins takes the left column at the fifth move: 0 1 -
#                                                     3 4 -
#                                                     6 - -
LEFT_COLUMN = (0, 1, 3, 4, 6)


def make(name, num_games=NUM_GAMES, **options):
    config = suite.default_config()
    config.update({"name": name} | options)
    return suite.make(config, num_games)


def play(env, policy, num_steps, key=0):
    """The first timestep, then the states before each step, the actions and the timesteps after it, [T, N·A]."""

    @jax.jit
    def run(key):
        reset_key, key = jax.random.split(key)
        state, first = env.reset(reset_key)

        def step(carry, inputs):
            state, obs = carry
            key, t = inputs
            action = policy(key, obs, t)
            after, timestep = env.step(state, action)
            return (after, timestep.obs), (state.state, action, timestep)

        keys = jax.random.split(key, num_steps)
        return first, *jax.lax.scan(step, (state, first.obs), (keys, jnp.arange(num_steps)))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(key)))


def anything_legal(key, obs, t):
    return jax.random.categorical(key, jnp.where(obs["action_mask"], 0.0, -jnp.inf))


def script(*moves):
    return lambda key, obs, t: jnp.full(obs["action_mask"].shape[0], jnp.array(moves)[t])


def by_player(x):
    """[T, N·2, ...] -> [T, N, 2, ...]."""
    return x.reshape(x.shape[0], -1, 2, *x.shape[2:])


def test_without_pgx_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "pgx", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[pgx\]'[^\n]*$"):
        make("tic_tac_toe")


@pytest.mark.pgx
@pytest.mark.parametrize("name", ["tic_tac_toe", "minatar-asterix", pytest.param("backgammon", marks=pytest.mark.slow)])
def test_every_move_is_pgxs_own(name):
    import pgx

    _, (states, moves_keys), action, steps = play(make(name), anything_legal, 12)
    game = pgx.make(name)

    def move(state, moves_key, action):
        key = jax.random.fold_in(jax.random.wrap_key_data(moves_key), state._step_count)
        return game.step(state, action[state.current_player], jax.random.key_data(key))

    def by_player(x):
        return x.reshape(12, NUM_GAMES, game.num_players, *x.shape[2:])

    theirs = jax.jit(jax.vmap(jax.vmap(move)))(states, moves_keys, by_player(action))
    np.testing.assert_array_equal(by_player(steps.reward), theirs.rewards)
    assert (by_player(steps.terminated) == theirs.terminated[..., None]).all()
    shown, on_turn = by_player(steps.final_obs["policy"]), np.asarray(theirs.current_player)
    own_view = np.take_along_axis(shown, on_turn.reshape(12, NUM_GAMES, *[1] * (shown.ndim - 2)), axis=2)[:, :, 0]
    np.testing.assert_array_equal(own_view, theirs.observation.astype(np.float32))
    assert len(np.unique(shown[:, :, 0].reshape(12, NUM_GAMES, -1)[-1], axis=0)) == NUM_GAMES  # all go their own way


@pytest.mark.pgx
def test_players_take_turns_and_see_the_board_from_their_own_side():
    env = make("tic_tac_toe")
    assert env.spec.num_agents == 2 and env.spec.num_envs == 2 * NUM_GAMES and env.spec.action == Discrete(9)
    first, _, action, steps = play(env, anything_legal, 4)
    assert first.valid.all() and not first.obs["policy"].any()
    cells = np.zeros((NUM_GAMES, 9, 2))  # who stands where
    for t in range(4):
        valid = by_player(steps.valid)[t]
        np.testing.assert_array_equal(valid.sum(axis=1), np.ones(NUM_GAMES))
        assert t == 0 or (valid != by_player(steps.valid)[t - 1]).all()
        movers = valid.argmax(axis=1)
        cells[np.arange(NUM_GAMES), by_player(action)[t, np.arange(NUM_GAMES), movers], movers] = 1
        shown = by_player(steps.obs["policy"])[t].reshape(NUM_GAMES, 2, 9, 2)
        mask = by_player(steps.obs["action_mask"])[t]
        for player in (0, 1):
            np.testing.assert_array_equal(shown[:, player, :, 0], cells[:, :, player])  # one's own
            np.testing.assert_array_equal(shown[:, player, :, 1], cells[:, :, 1 - player])
        empty = ~cells.any(axis=2)
        np.testing.assert_array_equal(mask[np.arange(NUM_GAMES), 1 - movers], empty)
        assert mask[np.arange(NUM_GAMES), movers].all()  # who waits may do anything: it goes unused


@pytest.mark.pgx
def test_a_game_that_is_won_terminates_for_both_and_another_begins():
    _, _, _, steps = play(make("tic_tac_toe"), script(*LEFT_COLUMN, 4), 6)
    np.testing.assert_array_equal(steps.terminated, np.arange(6)[:, None] * np.ones(2 * NUM_GAMES) == 4)
    assert not steps.truncated.any() and not steps.reward[:4].any()
    np.testing.assert_array_equal(steps.reward[4], np.where(steps.valid[4], 1, -1))
    own = by_player(steps.final_obs["policy"])[4][by_player(steps.valid)[4]].reshape(NUM_GAMES, 9, 2)
    np.testing.assert_array_equal(np.flatnonzero(own[0, :, 0]), [0, 3, 6])
    np.testing.assert_array_equal(np.flatnonzero(own[0, :, 1]), [1, 4])
    assert not steps.obs["policy"][4].any()
    assert steps.final_obs["action_mask"][4].all()
    np.testing.assert_array_equal(steps.obs["policy"][5].sum(axis=(1, 2, 3)), np.ones(2 * NUM_GAMES))


@pytest.mark.pgx
def test_a_move_that_the_rules_forbid_loses():
    _, _, _, steps = play(make("tic_tac_toe"), script(4, 4), 2)
    assert steps.terminated[1].all() and not steps.terminated[0].any()
    np.testing.assert_array_equal(steps.reward[1], np.where(steps.valid[1], -1, 1))


@pytest.mark.pgx
def test_a_game_is_truncated_by_our_clock_for_both():
    _, _, _, steps = play(make("tic_tac_toe", episode_length=3), script(*LEFT_COLUMN, 8), 6)
    np.testing.assert_array_equal(steps.truncated, np.isin(np.arange(6), [2, 5])[:, None] & np.ones(8, bool))
    assert not steps.terminated.any()
    assert (steps.final_obs["policy"][2].sum(axis=(1, 2, 3)) == 3).all()


@pytest.mark.pgx
def test_cards_are_seen_by_their_holder_alone():
    first, _, _, _ = play(make("kuhn_poker", 64), anything_legal, 1)
    cards = first.obs["policy"].reshape(64, 2, 7)[..., :3]  # jack, queen, king
    np.testing.assert_array_equal(cards.sum(axis=2), np.ones((64, 2)))
    assert (cards.argmax(axis=2)[:, 0] != cards.argmax(axis=2)[:, 1]).all()  # there is one of each


@pytest.mark.pgx
def test_a_game_for_one_has_one_row_that_acts_at_every_step():
    env = make("minatar-asterix")
    assert env.spec.num_agents == 1 and env.spec.num_envs == NUM_GAMES
    _, timestep = jax.jit(lambda key: env.step(env.reset(key)[0], jnp.zeros(NUM_GAMES, jnp.int32)))(jax.random.key(0))
    assert timestep.valid.all() and timestep.obs["policy"].shape == (NUM_GAMES, 10, 10, 4)


MUCH_TO_TRACE = ["animal_shogi", "backgammon", "chess", "gardner_chess", "go_19x19", "shogi", "sparrow_mahjong"]


@pytest.mark.pgx
@pytest.mark.parametrize("heavy", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_game_keeps_the_types_of_its_state_and_observation(heavy, keys_unchecked):
    games = [name for name in suite.names() if (name in MUCH_TO_TRACE) == heavy]
    assert len(games) >= 7
    for name in games:
        env = make(name, 2)
        state, first = jax.eval_shape(env.reset, jax.random.key(0))
        again, timestep = jax.eval_shape(env.step, state, example(env.spec.action, env.spec.num_envs))
        assert again == state and timestep == first, name
        assert first.obs["policy"].dtype == jnp.float32, name
