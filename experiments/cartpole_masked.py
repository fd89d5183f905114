"""gymnax's CartPole-v1 without its velocities, which an LSTM has to work out.

    python -m jaxrl.train --config=experiments/cartpole_masked.py

Result: mean deterministic return over 128 full episodes 500 of 500 after 500,000 env steps on 5 of 5 seeds (0 to 4),
and at least 498 at every evaluation from 197,000. Without memory (--config.network.core=none
--config.network.hidden_sizes=64,64) it stays below 46. 49 s a run on 2 CPU cores.
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
