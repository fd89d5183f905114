"""Writes torchrl.npz: what TorchRL's GAE and ClipPPOLoss answer to fixed inputs, inputs beside answers.

    python tests/parity/make_torchrl.py

in an environment with torchrl 0.14.1, tensordict 0.14.3, PyTorch 2.13 (CPU) and NumPy 2.4, with which the file at hand
was made. Neither the tests nor jaxrl need any of them: test_torchrl.py reads the file with NumPy alone.

Functions of numbers are given the float32 inputs as float64, so that their answers have no rounding of their own; whole
updates run in float32.

Letters in shapes: T steps, N environments, B rows, P passes, L minibatches of a pass.
"""

import json
import pathlib

import numpy as np
import tensordict
import torch
import torchrl
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential
from tensordict.nn import TensorDictModule as Module
from torch import nn
from torchrl.modules import IndependentNormal, TanhNormal
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

FILE = pathlib.Path(__file__).with_name("torchrl.npz")
CLIP = 0.2
DISTRIBUTIONS = {"normal": IndependentNormal, "tanh_normal": TanhNormal}
NUM_ENVS, STEPS, OBS_SIZE, ACTION_SIZE = 6, 12, 5, 2  # of the whole updates


def main() -> None:
    """Asks everything and writes the file."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    versions = f"torchrl {torchrl.__version__}, tensordict {tensordict.__version__}, torch {torch.__version__}"
    golden = {"versions": np.array(versions)}
    for seed, section in enumerate((advantages, distributions, losses)):
        golden |= section(np.random.default_rng(seed))
    for seed, name in enumerate(CONFIGS):
        update = whole_update(CONFIGS[name], np.random.default_rng(100 + seed))
        golden |= {f"update/{name}/{key}": value for key, value in update.items()}
    golden = {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in golden.items()}
    np.savez_compressed(FILE, **golden)
    print(f"{FILE}: {len(golden)} arrays, {FILE.stat().st_size} bytes")


# Functions of numbers.


def advantages(rng) -> dict:
    """Advantages and value targets [T, N]: GAE as it is, standardised, and with V(s) in place of V(final_obs)."""
    data = rollout(rng, 24, 8, np.float64)
    golden = {f"gae/{key}": golden_of(data, key) for key in ("reward", "terminated", "done")}
    value_net = Module(nn.Linear(OBS_SIZE, 1).double(), in_keys=["obs"], out_keys=["state_value"])
    with torch.no_grad():
        value_net.module.weight.copy_(f64(rng.normal(0, 0.5, (1, OBS_SIZE))))
    options = {"plain": {}, "standardized": {"average_gae": True}, "no_final_obs": {"auto_reset_env": True}}
    for name, option in options.items():
        answer = GAE(gamma=0.98, lmbda=0.9, value_network=value_net, **option)(data.clone())
        golden |= {f"gae/{name}/{key}": steps_first(answer[key]) for key in ("advantage", "value_target")}
    golden |= {
        "gae/value": steps_first(answer["state_value"]),
        "gae/gamma": np.array(0.98),
        "gae/lambda": np.array(0.9),
    }
    return golden | {"gae/next_value": steps_first(answer["next", "state_value"])}


def distributions(rng) -> dict:
    """log_prob [B] and, where there is a closed form, entropy and KL [B] over [B, 3]."""
    mean, other_mean = f32(rng.normal(0, 1, (2, 64, 3)))
    std, other_std = f32(np.exp(rng.uniform(-2, 0.5, (2, 64, 3))))
    sample = f32(mean + std * rng.normal(0, 1, (64, 3)))
    normal, other = (IndependentNormal(f64(m), f64(s)) for m, s in ((mean, std), (other_mean, other_std)))
    return {
        "normal/mean": mean,
        "normal/std": std,
        "normal/other_mean": other_mean,
        "normal/other_std": other_std,
        "normal/sample": sample,
        "normal/log_prob": normal.log_prob(f64(sample)),
        "normal/entropy": normal.entropy(),
        "normal/kl": torch.distributions.kl_divergence(normal, other),
        "tanh_normal/log_prob": TanhNormal(f64(mean), f64(std)).log_prob(f64(sample).tanh()),
    }


def losses(rng) -> dict:
    """Each term of the loss for each row [B], and its gradients by the network's outputs."""
    mean, value = f32(rng.normal(0, 1, (64, 3))), f32(rng.normal(0, 1, (64, 1)))
    log_std, action = f32(rng.uniform(-1, 0.3, (64, 3))), f32(rng.normal(0, 1, (64, 3)))
    advantage, target, old_value = f32(rng.normal(0, 1, (3, 64, 1)))
    log_prob = IndependentNormal(f64(mean), f64(log_std).exp()).log_prob(f64(action)).numpy()
    behaviour = f32(log_prob + rng.normal(0, 0.4, 64))
    inputs = dict(mean=mean, log_std=log_std, value=value, action=action, advantage=advantage)
    inputs |= dict(target=target, old_value=old_value, behaviour_log_prob=behaviour)
    golden = {f"loss/{key}": array for key, array in inputs.items()}
    outputs = Module(
        lambda mean, log_std: (mean, log_std.exp()), in_keys=["mean", "log_std"], out_keys=["loc", "scale"]
    )
    actor = actor_of(outputs, "normal")
    critic = Module(lambda x: x.clone(), in_keys=["value"], out_keys=["state_value"])
    for kind in ("l2", "smooth_l1"):
        for clip_value in (None, CLIP):
            tensors = {key: f64(array).requires_grad_() for key, array in inputs.items()}
            batch = TensorDict(
                {
                    **{key: tensors[key] for key in ("mean", "log_std", "value")},
                    **{key: tensors[key].detach() for key in ("action", "advantage")},
                    "action_log_prob": tensors["behaviour_log_prob"].detach(),
                    "value_target": tensors["target"].detach(),
                    "state_value": tensors["old_value"].detach(),
                },
                batch_size=[64],
            )
            options = dict(clip_epsilon=CLIP, loss_critic_type=kind, clip_value=clip_value, reduction="none")
            loss = ClipPPOLoss(actor, critic, critic_coeff=1.0, entropy_coeff=1.0, **options)
            answer = loss(batch)
            name = f"loss/{kind}{'_clipped' if clip_value else ''}"
            golden[name] = answer["loss_critic"].detach()
            slope = torch.autograd.grad(answer["loss_critic"].sum(), tensors["value"], retain_graph=True)
            golden[f"{name}/slope"] = slope[0]
    policy = torch.autograd.grad(answer["loss_objective"].sum(), [tensors["mean"], tensors["log_std"]])
    return golden | {
        "loss/objective": answer["loss_objective"].detach(),
        "loss/objective/slope_mean": policy[0],
        "loss/objective/slope_log_std": policy[1],
        "loss/entropy": -answer["loss_entropy"].detach(),
        "loss/clip_fraction": answer["clip_fraction"].detach(),
    }


