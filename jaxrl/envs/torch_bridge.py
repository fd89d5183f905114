"""Batched torch simulators: Isaac Lab, IsaacGymEnvs, VMAS, ManiSkill and your own, on the same device as the learner.

Needs torch, the extra [torch], and a function of yours that makes the simulator:

    def make(num_envs, **options): return my_simulator(num_envs, device="cuda")

`config.env.name` names it by its dotted path, `your_module.make`; which contracts it may keep stands at the top of
`torch_contracts.py`. Its observations become float32, int32, bool or uint8; those that an asymmetric critic alone may
see (`states`, `critic`) become `critic`. A bounded action lies in [-1, 1] for the policy, what it samples beyond is
clipped, and it is stretched to the simulator's bounds here; one without bounds goes through as it is.

Simulators restart in one of three ways, and `config.env.autoreset` says which:

* same_step (Isaac Lab, legged_gym, anymal_terrain): the observation that comes with an end is already of the next
  episode. If the simulator tells the last one in extras['final_obs'], that is final_obs; else it is lost, and the
  observation before it stands in for it: a truncated step is worth V of what was seen before it.
* next_step (the other tasks of IsaacGymEnvs, gymnasium's default): the observation that comes with an end is the true
  last one, and the next step restarts. Its action goes unused or to an observation that the policy never saw, so that
  step is not `valid`: nobody learns from it, and its reward is not counted.
* on_demand (VMAS; a gymnasium-like reset(options={'reset_mask': done})): we restart, and everything is exact.

A simulator that needs another Python than jaxrl, as Isaac Gym needs one <= 3.8, runs in a process of its own:
`config.env.python` names that Python, which imports your function; see `torch_server.py`.

Set XLA_PYTHON_CLIENT_PREALLOCATE=false where both share a GPU, and --config.eval.episodes=0 where one process can hold
only one simulator, as Isaac Lab's. On the CPU the arrays of a Timestep are NumPy's, on a GPU JAX's.

Letters in shapes: N rows (environments x agents), A action size, B bytes.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl.envs import dlpack, torch_client, torch_contracts
from jaxrl.envs.options import parse
from jaxrl.find import nearest
from jaxrl.types import Box, ConfigError, Discrete, Environment, MultiDiscrete, Spec, Timestep

TRACEABLE = False  # reset and step, which live on the host
LIMITS = {"episode_length": (0, 10_000_000)}
CHOICES = {"autoreset": ("auto", "same_step", "next_step", "on_demand")}


def default_config() -> ConfigDict:
    """The group `env` for this suite."""
    config = ConfigDict()
    config.suite = "torch_bridge"
    config.name = ""  # your function, 'your_module.make': num_envs and options -> simulator
    config.options = ()  # of your function, such as task=Cartpole,device=cuda:0
    config.python = ""  # that runs the simulator in a process of its own, such as a Python 3.8; '' = in this process
    config.cuda_ipc = False  # with `python`: what is on a GPU stays there between the processes; not tried on one yet
    config.episode_length = 0  # passed to your function; 0 = not passed, the simulator's own
    config.autoreset = "auto"  # where an episode that ended is followed by the next; auto asks the simulator
    return config


def names() -> list[str]:
    """None: every simulator here is a user's."""
    return []


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N environments of a torch simulator, on the host's side: reset and step are not traceable.

    `reset` also takes the env_state of a checkpoint, reset(key, saved), and gives the simulator what it said of itself
    there with get_env_state(). env_state is that: uint8 [B], its bytes; () where it says nothing.

    Args:
        config: the group `env`.
        num_envs: of environments; with A agents of each, the rows are A times as many.
        restarts: not used: all restart.

    Raises:
        ConfigError: torch or the user's function is missing or fails, or the simulator keeps none of the contracts.
    """
    del restarts
    simulator = torch_contracts.understand(_load(config, num_envs), config.autoreset)
    shown = simulator.look()
    num_rows = num_envs * simulator.num_agents
    for leaf in jax.tree.leaves(shown):
        if leaf.ndim == 0 or len(leaf) != num_rows:
            raise ConfigError(
                f"config.env.name={config.name!r} shows {tuple(leaf.shape)}, but num_envs={num_envs} with "
                f"{simulator.num_agents} agent(s) each are {num_rows} rows; let it make as many."
            )
    obs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], dlpack.hand_over(dlpack.own(x)).dtype), shown)
    device = jax.tree.leaves(shown)[0].device
    space, act = _action(simulator.space, device)
    length = config.episode_length or simulator.episode_length
    # Isaac's clocks stop after one step less than they are set to.
    spec = Spec(num_rows, obs, space, max(length - 1, 1), num_agents=simulator.num_agents, traceable=TRACEABLE)
    reset, step = connect(simulator, lambda action: act(dlpack.bring(action, device)), num_rows)
    return Environment(reset, step, spec)


def connect(simulator: torch_contracts.Simulator, act: Callable, num_rows: int) -> tuple[Callable, Callable]:
    """The functions reset and step of an Environment.

    Args:
        simulator: by its contract.
        act: action of the policy -> that of the simulator, a tensor in memory of its own.
        num_rows: N.
    """
    import torch

    previous = waiting = None  # obs and who waits for its restart, after the last step; in our memory
    saves, everyone = False, np.ones(num_rows, bool)

    def show(obs):
        return _each(dlpack.hand_over, obs)

    def state():
        packed = dlpack.pack(simulator.save()) if saves else ()
        return packed if len(packed) else ()

    def reset(key, saved=()):
        nonlocal previous, waiting, saves
        if simulator.save and simulator.load and len(jax.tree.leaves(simulator.save())):
            saves = True
            if len(saved):
                _give_back(simulator, saved)
        with torch.no_grad():
            obs, waiting = simulator.begin(int(jax.random.bits(key, dtype=jnp.uint32)) >> 1)
        previous = _each(dlpack.own, obs)
        seen, nobody = show(previous), np.zeros(num_rows, bool)
        return state(), Timestep(seen, np.zeros(num_rows, np.float32), nobody, nobody, seen, {}, everyone)

    def step(env_state, action):
        nonlocal previous, waiting
        del env_state
        with torch.no_grad():
            shown = simulator.step(act(action))
            obs = _each(dlpack.own, shown.obs)
            final, obs = end(simulator, shown, obs, previous)
            unused, waiting = waiting, shown.waiting
        _check_rows(num_rows, shown)
        valid = everyone if unused is None else dlpack.hand_over(~unused)
        previous, seen = obs, show(obs)
        final = seen if final is obs else show(final)
        ends = dlpack.hand_over(shown.terminated), dlpack.hand_over(shown.truncated)
        return state(), Timestep(seen, dlpack.hand_over(shown.reward), *ends, final, {}, valid)

    return reset, step


def end(simulator, shown, obs, previous):
    """(final_obs, obs): the last observations and the next, each in memory of its own or the same where nothing ended.

    Args:
        simulator, shown: the contract, and what it shows after this step.
        obs: our copy of what it shows.
        previous: the same after the step before.
    """
    rows = () if shown.restarted is None else dlpack.where(shown.restarted)
    if not len(rows):
        return obs, obs
    if simulator.restart:
        return obs, _each(dlpack.own, simulator.restart(dlpack.tensor(shown.restarted)))
    last = previous if shown.final_obs is None else shown.final_obs
    return _patched(obs, last, rows), obs


def _each(function, obs):
    """jax.tree.map of one tree of dicts, several microseconds faster."""
    if not isinstance(obs, dict):
        return function(obs)
    return {name: _each(function, part) for name, part in obs.items()}


def _patched(obs, other, rows):
    """A copy of obs whose rows are in part those of another."""
    if isinstance(obs, dict):
        return {name: _patched(part, other[name], rows) for name, part in obs.items()}
    return dlpack.patched(obs, other, rows)


def _load(config, num_envs):
    """What the user's function makes."""
    setting = f"config.env.name={config.name!r}"
    path, _, name = config.name.rpartition(".")
    if not path:
        raise ConfigError(f"{setting} is no dotted path; write your_module.make, a function that makes the simulator.")
    try:
        has_torch = importlib.util.find_spec("torch") is not None  # not imported: Isaac Gym must be before it
    except ValueError:  # it is kept from being imported
        has_torch = False
    if not has_torch:
        raise ConfigError(
            "config.env.suite='torch_bridge' cannot be imported (No module named 'torch'); pip install 'jaxrl[torch]'."
        )
    options = {"num_envs": num_envs} | parse(config.options, "device=cuda:0")
    options |= {"episode_length": config.episode_length} if config.episode_length else {}
    if config.python:
        return torch_client.Client(config.python, config.name, options, config.cuda_ipc)
    try:
        module = importlib.import_module(path)
    except Exception as mistake:  # a user's module may fail in any way as it is imported
        raise ConfigError(f"{setting} cannot be imported ({_line(mistake)}); correct it.") from mistake
    function = getattr(module, name, None)
    if not callable(function):
        known = [each for each in vars(module) if callable(getattr(module, each)) and not each.startswith("_")]
        cure = nearest(name, known) if known else "it has no functions"
        raise ConfigError(f"{setting} does not exist; {cure}")
    try:
        inspect.signature(function).bind(**options)
    except TypeError as mistake:
        raise ConfigError(
            f"{setting} cannot be called with num_envs and config.env.options ({mistake}); let it take them."
        ) from None
    try:
        return function(**options)
    except Exception as mistake:
        raise ConfigError(f"{setting} fails ({_line(mistake)}); correct that function.") from mistake


