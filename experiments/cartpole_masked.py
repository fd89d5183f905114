"""gymnax's CartPole-v1 without its velocities, which an LSTM has to work out.

    python -m jaxrl.train --config=experiments/cartpole_masked.py

Result: not measured yet; a first recipe, after that of CartPole with all shown.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 500_000
    config.env = {"suite": "gymnax", "name": "CartPole-v1", "masked": (1, 3)}
    config.network = {
        "hidden_sizes": (64,),
        "activation": "tanh",
        "initializer": "orthogonal",
        "core": "lstm",
        "core_size": 64,
    }
    config.ppo = {
        "num_envs": 64,
        "unroll_length": 64,
        "segment_length": 16,
        "learning_rate": 2e-3,
        "learning_rate_schedule": "linear",
        "entropy_cost": 0.01,
        "max_gradient_norm": 0.5,
        "gamma": 0.995,
        "lambda_": 0.98,
        "normalize_obs": False,
    }
    return config
