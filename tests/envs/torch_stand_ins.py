"""Stand-ins for the simulators that the torch bridge understands, for Python 3.7 and newer with torch and NumPy.

World is what they all simulate; Scribbler makes any of them inconsiderate.
"""

import functools
import types

import numpy as np

LENGTH = 23


def space(shape=(2,), low=-1.0, high=1.0):
    return types.SimpleNamespace(shape=shape, low=np.full(shape, low), high=np.full(shape, high))


class World:
    """N points that are pushed about. What it shows begins with the step of the episode and the episode's number."""

    def __init__(self, num_envs, fails=True, length=LENGTH):
        import torch

        self.num_envs, self.fails, self.max_episode_length = num_envs, fails, length
        self.random = torch.Generator().manual_seed(3)
        self.progress = torch.zeros(num_envs, dtype=torch.int64)
        self.episode = torch.zeros(num_envs, dtype=torch.int64)
        self.place, self.speed = torch.zeros(num_envs), torch.zeros(num_envs)

    def begin(self, rows):
        import torch

        drawn = torch.rand(self.num_envs, generator=self.random) - 0.5
        self.place[rows], self.speed[rows], self.progress[rows] = drawn[rows], 0.0, 0
        self.episode[rows] += 1

    def push(self, action):
        assert (action.abs() <= 1).all()
        self.speed += 0.1 * action[:, 0]
        self.place += 0.2 * self.speed
        self.progress += 1

    def obs(self):
        import torch

        return torch.stack([self.progress.float(), self.episode.float(), self.place, self.speed], dim=1)

    def judge(self):
        """Reward, failed, out of time."""
        failed = (self.place.abs() > 1) & self.fails
        return -self.place.square(), failed, self.progress >= self.max_episode_length - 1


class Task:
    """IsaacGymEnvs' VecTask, with the reset in the order of a kind of task."""

    def __init__(self, num_envs, order, fails=True):
        import torch

        self.world, self.order = World(num_envs, fails), order
        self.num_envs, self.num_agents, self.num_states = num_envs, 1, 1
        self.max_episode_length = LENGTH
        self.action_space = space()
        self.obs_buf, self.states_buf = torch.zeros(num_envs, 4), torch.zeros(num_envs, 1)
        self.rew_buf = torch.zeros(num_envs)
        self.reset_buf = torch.ones(num_envs, dtype=torch.int64)
        self.progress_buf = self.world.progress
        self.extras, self.obs_dict = {}, {}
        if order == "same":
            self.reset_idx(torch.arange(num_envs))

    def reset(self):
        self.obs_dict["obs"], self.obs_dict["states"] = self.obs_buf.clamp(-99, 99), self.states_buf.clamp(-99, 99)
        return self.obs_dict

    def zero_actions(self):
        import torch

        return torch.zeros(self.num_envs, 2)

    def reset_idx(self, rows):
        self.world.begin(rows)
        self.reset_buf[rows] = 0

    def reset_done(self):
        rows = self.reset_buf.nonzero().flatten()
        self.reset_idx(rows)
        return self.reset(), rows

    def observe(self):
        self.obs_buf[:] = self.world.obs()
        self.states_buf[:] = self.world.place[:, None] * 3

    def step(self, actions):
        waiting = self.reset_buf.nonzero().flatten()
        if self.order == "early" and len(waiting):
            self.reset_idx(waiting)
        self.world.push(actions)
        if self.order == "late" and len(waiting):
            self.reset_idx(waiting)
        reward, failed, late = self.world.judge()
        self.rew_buf[:] = reward
        self.reset_buf[:] = (failed | late).long()
        self.extras["time_outs"] = late & (self.reset_buf != 0)
        done = self.reset_buf.clone()
        if self.order == "same" and done.any():
            self.reset_idx(done.nonzero().flatten())
            self.reset_buf[:] = done
        self.observe()
        return self.reset(), self.rew_buf.to("cpu"), self.reset_buf.to("cpu"), self.extras


class Lab:
    """Isaac Lab's environment: restarts in the same step, and writes its flags in place."""

    metadata = {}

    def __init__(self, num_envs, fails=True):
        import torch

        self.world = World(num_envs, fails)
        self.num_envs, self.max_episode_length = num_envs, LENGTH
        self.single_action_space = space()
        self.episode_length_buf = self.world.progress
        self.terminated, self.truncated = torch.zeros(num_envs, dtype=bool), torch.zeros(num_envs, dtype=bool)
        self.reward, self.extras = torch.zeros(num_envs), {"log": {}}
        self.unwrapped = self

    def observe(self):
        return {"policy": self.world.obs(), "critic": self.world.place[:, None] * 3}

    def reset(self, seed=None, options=None):
        import torch

        self.world.begin(torch.arange(self.num_envs))
        return self.observe(), self.extras

    def step(self, action):
        self.world.push(action)
        reward, self.terminated[:], self.truncated[:] = self.world.judge()  # both may hold at once
        self.reward[:] = reward
        done = self.terminated | self.truncated
        self.last = self.world.obs()
        self.world.begin(done.nonzero().flatten())
        return self.observe(), self.reward, self.terminated, self.truncated, self.extras


class RlGames:
    """Isaac Lab's wrapper for rl_games."""

    def __init__(self, num_envs, fails=True):
        self.env = self.unwrapped = Lab(num_envs, fails)
        self.action_space, self.num_envs = self.env.single_action_space, self.env.num_envs

    def names(self, obs):
        return {"obs": obs["policy"], "states": obs["critic"]}

    def reset(self):
        return self.names(self.env.reset()[0])

    def step(self, actions):
        obs, reward, terminated, truncated, extras = self.env.step(actions.detach().clone())
        extras["time_outs"] = truncated
        return self.names(obs), reward, (terminated | truncated), extras


