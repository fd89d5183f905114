"""The DM Control Suite's cartpole-swingup, simulated by MuJoCo on the host.

    python -m jaxrl.train --config=experiments/dm_control_cartpole.py

Result: mean deterministic return over 16 full episodes 553 of 1000 after 295,000 env steps and 513 at the end, from 0
at the start; mean training return 101 at first, 428 at the end. Seed 0, the only one tried. It goes up and down on its
way; Playground's CartpoleSwingup took 4M decisions to 842. An env step is a decision: 4 control steps of 10 ms. 21
minutes on 2 CPU cores that others kept busy: it had about a fifth of one.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 300_000
    config.env = {"suite": "dm_control", "name": "cartpole-swingup", "action_repeat": 4}
    config.network = {"hidden_sizes": (64, 64), "initializer": "orthogonal", "initial_std": 0.6}
    config.ppo = {
        "num_envs": 16,
        "unroll_length": 128,
        "segment_length": 1,
        "num_minibatches": 8,
        "learning_rate": 1e-3,
        "learning_rate_schedule": "linear",
        "bound_cost": 0.1,
    }
    config.eval = {"episodes": 16}
    return config
