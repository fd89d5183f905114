"""Learning in torch simulators: what an end by the clock is worth in every order of restarts, and resumed curricula."""

import importlib.util
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.acting import hosted
from jaxrl.algorithms.ppo import agent
from jaxrl.envs import torch_bridge as suite

source = importlib.util.spec_from_file_location("torch_stand_ins", Path(__file__).with_name("torch_stand_ins.py"))
stand_ins = importlib.util.module_from_spec(source)
source.loader.exec_module(stand_ins)

GAMMA, LENGTH, N = 0.5, 6, 32


@pytest.fixture
def users_function(monkeypatch):
    """Gives a function the dotted path users_simulators.make."""
    module = types.ModuleType("users_simulators")
    monkeypatch.setitem(sys.modules, "users_simulators", module)
    return lambda function: setattr(module, "make", function)


class Parity(stand_ins.World):
    """A state of 0 brings 1 and leads to 1, which brings 0 and leads to 0; only the clock ends an episode."""

    def __init__(self, num_envs, fails):
        super().__init__(num_envs, fails, LENGTH)

    def push(self, action):
        self.progress += 1

    def obs(self):
        self.place[:] = self.progress % 2
        return self.place[:, None].repeat(1, 4)

    def judge(self):
        return (self.progress % 2).float(), self.progress < 0, self.progress >= LENGTH - 1


@pytest.mark.torch
@pytest.mark.parametrize("contract", stand_ins.EXACT)
def test_a_clock_that_truncates_does_not_change_what_states_are_worth(contract, users_function, monkeypatch):
    """V(0) = 1 + γ V(1) and V(1) = γ V(0): 1 / (1 - γ²) and γ / (1 - γ²), to 1 %.

    The last observation is a 1, which the clock stops; where the next episode is seen from its beginning, that is a 0.
    """
    monkeypatch.setattr(stand_ins, "World", Parity)
    users_function(lambda num_envs: stand_ins.make(num_envs, contract))
    config = jaxrl.configure(
        {},
        {
            "total_env_steps": N * 12 * 150,
            "env.suite": "torch_bridge",
            "env.name": "users_simulators.make",
            "network.hidden_sizes": (32,),
            "network.activation": "tanh",
            "ppo.num_envs": N,
            "ppo.unroll_length": 12,
            "ppo.num_minibatches": 2,
            "ppo.learning_rate": 1e-2,
            "ppo.learning_rate_schedule": "linear",
            "ppo.gamma": GAMMA,
        },
    )
    env = suite.make(config.env, N)
    algorithm = agent.make(config, env.spec)
    init, run = hosted.make(env, algorithm)
    state, metrics = run(init(jax.random.key(0), algorithm.hyper), np.int32(150))
    seen = jnp.arange(2.0)[:, None]
    obs = {"policy": jnp.tile(seen, 4), "critic": 3 * seen}
    _, _, memo = algorithm.act(state.agent, (), obs, jnp.zeros(2, bool), jax.random.key(0))
    np.testing.assert_allclose(np.ravel(memo.value), [1 / (1 - GAMMA**2), GAMMA / (1 - GAMMA**2)], rtol=0.01)
    assert metrics["rollout/episodes"] > 0


class Curriculum(stand_ins.Lab):
    """Counts its steps, as a task does that grows harder with them."""

    def __init__(self, num_envs):
        super().__init__(num_envs)
        self.steps = 0

    def step(self, action):
        self.steps += 1
        return super().step(action)

    def get_env_state(self):
        return {"steps": self.steps}

    def set_env_state(self, state):
        self.steps = state["steps"]


@pytest.mark.torch
@pytest.mark.parametrize("seen", [{}, {"env.frame_stack": 2, "env.sticky_actions": 0.1, "env.masked": (0,)}])
def test_a_curriculum_goes_on_where_a_run_was_stopped(seen, users_function, tmp_path):
    made = []
    users_function(lambda num_envs: made.append(Curriculum(num_envs)) or made[-1])
    options = {
        "env.suite": "torch_bridge",
        "env.name": "users_simulators.make",
        "network.hidden_sizes": (8,),
        "ppo.num_envs": 8,
        "ppo.unroll_length": 8,
        "ppo.num_minibatches": 1,
        "total_env_steps": 8 * 8 * 6,
        "epoch_iterations": 2,
        "eval.episodes": 0,
    } | seen
    stopped = jaxrl.train({}, tmp_path, options | {"stop.wall_clock_limit_s": 0.0})
    assert stopped.env_steps == 8 * 8 * 2 and made[0].steps == 16
    run = jaxrl.train({}, tmp_path, options)
    assert run.env_steps == 8 * 8 * 6
    assert [simulator.steps for simulator in made] == [16, 48]
