"""gymnax's CartPole-v1.

    python -m jaxrl.train --config=experiments/cartpole.py

Result: mean deterministic return over 128 full episodes 500 of 500 at every evaluation from 41,000 env steps to the
end, on 5 of 5 seeds (0 to 4, which also served to choose the numbers); on seeds 15 to 29, which did not, at every
evaluation from 58,000. 9 s a run on 2 CPU cores, 23 s with nothing compiled before.
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
        "learning_rate_share": 0.5,
        # The cart leaves its track hundreds of steps after the mistake: the horizon must see it.
        "gamma": 0.995,
        "lambda_": 0.98,
        "entropy_cost": 0.01,
        "max_gradient_norm": 0.5,
        # A pole that stands makes all observations small. Normalised by what they are then, they grow, and the policy
        # changes and forgets, even where the rate is 0.
        "normalize_obs": False,
    }
    return config
