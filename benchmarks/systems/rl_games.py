"""rl_games' PPO in torch over Brax in jax: one jitted env step per torch policy step, tensors shared without copies.

rl_games 1.6.5 still names a Brax environment, but for a Brax API that is gone; the one here takes its place.
"""

import tempfile

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import torch
from brax import envs
from brax.envs import training
from rl_games import torch_runner
from rl_games.common import env_configurations, ivecenv, vecenv

from benchmarks.problem import Problem


class BraxVecEnv(ivecenv.IVecEnv):
    """N Brax environments that restart themselves, seen from torch."""

    def __init__(self, problem, seed):
        env = training.wrap(
            envs.get_environment(problem.env_name, backend=problem.backend), episode_length=problem.episode_length
        )

        def step(state, action):
            state = env.step(state, action)
            # uint8: what rl_games keeps its dones in.
            return state, (state.obs, state.reward, state.done.astype("uint8"), state.info["truncation"])

        self._reset = jax.jit(env.reset)
        self._step = jax.jit(step)
        self._keys = jax.random.split(jax.random.PRNGKey(seed), problem.num_envs)
        self._state = None
        infinity = np.full(env.observation_size, np.inf, np.float32)
        one = np.ones(env.action_size, np.float32)
        self._spaces = {
            "observation_space": gymnasium.spaces.Box(-infinity, infinity),
            "action_space": gymnasium.spaces.Box(-one, one),
        }

    def reset(self):
        self._state = self._reset(self._keys)
        return torch.from_dlpack(self._state.obs)

    def step(self, actions):
        action = jax.dlpack.from_dlpack(actions.detach().contiguous())
        self._state, arrays = self._step(self._state, action)
        obs, reward, done, time_outs = (torch.from_dlpack(array) for array in arrays)
        return obs, reward, done, {"time_outs": time_outs}

    def get_env_info(self):
        return self._spaces


def make(problem, shared):
    """A step that runs rl_games' own training epochs, without its logging and checkpoints.

    Args:
        problem: a problem.Problem.
        shared: one trunk for policy and value.

    Returns:
        `step() -> int`: runs `problem.iterations` PPO iterations, returns the env steps done.
    """
    step, _ = _start(problem, _params(problem, shared, {}))
    return step


def learn(seed, interval):
    """rl_games' recipe for Brax's Ant, its configs/brax/ppo_ant.yaml, v1.6.5."""
    problem = Problem("ant", num_envs=4096, unroll_length=8, num_minibatches=1, update_epochs=5)
    problem = problem._replace(iterations=-(-interval // problem.env_steps_per_iteration))
    params = _params(problem, True, {"value_bootstrap": False, "mixed_precision": torch.cuda.is_available()})
    return _start(problem, params | {"seed": seed}, seed)


def _start(problem, params, seed=0):
    """step and act of an agent of rl_games."""
    vecenv.register("BENCHMARK", lambda config_name, num_actors, **kwargs: BraxVecEnv(problem, seed))
    env_configurations.register("benchmark", {"vecenv_type": "BENCHMARK", "env_creator": None})
    runner = torch_runner.Runner()
    folder = tempfile.TemporaryDirectory()
    params["config"]["train_dir"] = folder.name
    params["config"].update(ENVIRONMENTS[problem.suite](problem))
    runner.load({"params": params})
    agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    model = agent.model
    # As Runner.run_train does unless its config says no.
    agent.model = torch.compile(agent.model, mode="default")
    agent.init_tensors()
    agent.obs = agent.env_reset()

    def step():
        for _ in range(problem.iterations):
            agent.update_epoch()
            agent.train_epoch()
            agent.dataset.update_values_dict(None)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return problem.env_steps_per_call

    def act(obs):
        agent.set_eval()
        with torch.no_grad():
            seen = {"is_train": False, "prev_actions": None, "obs": torch.from_dlpack(obs), "rnn_states": None}
            mean = model(seen)["mus"]  # not the compiled one, which would compile anew for other sizes
        # A copy: torch may use the memory again while JAX, which does not wait, still reads it.
        return jnp.array(jax.dlpack.from_dlpack(mean.clamp(-1.0, 1.0).contiguous()), copy=True)

    step.folder = folder  # rl_games holds an event file open in it as long as it trains
    return step, act


ENVIRONMENTS = {
    "brax": lambda problem: {"env_name": "benchmark"},
    # Its own adapter, with one thread of EnvPool a core, which is EnvPool's default.
    "envpool": lambda problem: {"env_name": "envpool", "env_config": {"env_name": problem.env_name, "seed": 0}},
}


def _params(problem, shared, others):
    """rl_games' recipe for Brax Ant, with the sizes of the problem and other settings that differ."""
    initializer = {"name": "default"}
    return {
        "seed": 7,
        "algo": {"name": "a2c_continuous"},
        "model": {"name": "continuous_a2c_logstd"},
        "network": {
            "name": "actor_critic",
            "separate": not shared,
            "space": {
                "continuous": {
                    "mu_activation": "None",
                    "sigma_activation": "None",
                    "mu_init": initializer,
                    "sigma_init": {"name": "const_initializer", "val": 0},
                    "fixed_sigma": True,
                }
            },
            "mlp": {
                "units": list(problem.hidden_sizes),
                "activation": "elu",
                "d2rl": False,
                "initializer": initializer,
            },
        },
        "config": {
            "name": "benchmark",
            "full_experiment_name": "benchmark",
            "device": "cuda:0" if torch.cuda.is_available() else "cpu",
            "multi_gpu": False,
            "mixed_precision": False,
            "normalize_input": True,
            "normalize_value": True,
            "normalize_advantage": True,
            "value_bootstrap": True,
            "use_smooth_clamp": True,
            "reward_shaper": {"scale_value": 1.0},
            "gamma": 0.99,
            "tau": 0.95,
            "learning_rate": 3e-4,
            "lr_schedule": "adaptive",
            "kl_threshold": 0.008,
            "max_epochs": -1,
            "grad_norm": 1.0,
            "truncate_grads": True,
            "entropy_coef": 0.0,
            "e_clip": 0.2,
            "clip_value": False,
            "critic_coef": 2,
            "bounds_loss_coef": 1e-4,
            "num_actors": problem.num_envs,
            "horizon_length": problem.unroll_length,
            "minibatch_size": problem.env_steps_per_iteration // problem.num_minibatches,
            "mini_epochs": problem.update_epochs,
            "print_stats": False,
            **others,
        },
    }
