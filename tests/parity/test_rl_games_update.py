"""Whole updates against rl_games 1.6.5's agents: same weights, same rollout, same order of minibatches.

rl_games.npz holds, for four configs, what an agent's `train_epoch` did with a recorded environment; make_rl_games.py
wrote it. Here jaxrl's parts go the same way. What rl_games does otherwise, on purpose or by accident, is done in this
file, with a comment; docs/rl_games.md lists it.

Letters in shapes: T steps, N environments, A action size, O observation size, B minibatches of a pass.
"""

import functools
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.algorithms.ppo import agent, learning, parts, terms
from jaxrl.functional import distributions, normalize, returns, schedules
from jaxrl.types import Box, Discrete, Rollout, Spec

B = 4
CONFIGS = ("plain", "smooth", "normalized", "discrete")

with np.load(pathlib.Path(__file__).with_name("rl_games.npz")) as file:
    GOLDEN = dict(file)


def of(group):
    """The golden arrays whose names begin with `group`/, without it."""
    return {key.removeprefix(f"{group}/"): x for key, x in GOLDEN.items() if key.startswith(f"{group}/")}


def assert_same(ours, theirs):
    """Relative error ≤ 1e-5; of numbers that cancel to nearly nothing, relative to the greatest."""
    theirs = np.asarray(theirs)
    ours = np.asarray(ours).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.max(np.abs(theirs)))


class Case(NamedTuple):
    """A config: what rl_games was told, began with and saw; and jaxrl told the same, with the same weights."""

    told: dict  # rl_games' own keys
    golden: dict
    parts: parts.Parts
    state: parts.State


@functools.cache
def case_of(name):
    golden = of(f"update/{name}")
    told = json.loads(golden["config"].item())
    obs = jax.ShapeDtypeStruct(golden["obs"].shape[2:], jnp.float32)
    mask = jax.ShapeDtypeStruct(golden["mask"].shape[2:], bool)
    if name == "discrete":
        spec = Spec(told["num_actors"], {"obs": obs, "action_mask": mask}, Discrete(4), truncation_interval=1)
    else:
        spec = Spec(told["num_actors"], obs, Box((2,)), truncation_interval=1)
    algorithm = agent.make(jaxrl.configure({}, overrides_of(told)), spec)
    chosen = algorithm.update.args[0]
    state = agent.init(chosen, jax.random.key(0), algorithm.hyper)._replace(params=params_of(golden))
    return Case(told, golden, chosen, state)


def overrides_of(told):
    """jaxrl's keys for rl_games' config, but for the normalisers, whose order of updates is done below."""
    return {
        "network.hidden_sizes": (16, 8),
        "network.shared": True,
        "ppo.num_envs": told["num_actors"],
        "ppo.unroll_length": told["horizon_length"],
        "ppo.num_minibatches": B,
        "ppo.update_epochs": told["mini_epochs"],
        "ppo.shuffle": False,
        "ppo.learning_rate": told["learning_rate"],
        "ppo.learning_rate_schedule": "adaptive_kl",
        "ppo.target_kl": told["kl_threshold"],
        "ppo.kl_reference": "previous",
        "ppo.adapt_interval": "pass" if told.get("schedule_type") == "standard" else "minibatch",
        "ppo.gamma": told["gamma"],
        "ppo.lambda_": told["tau"],
        "ppo.clip": told["e_clip"],
        "ppo.surrogate": "smooth_clip" if told.get("use_smooth_clamp") else "clip",
        "ppo.value_clip": told["e_clip"] if told["clip_value"] else 0.0,
        "ppo.value_cost": told["critic_coef"],
        "ppo.entropy_cost": told["entropy_coef"],
        "ppo.bound_cost": told.get("bounds_loss_coef", 0.0),
        "ppo.bound_loss": told.get("bound_loss_type", "bound"),
        "ppo.max_gradient_norm": told["grad_norm"],
        "ppo.normalize_obs": False,
        "ppo.normalize_value": False,
        "ppo.normalize_advantage": "no",
        "ppo.bootstrap": "last_obs",
    }


