"""Writes rl_games.npz: what rl_games' own functions and agents answer to fixed inputs, inputs beside answers.

    python tests/parity/make_rl_games.py

in an environment with rl_games 1.6.5, PyTorch 2.13 (CPU), gymnasium 1.3 and NumPy 2.4, with which the file at hand was
made. Neither the tests nor jaxrl need any of them: test_rl_games.py reads the file with NumPy alone.

Functions of numbers are given the float32 inputs as float64, so that their answers have no rounding of their own;
normalisers and whole updates run in float32, as they do in training.

Letters in shapes: T steps, N environments, A action size, O observation size, B rows, L minibatches over all passes.
"""

import json
import pathlib
import tempfile
import types

import numpy as np
import torch
from gymnasium import spaces
from rl_games.algos_torch import a2c_continuous, a2c_discrete, models, network_builder, running_mean_std, torch_ext
from rl_games.common import a2c_common, algo_observer, common_losses, divergence, schedulers, tr_helpers

FILE = pathlib.Path(__file__).with_name("rl_games.npz")
CLIP = 0.2
NUM_ENVS, STEPS, OBS_SIZE, ACTION_SIZE = 12, 8, 5, 2  # of the whole updates


def main() -> None:
    """Asks everything and writes the file."""
    torch.set_num_threads(1)
    golden = {"versions": np.array(f"rl_games 1.6.5, torch {torch.__version__}, numpy {np.__version__}")}
    policies = (gaussians, squashed, categoricals, multi_categoricals)
    for seed, section in enumerate((losses, *policies, advantages, normalisers, schedules, rewards, activations)):
        golden |= section(np.random.default_rng(seed))
    for name in CONFIGS:
        golden |= {f"update/{name}/{key}": value for key, value in whole_update(name).items()}
    golden = {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in golden.items()}
    np.savez_compressed(FILE, **golden)
    print(f"{FILE}: {len(golden)} arrays, {FILE.stat().st_size} bytes")


# Functions of numbers.


def losses(rng) -> dict:
    """Actor losses [B], critic losses [B], bound losses [B]; advantage standardisation."""
    old_neglogp, advantage = f32(rng.normal(2, 1, 256)), f32(rng.normal(0, 2, 256))
    neglogp = f32(old_neglogp + rng.normal(0, 0.4, 256))
    # Ratios near the corners of the clip, and far beyond them.
    neglogp[:8] = old_neglogp[:8] - np.log(f32([0.79, 0.81, 1.19, 1.21, 0.01, 50.0, 1.0, 1.0]))
    value, old_value, target = f32(rng.normal(0, 1, (3, 256, 1)))
    mean = f32(rng.normal(0, 1.5, (64, 3)))
    agent = types.SimpleNamespace(bounds_loss_coef=1.0)
    ratio = (f64(old_neglogp), f64(neglogp), f64(advantage), True, CLIP)
    critic = (None, f64(old_value), f64(value), CLIP, f64(target))
    return {
        "actor/old_neglogp": old_neglogp,
        "actor/neglogp": neglogp,
        "actor/advantage": advantage,
        "actor/clip": common_losses.actor_loss(*ratio),
        "actor/smooth_clamp": common_losses.smoothed_actor_loss(*ratio),
        "critic/value": value,
        "critic/old_value": old_value,
        "critic/target": target,
        "critic/plain": common_losses.critic_loss(*critic, False),
        "critic/clipped": common_losses.critic_loss(*critic, True),
        "bound/mean": mean,
        "bound/bound": a2c_continuous.A2CAgent.bound_loss(agent, f64(mean)),
        "bound/regularisation": a2c_continuous.A2CAgent.reg_loss(agent, f64(mean)),
        "advantage/raw": advantage,
        "advantage/normalized": torch_ext.normalization_with_masks(f64(advantage), None),
    }


def gaussians(rng) -> dict:
    """neglogp [B], entropy [B] and both KLs [B] of diagonal Gaussians over [B, 3]; the last 8 pairs are identical."""
    mean, other_mean = f32(rng.normal(0, 1, (2, 64, 3)))
    log_std, other_log_std = f32(rng.uniform(-3, 1, (2, 64, 3)))
    other_mean[-8:], other_log_std[-8:] = mean[-8:], log_std[-8:]
    sample = f32(mean + np.exp(log_std) * rng.normal(0, 1, (64, 3)))
    answer = ask(models.ModelA2CContinuousLogStd, (f64(mean), f64(log_std), None, None), f64(sample))
    std, other_std = f64(log_std).exp(), f64(other_log_std).exp()
    return {
        "normal/mean": mean,
        "normal/log_std": log_std,
        "normal/other_mean": other_mean,
        "normal/other_log_std": other_log_std,
        "normal/sample": sample,
        "normal/neglogp": answer["prev_neglogp"],
        "normal/entropy": answer["entropy"],
        # What the schedule sees, with an epsilon of 1e-5 in two places, and the divergence itself.
        "normal/policy_kl": torch_ext.policy_kl(f64(mean), std, f64(other_mean), other_std, reduce=False),
        "normal/exact_kl": divergence.d_kl_normal((f64(mean), std), (f64(other_mean), other_std)),
    }