def _line(mistake):
    return " ".join(f"{type(mistake).__name__}: {mistake}".split())


def _action(theirs, device):
    """The policy's action space, and the function from its action near by to the simulator's, which it may keep."""
    if hasattr(theirs, "nvec"):
        return MultiDiscrete(tuple(int(n) for n in theirs.nvec)), lambda action: dlpack.tensor(action + 0).long()
    if hasattr(theirs, "n"):
        start = int(getattr(theirs, "start", 0))
        return Discrete(int(theirs.n)), lambda action: dlpack.tensor(action + start).long()
    if not (hasattr(theirs, "low") and hasattr(theirs, "high")):
        raise ConfigError(
            f"config.env.name makes a simulator with actions of {type(theirs).__name__}; "
            "only Box, Discrete and MultiDiscrete are understood."
        )
    shape = tuple(theirs.shape)
    low, high = (np.broadcast_to(np.asarray(bound, np.float32), shape) for bound in (theirs.low, theirs.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    if (bounded & (low == -1) & (high == 1)).all():
        return Box(shape), lambda action: dlpack.tensor(action.clip(-1.0, 1.0))
    if not bounded.any():
        return Box(shape), lambda action: dlpack.tensor(action * 1.0)
    with np.errstate(invalid="ignore"):  # inf - inf
        half = np.where(bounded, 0.5 * (high - low), np.float32(1))
        middle = np.where(bounded, 0.5 * (high + low), np.float32(0))
    half, middle, low, high = (dlpack.bring(bound, device) for bound in (half, middle, low, high))
    return Box(shape), lambda action: dlpack.tensor((action * half + middle).clip(low, high))


def _check_rows(num_rows, shown):
    if shown.reward.shape == shown.terminated.shape == shown.truncated.shape == (num_rows,):
        return
    for name in ("reward", "terminated", "truncated"):
        shape = tuple(getattr(shown, name).shape)
        if shape != (num_rows,):
            raise ConfigError(f"config.env.name makes a simulator whose {name} is {shape}; it must be ({num_rows},).")


def _give_back(simulator, saved):
    try:
        simulator.load(dlpack.unpack(saved, simulator.save()))
    except ValueError as mistake:
        raise ConfigError(
            f"config.env.name makes another simulator than the checkpoint's: get_env_state() differs ({mistake})."
        ) from None