LAYERS = {  # rl_games' name -> ours; torch's weights are [out, in], flax's kernels [in, out]
    "actor_mlp.0": ("policy_torso", "Dense_0"),
    "actor_mlp.2": ("policy_torso", "Dense_1"),
    "mu": ("policy_head", "mean"),
    "logits": ("policy_head", "logits"),
    "value": ("value_head", "Dense_0"),
}


def params_of(weights):
    """jaxrl's parameters from rl_games' by name."""
    params = {"policy_torso": {}, "policy_head": {}, "value_head": {}}
    for name, (part, layer) in LAYERS.items():
        if f"weights/a2c_network.{name}.weight" in weights:
            kernel, bias = (weights[f"weights/a2c_network.{name}.{x}"].T for x in ("weight", "bias"))
            params[part][layer] = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    if "weights/a2c_network.sigma" in weights:
        params["policy_head"]["log_std"] = jnp.asarray(weights["weights/a2c_network.sigma"])
    return params


def one_sample_seen(sample):
    """Moments as rl_games begins with them: mean 0 and variance 1 count as one sample; jaxrl's count as none."""
    return normalize.init(sample)._replace(count=(jnp.ones(()), jnp.zeros(())))


def rollout_of(case):
    """The recorded rollout as jaxrl's act and environments would have left it."""
    golden = case.golden
    obs, last_obs = jnp.asarray(golden["obs"][:-1]), jnp.asarray(golden["obs"][-1])
    done = jnp.asarray(golden["done"])
    first = jnp.concatenate([jnp.ones_like(done[:1]), done])
    if "mus" in golden:
        distribution = distributions.Normal(jnp.asarray(golden["mus"]), jnp.log(golden["sigmas"]))
    else:  # rl_games does not keep the logits
        obs = {"obs": obs, "action_mask": jnp.asarray(golden["mask"])}
        last_obs = {"obs": last_obs, "action_mask": obs["action_mask"][-1]}
        distribution, _, _ = case.parts.network.apply(case.state.params, (), obs, first[:-1])
    value = jnp.asarray(golden["value"][..., 0])
    return Rollout(
        obs=obs,
        reset=first[:-1],
        reward=jnp.asarray(golden["reward"]),
        terminated=jnp.asarray(golden["done"] & ~golden["time_out"]),
        truncated=jnp.asarray(golden["time_out"]),
        valid=jnp.ones_like(done),
        memo=parts.Memo(jnp.asarray(golden["action"]), -jnp.asarray(golden["neglogp"]), value, distribution),
        carry=(),
        final_obs=jax.tree.map(jnp.zeros_like, obs),
        final_carry=(),
        last_obs=last_obs,
        last_carry=(),
        last_reset=first[-1],
    )


@functools.cache
def dataset(name):
    """What rl_games' play_steps and prepare_dataset make of the recorded rollout: a parts.Batch, and value moments."""
    case = case_of(name)
    told, golden, rollout = case.told, case.golden, rollout_of(case)
    _, batch, _ = learning.prepare(case.parts, case.state, rollout)
    value, last_value = rollout.memo.value, jnp.asarray(golden["last_value"][..., 0])
    # A time-out is an end that pays γ V(sₜ), of the observation before it.
    reward = rollout.reward + told["gamma"] * jnp.where(rollout.truncated, value, 0.0)
    next_value, done = jnp.concatenate([value[1:], last_value[None]]), jnp.asarray(golden["done"])
    advantage = returns.gae(reward, value, next_value, done, done, gamma=told["gamma"], lambda_=told["tau"])
    target, moments = advantage + value, one_sample_seen(jnp.zeros(()))
    if told["normalize_value"]:
        # The old values count as samples too, and are normalised before the returns have been seen.
        moments = normalize.update(moments, value)
        value = normalize.normalize(moments, value, clip=5.0)
        moments = normalize.update(moments, target)
        target = normalize.normalize(moments, target, clip=5.0)
    if told["normalize_advantage"]:
        # By the unbiased deviation, over n - 1.
        advantage = normalize.standardize(advantage) * np.sqrt((advantage.size - 1) / advantage.size)
    memo = batch.memo._replace(value=value)
    return batch._replace(memo=memo, advantage=advantage, target=target), moments


