"""Brax's ant on the spring backend with rl_games' recipe for it (its configs/brax/ppo_ant.yaml, v1.6.5).

    python -m jaxrl.train --config=experiments/ant.py

Result: mean deterministic return over 128 episodes after 6.55M env steps 7,138 / 10,285 / 7,460 on seeds 0, 1, 2, as
two devices of a CPU; at least 6,000 from 4.6M / 3.9M / 3.9M steps on. Mean training return at the end 4,769 / 6,825 /
5,675. 3 minutes a run on 2 CPU cores. Other rounding gives other returns: 9,645 / 7,913 / 6,945 before the physics was
mapped with the environments last, 7,079 / 7,329 / 6,970 then as one device. With rl_games' one minibatch seed 0 came to
5,560, as one device.

    python -m jaxrl.train --config=experiments/ant.py:fast

The same with a quarter of the environments, so four times the updates: the way to a return where few environments keep
the machine busy, as on a CPU. Result after 6.55M env steps 8,511 / 9,422 / 9,467 / 9,010 / 8,601 on seeds 0 to 4, mean
training return 8,091 / 8,797 / 9,104 / 8,217 / 7,660; at least 6,000 from 2.6M steps on (seed 3), or 2.0M (the others).
At the end a few of the 128 episodes get nowhere (-607 at worst), and their standard deviation is 1,888 / 1,761 /
2,459 / 850 / 808; the best evaluations are 8,846 / 9,835 / 10,261 / 9,112 / 9,412. 3,000 takes 21 / 13 / 26 s of
training, 5,000 28 / 32 / 32 s (seeds 0 to 2, `python -m benchmarks returns`). With initial states drawn between epochs
and keys in a row, which are other streams: 8,184 / 9,745 / 8,754 / 8,962 on seeds 0 to 3. The same code with other
rounding, before states were lean: 8,870 / 9,066 / 8,695 / 7,195 on seeds 1 to 4.
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
