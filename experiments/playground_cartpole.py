"""MuJoCo Playground's CartpoleBalance, on MJX's implementation in JAX.

    python -m jaxrl.train --config=experiments/playground_cartpole.py

Result: mean deterministic return over 128 full episodes at least 992 of 1000 at every evaluation from 820,000 env steps
to the end, at least 999.6 at the end, on 3 of 3 seeds (0 to 2, which also served to choose the numbers). An env step is
a decision: 4 control steps of 10 ms. 65 to 112 s a run on 2 CPU cores, compiling included.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 3_000_000
    config.env = {
        "suite": "playground",
        "name": "CartpoleBalance",
        # Two tries with 1, other numbers being different too, came to 603 at best; an untrained policy has 617.
        "action_repeat": 4,
    }
    config.network = {"hidden_sizes": (64, 64), "initializer": "orthogonal", "initial_std": 0.5}
    config.ppo = {
        "num_envs": 256,
        "unroll_length": 32,
        "num_minibatches": 8,
        "learning_rate": 1e-3,
        "learning_rate_schedule": "linear",
        "bound_cost": 0.1,
        # With it, seed 2 came to 992, fell to 758 and ended at 900; seeds 0 and 1 ended at 998.6 and 999.6.
        "normalize_obs": False,
    }
    return config
