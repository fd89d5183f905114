"""Stable-Baselines3's PPO in torch over gymnasium's environments, in the process that learns, as its zoo has them."""

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize


class Nothing(BaseCallback):
    """What collecting a rollout asks for."""

    def _on_step(self):
        return True


def make(problem, shared):
    """A step that runs the two halves of `PPO.learn`, without its logging.

    Args:
        problem: a problem.Problem of gymnasium's.
        shared: must be False, Stable-Baselines3 shares no trunk of an MLP.

    Returns:
        `step() -> int`: runs `problem.iterations` PPO iterations, returns the env steps done.
    """
    if shared:
        raise ValueError("Stable-Baselines3's PPO has separate policy and value nets only.")
    env = DummyVecEnv([lambda: gymnasium.make(problem.env_name)] * problem.num_envs)
    model = PPO(
        "MlpPolicy",
        # Observations normalised, as the others do.
        VecNormalize(env, norm_obs=True, norm_reward=False, clip_obs=10.0),
        learning_rate=3e-4,
        n_steps=problem.unroll_length,
        batch_size=problem.env_steps_per_iteration // problem.num_minibatches,
        n_epochs=problem.update_epochs,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        ent_coef=0.0,
        max_grad_norm=1.0,
        policy_kwargs={
            "net_arch": {"pi": list(problem.hidden_sizes), "vf": list(problem.hidden_sizes)},
            "activation_fn": torch.nn.ELU,
        },
        seed=0,
        device="cpu",
    )
    _, callback = model._setup_learn(10**12, Nothing())

    def step():
        for _ in range(problem.iterations):
            model.collect_rollouts(model.env, callback, model.rollout_buffer, problem.unroll_length)
            model.train()
        return problem.env_steps_per_call

    return step
