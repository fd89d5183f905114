"""Brax's inverted double pendulum on the spring backend.

    python -m jaxrl.train --config=experiments/inverted_double_pendulum.py

Result: mean deterministic return over 128 full episodes at least 9,327 at every one of the 15 evaluations from 300,000
env steps to the end, on seeds 0 to 9. Seeds 0 to 4 also served to tune it; the rate is 0 from 300,000 on. 24 to 30 s a
run on 2 CPU cores, 48 s with nothing compiled before.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 1_000_000
    config.env = {"name": "inverted_double_pendulum"}
    config.network = {"shared": True, "initializer": "orthogonal"}
    config.ppo = {
        "num_envs": 64,
        "unroll_length": 32,
        "learning_rate": 7e-4,
        # The pole stands after 150,000 steps. A rate that stays high then follows noise, until the policy forgets to
        # keep the cart off the end of its rail; so it comes to 0 early, and slowly: after a straight line, one seed of
        # 13 was left with a bad last step.
        "learning_rate_schedule": "cosine",
        "learning_rate_share": 0.3,
        # The cart drifts to that end over hundreds of steps: the horizon must see it.
        "gamma": 0.995,
        "lambda_": 0.98,
        # Keeps the mean where the action is not clipped. Beyond, noise smooths what acts in training but nothing
        # smooths the deterministic policy, which then oscillates.
        "bound_cost": 0.1,
    }
    return config
