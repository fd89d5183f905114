"""What batched torch simulators mean by the values they return, whichever of their contracts they keep.

| contract | step returns | observations | restarts |
|---|---|---|---|
| IsaacGymEnvs' VecTask, also in rl_games' RLGPUEnv | obs, reward, reset, extras | `obs`, `states` | of each task |
| Isaac Lab's environments | obs, reward, terminated, truncated, extras | `policy`, `critic` | in the same step |
| Isaac Lab's wrappers for rl_games and rsl_rl | obs, reward, done, extras | `obs`, `states`; or groups | the same |
| legged_gym's environments | obs, privileged obs, reward, reset, extras | the first two | in the same step |
| gymnasium's, such as ManiSkill | obs, reward, terminated, truncated, extras | a tensor or a dict | as it says |
| VMAS's Environment | lists of obs and rewards, terminated, truncated, infos | a tensor of each agent | if asked |

VecTask's time-outs are of a counter that a task like anymal_terrain has set back by then: those end as terminated.

They are told apart by what they have and return; no library is imported here. What is returned may be the simulator's
own buffers, which it overwrites later.

Letters in shapes: N rows (environments x agents, agent a of environment e in row e·A + a), A agents, E environments.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrl.envs import dlpack
from jaxrl.envs.torch_server import find, value
from jaxrl.types import ConfigError, PyTree


class Shown(NamedTuple):
    """What a simulator shows after a step: observations as it holds them; what we made of the rest (`dlpack.near`)."""

    obs: PyTree  # [N, ...]
    reward: Any  # [N] float32
    terminated: Any  # [N] bool
    truncated: Any  # [N] bool, nowhere where terminated
    restarted: Any = None  # [N] bool: obs is already of the next episode, or restart is due; None for nowhere
    waiting: Any = None  # [N] bool: the next step begins a new episode and takes no action; None for nowhere
    final_obs: PyTree = None  # [N, ...] right where restarted; None if the simulator does not tell


class Simulator(NamedTuple):
    """A batched torch simulator, by whatever contract."""

    look: Callable  # () -> obs [N, ...], once, before anything else
    begin: Callable  # seed -> obs [N, ...] of new episodes in all environments, waiting [N] bool or None
    step: Callable  # action [N, ...] of torch, its to keep -> Shown
    space: Any  # of one row's action, gymnasium's or gym's
    restart: Callable | None = None  # done [N], torch's -> obs [N, ...], new where done; None: it restarts by itself
    num_agents: int = 1  # A
    episode_length: int = 0  # steps; 0 if it does not tell
    save: Callable | None = None  # () -> what the task says of itself for a checkpoint, a pytree
    load: Callable | None = None


def understand(simulator: Any, autoreset: str) -> Simulator:
    """The simulator by its contract.

    Args:
        simulator: what the user's function returned.
        autoreset: 'same_step', 'next_step', 'on_demand', or 'auto', which asks the simulator.

    Raises:
        ConfigError: it lacks what every contract has, or what `autoreset` needs.
    """
    for name in ("reset", "step"):
        if not callable(getattr(simulator, name, None)):
            raise ConfigError(f"config.env.name makes a {type(simulator).__name__} without {name}(); add it.")
    if hasattr(simulator, "reset_at") and hasattr(simulator, "scenario"):
        return vmas(simulator)
    if autoreset == "auto":
        autoreset = says(simulator)
    if autoreset == "on_demand" and not takes(simulator.reset, "options"):
        raise ConfigError(
            "config.env.autoreset='on_demand' needs reset(options={'reset_mask': [N] bool}), which "
            f"{type(simulator).__name__} does not have; add it, or choose same_step or next_step."
        )
    after = {
        "same_step": lambda done: (done, None),
        "next_step": lambda done: (None, done),
        "on_demand": lambda done: (done, None),
    }.get(autoreset) or by_progress(simulator)
    is_task = find(simulator, "reset_buf") and find(simulator, "obs_buf")
    demand = lambda done: see(simulator.reset(options={"reset_mask": done}))  # noqa: E731
    return Simulator(
        look=lambda: see(simulator.reset()),
        begin=lambda seed: begin_task(simulator, seed, after) if is_task else (begin(simulator, seed), None),
        step=lambda action: read(simulator.step(action), after),
        space=action_space(simulator),
        restart=demand if autoreset == "on_demand" else None,
        num_agents=int(value(simulator, "num_agents") or 1),
        episode_length=length(value(simulator, "max_episode_length", "max_episode_steps")),
        save=value(simulator, "get_env_state"),
        load=value(simulator, "set_env_state"),
    )


def length(steps: Any) -> int:
    """Steps of an episode, 0 if that is unknown."""
    return int(steps) if isinstance(steps, int | float) and steps > 0 else 0


def action_space(simulator: Any) -> Any:
    """Of one environment, as gymnasium and gym have it."""
    space = value(simulator, "single_action_space", "action_space")
    if space is None:
        raise ConfigError(f"config.env.name makes a {type(simulator).__name__} without action_space; add it.")
    return space


def says(simulator: Any) -> str:
    """How the simulator says that it restarts: by its counter of steps, or by gymnasium's metadata."""
    if find(simulator, "progress_buf", "episode_length_buf"):
        return "by_progress"
    mode = str((value(simulator, "metadata") or {}).get("autoreset_mode", "")).upper()
    return "next_step" if "NEXT" in mode else "on_demand" if "DISABLED" in mode else "same_step"


