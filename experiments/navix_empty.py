"""Navix's Empty-8x8: from one corner of a room to the other, all of the room in sight.

    python -m jaxrl.train --config=experiments/navix_empty.py

Result: mean deterministic return over 128 full episodes 1 of 1 at every evaluation from 123,000 env steps to the end,
by the shortest way, 11 steps, on 8 of 8 seeds (0 to 7, on which the rate was chosen: with 1e-3 one evaluation or two
went wrong on four of them, for a single wrong choice on the way is enough). 17 s a run on 2 CPU cores, 30 s with
nothing compiled before. With entropy_cost 0.01, seed 0 forgot to explore before it had found the goal once.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 200_000
    config.env = {"suite": "navix", "name": "Navix-Empty-8x8-v0"}
    config.network = {
        "encoder": "flatten",
        "hidden_sizes": (64, 64),
        "activation": "tanh",
        "initializer": "orthogonal",
    }
    config.ppo = {
        "num_envs": 32,
        "unroll_length": 64,
        "segment_length": 1,
        "learning_rate": 5e-4,
        "learning_rate_schedule": "linear",
        "entropy_cost": 0.03,
        "max_gradient_norm": 0.5,
        "normalize_obs": False,
    }
    return config
