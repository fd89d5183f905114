"""Brax's ant on the spring backend with rl_games' recipe for it (its configs/brax/ppo_ant.yaml, v1.6.5).

    python -m jaxrl.train --config=experiments/ant.py

Result: mean deterministic return over 128 episodes after 6.55M env steps 9,645 / 7,913 / 6,945 on seeds 0, 1, 2, as
two devices of a CPU (7,079 / 7,329 / 6,970 as one: the same program in another order of sums); at least 6,000 from
3.9M / 5.2M / 4.6M steps on. Mean training return at the end 6,561 / 4,780 / 5,221. 7 to 8 minutes a run on 2 CPU cores,
tests beside it. With rl_games' one minibatch seed 0 came to 5,560, as one device.

    python -m jaxrl.train --config=experiments/ant.py:fast

The same with a quarter of the environments, so four times the updates: the way to a return where few environments keep
the machine busy, as on a CPU. Result: at least 3,000 from 0.98M env steps on and 5,000 from 1.31M / 1.31M / 1.97M on
(seeds 0, 1, 2; looked at every 0.33M), which took 1.5 and 2 to 3 minutes of training; :fast was not run further.
"""

from ml_collections import ConfigDict

from jaxrl.types import ConfigError


def get_config(arg: str = "") -> ConfigDict:
    if arg not in ("", "fast"):
        raise ConfigError(f"--config=experiments/ant.py:{arg} does not exist; leave out :{arg}, or write :fast")
    config = ConfigDict()
    config.total_env_steps = 6_553_600
    config.env = {"name": "ant"}
    config.network = {"shared": True, "policy_gain": 1.0}
    config.ppo = {
        "num_envs": 1024 if arg == "fast" else 4096,
        "unroll_length": 8,
        # rl_games makes one minibatch of the whole rollout; four, of single steps, learn a fifth more from the same.
        "segment_length": 1,
        "update_epochs": 5,
        "learning_rate_schedule": "adaptive_kl",
        # rl_games has 0.008, but measures each pass against the one before; this is against the policy that acted.
        "target_kl": 0.024,
        "surrogate": "smooth_clip",
        "value_cost": 2.0,
        "bound_cost": 0.1,  # rl_games has 1e-4; this keeps the means where actions are not clipped
        "obs_clip": 5.0,
    }
    config.eval = {"interval": 655_360}
    return config