@functools.cache
def visits(name):
    """What each visit to a minibatch did, in order: a dict by rl_games' names of it."""
    case = case_of(name)
    told = case.told
    batch, _ = dataset(name)
    per_minibatch = name != "discrete" and told.get("schedule_type") != "standard"
    params, rate = case.state.params, case.state.hyper.learning_rate
    optimizer = case.parts.optimizer.init(params)
    moments = one_sample_seen(jax.ShapeDtypeStruct(case.golden["obs"].shape[2:], jnp.float32))
    # The first B blocks of environments, with all their steps, in the same order in each pass.
    size = told["num_actors"] // B
    hands = [jax.tree.map(lambda x, i=i: x[:, i * size : (i + 1) * size], batch) for i in range(B)]
    last, results = [hand.memo.distribution for hand in hands], []
    for visit in range(told["mini_epochs"] * B):
        hand = hands[visit % B]
        if told["normalize_input"]:
            # The observations of a minibatch count anew in each pass, before they are normalised.
            moments = normalize.update(moments, hand.obs)
            hand = hand._replace(obs=normalize.normalize(moments, hand.obs, clip=5.0))
        params, optimizer, distribution, result = step(name, params, optimizer, rate, hand, last[visit % B])
        kl = half_square if name == "discrete" else policy_kl
        result |= {"lr": rate, "kl": kl(distribution, last[visit % B], hand.memo), "weights": params}
        results.append(result | {"moments": moments})
        # From what the policy was on the last visit, which is that of the rollout only in the first pass.
        last[visit % B] = distribution
        if per_minibatch:
            rate = schedules.adaptive_kl(rate, result["kl"], case.state.hyper.target_kl)
        elif visit % B == B - 1:
            mean_kl = np.mean([result["kl"] for result in results[-B:]])
            rate = schedules.adaptive_kl(rate, mean_kl, case.state.hyper.target_kl)
    return results


@functools.partial(jax.jit, static_argnums=0)
def step(name, params, optimizer, rate, minibatch, last):
    """One step of Adam on the loss of a minibatch, as ppo's update takes it."""
    case = case_of(name)
    loss = jax.value_and_grad(terms.joint_loss, argnums=1, has_aux=True)
    (_, (_, distribution, metrics)), gradient = loss(case.parts, params, case.state.hyper, minibatch, last)
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)))
    gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, case.state.hyper.max_gradient_norm / norm), gradient)
    direction, optimizer = case.parts.optimizer.update(gradient, optimizer, params)
    params = jax.tree.map(lambda p, d: p - rate * d, params, direction)
    result = {
        "a_loss": metrics["loss/policy"],
        "c_loss": 2 * metrics["loss/value"],  # ours has its ½ inside
        "entropy": metrics["loss/entropy"],
        "b_loss": metrics.get("loss/bound", 0.0),
    }
    return params, optimizer, distribution, result


def policy_kl(new, old, memo):
    """rl_games' KL(new ‖ old) of Gaussians, with its epsilons."""
    new_std, old_std = jnp.exp(new.log_std), jnp.exp(old.log_std)
    spread = jnp.square(new_std) + jnp.square(old.mean - new.mean)
    terms = jnp.log(old_std / new_std + 1e-5) + spread / (2 * (jnp.square(old_std) + 1e-5)) - 0.5
    return jnp.mean(jnp.sum(terms, axis=-1))


def half_square(new, old, memo):
    """What rl_games takes for the KL of discrete policies."""
    return 0.5 * jnp.mean(jnp.square(memo.log_prob - new.log_prob(memo.sample)))


# The tests.