def squashed(rng) -> dict:
    """log_prob [B] of tanh(sample), sample [B, 3] before the squashing; std = softplus(raw) + 0.001."""
    mean, raw_std = f32(rng.normal(0, 1, (64, 3))), f32(rng.normal(0, 1, (64, 3)))
    sample = f32(mean + rng.normal(0, 1.5, (64, 3)))
    distribution = models.NormalTanhDistribution(3)
    return {
        "tanh/mean": mean,
        "tanh/std": distribution.create_dist(f64(mean), f64(raw_std)).scale,
        "tanh/sample": sample,
        "tanh/log_prob": distribution.log_prob(f64(mean), f64(raw_std), f64(sample)),
    }


def categoricals(rng) -> dict:
    """neglogp [B], entropy [B] and KL [B] of one choice of 6, with and without masks [B, 6]."""
    logits, other = f32(rng.normal(0, 2, (2, 64, 6)))
    mask = rng.random((64, 6)) < 0.5
    mask[np.arange(64), rng.integers(6, size=64)] = True
    mask[0] = [True, False, False, False, False, False]
    action, masked_action = (
        np.array([rng.choice(np.flatnonzero(row)) for row in rows]) for rows in (mask | True, mask)
    )
    plain = ask(models.ModelA2C, (f64(logits), None, None), torch.tensor(action))
    masked = ask(models.ModelA2C, (f64(logits), None, None), torch.tensor(masked_action), torch.tensor(mask))
    other_plain = ask(models.ModelA2C, (f64(other), None, None), torch.tensor(action))
    other_masked = ask(models.ModelA2C, (f64(other), None, None), torch.tensor(masked_action), torch.tensor(mask))
    return {
        "categorical/logits": logits,
        "categorical/other_logits": other,
        "categorical/mask": mask,
        "categorical/action": action,
        "categorical/neglogp": plain["prev_neglogp"],
        "categorical/entropy": plain["entropy"],
        "categorical/kl": divergence.d_kl_discrete(plain["logits"], other_plain["logits"]),
        "categorical/masked_action": masked_action,
        "categorical/masked_neglogp": masked["prev_neglogp"],
        "categorical/masked_entropy": masked["entropy"],
        "categorical/masked_kl": divergence.d_kl_discrete(masked["logits"], other_masked["logits"]),
    }


def multi_categoricals(rng) -> dict:
    """The same of choices of 4, 2 and 5 without masks, and of three choices of 4 with: 1.6.5 masks equal sizes only."""
    golden = {}
    for name, sizes in {"plain": (4, 2, 5), "masked": (4, 4, 4)}.items():
        logits, other = f32(rng.normal(0, 2, (2, 64, sum(sizes))))
        mask = rng.random((64, sum(sizes))) < 0.5
        starts = np.cumsum((0, *sizes[:-1]))
        for start, size in zip(starts, sizes, strict=True):
            mask[np.arange(64), start + rng.integers(size, size=64)] = True
        mask = mask | (name == "plain")
        pieces = [mask[:, start : start + size] for start, size in zip(starts, sizes, strict=True)]
        action = np.array([[rng.choice(np.flatnonzero(row)) for row in piece] for piece in pieces]).T
        answer, other_answer = (
            ask(
                models.ModelA2CMultiDiscrete,
                (list(torch.split(f64(x), sizes, dim=-1)), None, None),
                torch.tensor(action),
                torch.tensor(mask) if name == "masked" else None,
            )
            for x in (logits, other)
        )
        kl = divergence.d_kl_discrete_list(answer["logits"], other_answer["logits"])
        golden |= {
            f"multi/{name}/sizes": np.array(sizes),
            f"multi/{name}/logits": logits,
            f"multi/{name}/other_logits": other,
            f"multi/{name}/mask": mask,
            f"multi/{name}/action": action,
            f"multi/{name}/neglogp": answer["prev_neglogp"],
            f"multi/{name}/entropy": answer["entropy"],
            f"multi/{name}/kl": kl,
        }
    return golden


