"""gymnax's Breakout-MinAtar with a small CNN.

    python -m jaxrl.train --config=experiments/minatar_breakout.py

Result: mean deterministic return over 128 full episodes of at most 1,000 steps 94.8 after 10M env steps, seed 0, and 91
after 3M; mean training return 92 at the end. PureJaxRL's own agent (its ppo.py with the numbers of its
examples/brax_minatar.ipynb, run beside it) came to a training return of 39 and 29 (seeds 0 and 1). The numbers are the
same but for the network, which there is an MLP; the convolution is that of MinAtar's own agents (Young & Tian 2019,
https://arxiv.org/abs/1903.03176). 18,000 env steps/s on 2 idle CPU cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 10_000_000
    config.env = {"suite": "gymnax", "name": "Breakout-MinAtar"}
    config.network = {
        "encoder": "cnn",
        "cnn_filters": (16,),
        "cnn_kernels": (3,),
        "cnn_strides": (1,),
        "hidden_sizes": (128,),
        "shared": True,
        "activation": "relu",
        "initializer": "orthogonal",
    }
    config.ppo = {
        "num_envs": 64,
        "unroll_length": 128,
        "segment_length": 1,
        "num_minibatches": 8,
        # At 1e-3 it settles for 7, the bricks that are hit from the first positions.
        "learning_rate": 5e-3,
        "learning_rate_schedule": "linear",
        "entropy_cost": 0.01,
        "value_cost": 0.5,
        "max_gradient_norm": 0.5,
        "normalize_obs": False,
    }
    return config
