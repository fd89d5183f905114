"""VMAS's navigation: three agents that see one another by lidar each go to a goal of its own; through the torch bridge.

    python -m jaxrl.train --config=experiments/vmas_navigation.py

Result: mean deterministic return of an agent over 100 full episodes between 2.9 and 3.1 at all twelve evaluations from
384,000 agent steps to the end, over seeds 0 and 1; at the end 3.12 and 2.90. 61 s on 2 CPU cores. Agents that act at
random reach -0.41 ± 0.06. The reward is shared: by how much all three come nearer to their goals, less their
collisions. Two points of the square that they begin in are 1.04 apart on average, so 3.1 is about all there is.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.total_env_steps = 2_000_000  # of agents
    config.env = {
        "suite": "torch_bridge",
        "name": "vmas.make_env",
        "options": ("scenario=navigation", "n_agents=3", "max_steps=100"),
    }
    config.network = {"hidden_sizes": (64, 64)}
    config.ppo = {
        "num_envs": 256,
        "unroll_length": 50,
        "update_epochs": 5,
        "learning_rate": 1e-3,
        "learning_rate_schedule": "linear",
        "gamma": 0.95,
    }
    config.eval = {"episodes": 100, "interval": 400_000}
    return config