@pytest.mark.parametrize("name", CONFIGS)
def test_the_network_says_the_same(name):
    case = case_of(name)
    rollout = rollout_of(case)
    if case.told["normalize_input"]:
        # By moments that have seen nothing: √(1 + 1e-5) is all they do.
        rollout = rollout._replace(obs=normalize.normalize(case.state.obs_moments, rollout.obs, clip=5.0))
    distribution, value, _ = case.parts.network.apply(case.state.params, (), rollout.obs, rollout.reset)
    assert_same(-distribution.log_prob(rollout.memo.sample), case.golden["neglogp"])
    if name != "discrete":
        assert_same(distribution.mean, case.golden["mus"])
        assert_same(jnp.exp(distribution.log_std), case.golden["sigmas"])
    if not case.told["normalize_value"]:  # else clipped at ±5 and denormalised
        assert_same(value.expectation(), case.golden["value"])


@pytest.mark.parametrize("name", CONFIGS)
def test_advantages_and_targets_are_the_same(name):
    batch, moments = dataset(name)
    theirs = of(f"update/{name}/dataset")
    rows = lambda x: jnp.swapaxes(x, 0, 1).reshape(-1)  # noqa: E731
    assert_same(rows(batch.advantage), theirs["advantages"])
    assert_same(rows(batch.target), theirs["returns"])
    assert_same(rows(batch.memo.value), theirs["old_values"])
    if case_of(name).told["normalize_value"]:
        theirs = of(f"update/{name}/value_mean_std")
        assert_same(moments.count[0], theirs["count"])
        assert_same(moments.mean[0], theirs["running_mean"])
        assert_same(moments.variance[0], theirs["running_var"])


@pytest.mark.parametrize("name", CONFIGS)
def test_every_minibatch_has_the_same_losses_and_rate(name):
    theirs = of(f"update/{name}/minibatches")
    for key in {"a_loss", "c_loss", "entropy", "b_loss"} & theirs.keys():
        assert_same([result[key] for result in visits(name)], theirs[key])
    np.testing.assert_allclose([result["lr"] for result in visits(name)], theirs["lr"], rtol=1e-5)
    # The first KLs are of like policies and come out of float32 with an error of the digits that cancel.
    np.testing.assert_allclose([result["kl"] for result in visits(name)], theirs["kl"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_after_every_minibatch_are_the_same(name):
    theirs = of(f"update/{name}/minibatches")
    for visit, result in enumerate(visits(name)):
        expected = params_of({key: x[visit] for key, x in theirs.items()})
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), result["weights"], expected)


def test_recorded_updates_move_weights_and_rate():
    for name in CONFIGS:
        before, after = of(f"update/{name}/weights"), of(f"update/{name}/minibatches/weights")
        assert all(np.max(np.abs(after[key][-1] - before[key])) > 1e-3 for key in before)
        assert len(set(GOLDEN[f"update/{name}/minibatches/lr"])) > 1


def test_obs_moments_after_the_update_are_the_same():
    moments = visits("normalized")[-1]["moments"]
    theirs = of("update/normalized/running_mean_std")
    assert_same(moments.count[0], theirs["count"])
    assert_same(moments.mean[0], theirs["running_mean"])
    assert_same(moments.variance[0], theirs["running_var"])


@pytest.mark.parametrize("name", ["plain", "passes"])
def test_ppos_own_update_is_rl_games_without_normalisers(name):
    # What is left of the differences moves no decision here: the KL is exact, and from the reference to the policy at
    # hand, KL(old ‖ new).
    case = case_of(name)
    assert case.parts.groups == 1  # else minibatches were not whole blocks of environments, but some of each group
    update = jax.jit(functools.partial(learning.update, case.parts))
    state, metrics = update(case.state, rollout_of(case), jax.random.key(1))
    theirs = of(f"update/{name}/minibatches")
    expected = params_of({key: x[-1] for key, x in theirs.items()})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state.params, expected)
    np.testing.assert_allclose(state.hyper.learning_rate, case.golden["final_learning_rate"], rtol=1e-5)
    # Of the last pass.
    for ours, other in {"loss/policy": "a_loss", "loss/entropy": "entropy", "loss/bound": "b_loss"}.items():
        assert_same(metrics[ours], theirs[other][-B:].mean())
    assert_same(2 * metrics["loss/value"], theirs["c_loss"][-B:].mean())
    np.testing.assert_allclose(metrics["update/kl"], theirs["kl"][-B:].mean(), rtol=0.1)
