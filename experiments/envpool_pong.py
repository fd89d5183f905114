"""Atari Pong, simulated by EnvPool on the host.

    python -m jaxrl.train --config=experiments/envpool_pong.py

Result: mean deterministic return over 8 full games -21.0 after 240,000 env steps, -17.2 after 479,000, -10.1 after
1.44M, -16.8 after 1.68M and -8.5 ± 9.7 after 2.16M; mean training return -20.1 at first and -9.1 around 2.3M, where the
run was ended, still rising. Seed 0. Far from the 18 that is played well: smaller images and a small network, for 2 CPU
cores that others kept busy. An env step is a decision, 4 frames of Atari: 2.5M are 10M frames. The curve is in
docs/pictures/pong.png.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 2_500_000
    config.env = {
        "suite": "envpool",
        "name": "Pong-v5",
        # Half as wide and high as is usual: as much is seen for a quarter of the work.
        "options": ("img_height=42", "img_width=42"),
    }
    config.network = {
        "cnn_filters": (16, 32),
        "cnn_kernels": (6, 4),
        "cnn_strides": (3, 2),
        "hidden_sizes": (128,),
        "shared": True,
        "activation": "relu",
        "initializer": "orthogonal",
    }
    config.ppo = {
        "num_envs": 16,
        "unroll_length": 128,
        "segment_length": 1,
        "learning_rate": 7e-4,
        "learning_rate_schedule": "linear",
        "entropy_cost": 0.01,
        "value_cost": 0.5,
        "max_gradient_norm": 0.5,
        "normalize_obs": False,
    }
    config.eval = {"episodes": 8, "interval": 250_000}
    return config