def advantages(rng) -> dict:
    """Advantages [T, N] where `dones[t]` says that step t is the first of its episode; one head, and two."""
    steps, envs = 24, 8
    golden = {"gae/gamma": np.array(0.98), "gae/lambda": np.array(0.9)}
    for name, num_heads in {"one": 1, "two": 2}.items():
        reward, value = f32(rng.normal(0, 1, (2, steps, envs, num_heads)))
        last_value = f32(rng.normal(0, 1, (envs, num_heads)))
        first = rng.random((steps + 1, envs)) < 0.15  # of step T too, which is not in the rollout
        agent = types.SimpleNamespace(horizon_length=steps, gamma=0.98, tau=0.9)
        advantage = a2c_common.A2CBase.discount_values(
            agent, f64(first[-1]), f64(last_value), f64(first[:-1]), f64(value), f64(reward)
        )
        answers = {"reward": reward, "value": value, "last_value": last_value, "first": first, "advantage": advantage}
        golden |= {f"gae/{name}/{key}": answer for key, answer in answers.items()}
    return golden


def normalisers(rng) -> dict:
    """Mean, variance and count after each batch [64, ...] of a stream of 12, and what they make of that batch."""
    golden = {}
    for name, size in {"value": 1, "obs": 5}.items():
        offset, scale = rng.normal(0, 3, (12, 1, size)), np.exp(rng.normal(0, 1, (12, 1, size)))
        batches = f32(rng.normal(offset, scale, (12, 64, size)))
        module = torch.jit.script(running_mean_std.RunningMeanStd((size,)))
        answers = []
        for batch in torch.tensor(batches):
            module.train()
            normalized = module(batch)
            answers.append((module.running_mean, module.running_var, module.count, normalized))
        module.eval()
        normal = torch.linspace(-6, 6, 64)[:, None].expand(64, size).contiguous()  # beyond the clamp at ±5
        golden |= {f"moments/{name}/batches": batches, f"moments/{name}/normal": normal}
        golden |= {f"moments/{name}/denormalized": module(normal, denorm=True)}
        for key, answer in zip(("mean", "variance", "count", "normalized"), zip(*answers, strict=True), strict=True):
            golden[f"moments/{name}/{key}"] = torch.stack(answer)
    return golden


def schedules(rng) -> dict:
    """The rate after each decision over a sequence of KLs; the linear rate over epochs."""
    # Runs of small KLs drive the rate to its upper bound, runs of large ones to the lower, then a mixture.
    kl = np.concatenate([np.full(12, 1e-3), np.full(30, 0.1), np.full(30, 1e-4), 0.008 * 2 ** rng.normal(0, 1.5, 128)])
    kl = f32(kl)
    tie = f32(2.0 ** np.array([-6, -6, -8, -8, -7, -5, -9]))  # exactly twice and half of 2⁻⁷: no change
    golden = {
        "adaptive/kl": kl,
        "adaptive/target_kl": np.array(0.008),
        "tie/kl": tie,
        "tie/target_kl": np.array(2.0**-7),
    }
    for name in ("adaptive", "tie"):
        scheduler = schedulers.AdaptiveScheduler(float(golden[f"{name}/target_kl"]))
        rate, rates = 3e-4, []
        for one in golden[f"{name}/kl"]:
            rate, _ = scheduler.update(rate, 0.0, 0, 0, float(one))
            rates.append(rate)
        golden[f"{name}/learning_rate"] = np.array(rates)
    linear = schedulers.LinearScheduler(1e-3, min_lr=1e-6, max_steps=50, apply_to_entropy=True, start_entropy_coef=0.02)
    both = np.array([linear.update(None, None, epoch, 0, None) for epoch in range(60)])
    return golden | {"linear/learning_rate": both[:, 0], "linear/entropy_coef": both[:, 1]}


def rewards(rng) -> dict:
    """Rewards [B] as the shaper passes them on."""
    reward = f32(rng.normal(1, 2, 256))
    shapers = {
        "scaled": dict(scale_value=0.1, shift_value=-0.5),
        "clipped": dict(scale_value=2.0, shift_value=0.3, min_val=-1.0, max_val=2.5),
        "log": dict(scale_value=0.5, shift_value=1.0, min_val=1e-2, max_val=10.0, log_val=True),
    }
    golden = {"reward/raw": reward}
    for name, options in shapers.items():
        golden[f"reward/{name}/options"] = np.array(json.dumps(options))
        golden[f"reward/{name}/shaped"] = tr_helpers.DefaultRewardsShaper(**options)(f64(reward))
    return golden


