"""Torch simulators through the bridge: stand-ins for every contract, some that scribble over their buffers, and VMAS.

Letters in shapes: T steps, N environments.
"""

import functools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import torch_bridge as suite
from jaxrl.envs import torch_contracts
from jaxrl.types import ConfigError, Timestep

T, N, LENGTH = 1000, 12, 23


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
        return *returned, {"final_observation": {"policy": self.last, "critic": self.last[:, 2:3] * 3}}


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

        if isinstance(value, tuple | list):
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


def bridge(function, num_envs=N, **options):
    """The suite's environment of a user's function."""
    module = types.ModuleType("users_simulators")
    module.make = function
    config = suite.default_config()
    config.update({"name": "users_simulators.make"} | options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "users_simulators", module)
        return suite.make(config, num_envs)


def actions():
    return np.random.default_rng(0).uniform(-1.5, 1.5, (T, N, 2)).astype(np.float32)


def play(env, num_steps=T):
    """The first timestep and all others, [T, N, ...], kept as they came until the end; actions as they went in."""
    state, first = env.reset(jax.random.key(0))
    given, kept = [jnp.array(action) for action in actions()[:num_steps]], []
    for action in given:
        state, timestep = env.step(state, action)
        kept.append(timestep)
    return first, jax.tree.map(lambda *leaves: np.stack(leaves), *kept), np.stack(given)


@functools.cache
def played(name, manners="plain"):
    """`play` of a contract's stand-in."""
    make = CONTRACTS[name]
    if manners != "plain":
        make = lambda num_envs: Scribbler(CONTRACTS[name](num_envs), manners == "awkward")  # noqa: E731
    return play(bridge(make))


def copy(value):
    """A clone of everything, in NumPy."""
    if isinstance(value, tuple | list):
        return [copy(each) for each in value]
    if isinstance(value, dict):
        return {name: copy(each) for name, each in value.items()}
    return value.numpy().copy() if hasattr(value, "numpy") else value


def obs_of(name, shown):
    """What policy and critic see, of a copy of what a step, or a reset, returned."""
    if name == "legged":
        return {"policy": shown[0], "critic": shown[1]}
    if name == "rsl_rl":
        return shown[-1]["observations"]
    obs = shown[0] if isinstance(shown, list) else shown
    policy, critic = ("obs", "states") if "obs" in obs else ("policy", "critic")
    return {"policy": obs[policy], "critic": obs[critic]}


def ends_of(name, shown):
    """terminated and truncated."""
    if name in ("lab", "told", "next_step", "on_demand"):
        return shown[2], shown[3] & ~shown[2]
    done = shown[-2] != 0
    return done & ~shown[-1]["time_outs"], done & shown[-1]["time_outs"]


@functools.cache
def reference(name):
    """What the bridge has to show, of a simulator that is driven by hand: the first obs, and a dict of [T, N, ...]."""
    import torch

    simulator = CONTRACTS[name](N)
    begun, waits = copy(simulator.reset()), np.zeros(N, bool)
    if name.startswith("task"):
        begun = copy(simulator.step(torch.zeros(N, 2)))
        waits = (begun[2] != 0) & (name != "task_same")
    else:
        begun = copy(simulator.reset())  # the bridge looks at it once to know its shapes
    first = before = obs_of(name, begun)
    rows = []
    for action in actions():
        shown = copy(simulator.step(torch.from_numpy(action).clamp(-1, 1)))
        obs = final = obs_of(name, shown)
        terminated, truncated = ends_of(name, shown)
        done = terminated | truncated
        if name == "on_demand" and done.any():
            obs = obs_of(name, copy(simulator.reset(options={"reset_mask": torch.from_numpy(done)})))
        elif name not in EXACT or name == "told":
            told = shown[-1]["final_observation"] if name == "told" else before
            final = {part: np.where(done[:, None], told[part], obs[part]) for part in obs}
        reward = shown[2 if name == "legged" else 1]
        rows.append((obs, reward, terminated, truncated, final, {}, ~waits))
        before, waits = obs, done & (name in NEXT_STEP)
    return first, Timestep(*jax.tree.map(lambda *leaves: np.stack(leaves), *rows))


@pytest.mark.torch
@pytest.mark.parametrize("manners", ["plain", "scribbling", "awkward"])
@pytest.mark.parametrize("name", CONTRACTS)
def test_every_contract_gives_the_trajectory_of_a_reference_that_clones_everything(name, manners):
    first, steps, given = played(name, manners)
    expected_first, expected = reference(name)
    jax.tree.map(np.testing.assert_array_equal, first.obs, expected_first)
    jax.tree.map(np.testing.assert_array_equal, steps, expected)
    np.testing.assert_array_equal(given, actions())  # the simulator had none of our memory
    assert steps.terminated.any() and steps.truncated.any()
    types_of = jax.tree.map(lambda leaf: leaf.dtype.name, steps)
    seen = {"policy": "float32", "critic": "float32"}
    assert types_of == Timestep(seen, "float32", "bool", "bool", seen, {}, "bool")


@pytest.mark.torch
@pytest.mark.parametrize("name", CONTRACTS)
def test_a_valid_step_leads_to_the_next_observation_of_the_same_episode(name):
    first, steps, _ = played(name)
    count, episode = (np.concatenate([first.obs["policy"][None], steps.obs["policy"]])[..., i] for i in (0, 1))
    final_count, final_episode = (steps.final_obs["policy"][..., i] for i in (0, 1))
    done = steps.terminated | steps.truncated
    whole = steps.valid if name in EXACT else steps.valid & ~done
    np.testing.assert_array_equal(final_count[whole], count[:-1][whole] + 1)
    np.testing.assert_array_equal(final_episode[whole], episode[:-1][whole])
    lost = done & steps.valid & ~whole  # V of what was seen before stands in for V of what is lost
    np.testing.assert_array_equal(final_count[lost], count[:-1][lost])
    # The next episode begins at once, or in the one step that is not valid.
    later = episode[1:] - episode[:-1]
    np.testing.assert_array_equal(later, ~steps.valid if name in NEXT_STEP else done)


