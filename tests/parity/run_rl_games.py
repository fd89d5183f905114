"""Trains a yaml of rl_games on gymnasium, as its users do, then asks its player, for test_rl_games_run.py.

    python tests/parity/run_rl_games.py FILE.yaml FOLDER [EPISODES]

Writes FOLDER/run/nn/*.pth (rl_games' own), and FOLDER/answers.npz: random observations, what the player's model says to
them, and the returns of so many deterministic episodes. rl_games' own vectorised environments need ray; the one here
takes their place. Needs rl_games, torch and gymnasium, and nothing of jaxrl.

Letters in shapes: B observations, N environments.
"""

import pathlib
import sys

import gymnasium
import numpy as np
import torch
import yaml
from rl_games import torch_runner
from rl_games.common import env_configurations, ivecenv, vecenv

KIND = "GYMNASIUM"
NUM_OBS = 256


class Gymnasium(ivecenv.IVecEnv):
    """N environments of gymnasium, one after the other, that restart in the step in which an episode ends."""

    def __init__(self, name, num_envs):
        self.envs = [gymnasium.make(name) for _ in range(num_envs)]

    def reset(self):
        return np.stack([env.reset(seed=seed)[0] for seed, env in enumerate(self.envs)]).astype(np.float32)

    def step(self, actions):
        rows = [self._step(env, action) for env, action in zip(self.envs, actions, strict=True)]
        obs, reward, done, time_outs = map(np.array, zip(*rows, strict=True))
        return obs.astype(np.float32), reward.astype(np.float32), done, {"time_outs": time_outs}

    def _step(self, env, action):
        obs, reward, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
        return env.reset()[0] if done else obs, reward, done, truncated

    def get_env_info(self):
        return {"action_space": self.envs[0].action_space, "observation_space": self.envs[0].observation_space}


def main(file: str, folder: str, episodes: str = "0") -> None:
    """Trains, then writes the answers of the last checkpoint's player."""
    torch.set_num_threads(1)
    params = yaml.safe_load(pathlib.Path(file).read_text())
    name = params["params"]["config"]["env_name"]
    params["params"]["config"] |= {"train_dir": folder, "full_experiment_name": "run", "device_name": "cpu"}
    vecenv.register(KIND, lambda config_name, num_envs, **kwargs: Gymnasium(name, num_envs))
    env_configurations.register(name, {"vecenv_type": KIND, "env_creator": lambda **kwargs: gymnasium.make(name)})
    runner = torch_runner.Runner()
    runner.load(params)
    runner.run({"train": True})

    checkpoint = max(pathlib.Path(folder, "run", "nn").glob("*.pth"), key=lambda path: path.stat().st_mtime_ns)
    player = runner.create_player()
    player.restore(str(checkpoint))
    player.has_batch_dimension = True
    answers = say(player, np.random.default_rng(0).normal(size=(NUM_OBS, *player.obs_shape)).astype(np.float32))
    answers["returns"] = np.array([play(player, name, seed) for seed in range(int(episodes))])
    np.savez(pathlib.Path(folder, "answers.npz"), checkpoint=np.array(str(checkpoint)), **answers)


def say(player, obs) -> dict:
    """What the player's model says to observations [B, ...]."""
    with torch.no_grad():
        answer = player.model({"is_train": False, "prev_actions": None, "obs": torch.tensor(obs), "rnn_states": None})
    names = {"mus": "mean", "sigmas": "std", "logits": "logits", "values": "value"}
    return {"obs": obs} | {names[key]: answer[key].numpy() for key in names if key in answer}


def play(player, name, seed) -> float:
    """The return of one episode of the player's deterministic actions."""
    env = gymnasium.make(name)
    obs, done, total = env.reset(seed=1000 + seed)[0], False, 0.0
    while not done:
        with torch.no_grad():
            action = player.get_action(torch.tensor(obs[None], dtype=torch.float32), is_deterministic=True)
        action = action.reshape(env.action_space.shape).numpy()
        obs, reward, terminated, truncated, _ = env.step(action if action.shape else int(action))
        total, done = total + reward, terminated or truncated
    return total


if __name__ == "__main__":
    main(*sys.argv[1:])