def takes(function: Callable, name: str) -> bool:
    """Whether a function has a keyword of that name, or any."""
    parameters = inspect.signature(function).parameters.values()
    return any(each.name == name or each.kind is each.VAR_KEYWORD for each in parameters)


# Beginning.


def begin(simulator: Any, seed: int) -> PyTree:
    """New episodes everywhere; the seed goes to `reset` if it takes one, and to torch's generators in any case."""
    sow(simulator, seed)
    return see(simulator.reset(seed=seed) if takes(simulator.reset, "seed") else simulator.reset())


def sow(simulator: Any, seed: int) -> None:
    """Seeds the generators of torch that the simulator draws from; one in another process has its own."""
    import torch

    getattr(simulator, "manual_seed", torch.manual_seed)(seed)


def begin_task(simulator: Any, seed: int, after: Callable) -> tuple[PyTree, Any]:
    """New episodes in all environments of a VecTask, whose `reset` computes nothing: a step with zero actions does.

    Whether that leaves the first or the second observation of an episode depends on the task.
    """
    import torch

    sow(simulator, seed)
    reset_buf, progress = value(simulator, "reset_buf"), value(simulator, "progress_buf")
    restart, still = value(simulator, "reset_done"), value(simulator, "zero_actions")
    has_stepped = progress is not None and bool((progress != 0).any())
    reset_buf.fill_(1)
    if has_stepped and restart is not None:
        restart()  # not every task looks at the buffer before it writes into it
    shape = (len(reset_buf), *action_space(simulator).shape)
    shown = read(simulator.step(still() if still else torch.zeros(shape, device=reset_buf.device)), after)
    return shown.obs, shown.waiting


# Stepping.


def read(returned: tuple, after: Callable) -> Shown:
    """The values of a step by their number and shapes; see the table at the top."""
    if not isinstance(returned, tuple | list) or len(returned) not in (4, 5):
        kind = f"{len(returned)} values" if isinstance(returned, tuple | list) else type(returned).__name__
        raise ConfigError(f"config.env.name makes a simulator whose step returns {kind}; 4 or 5 are understood.")
    extras = returned[-1] if hasattr(returned[-1], "get") else {}
    is_legged = is_observation(returned[1]) and flat(returned[2]).is_floating_point()
    if len(returned) == 4 or is_legged:
        *obs, reward, done, _ = returned
        done, stopped = dlpack.own(flat(done), "bool"), extras.get("time_outs", extras.get("TimeLimit.truncated"))
        truncated = done & flags(stopped) if stopped is not None else done & ~done
        obs = see((*obs, extras))
    else:
        obs, reward, terminated, truncated, _ = returned
        obs, terminated = see(obs), flags(terminated)
        done = terminated | flags(truncated)
        truncated = done & ~terminated  # where both are said, the task has ended
    terminated = done ^ truncated
    restarted, waiting = after(done)
    final = extras.get("final_obs", extras.get("final_observation")) if restarted is not None else None
    reward = dlpack.own(flat(reward), "float32")
    return Shown(obs, reward, terminated, truncated, restarted, waiting, None if final is None else see(final))


def by_progress(simulator: Any) -> Callable:
    """done [N] bool -> (restarted, waiting) [N] bool, asked after every step: by the counter of steps.

    Where it is 0 at an end the environment has restarted already; the others will, in the next step. Of IsaacGymEnvs'
    tasks anymal_terrain is of the first kind, cartpole, ant, shadow_hand and most others of the second.
    """
    counter = find(simulator, "progress_buf", "episode_length_buf")
    waited = None

    def after(done):
        nonlocal waited
        # Looked up each time: a simulator may put another tensor into its place.
        restarted = done & dlpack.near(getattr(*counter).to(done.device) == 0)
        if waited is not None:
            restarted = restarted & ~waited  # these have just begun, and ended in the same step
        waited = done & ~restarted
        return restarted, waited

    return after


