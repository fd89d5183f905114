"""Six iterations of 16 minibatches each, a row and a checkpoint after every one, for tests of several processes."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 1536
    config.epoch_iterations = 1
    config.writers = ("jsonl", "csv")
    config.env = {"suite": "probe", "name": "target"}
    config.network = {"hidden_sizes": (8,)}
    config.ppo = {"num_envs": 64, "unroll_length": 4, "num_minibatches": 16, "update_epochs": 1, "learning_rate": 1e-3}
    config.eval = {"episodes": 8, "interval": 512}
    config.checkpoint = {"interval": 256, "keep_latest": 10}
    return config
