"""Brax's inverted double pendulum on the spring backend."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 1_000_000
    config.env = {"name": "inverted_double_pendulum"}
    config.network = {"shared": True, "initializer": "orthogonal"}
    config.ppo = {
        "num_envs": 64,
        "unroll_length": 32,
        "learning_rate": 5e-4,
        "learning_rate_schedule": "linear",
        # Once the pole stands, the only way to fall is to let the cart drift to its rail, hundreds of steps later. What
        # keeps the policy from forgetting it: credit over longer stretches, and noise that goes on visiting the rail.
        "lambda_": 0.98,
        "entropy_cost": 0.01,
        # Keeps the mean where the action is not clipped. Beyond, noise smooths what acts in training but nothing
        # smooths the deterministic policy, which then oscillates.
        "bound_cost": 0.1,
    }
    return config
