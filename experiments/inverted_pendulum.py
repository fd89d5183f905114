"""Brax's inverted pendulum on the spring backend.

    python -m jaxrl.train --config=experiments/inverted_pendulum.py

Result: not measured yet; a first recipe, after that of the double pendulum.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 500_000
    config.env = {"name": "inverted_pendulum"}
    config.network = {"hidden_sizes": (64, 64), "initializer": "orthogonal", "shared": True}
    config.ppo = {
        "num_envs": 64,
        "unroll_length": 32,
        "learning_rate": 5e-4,
        "learning_rate_schedule": "linear",
    }
    return config
