"""PGX's games: chess, Go, backgammon, poker, MinAtar and others; https://github.com/sotetsuk/pgx.

Needs the extra [pgx]. Each player of a game is a row: those of game e are rows e·A to e·A + A - 1, one after the other,
and each sees the game from its own side, also while another is on turn. Its action then goes unused: `valid` is False
and its mask allows everything. The end of a game is a termination for all its players; a move that the rules forbid
ends it as well, with the penalty that PGX has for it. Observations are {policy: float32, action_mask: bool [M]}.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.envs import folding
from jaxrl.find import nearest
from jaxrl.types import ConfigError, Discrete, Environment

NEVER = 10_000_000  # steps: PGX has no clock, and most of its games must end
LIMITS = {"episode_length": (0, NEVER)}


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "pgx"
    config.name = "tic_tac_toe"
    config.episode_length = 0  # moves, of all players together, after which a game is truncated; 0 = never
    return config


def names() -> list[str]:
    """The games that PGX makes by name."""
    return sorted(_library().available_envs())


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N games of PGX, as N·A rows for A players.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one game in each, for evaluation.

    Raises:
        ConfigError: PGX is missing or has no such game.
    """
    library = _library()
    if config.name not in names():
        raise ConfigError(f"config.env.name={config.name!r} is not in PGX; {nearest(config.name, names())}")
    game = library.make(config.name)
    players = jnp.arange(game.num_players)

    def see(state):
        # What `game.observe` does before it warns that it will not be asked for another player's view any more.
        obs = jax.vmap(lambda player: game._observe(state, player))(players)
        is_waiting = players != state.current_player
        mask = state.legal_action_mask[None] | is_waiting[:, None] | ~state.legal_action_mask.any()
        return {"policy": obs.astype(jnp.float32), "action_mask": mask}

    def reset(key):
        game_key, moves_key = jax.random.split(key)
        state = game.init(jax.random.key_data(game_key))
        # As raw numbers, for typed keys would not be shared out over devices.
        return (state, jax.random.key_data(moves_key)), see(state)

    def step(state, action):
        state, moves_key = state
        # A key for each move, for dice and cards.
        key = jax.random.fold_in(jax.random.wrap_key_data(moves_key), state._step_count)
        is_on_turn = players == state.current_player
        state = game.step(state, action[state.current_player], jax.random.key_data(key))
        joint = folding.Joint(see(state), state.rewards.astype(jnp.float32), state.terminated, is_on_turn, {})
        return (state, moves_key), joint

    action, time_limit = Discrete(game.num_actions), config.episode_length or NEVER
    return folding.restarting(reset, step, num_envs, len(players), action, time_limit, restarts)


def _library():
    try:
        import pgx
    except ImportError as error:
        raise ConfigError(f"config.env.suite='pgx' cannot be imported ({error}); pip install 'jaxrl[pgx]'.") from error
    return pgx
