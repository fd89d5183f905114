"""Navix's grid worlds, MiniGrid in JAX: rooms, doors, keys, lava; https://github.com/epignatelli/navix.

Needs the extra [navix]. MiniGrid's symbols are shown as one of n ones, float32, side by side in the last axis: what
stands in a cell (11), its colour (6), and its state (4: where the player looks, or whether a door is open, closed or
locked). `categorical` shows only what stands in a cell, walls and floor (12; all 0 beyond the grid). Pictures are uint8
[H, W, 3]. Where one door is to be found, which Navix keeps to itself, the observation is a dict of `grid` and
`mission`, the colour of that door (6).

Reaching the goal terminates and pays 1, but in the environments that have rewards of their own; the clock is ours.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxrl.envs import wrappers
from jaxrl.envs.quiet import quiet
from jaxrl.find import nearest
from jaxrl.types import ConfigError, Discrete, Environment, Spec

LIMITS = {"episode_length": (0, 10_000_000)}
# What stands in a cell, in the order of MiniGrid's numbers; what is there for nobody to see is not drawn.
TAGS = ("", "", "wall", "", "door", "key", "ball", "box", "goal", "lava", "player")
CHOICES = {
    "observation": (
        "symbolic",
        "symbolic_first_person",
        "categorical",
        "categorical_first_person",
        "rgb",
        "rgb_first_person",
    )
}


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "navix"
    config.name = "Navix-Empty-8x8-v0"
    config.observation = "symbolic"  # all of the grid; first_person: only what the player sees, which looks up
    config.episode_length = 0  # steps after which an episode is truncated; 0 = as navix.make has it, 100
    return config


def names() -> list[str]:
    """The environments that Navix offers, also those that were registered with it."""
    return sorted(_library().registry())


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of Navix.

    Args:
        config: the group `env`.
        num_envs: N.
        restarts: False plays one episode in each, for evaluation.

    Raises:
        ConfigError: Navix is missing, or has no such environment or observation.
    """
    env = _load(config)
    library = _library()
    time_limit = config.episode_length or int(env.max_steps)
    env = env.replace(max_steps=time_limit)
    show = _observation(config.observation)
    draws = config.observation.startswith("rgb")

    def see(timestep):
        grid, mission = show(timestep.observation), timestep.state.mission
        return grid if mission is None else {"grid": grid, "mission": jax.nn.one_hot(mission.colour, 6)}

    def keep(timestep):
        """What goes from step to step: without the tiles of the picture, the most of a state, where none is drawn."""
        state = timestep.state
        return state if draws else state.replace(cache=None), timestep.t

    def reset(key):
        with quiet():
            timestep = env.reset(jax.random.key_data(key))  # typed keys could not be shared out over devices
        return keep(timestep), see(timestep)

    def step(state, action):
        state, t = state
        before = library.Timestep(t=t, observation=(), action=action, reward=0.0, step_type=0, state=state)
        with quiet():
            timestep = env._step(before, action)  # `step` would also restart
        terminated = timestep.step_type == library.StepType.TERMINATION
        reward = jnp.asarray(timestep.reward, jnp.float32)
        return keep(timestep), wrappers.Single(see(timestep), reward, terminated, {})

    space = Discrete(len(env.action_set))
    reset_all, step_all = wrappers.restarting(reset, step, num_envs, space, time_limit, restarts)
    _, obs = jax.eval_shape(reset, jax.random.key(0))
    return Environment(reset_all, step_all, Spec(num_envs, obs, space, time_limit, all_valid=True))


def channels(config: ConfigDict) -> tuple[str, ...]:
    """The names of what stands in a cell; its colour and its state are not drawn."""
    if config.observation.startswith("categorical"):
        return ("wall", *TAGS)
    return TAGS + ("",) * 10 if config.observation.startswith("symbolic") else ()


def _library():
    try:
        with quiet():
            import navix
    except (ImportError, AttributeError) as error:  # what it needs asks JAX for what newer ones no longer have
        raise ConfigError(
            f"config.env.suite='navix' cannot be imported ({error}); pip install 'jaxrl[navix]'."
        ) from error
    return navix


def _load(config):
    """Navix's environment of that name, with the observation that the config names."""
    library = _library()
    if config.name not in library.registry():
        raise ConfigError(f"config.env.name={config.name!r} is not in Navix; {nearest(config.name, names())}")
    if config.observation not in CHOICES["observation"]:
        cure = nearest(config.observation, list(CHOICES["observation"]))
        raise ConfigError(f"config.env.observation={config.observation!r} does not exist; {cure}")
    with quiet():
        return library.make(config.name, observation_fn=getattr(library.observations, config.observation))


def _observation(name):
    """The function from Navix's observation to what the policy sees."""
    if name.startswith("rgb"):
        return lambda picture: picture
    if name.startswith("categorical"):
        return lambda tags: jax.nn.one_hot(tags + 1, 12)  # walls are -1, and 100 what lies beyond the grid
    sizes = (11, 6, 4)  # tags, colours, states

    def see(symbols):
        return jnp.concatenate([jax.nn.one_hot(symbols[..., i], size) for i, size in enumerate(sizes)], axis=-1)

    return see
