"""Brax's environments: what of Brax is replaced as they are made."""

import brax.io.mjcf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import brax as suite
from jaxrl.envs.quiet import quiet

NAMES = ("ant", "inverted_double_pendulum", "swimmer")


def system(name):
    with quiet():
        return suite._library().get_environment(name, backend="generalized").unwrapped.sys


@pytest.mark.parametrize("name", NAMES)
def test_a_model_has_the_numbers_that_jax_numpy_gives_it(name, monkeypatch):
    ours = jax.tree.leaves(system(name))
    with monkeypatch.context() as patch:
        patch.setattr(suite, "_put", jnp.array)
        theirs = jax.tree.leaves(system(name))
    suite._library()  # puts ours back
    for one, other in zip(ours, theirs, strict=True):
        assert (type(one), one.dtype, one.sharding) == (type(other), other.dtype, other.sharding)
        assert not one.weak_type
        np.testing.assert_array_equal(one, other)


def test_the_numbers_of_a_model_are_a_copy_of_mujocos():
    model = system("ant").mj_model
    before = np.asarray(brax.io.mjcf.jp.array(model.geom_bodyid)).copy()
    array = brax.io.mjcf.jp.array(model.geom_bodyid)
    model.geom_bodyid[:] = 0
    np.testing.assert_array_equal(array, before)


def test_making_an_environment_compiles_next_to_nothing():
    compiled = []

    def listen(event, seconds, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(fun_name)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        system("halfcheetah")
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) <= 5, compiled  # 60 without suite._put


@pytest.mark.parametrize("backend", suite.SMALL)
def test_a_step_with_the_environments_last_is_that_of_jax_vmap(backend, monkeypatch):
    config = suite.default_config()
    config.name, config.backend = "inverted_double_pendulum", backend
    found = []
    for small in (suite.SMALL, ()):
        monkeypatch.setattr(suite, "SMALL", small)
        env = suite.make(config, 8)
        state, _ = jax.jit(env.reset)(jax.random.key(0))
        actions = jax.random.uniform(jax.random.key(1), (3, 8, 1), minval=-1.0, maxval=1.0)
        found.append(jax.jit(lambda state, actions, env=env: jax.lax.scan(env.step, state, actions))(state, actions)[1])
    one, other = found
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["spring", "generalized"])
def test_a_step_on_an_accelerator_is_that_of_a_cpu_without_scatters(backend, monkeypatch):
    config = suite.default_config()
    config.name, config.backend = "ant", backend
    env = suite.make(config, 2)
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    actions = jax.random.uniform(jax.random.key(1), (2, 8), minval=-1.0, maxval=1.0)
    by_jax = lambda state, actions: jax.vmap(env.step.__wrapped__)(state.state, actions)[1]  # noqa: E731
    elsewhere = lambda state, actions: env.step(state, actions)[1]  # noqa: E731
    expected = jax.jit(by_jax)(state, actions)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = jax.jit(elsewhere)(state, actions)
    np.testing.assert_allclose(found.final_obs, expected.obs, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.reward, expected.reward, rtol=1e-4, atol=1e-4)
    scatters = [str(jax.make_jaxpr(step)(state, actions)).count("= scatter") for step in (by_jax, elsewhere)]
    assert scatters[0] >= 6 and scatters[1] <= scatters[0] // 4, scatters