# Observations.


def see(obs: Any) -> PyTree:
    """What a simulator shows, in jaxrl's names: a tensor, or a dict of tensors whose `critic` only the critic sees.

    Args:
        obs: a tensor; a mapping (also a TensorDict), of which, beside `policy` or `obs`, only `critic`, `states` and
            `action_mask` are looked at; or a tuple, of one of these, perhaps of the critic's, and of extras.
    """
    if isinstance(obs, tuple | list):
        first, *more = obs
        if hasattr(first, "keys"):
            return see(first)
        # legged_gym has a tensor for the critic, rsl_rl's first generation more groups among the extras.
        critic = next((each for each in more if is_observation(each)), None)
        extras = more[-1] if more and hasattr(more[-1], "get") else {}
        return see({"policy": first, "critic": critic} | dict(extras.get("observations") or {}))
    if not hasattr(obs, "keys"):
        return obs
    parts = {str(name): part for name, part in obs.items() if part is not None}
    policy, critic = parts.get("policy", parts.get("obs")), parts.get("critic", parts.get("states"))
    if policy is None:
        return parts
    seen = dict(policy.items()) if hasattr(policy, "items") else {"policy": policy}
    if critic is not None and (hasattr(critic, "items") or critic.numel()):
        seen["critic"] = dict(critic.items()) if hasattr(critic, "items") else critic
    if "action_mask" in parts:
        seen["action_mask"] = parts["action_mask"].bool()
    return seen["policy"] if list(seen) == ["policy"] else seen


def is_observation(each: Any) -> bool:
    """Whether what stands behind the policy's observation is the critic's: in legged_gym None if it has no other."""
    return each is None or (hasattr(each, "dim") and each.dim() > 1)


def flags(numbers: Any) -> Any:
    """[N] bool, near by, of any numbers, [N] or [N, 1]; perhaps on the same memory."""
    return dlpack.near(flat(numbers), "bool")


def flat(numbers: Any) -> Any:
    """A tensor [N] of [N] or [N, 1], on the same memory."""
    if not hasattr(numbers, "detach"):
        import torch

        numbers = torch.as_tensor(numbers)
    return numbers if numbers.ndim == 1 else numbers.reshape(-1)


# Several agents.


def vmas(simulator: Any) -> Simulator:
    """VMAS's Environment: agents that are alike share a policy and a row each; it restarts where it is asked to.

    https://github.com/proroklab/VectorizedMultiAgentSimulator
    """
    import torch

    simulator.terminated_truncated = True  # else it does not tell the clock from the end of the task
    num_agents = simulator.n_agents
    spaces = list(simulator.action_space.values() if simulator.dict_spaces else simulator.action_space)
    if any(space != spaces[0] for space in spaces):
        raise ConfigError("config.env.name makes a VMAS environment whose agents act differently; choose another.")

    def rows(parts):
        parts = list(parts.values()) if isinstance(parts, dict) else parts
        if any(part.shape != parts[0].shape for part in parts):
            raise ConfigError("config.env.name makes a VMAS environment whose agents see differently; choose another.")
        return torch.stack(parts, dim=1).flatten(0, 1)

    def everyone(flag):
        return flag.repeat_interleave(num_agents)

    def step(action):
        obs, reward, terminated, truncated, _ = simulator.step(list(action.unflatten(0, (-1, num_agents)).unbind(1)))
        done = terminated | truncated
        numbers = (rows(reward).float(), *map(everyone, (terminated, done ^ terminated, done)))
        return Shown(rows(obs), *map(dlpack.near, numbers))

    def restart(done):
        for i in done[::num_agents].nonzero().flatten().tolist():
            simulator.reset_at(i, return_observations=False)
        ask = {"get_observations": True, "get_rewards": False, "get_infos": False, "get_dones": False}
        return rows(simulator.get_from_scenario(**ask)[0])

    return Simulator(
        look=lambda: rows(simulator.reset(seed=0)),
        begin=lambda seed: (rows(simulator.reset(seed=seed)), None),
        step=step,
        space=spaces[0],
        restart=restart,
        num_agents=num_agents,
        episode_length=length(simulator.max_steps),
    )