def activations(rng) -> dict:
    """What each activation makes of [B] numbers."""
    x = f32(np.linspace(-6, 6, 101))
    factory = network_builder.NetworkBuilder.BaseNetwork().activations_factory
    names = ("relu", "tanh", "sigmoid", "elu", "selu", "swish", "gelu", "softplus")
    return {"activation/x": x} | {f"activation/{name}": factory.create(name)(f64(x)) for name in names}


def f32(x) -> np.ndarray:
    return np.asarray(x, np.float32)


def f64(x) -> torch.Tensor:
    return torch.tensor(np.asarray(x, np.float64))


def ask(model, outputs, actions, masks=None) -> dict:
    """The answer in training of an rl_games model whose network says `outputs`."""
    network = model.Network(
        lambda inputs: outputs, obs_shape=(1,), normalize_value=False, normalize_input=False, value_size=1
    )
    return network({"is_train": True, "obs": None, "prev_actions": actions, "action_masks": masks})


# Whole updates: a rollout of an environment that plays back recorded arrays, and all that is learned from it.

COMMON = {
    "name": "parity",
    "env_name": "recorded",
    "device": "cpu",
    "num_actors": NUM_ENVS,
    "horizon_length": STEPS,
    "minibatch_size": NUM_ENVS * STEPS // 4,
    "mini_epochs": 2,
    "gamma": 0.98,
    "tau": 0.9,
    "learning_rate": 1e-3,
    "lr_schedule": "adaptive",
    "kl_threshold": 0.004,
    "e_clip": CLIP,
    "grad_norm": 1.0,
    "truncate_grads": True,
    "mixed_precision": False,
    "normalize_input": False,
    "normalize_value": False,
    "normalize_advantage": True,
    "entropy_coef": 0.01,
    "critic_coef": 2.0,
    "clip_value": False,
}
CONFIGS = {
    "plain": {"normalize_advantage": False, "bounds_loss_coef": 0.01, "learning_rate": 4e-3},
    "passes": {
        "normalize_advantage": False,
        "use_smooth_clamp": True,
        "clip_value": True,
        "bound_loss_type": "regularisation",
        "bounds_loss_coef": 1e-3,
        "schedule_type": "standard",
        "mini_epochs": 3,
        "learning_rate": 2e-3,
    },
    "smooth": {
        "use_smooth_clamp": True,
        "clip_value": True,
        "bound_loss_type": "regularisation",
        "bounds_loss_coef": 1e-3,
        "normalize_value": True,
    },
    "normalized": {
        "use_smooth_clamp": True,
        "clip_value": True,
        "bounds_loss_coef": 1e-3,
        "normalize_input": True,
        "normalize_value": True,
        "schedule_type": "standard",
    },
    "discrete": {"use_action_masks": True, "normalize_value": True, "clip_value": True, "learning_rate": 5e-3},
}
SEEDS = {"plain": 100, "smooth": 101, "normalized": 102, "discrete": 103, "passes": 104}
NETWORK = {
    "name": "actor_critic",
    "separate": False,
    "mlp": {"units": [16, 8], "activation": "elu", "initializer": {"name": "default"}},
    "space": {
        "continuous": {
            "mu_activation": "None",
            "sigma_activation": "None",
            "mu_init": {"name": "default"},
            "sigma_init": {"name": "const_initializer", "val": 0},
            "fixed_sigma": True,
        }
    },
}


class Recorded:
    """A vectorised environment that plays back arrays: obs [T+1, N, O], reward, done and time_out [T, N], masks."""

    def __init__(self, rng):
        self.obs = f32(rng.normal(0.3, 1.2, (STEPS + 1, NUM_ENVS, OBS_SIZE)))
        self.reward = f32(rng.normal(0.5, 1.0, (STEPS, NUM_ENVS)))
        self.done = rng.random((STEPS, NUM_ENVS)) < 0.15
        self.time_out = self.done & (rng.random((STEPS, NUM_ENVS)) < 0.5)
        self.masks = rng.random((STEPS, NUM_ENVS, 4)) < 0.6
        self.masks[..., 0] |= ~self.masks.any(-1)
        self.now = 0

    def reset(self):
        return self.obs[0]

    def step(self, actions):
        now, self.now = self.now, self.now + 1
        return self.obs[now + 1], self.reward[now], self.done[now], {"time_outs": f32(self.time_out[now])}

    def get_action_masks(self):
        return self.masks[self.now]

    def set_train_info(self, frame, agent):
        pass


