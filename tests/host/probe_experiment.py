"""A run of seconds, for the tests of the loop: 40 iterations of 64 steps, an epoch of two, a save every eight."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 2560
    config.epoch_iterations = 2
    config.writers = ("jsonl", "csv")
    config.env = {"suite": "probe", "name": "fuse"}
    config.network = {"hidden_sizes": (8,)}
    config.ppo = {"num_envs": 16, "unroll_length": 4, "num_minibatches": 2, "learning_rate_schedule": "linear"}
    config.eval = {"episodes": 8, "interval": 256}
    config.checkpoint = {"interval": 512}
    return config