# The steps, counted from 1, at which the clock of 23 stops the first episode, and how long one takes from then on.
# A step is spent on the reset's observation (early, same: the first; late: the unused), Isaac stops one step early.
CLOCKS = {
    "task_late": (22, 23),
    "task_early": (21, 22),
    "task_same": (21, 22),
    "lab": (22, 22),
    "rl_games": (22, 22),
    "rsl_rl": (22, 22),
    "legged": (22, 22),
    "told": (22, 22),
    "next_step": (22, 23),
    "on_demand": (22, 22),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CONTRACTS)
def test_the_clock_truncates_where_it_stops_and_terminates_nothing(name):
    env = bridge(lambda num_envs: CONTRACTS[name](num_envs, False))
    _, steps, _ = play(env, 100)
    first, period = CLOCKS[name]
    at = np.flatnonzero(steps.truncated.all(axis=1))
    np.testing.assert_array_equal(at + 1, np.arange(first, 101, period))
    assert not steps.terminated.any() and steps.truncated.sum() == N * len(at)
    assert env.spec.truncation_interval <= period


@pytest.mark.torch
def test_a_reset_begins_new_episodes_also_amid_others():
    for name in CONTRACTS:
        env = bridge(CONTRACTS[name])
        state, first = env.reset(jax.random.key(0))
        for _ in range(5):
            state, timestep = env.step(state, jnp.zeros((N, 2)))
        _, again = env.reset(jax.random.key(1))
        (count, episode), (new_count, new_episode) = (np.array(each.obs["policy"]).T[:2] for each in (timestep, again))
        assert (new_count <= 1).all() and (count >= 5).all() and (new_episode == episode + 1).all(), name
        assert again.valid.all() and not again.terminated.any() and not again.truncated.any(), name


@pytest.mark.torch
def test_the_key_seeds_the_simulator():
    class Random(Lab):
        def reset(self, seed=None, options=None):
            import torch

            self.seed = seed
            self.world.random = torch.default_generator
            return super().reset()

    simulators = []
    env = bridge(lambda num_envs: simulators.append(Random(num_envs)) or simulators[-1])
    places = [env.reset(jax.random.key(seed))[1].obs["policy"][:, 2] for seed in (0, 1, 0)]
    np.testing.assert_array_equal(places[0], places[2])
    assert (places[0] != places[1]).any()
    assert 0 <= simulators[0].seed < 2**31


@pytest.mark.torch
def test_an_episode_that_ends_in_the_step_that_begins_it_waits_again():
    import torch

    simulator = types.SimpleNamespace(progress_buf=torch.tensor([5, 0, 3]))
    after = torch_contracts.by_progress(simulator)
    restarted, waiting = after(torch.tensor([True, True, False]))
    assert (restarted.tolist(), waiting.tolist()) == ([False, True, False], [True, False, False])
    simulator.progress_buf = torch.tensor([0, 0, 4])  # the first began in this step, and failed at once
    restarted, waiting = after(torch.tensor([True, True, False]))
    assert (restarted.tolist(), waiting.tolist()) == ([False, True, False], [True, False, False])


@pytest.mark.torch
def test_autoreset_can_be_said():
    class Silent(NextStep):
        def __init__(self, num_envs):
            super().__init__(num_envs)
            self.metadata = {}

    env = bridge(Silent, autoreset="next_step")
    assert not play(env, 60)[1].valid.all()
    assert play(bridge(Silent), 60)[1].valid.all()  # same_step, as nothing is said
    with pytest.raises(ConfigError, match=r"^config.env.autoreset='on_demand' needs reset\(options=[^\n]*$"):
        bridge(RlGames, autoreset="on_demand")


@pytest.mark.torch
def test_what_a_task_says_of_itself_comes_back_from_a_checkpoint():
    import torch

    class Curriculum(Lab):
        level, told = (
            {"tolerance": 0.1, "frames": 2**40, "grid": torch.zeros(3, dtype=torch.float64), "on": False},
            None,
        )

        def get_env_state(self):
            return self.level

        def set_env_state(self, state):
            self.level = state

    simulators = []
    env = bridge(lambda num_envs: simulators.append(Curriculum(num_envs)) or simulators[-1])
    state, _ = env.reset(jax.random.key(0))
    grid = torch.tensor([0.1, 2.0, 1e-300], dtype=torch.float64)
    simulators[0].level = {"tolerance": 0.3, "frames": 2**40 + 1, "grid": grid, "on": True}
    state, _ = env.step(state, jnp.zeros((N, 2)))
    saved = jax.device_put(state)  # as it comes from a checkpoint
    again = bridge(lambda num_envs: simulators.append(Curriculum(num_envs)) or simulators[-1])
    state, _ = again.reset(jax.random.key(0), saved)
    restored = simulators[1].level
    assert (restored["tolerance"], restored["frames"], restored["on"]) == (0.3, 2**40 + 1, True)
    assert torch.equal(restored["grid"], grid) and restored["grid"].dtype == torch.float64
    np.testing.assert_array_equal(state, saved)
    with pytest.raises(ConfigError, match=r"^[^\n]*get_env_state\(\) differs[^\n]*$"):
        again.reset(jax.random.key(0), saved[:-1])
    assert bridge(Lab).reset(jax.random.key(0))[0] == ()