# Whole updates: passes of minibatches over one rollout of made-up numbers, as the TorchRL tutorial makes them.

COMMON = {"gamma": 0.98, "lambda": 0.9, "clip": CLIP, "learning_rate": 3e-3, "grad_norm": 1.0}
COMMON |= {"passes": 3, "minibatches": 3}
CONFIGS = {
    # The tutorial's loss, save the entropy bonus: that of a squashed Gaussian is one sample there.
    "tutorial": COMMON
    | {
        "distribution": "tanh_normal",
        "average_gae": True,
        "gae_each_pass": True,
        "loss": {"loss_critic_type": "smooth_l1", "critic_coeff": 1.0, "entropy_bonus": False},
    },
    "normal": COMMON
    | {
        "distribution": "normal",
        "average_gae": False,
        "gae_each_pass": False,
        "loss": {
            "loss_critic_type": "l2",
            "critic_coeff": 0.5,
            "entropy_coeff": 0.01,
            "clip_value": CLIP,
            "normalize_advantage": True,
        },
    },
}


def whole_update(config, rng) -> dict:
    """Weights before, the rollout, the rows of each minibatch [P, L, B], and every weight after each, leading [P·L].

    Rows are numbered n·T + t.
    """
    policy, value = mlp(2 * ACTION_SIZE, NormalParamExtractor()), mlp(1)
    nets = nn.ModuleDict({"policy": policy, "value": value})
    with torch.no_grad():
        for parameter in nets.parameters():
            scale = 0.2 if parameter.ndim == 1 else parameter.shape[1] ** -0.5
            parameter.copy_(torch.tensor(f32(rng.normal(0, scale, parameter.shape))))
    actor = actor_of(Module(policy, in_keys=["obs"], out_keys=["loc", "scale"]), config["distribution"])
    critic = Module(value, in_keys=["obs"], out_keys=["state_value"])
    data = rollout(rng, STEPS, NUM_ENVS, np.float32)
    golden = {f"weights/{key}": parameter.detach().clone() for key, parameter in nets.named_parameters()}
    golden |= {key: golden_of(data, key) for key in ("reward", "terminated", "done")}
    golden |= {"obs": steps_first(data["obs"]), "next_obs": steps_first(data["next", "obs"])}
    act(actor, data, golden, rng)

    estimate = GAE(
        gamma=config["gamma"], lmbda=config["lambda"], value_network=critic, average_gae=config["average_gae"]
    )
    loss = ClipPPOLoss(actor, critic, clip_epsilon=CLIP, **config["loss"])
    optimizer = torch.optim.Adam(loss.parameters(), config["learning_rate"])
    rows = [rng.permutation(NUM_ENVS * STEPS).reshape(config["minibatches"], -1) for _ in range(config["passes"])]
    answers, first = [], True
    for hands in rows:
        if first or config["gae_each_pass"]:
            with torch.no_grad():
                # Values that are there already would be taken for the critic's.
                estimate(data := data.exclude("state_value", ("next", "state_value")))
            first = False
        for hand in hands:
            terms = loss(data.reshape(-1)[torch.tensor(hand)])
            total = sum(value for key, value in terms.items() if key.startswith("loss_"))
            optimizer.zero_grad()
            total.backward()
            norm = torch.nn.utils.clip_grad_norm_(loss.parameters(), config["grad_norm"])
            optimizer.step()
            numbers = {f"weights/{key}": value for key, value in nets.named_parameters()}
            numbers |= {"total": total, "gradient_norm": norm}
            answers.append({key: value.detach().clone() for key, value in numbers.items()})
    golden |= {"rows": np.stack(rows), "config": np.array(json.dumps(config))}
    return golden | {f"minibatches/{key}": torch.stack([answer[key] for answer in answers]) for key in answers[0]}


