"""What users' functions and simulators may do through the torch bridge, and what they are told if they may not."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import torch_bridge as suite
from jaxrl.types import Box, ConfigError, Discrete, MultiDiscrete

N = 12


def space(shape=(2,), low=-1.0, high=1.0):
    return types.SimpleNamespace(shape=shape, low=np.full(shape, low), high=np.full(shape, high))


def bridge(function, num_envs=N, **options):
    """The suite's environment of a user's function."""
    module = types.ModuleType("users_simulators")
    module.make = function
    config = suite.default_config()
    config.update({"name": "users_simulators.make"} | options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "users_simulators", module)
        return suite.make(config, num_envs)


class Echo:
    """Shows the actions that it gets, and writes over them."""

    def __init__(self, num_envs, action_space, width=2, **others):
        import torch

        self.action_space, self.shown = action_space, torch.zeros(num_envs, width)
        self.others = others

    def reset(self):
        return self.shown

    def step(self, action):
        self.kind = action.dtype
        shown = action.clone()
        action.fill_(7)
        return shown, shown[:, 0].float(), shown[:, 0] != shown[:, 0], {}


@pytest.mark.torch
def test_actions_are_stretched_to_the_bounds_and_clipped_or_go_through_without_any():
    taken = jnp.tile(jnp.array([[-3.0, 0.5]]), (N, 1))
    cases = (
        (space(), [-1, 0.5]),
        (space(low=[0, -2], high=[1, 10]), [0, 7]),
        (space(low=-np.inf, high=np.inf), [-3, 0.5]),
    )
    for bounds, expected in cases:
        env = bridge(lambda num_envs, bounds=bounds: Echo(num_envs, bounds))
        assert env.spec.action == Box((2,)) and not env.spec.traceable
        state, _ = env.reset(jax.random.key(0))
        np.testing.assert_array_equal(env.step(state, taken)[1].obs, np.tile(np.float32(expected), (N, 1)))
        np.testing.assert_array_equal(taken, [[-3.0, 0.5]] * N)


@pytest.mark.torch
@pytest.mark.parametrize(
    "ours, theirs, given, arrives",
    [
        (Discrete(5), types.SimpleNamespace(n=5, start=2), [1] * N, [3] * N),
        (MultiDiscrete((3, 4)), types.SimpleNamespace(nvec=[3, 4]), [[1, 2]] * N, [[1, 2]] * N),
    ],
)
def test_options_arrive_as_int64(ours, theirs, given, arrives):
    import torch

    class Listener(Echo):
        def step(self, action):
            got.append(action.clone())
            action.fill_(7)
            return self.shown, self.shown[:, 0], self.shown[:, 0], {}

    got = []
    env = bridge(lambda num_envs: Listener(num_envs, theirs))
    assert env.spec.action == ours
    state, _ = env.reset(jax.random.key(0))
    taken = jnp.array(given, jnp.int32)
    env.step(state, taken)
    assert torch.equal(got[0], torch.tensor(arrives))
    np.testing.assert_array_equal(taken, given)


@pytest.mark.torch
def test_actions_that_are_shared_out_over_devices_arrive_whole():
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    env = bridge(lambda num_envs: Echo(num_envs, space()), 16)
    state, _ = env.reset(jax.random.key(0))
    action = np.random.default_rng(0).uniform(-1, 1, (16, 2)).astype(np.float32)
    shared = jax.device_put(action, NamedSharding(Mesh(jax.devices(), "n"), PartitionSpec("n")))
    assert len(shared.sharding.device_set) == 8
    np.testing.assert_array_equal(env.step(state, shared)[1].obs, action)


def test_without_torch_it_is_one_line_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # import raises ImportError
    with pytest.raises(ConfigError, match=r"^[^\n]*pip install 'jaxrl\[torch\]'[^\n]*$"):
        bridge(Echo)


@pytest.mark.torch
@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": ""}, r"config.env.name='' is no dotted path; write your_module.make"),
        ({"name": "not_there.make"}, r"config.env.name='not_there.make' cannot be imported \(ModuleNotFoundError"),
        (
            {"name": "users_simulators.mak"},
            r"config.env.name='users_simulators.mak' does not exist; did you mean 'make'",
        ),
        ({"options": ("speed",)}, r"config.env.options='speed' is no option; write name=value"),
        (
            {"options": ("speed=3",)},
            r"config.env.name=.* cannot be called with num_envs and config.env.options \(.*speed",
        ),
        ({"episode_length": 9}, r"config.env.name=.* cannot be called .*episode_length"),
    ],
)
def test_mistakes_are_one_line_with_the_cure(options, message):
    with pytest.raises(ConfigError, match=f"^{message}[^\n]*$"):
        bridge(lambda num_envs: Echo(num_envs, space()), **options)


@pytest.mark.torch
@pytest.mark.parametrize(
    "make, message",
    [
        (lambda num_envs: 1 / 0, r"config.env.name=.* fails \(ZeroDivisionError"),
        (
            lambda num_envs: types.SimpleNamespace(step=print),
            r"config.env.name makes a SimpleNamespace without reset\(\)",
        ),
        (lambda num_envs: Echo(num_envs + 1, space()), r"config.env.name=.* shows \(13, 2\), but num_envs=12"),
        (lambda num_envs: Echo(num_envs, None), r"config.env.name makes a Echo without action_space"),
        (lambda num_envs: Echo(num_envs, 3), r"config.env.name makes a simulator with actions of int"),
    ],
)
def test_simulators_that_cannot_be_bridged_are_one_line(make, message):
    with pytest.raises(ConfigError, match=f"^{message}[^\n]*$"):
        bridge(make)


@pytest.mark.torch
def test_steps_that_cannot_be_understood_are_one_line():
    import torch

    o, r = torch.zeros(N, 2), torch.zeros(N)
    for returned, message in (
        ((o, r, r), "3 values"),
        (o, "Tensor"),
        ((o, torch.zeros(3), r, {}), r"reward is \(3,\)"),
    ):
        simulator = Echo(N, space())
        simulator.step = lambda action, returned=returned: returned
        env = bridge(lambda num_envs, simulator=simulator: simulator)
        state, _ = env.reset(jax.random.key(0))
        with pytest.raises(ConfigError, match=f"^config.env.name makes a simulator whose [^\n]*{message}[^\n]*$"):
            env.step(state, jnp.zeros((N, 2)))


@pytest.mark.torch
def test_options_and_the_episode_length_reach_the_users_function():
    got = {}

    def make(num_envs, **options):
        got.update(options)
        return Echo(num_envs, space())

    options = ("task=Cartpole", "device=cuda:0", "scale=0.5", "count=3", "headless=true")
    env = bridge(make, options=options, episode_length=50)
    assert got == {
        "task": "Cartpole",
        "device": "cuda:0",
        "scale": 0.5,
        "count": 3,
        "headless": True,
        "episode_length": 50,
    }
    assert env.spec.truncation_interval == 49 and bridge(make).spec.truncation_interval == 1
