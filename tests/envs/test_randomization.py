"""Domain randomisation: each episode has physics of its own, and plays by them."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.envs import brax as suite
from jaxrl.types import ConfigError

NUM_ENVS, LENGTH = 8, 3


def draw_gravity(model, keys):
    gravity = jax.vmap(lambda key: model.gravity * jax.random.uniform(key, minval=0.2, maxval=3.0))(keys)
    return model.replace(gravity=gravity), jax.tree.map(lambda x: None, model).replace(gravity=0)


@pytest.fixture
def user(monkeypatch):
    """A user's module."""
    module = types.ModuleType("my_physics")
    module.draw_gravity, module.broken = draw_gravity, lambda model, keys: model
    monkeypatch.setitem(sys.modules, "my_physics", module)


def make(**options):
    return jaxrl.make_env("brax/inverted_pendulum", NUM_ENVS, episode_length=LENGTH, **options)


@pytest.mark.slow
def test_every_episode_plays_by_physics_of_its_own(user):
    env = make(randomization="my_physics:draw_gravity")
    state, first = jax.jit(env.reset)(jax.random.key(0))
    step = jax.jit(env.step)
    gravity = state.state[0][0]
    assert gravity.shape == (NUM_ENVS, 3) and len(np.unique(gravity[:, 2])) == NUM_ENVS
    library = suite._library()
    with suite.quiet():
        raw = library.get_environment("inverted_pendulum", backend="spring")
    base = np.asarray(raw.sys.gravity)
    raw_step = jax.jit(lambda gravity, state, action: _step(raw, gravity, state, action))
    action = jnp.full((NUM_ENVS, 1), 0.3)
    whole = jax.eval_shape(raw.reset, jax.random.PRNGKey(0))  # Brax's own step wants even what it does not read
    full = jax.tree.map(
        lambda x, like: jnp.zeros((NUM_ENVS, *like.shape), like.dtype) if x is None and like is not None else x,
        state.state[1],
        whole,
        is_leaf=lambda x: x is None,
    )
    own = [jax.tree.map(lambda x, i=i: x[i], full) for i in range(NUM_ENVS)]
    for _ in range(LENGTH):
        state, seen = step(state, action)
        own = [raw_step(gravity[i], own[i], action[i]) for i in range(NUM_ENVS)]
        np.testing.assert_allclose(seen.final_obs, np.stack([one.obs for one in own]), atol=1e-5)
    assert seen.truncated.all()
    after = state.state[0][0]
    assert not np.isin(after[:, 2], gravity[:, 2]).any()  # the next episodes' own
    assert (np.abs(after[:, 2] / base[2]) >= 0.2).all() and (np.abs(after[:, 2] / base[2]) <= 3.0).all()


def _step(raw, gravity, state, action):
    before, raw.sys = raw.sys, raw.sys.replace(gravity=gravity)
    state = raw.step(state, action)
    raw.sys = before
    return state


@pytest.mark.parametrize(
    "path, message",
    [
        ("my_physics:nothing", "cannot be imported"),
        ("no_such_module:f", "cannot be imported"),
        ("my_physics:broken", r"fails \(.*must be \(model, keys \[N\]\) -> \(models, axes\)"),
    ],
)
def test_a_function_that_does_not_fit_is_one_line(user, path, message):
    with pytest.raises(ConfigError, match=f"^config.env.randomization[^\n]*{message}[^\n]*$"):
        make(randomization=path)