def act(actor, data, golden, rng) -> None:
    """Puts actions and log-probabilities into `data` [N, T, ...], and what they were before squashing into `golden`."""
    with torch.no_grad():
        distribution = actor.get_dist(data)
        base = getattr(distribution, "base_dist", distribution)
        base = getattr(base, "base_dist", base)  # out of Independent
        sample = base.loc + base.scale * torch.tensor(f32(rng.normal(0, 1, base.loc.shape)))
        data["action"] = sample.tanh() if isinstance(distribution, TanhNormal) else sample
        data["action_log_prob"] = distribution.log_prob(data["action"])
    golden |= {"sample": steps_first(sample), "log_prob": steps_first(data["action_log_prob"])}
    golden |= {"mean": steps_first(base.loc), "std": steps_first(base.scale)}


def rollout(rng, steps, envs, dtype) -> TensorDict:
    """[N, T] steps of made-up numbers; the next observation is that of the next step, or a last one of its own."""
    obs = f32(rng.normal(0, 1, (envs, steps + 1, OBS_SIZE)))
    done = rng.random((envs, steps, 1)) < 0.2
    terminated = done & (rng.random((envs, steps, 1)) < 0.5)
    final_obs = f32(rng.normal(0, 1, (envs, steps, OBS_SIZE)))
    arrays = {
        "obs": obs[:, :-1].astype(dtype),
        "next": {
            "obs": np.where(done, final_obs, obs[:, 1:]).astype(dtype),
            "reward": f32(rng.normal(0.5, 1, (envs, steps, 1))).astype(dtype),
            "done": done,
            "terminated": terminated,
            "truncated": done & ~terminated,
        },
    }
    return TensorDict(arrays, batch_size=[envs, steps], names=[None, "time"])


def actor_of(module, distribution):
    """An actor over `loc` and `scale`, which `module` writes."""
    head = ProbabilisticTensorDictModule(
        in_keys=["loc", "scale"],
        out_keys=["action"],
        distribution_class=DISTRIBUTIONS[distribution],
        return_log_prob=True,
    )
    return ProbabilisticTensorDictSequential(module, head)


def mlp(out_size, *last):
    """The tutorial's layers, narrower."""
    return nn.Sequential(nn.Linear(OBS_SIZE, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, out_size), *last)


def golden_of(data, key):
    return steps_first(data["next", key])


def steps_first(x) -> torch.Tensor:
    """[N, T, ...] → [T, N, ...], less a last axis of 1."""
    x = x.detach().transpose(0, 1)
    return (x.squeeze(-1) if x.ndim == 3 and x.shape[-1] == 1 else x).contiguous()


def f32(x) -> np.ndarray:
    return np.asarray(x, np.float32)


def f64(x) -> torch.Tensor:
    return torch.tensor(np.asarray(x, np.float64))


if __name__ == "__main__":
    main()
