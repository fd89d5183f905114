"""Torch simulators through the bridge: stand-ins for every contract, some that scribble over their buffers, and VMAS.

Letters in shapes: T steps, N environments.
"""

import functools
import importlib.util
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import torch_bridge as suite
from jaxrl.envs import torch_contracts
from jaxrl.types import ConfigError, Timestep

source = importlib.util.spec_from_file_location("torch_stand_ins", Path(__file__).with_name("torch_stand_ins.py"))
stand_ins = importlib.util.module_from_spec(source)
source.loader.exec_module(stand_ins)

T, N, LENGTH = 1000, 12, stand_ins.LENGTH


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
    return play(bridge(lambda num_envs: stand_ins.make(num_envs, name, manners)))


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

    simulator = stand_ins.CONTRACTS[name](N)
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
        elif name not in stand_ins.EXACT or name == "told":
            told = shown[-1]["final_observation"] if name == "told" else before
            final = {part: np.where(done[:, None], told[part], obs[part]) for part in obs}
        reward = shown[2 if name == "legged" else 1]
        rows.append((obs, reward, terminated, truncated, final, {}, ~waits))
        before, waits = obs, done & (name in stand_ins.NEXT_STEP)
    return first, Timestep(*jax.tree.map(lambda *leaves: np.stack(leaves), *rows))


@pytest.mark.torch
@pytest.mark.parametrize("manners", ["plain", "scribbling", "awkward"])
@pytest.mark.parametrize("name", stand_ins.CONTRACTS)
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
@pytest.mark.parametrize("name", stand_ins.CONTRACTS)
def test_a_valid_step_leads_to_the_next_observation_of_the_same_episode(name):
    first, steps, _ = played(name)
    count, episode = (np.concatenate([first.obs["policy"][None], steps.obs["policy"]])[..., i] for i in (0, 1))
    final_count, final_episode = (steps.final_obs["policy"][..., i] for i in (0, 1))
    done = steps.terminated | steps.truncated
    whole = steps.valid if name in stand_ins.EXACT else steps.valid & ~done
    np.testing.assert_array_equal(final_count[whole], count[:-1][whole] + 1)
    np.testing.assert_array_equal(final_episode[whole], episode[:-1][whole])
    lost = done & steps.valid & ~whole  # V of what was seen before stands in for V of what is lost
    np.testing.assert_array_equal(final_count[lost], count[:-1][lost])
    # The next episode begins at once, or in the one step that is not valid.
    later = episode[1:] - episode[:-1]
    np.testing.assert_array_equal(later, ~steps.valid if name in stand_ins.NEXT_STEP else done)


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
@pytest.mark.parametrize("name", stand_ins.CONTRACTS)
def test_the_clock_truncates_where_it_stops_and_terminates_nothing(name):
    env = bridge(lambda num_envs: stand_ins.CONTRACTS[name](num_envs, False))
    _, steps, _ = play(env, 100)
    first, period = CLOCKS[name]
    at = np.flatnonzero(steps.truncated.all(axis=1))
    np.testing.assert_array_equal(at + 1, np.arange(first, 101, period))
    assert not steps.terminated.any() and steps.truncated.sum() == N * len(at)
    assert env.spec.truncation_interval <= period


@pytest.mark.torch
def test_a_reset_begins_new_episodes_also_amid_others():
    for name in stand_ins.CONTRACTS:
        env = bridge(stand_ins.CONTRACTS[name])
        state, first = env.reset(jax.random.key(0))
        for _ in range(5):
            state, timestep = env.step(state, jnp.zeros((N, 2)))
        _, again = env.reset(jax.random.key(1))
        (count, episode), (new_count, new_episode) = (np.array(each.obs["policy"]).T[:2] for each in (timestep, again))
        assert (new_count <= 1).all() and (count >= 5).all() and (new_episode == episode + 1).all(), name
        assert again.valid.all() and not again.terminated.any() and not again.truncated.any(), name


@pytest.mark.torch
def test_the_key_seeds_the_simulator():
    class Random(stand_ins.Lab):
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
    restarted, waiting = after(np.array([True, True, False]))
    assert (restarted.tolist(), waiting.tolist()) == ([False, True, False], [True, False, False])
    simulator.progress_buf = torch.tensor([0, 0, 4])  # the first began in this step, and failed at once
    restarted, waiting = after(np.array([True, True, False]))
    assert (restarted.tolist(), waiting.tolist()) == ([False, True, False], [True, False, False])


@pytest.mark.torch
def test_autoreset_can_be_said():
    class Silent(stand_ins.NextStep):
        def __init__(self, num_envs):
            super().__init__(num_envs)
            self.metadata = {}

    env = bridge(Silent, autoreset="next_step")
    assert not play(env, 60)[1].valid.all()
    assert play(bridge(Silent), 60)[1].valid.all()  # same_step, as nothing is said
    with pytest.raises(ConfigError, match=r"^config.env.autoreset='on_demand' needs reset\(options=[^\n]*$"):
        bridge(stand_ins.RlGames, autoreset="on_demand")


@pytest.mark.torch
def test_what_a_task_says_of_itself_comes_back_from_a_checkpoint():
    import torch

    class Curriculum(stand_ins.Lab):
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
    assert bridge(stand_ins.Lab).reset(jax.random.key(0))[0] == ()
