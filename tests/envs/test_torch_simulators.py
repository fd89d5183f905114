"""Torch simulators that nobody here wrote, through the bridge, beside themselves stepped by hand: VMAS, TorchRL."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import torch_bridge as suite
from jaxrl.types import Box, ConfigError, Discrete

E, A, LENGTH = 6, 3, 15


def bridge(function, num_envs=E, **options):
    """The suite's environment of a user's function."""
    module = types.ModuleType("users_simulators")
    module.make = function
    config = suite.default_config()
    config.update({"name": "users_simulators.make"} | options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "users_simulators", module)
        return suite.make(config, num_envs)


def vmas(num_envs, scenario="balance", max_steps=LENGTH, **options):
    """As a user would write it."""
    import vmas

    return vmas.make_env(scenario, num_envs, max_steps=max_steps, **options)


def play(env, actions):
    """The first timestep and all others, [T, N, ...]."""
    state, first = env.reset(jax.random.key(0))
    kept = []
    for action in actions:
        state, timestep = env.step(state, jnp.array(action))
        kept.append(timestep)
    return first, jax.tree.map(lambda *leaves: np.stack(leaves), *kept)


def seed_of(key):
    return int(jax.random.bits(key, dtype=jnp.uint32)) >> 1


@pytest.mark.simulators
def test_vmas_agents_are_rows_of_its_own_trajectory():
    import torch

    env = bridge(vmas, options=(f"n_agents={A}", "max_steps=40"))
    assert (env.spec.num_envs, env.spec.num_agents, env.spec.action) == (E * A, A, Box((2,)))
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (60, E * A, 2)).astype(np.float32)
    first, steps = play(env, actions)
    oracle = vmas(E, n_agents=A, max_steps=40, terminated_truncated=True)
    by_row = lambda agents: np.stack([agent.numpy() for agent in agents], axis=1)  # noqa: E731
    obs = by_row(oracle.reset(seed=seed_of(jax.random.key(0))))  # [E, A, F]
    np.testing.assert_array_equal(first.obs, obs.reshape(E * A, -1))
    for t, action in enumerate(actions):
        each = np.clip(action, -1, 1).reshape(E, A, 2)
        obs, reward, terminated, truncated, _ = oracle.step([torch.tensor(each[:, a]) for a in range(A)])
        np.testing.assert_array_equal(steps.final_obs[t], by_row(obs).reshape(E * A, -1))
        np.testing.assert_array_equal(steps.reward[t], by_row(reward).reshape(E * A))
        np.testing.assert_array_equal(steps.terminated[t], np.repeat(terminated.numpy(), A))
        np.testing.assert_array_equal(steps.truncated[t], np.repeat((truncated & ~terminated).numpy(), A))
        for e in np.flatnonzero((terminated | truncated).numpy()):
            obs = oracle.reset_at(int(e))
        np.testing.assert_array_equal(steps.obs[t], by_row(obs).reshape(E * A, -1))
    assert steps.valid.all() and steps.truncated.any() and steps.terminated.any()


@pytest.mark.simulators
def test_vmas_clock_truncates_exactly():
    env = bridge(lambda num_envs: vmas(num_envs, "navigation", n_agents=A))
    _, steps = play(env, np.zeros((2 * LENGTH, E * A, 2), np.float32))
    assert not steps.terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated.any(axis=1)) + 1, [LENGTH, 2 * LENGTH])
    assert (steps.obs[LENGTH - 1] != steps.final_obs[LENGTH - 1]).any()
    assert env.spec.truncation_interval <= LENGTH


@pytest.mark.simulators
def test_vmas_takes_options_and_refuses_agents_that_differ():
    env = bridge(lambda num_envs: vmas(num_envs, n_agents=A, continuous_actions=False))
    assert isinstance(env.spec.action, Discrete)
    state, _ = env.reset(jax.random.key(0))
    _, timestep = env.step(state, jnp.zeros(E * A, jnp.int32))
    assert np.isfinite(timestep.obs).all()
    with pytest.raises(ConfigError, match=r"^config.env.name makes a VMAS environment whose agents [^\n]*$"):
        bridge(
            lambda num_envs: (
                vmas(num_envs, "simple_reference", continuous_actions=True) and vmas(num_envs, "simple_crypto")
            )
        )


class Pendulum:
    """TorchRL's PendulumEnv, which has no clock and is given its state, in gymnasium's way with restarts on demand."""

    def __init__(self, num_envs, max_episode_steps=LENGTH):
        import torch
        from torchrl.envs import PendulumEnv

        self.env, self.num_envs, self.max_episode_steps = PendulumEnv(), num_envs, max_episode_steps
        self.metadata = {"autoreset_mode": "DISABLED"}
        bounds = self.env.action_spec.space
        self.action_space = types.SimpleNamespace(shape=(1,), low=bounds.low.numpy(), high=bounds.high.numpy())
        self.steps = torch.zeros(num_envs, dtype=torch.int64)

    def obs(self):
        import torch

        th, speed = self.state["th"], self.state["thdot"]
        return torch.stack([th.sin(), th.cos(), speed], dim=1)

    def reset(self, seed=None, options=None):
        import torch

        if seed is not None:
            self.env.set_seed(seed)
        new = self.env.reset(self.env.gen_params(batch_size=[self.num_envs]), set_state=False)
        if options is None:
            self.state = new
            self.steps.zero_()
        else:
            rows = options["reset_mask"]
            for name in ("th", "thdot"):
                self.state[name] = torch.where(rows, new[name], self.state[name])
            self.steps[rows] = 0
        return self.obs(), {}

    def step(self, action):
        self.state["action"] = action
        after = self.env.step(self.state)["next"]
        self.state = after.exclude("reward", "done", "terminated")
        self.steps += 1
        return self.obs(), after["reward"], after["terminated"], self.steps >= self.max_episode_steps, {}


@pytest.mark.simulators
def test_torchrls_pendulum_swings_by_its_equation():
    env = bridge(Pendulum)
    assert env.spec.action == Box((1,)) and env.spec.truncation_interval == LENGTH - 1
    actions = np.random.default_rng(0).uniform(-1.5, 1.5, (40, E, 1)).astype(np.float32)
    first, steps = play(env, actions)
    obs = np.concatenate([first.obs[None], steps.obs])[:-1].astype(np.float64)
    sin, cos, speed = np.moveaxis(obs, -1, 0)
    torque = 2.0 * np.clip(actions[..., 0], -1, 1)
    cost = np.arctan2(sin, cos) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
    np.testing.assert_allclose(steps.reward, -cost, rtol=1e-4, atol=1e-5)
    speed = np.clip(speed + 0.05 * (15.0 * sin + 3.0 * torque), -8, 8)  # dt (3g/2l sin θ + 3/ml² u), g = 10
    angle = np.arctan2(sin, cos) + 0.05 * speed
    np.testing.assert_allclose(steps.final_obs, np.stack([np.sin(angle), np.cos(angle), speed], -1), atol=1e-4)
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated.all(axis=1)) + 1, [LENGTH, 2 * LENGTH])
    assert not steps.terminated.any() and steps.valid.all()
