"""What the bridge to torch simulators costs a step.

The simulators here compute nothing: they hand out their buffers, in which the environments' episodes end one after
the other, `--length` steps each. The cost is the time of a step through the bridge less that of the simulator's own;
`all on JAX` also makes what came as NumPy's views arrays of JAX, as device_put does; `other process` is the bridge to
the same simulator in a process of its own, under `--python`. Of many rounds the fastest, and in brackets the median,
for a machine that has other things to do. Needs the extra [torch].
"""

import os
import pathlib
import statistics
import sys
import time
import types

if not __package__:  # called as a script
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from benchmarks import report

ROUNDS, STEPS = 200, 5
COLUMNS = ("bridge", "its obs alone", "all on JAX", "other process")


class Simulator:
    """Buffers of N environments under a clock, by the contract of a kind of simulator."""

    def __init__(self, num_envs, contract, sizes, length, device):
        import numpy as np
        import torch

        obs_size, action_size = sizes
        self.contract, self.length = contract, length
        self.max_episode_length = length
        self.obs, self.fresh = torch.randn(2, num_envs, obs_size, device=device).unbind()
        self.reward = torch.randn(num_envs, device=device)
        self.nowhere = torch.zeros(num_envs, dtype=torch.bool, device=device)
        rows = torch.arange(num_envs, device=device)
        self.ends = [rows % length == t for t in range(length)]
        self.long_ends = [end.long() for end in self.ends]
        self.t = 0
        one = np.ones(action_size, np.float32)
        self.action_space = types.SimpleNamespace(low=-one, high=one, shape=one.shape)
        self.metadata = {"autoreset_mode": "NEXT_STEP" if contract == "next_step" else contract}
        if contract == "on_demand":
            self.metadata["autoreset_mode"] = "DISABLED"

    def reset(self, options=None):
        return (self.obs if options is None else self.fresh), {}

    def step(self, action):
        self.t = (self.t + 1) % self.length
        if self.contract == "next_step":
            return {"obs": self.obs}, self.reward, self.long_ends[self.t], {"time_outs": self.ends[self.t]}
        extras = {"final_obs": self.fresh} if self.contract == "same_step, told" else {}
        return self.obs, self.reward, self.nowhere, self.ends[self.t], extras


CONTRACTS = {
    "next_step": "IsaacGymEnvs: ant, cartpole, shadow_hand",
    "same_step": "Isaac Lab, legged_gym: the last observation is lost",
    "same_step, told": "ManiSkill: the last observation is among the extras",
    "on_demand": "a reset that takes a mask",
}


def arguments(parser):
    """Adds the options."""
    parser.add_argument("--num_envs", type=report.count, default=4096, help="environments")
    parser.add_argument("--obs_size", type=report.count, default=48, help="numbers of an observation")
    parser.add_argument("--action_size", type=report.count, default=12, help="numbers of an action")
    parser.add_argument("--length", type=report.count, default=1000, help="steps of an episode")
    parser.add_argument("--python", default=sys.executable, help="that runs the simulator of the last column")
    parser.add_argument("--device", default="cpu", help="of torch, such as cuda:0")


def run(arguments) -> report.Result:
    """Measures one contract after the other."""
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the other process
    sizes = (arguments.obs_size, arguments.action_size)
    costs = {}
    for contract in CONTRACTS:
        report.say(f"{contract} ...")
        options = {"contract": contract, "sizes": sizes, "length": arguments.length, "device": arguments.device}
        costs[contract] = measure(options, arguments.num_envs, arguments.python)
    title = (
        f"{arguments.num_envs} environments, {sizes[0]} float32 each, {sizes[1]} actions, {arguments.device}; "
        "microseconds a step"
    )
    rows = [
        [contract, CONTRACTS[contract], *(f"{best:.1f} ({usual:.1f})" for best, usual in taken)]
        for contract, taken in costs.items()
    ]
    figure = report.Bars(
        f"the bridge: {arguments.num_envs} environments, {sizes[0]} float32 each, {sizes[1]} actions",
        "microseconds a step, the fastest and the median",
        list(costs),
        [float(taken[0][0]) for taken in costs.values()],
        [float(taken[0][0]) for taken in costs.values()],
        [float(taken[0][1]) for taken in costs.values()],
    )
    data = {contract: [list(map(float, pair)) for pair in taken] for contract, taken in costs.items()}
    return report.Result([report.Table(title, ("restarts", "as in", *COLUMNS), rows)], {}, [figure], data)


def measure(options, num_envs, python):
    """Microseconds of the bridge, of the observations alone, of the bridge with all sent to JAX, of another process."""
    import jax
    import numpy as np

    from jaxrl.envs import dlpack, torch_bridge

    os.environ["PYTHONPATH"] = str(report.ROOT)  # where the process finds the simulator
    simulator = Simulator(num_envs, **options)
    device = jax.devices()[0]
    ready = (lambda tree: tree) if simulator.obs.device.type == "cpu" else jax.block_until_ready

    def stepping(python):
        config = torch_bridge.default_config()
        config.update({"name": "benchmarks.bridge.Simulator", "python": python})
        config.options = tuple(f"{name}={value}" for name, value in options.items())
        env = torch_bridge.make(config, num_envs)
        state, _ = env.reset(jax.random.key(0))
        action = jax.random.uniform(jax.random.key(1), (num_envs, *env.spec.action.shape), minval=-1.0)
        return lambda: env.step(state, action)[1]

    here, there = stepping(""), stepping(python)
    action = simulator.obs.new_zeros(num_envs, options["sizes"][1])
    alone, through, everything, served = (
        np.array(timed(step))
        for step in (
            lambda: simulator.step(action),
            lambda: ready(here()),
            lambda: jax.block_until_ready(jax.device_put(here(), device)),
            lambda: ready(there()),
        )
    )
    obs = timed(lambda: ready(dlpack.hand_over(dlpack.own(simulator.obs))))
    return [through - alone, obs, everything - alone, served - alone]


def timed(call):
    """Microseconds a call: of the fastest round, of the median."""
    rounds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(STEPS):
            call()
        rounds.append((time.perf_counter() - begin) / STEPS * 1e6)
    return min(rounds), statistics.median(rounds)


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["bridge", *sys.argv[1:]]))
