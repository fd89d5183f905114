"""Craftax-Classic from symbols: survive, gather, craft; 1 for each of 22 achievements, 0.1 for each point of health.

    python -m jaxrl.train --config=experiments/craftax_classic.py

Result: mean return of the sampled policy over 64 full episodes 4.44, seed 0, 98 s on 2 CPU cores, compiling
included. Random actions: 1.50 ± 0.11 (mean of 128 full episodes).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 500_000
    config.env = {"suite": "craftax", "name": "Craftax-Classic-Symbolic-v1"}
    config.network = {"hidden_sizes": (128, 128), "activation": "tanh", "initializer": "orthogonal", "shared": True}
    config.ppo = {
        "num_envs": 64,
        "unroll_length": 64,
        "segment_length": 1,
        "num_minibatches": 8,
        "learning_rate": 1e-3,
        "learning_rate_schedule": "linear",
        "entropy_cost": 0.01,
        "max_gradient_norm": 0.5,
        "normalize_obs": False,
    }
    # The mode of a policy that is still learning sleeps, or runs into a wall, until it starves.
    config.eval = {"episodes": 64, "deterministic": False, "interval": 250_000}
    return config
