"""Jumanji's Snake-v1: 12 x 12 cells, 1 for each fruit, over at a wall or the snake's own body; masked actions.

    python -m jaxrl.train --config=experiments/jumanji_snake.py

Result: mean return of the sampled policy over 64 full episodes 14.3 ± 6.1 at the end, 15.1 at best, seed 0; the
same seed with other rounding, of an older version, 16.4 ± 5.8 and 17.9. 306 s on 2 CPU cores, compiling included.
Random allowed actions: 6.15 ± 0.10 (mean of 256 full episodes).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 1_500_000
    config.env = {"suite": "jumanji", "name": "Snake-v1"}
    config.network = {
        "cnn_filters": (16, 16),
        "cnn_kernels": (3, 3),
        "cnn_strides": (1, 2),
        "hidden_sizes": (128,),
        "shared": True,
        "activation": "relu",
        "initializer": "orthogonal",
    }
    config.ppo = {
        "num_envs": 64,
        "unroll_length": 64,
        "segment_length": 1,
        "learning_rate": 1e-3,
        "learning_rate_schedule": "linear",
        "entropy_cost": 0.01,
        "max_gradient_norm": 0.5,
    }
    # The mode of a policy that is still learning goes in circles; what it samples does not.
    config.eval = {"episodes": 64, "deterministic": False}
    return config