def whole_update(name) -> dict:
    """One epoch of an rl_games agent: weights before, the rollout, the dataset, and what each minibatch does.

    Per minibatch, leading [L]: lr (with which it steps), kl, a_loss, c_loss, entropy, b_loss, and every weight after.
    """
    rng = np.random.default_rng(SEEDS[name])
    torch.manual_seed(0)
    env = Recorded(rng)
    agent = make_agent(name, env)
    with torch.no_grad():
        for parameter in agent.model.parameters():
            scale = 0.2 if parameter.ndim == 1 else parameter.shape[1] ** -0.5
            parameter.copy_(torch.tensor(f32(rng.normal(0, scale, parameter.shape))))
    golden = {f"weights/{key}": copy(value) for key, value in agent.model.named_parameters()}
    minibatches = record(agent)
    agent.init_tensors()
    agent.obs = agent.env_reset()
    agent.train_epoch()
    buffer = agent.experience_buffer.tensor_dict
    golden |= {
        "config": np.array(json.dumps(COMMON | CONFIGS[name])),
        "obs": env.obs,
        "reward": env.reward,
        "done": env.done,
        "time_out": env.time_out,
        "mask": env.masks,
        "action": copy(buffer["actions"]),
        "neglogp": copy(buffer["neglogpacs"]),
        "value": copy(buffer["values"]),
        "last_value": minibatches.pop("last_value"),
        "final_learning_rate": np.array(agent.last_lr),
    }
    for key in ("mus", "sigmas") if "mus" in buffer else ():
        golden[key] = copy(buffer[key])
    # [N·T] rows, environment after environment, as the minibatches are cut from them.
    for key in ("old_values", "advantages", "returns"):
        golden[f"dataset/{key}"] = copy(agent.dataset.values_dict[key])
    for module in ("running_mean_std", "value_mean_std"):
        if hasattr(agent.model, module):
            golden |= {f"{module}/{key}": copy(value) for key, value in getattr(agent.model, module).named_buffers()}
    check_margins(name, minibatches)
    return golden | {f"minibatches/{key}": np.stack(values) for key, values in minibatches.items()}


def make_agent(name, env):
    """The agent of a config, with its environment in place of one made by name."""
    is_discrete = name == "discrete"
    network = NETWORK if not is_discrete else NETWORK | {"space": {"discrete": {}}}
    config = COMMON | CONFIGS[name]
    config |= {
        "env_info": {
            "observation_space": spaces.Box(-np.inf, np.inf, (OBS_SIZE,), np.float32),
            "action_space": spaces.Discrete(4) if is_discrete else spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32),
        },
        "vec_env": env,
        "reward_shaper": tr_helpers.DefaultRewardsShaper(),
        "features": {"observer": algo_observer.DefaultAlgoObserver()},
        "train_dir": tempfile.mkdtemp(),
    }
    params = {
        "algo": {"name": "a2c_discrete" if is_discrete else "a2c_continuous"},
        "model": {"name": "discrete_a2c" if is_discrete else "continuous_a2c_logstd"},
        "network": network,
        "config": config,
    }
    return (a2c_discrete.DiscreteA2CAgent if is_discrete else a2c_continuous.A2CAgent)("parity", params)


def record(agent) -> dict:
    """Lists that fill as the agent trains."""
    lists = {}
    train, get_values = agent.train_actor_critic, agent.get_values

    def train_and_record(batch):
        rate = agent.optimizer.param_groups[0]["lr"]
        result = train(batch)
        names = ("a_loss", "c_loss", "entropy", "kl")
        numbers = dict(zip(names, result, strict=False)) | ({"b_loss": result[8]} if len(result) > 6 else {})
        numbers |= {f"weights/{key}": value for key, value in agent.model.named_parameters()} | {"lr": np.array(rate)}
        for key, value in numbers.items():
            lists.setdefault(key, []).append(copy(value))
        return result

    def get_values_and_record(obs):
        lists["last_value"] = copy(values := get_values(obs))
        return values

    agent.train_actor_critic, agent.get_values = train_and_record, get_values_and_record
    return lists


def check_margins(name, minibatches) -> None:
    """A KL next to a threshold would make the decision a matter of rounding; choose another seed then."""
    kl = np.array(minibatches["kl"])
    is_per_pass = name == "discrete" or CONFIGS[name].get("schedule_type") == "standard"
    kl = kl.reshape(-1, 4).mean(1) if is_per_pass else kl
    print(name, "kl", kl, "lr", np.array(minibatches["lr"]))
    for threshold in (0.5 * COMMON["kl_threshold"], 2 * COMMON["kl_threshold"]):
        assert np.all(np.abs(kl / threshold - 1) > 0.02), f"{name}: a KL of {kl} lies too near {threshold}"


def copy(x) -> np.ndarray:
    return x.detach().cpu().numpy().copy() if isinstance(x, torch.Tensor) else x


if __name__ == "__main__":
    main()