class RslRl(RlGames):
    """Isaac Lab's wrapper for rsl_rl, of the first generation."""

    def reset(self):
        obs = self.env.reset()[0]
        return obs["policy"], {"observations": obs}

    def step(self, actions):
        obs, reward, done, extras = super().step(actions)
        extras["observations"] = {"policy": obs["obs"], "critic": obs["states"]}
        return obs["obs"], reward, done.long(), extras


class Legged(RlGames):
    """legged_gym's environment."""

    def reset(self):
        obs = self.env.reset()[0]
        return obs["policy"], obs["critic"]

    def step(self, actions):
        obs, reward, done, extras = super().step(actions)
        return obs["obs"], obs["states"], reward, done, extras


class Told(Lab):
    """As ManiSkill: the last observation is among the extras, and there is no counter of steps."""

    def __init__(self, num_envs, fails=True):
        super().__init__(num_envs, fails)
        del self.episode_length_buf

    def step(self, action):
        *returned, _ = super().step(action)
        return (*returned, {"final_observation": {"policy": self.last, "critic": self.last[:, 2:3] * 3}})


class NextStep(Told):
    """As gymnasium's vector environments restart by default."""

    def __init__(self, num_envs, fails=True):
        import torch

        super().__init__(num_envs, fails)
        self.metadata = {"autoreset_mode": "AutoresetMode.NEXT_STEP"}
        self.done = torch.zeros(self.num_envs, dtype=bool)

    def reset(self, seed=None, options=None):
        self.done.zero_()
        return super().reset()

    def step(self, action):
        begins = self.done.clone()
        self.world.push(action)
        self.world.begin(begins.nonzero().flatten())
        reward, failed, late = self.world.judge()
        self.reward[:] = reward.masked_fill(begins, 0.0)
        self.terminated[:], self.truncated[:] = failed & ~begins, late & ~begins
        self.done = self.terminated | self.truncated
        return self.observe(), self.reward, self.terminated, self.truncated, {}


class OnDemand(Told):
    """As gymnasium's vector environments with autoreset disabled."""

    def __init__(self, num_envs, fails=True):
        super().__init__(num_envs, fails)
        self.metadata = {"autoreset_mode": "AutoresetMode.DISABLED"}

    def reset(self, seed=None, options=None):
        if options is None:
            return super().reset()
        self.world.begin(options["reset_mask"].nonzero().flatten())
        return self.observe(), {}

    def step(self, action):
        self.world.push(action)
        reward, self.terminated[:], self.truncated[:] = self.world.judge()
        self.reward[:] = reward
        return self.observe(), self.reward, self.terminated, self.truncated, {}


CONTRACTS = {
    "task_late": lambda num_envs, fails=True: Task(num_envs, "late", fails),
    "task_early": lambda num_envs, fails=True: Task(num_envs, "early", fails),
    "task_same": lambda num_envs, fails=True: Task(num_envs, "same", fails),
    "lab": Lab,
    "rl_games": RlGames,
    "rsl_rl": RslRl,
    "legged": Legged,
    "told": Told,
    "next_step": NextStep,
    "on_demand": OnDemand,
}
NEXT_STEP = ("task_late", "task_early", "next_step")
EXACT = (*NEXT_STEP, "told", "on_demand")  # in which the last observation of an episode is known


class Scribbler:
    """The same simulator, but all that it returned is overwritten before its next step, and so is the action.

    If it is awkward, its tensors also have layouts and types that must be seen to: columns of something wider, memory
    that is not aligned, rewards in float64, observations that ask for gradients.
    """

    def __init__(self, simulator, is_awkward):
        self.simulator, self.is_awkward, self.returned = simulator, is_awkward, []

        @functools.wraps(simulator.reset)  # whose arguments can be told
        def reset(*arguments, **options):
            self.scribble()
            return self.hand_out(simulator.reset(*arguments, **options))

        self.reset = reset

    def __getattr__(self, name):
        return getattr(self.__dict__["simulator"], name)

    def hand_out(self, value, name=""):
        import torch

        if isinstance(value, (tuple, list)):
            return tuple(map(self.hand_out, value))
        if isinstance(value, dict):
            return {key: self.hand_out(each, key) for key, each in value.items()}
        if not isinstance(value, torch.Tensor):
            return value
        if not self.is_awkward:
            self.returned.append(value.clone())
            return self.returned[-1]
        kind = torch.float64 if value.ndim == 1 and value.is_floating_point() else value.dtype
        wide = torch.zeros(len(value) + 1, value[0].numel() + 3, dtype=kind)
        part = wide[1:, 2:-1]
        part[:] = value.reshape(len(value), -1)
        self.returned.append(wide)
        if value.ndim == 1:
            return part[:, 0] if value.dtype != torch.bool else part  # [N, 1], as skrl has it
        return part.requires_grad_() if name in ("critic", "states") else part

    def scribble(self):
        for buffer in self.returned:
            buffer.data.fill_(77)
        self.returned = []

    def step(self, action):
        self.scribble()
        returned = self.hand_out(self.simulator.step(action))
        action.mul_(0).add_(55)
        return returned


def make(num_envs, contract, manners="plain", fails=True):
    """The stand-in for a contract, as a user would make it."""
    simulator = CONTRACTS[contract](num_envs, fails)
    return simulator if manners == "plain" else Scribbler(simulator, manners == "awkward")
