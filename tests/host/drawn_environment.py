"""An environment of gymnasium that renders itself with NumPy alone: a bar that is as long as the episode is old."""

import gymnasium
import numpy as np


class Drawn(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode, self.age = render_mode, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.age += 1
        return np.zeros(1, np.float32), 1.0, False, False, {}

    def render(self):
        picture = np.zeros((101, 121, 3), np.uint8)  # odd sides, which mp4 does not have
        picture[:, : 20 * self.age] = 255
        return picture


gymnasium.register("Drawn-v0", Drawn, max_episode_steps=100)
