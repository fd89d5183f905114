"""gymnax's CartPole-v1.

    python -m jaxrl.train --config=experiments/cartpole.py

Result: not measured yet; a first recipe, after PureJaxRL's (its purejaxrl/ppo.py) with more environments and rate.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 200_000
    config.env = {"suite": "gymnax", "name": "CartPole-v1"}
    config.network = {"hidden_sizes": (64, 64), "activation": "tanh", "initializer": "orthogonal"}
    config.ppo = {
        "num_envs": 16,
        "unroll_length": 64,
        "segment_length": 1,
        "learning_rate": 2e-3,
        "learning_rate_schedule": "linear",
        "entropy_cost": 0.01,
        "max_gradient_norm": 0.5,
    }
    return config
