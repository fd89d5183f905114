"""Brax's humanoid on the spring backend.

    python -m jaxrl.train --config=experiments/humanoid.py

Result: not measured yet; a first recipe, after that of the ant.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 50_000_000
    config.env = {"name": "humanoid"}
    config.network = {"hidden_sizes": (512, 256, 128), "shared": True, "policy_gain": 1.0}
    config.ppo = {
        "update_epochs": 5,
        "learning_rate_schedule": "adaptive_kl",
        "target_kl": 0.024,
        "surrogate": "smooth_clip",
        "value_cost": 2.0,
        "bound_cost": 1e-4,
        "obs_clip": 5.0,
    }
    return config
