"""jaxrl against TorchRL 0.14.1's GAE and ClipPPOLoss, whose answers stand in torchrl.npz; make_torchrl.py wrote it.

Letters in shapes: T steps, N environments, B rows, P passes, L minibatches of a pass.
"""

import functools
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrl
from jaxrl.algorithms.ppo import agent, learning, parts, terms
from jaxrl.functional import distributions, losses, normalize, returns, values
from jaxrl.types import Box, Network, Rollout, Spec

CLIP = 0.2

with np.load(pathlib.Path(__file__).with_name("torchrl.npz")) as file:
    GOLDEN = dict(file)


def of(group):
    """The golden arrays whose names begin with `group`/, without it."""
    return {key.removeprefix(f"{group}/"): x for key, x in GOLDEN.items() if key.startswith(f"{group}/")}


def assert_same(ours, theirs):
    """Relative error ≤ 1e-5; of numbers that cancel to nearly nothing, relative to the greatest ≤ 1e-6."""
    theirs = np.asarray(theirs)
    ours = np.asarray(ours).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * np.max(np.abs(theirs)))


def unbiased(standardised):
    """TorchRL divides by the deviation over n - 1; jaxrl by that of the rows at hand, over n."""
    return standardised * np.sqrt((standardised.size - 1) / standardised.size)


# Advantages.


def advantages(bootstrap_from):
    """[T, N]; truncated steps are worth V of `bootstrap_from`, an array [T, N]."""
    golden = of("gae")
    value, terminated = jnp.float32(golden["value"]), jnp.asarray(golden["terminated"])
    truncated = jnp.asarray(golden["done"] & ~golden["terminated"])
    last_value = jnp.float32(golden["next_value"])[-1]
    next_value = returns.next_values(value, last_value, bootstrap_from, truncated)
    reward, done = jnp.float32(golden["reward"]), jnp.asarray(golden["done"])
    numbers = {"gamma": golden["gamma"].item(), "lambda_": golden["lambda"].item()}
    return golden, returns.gae(reward, value, next_value, terminated, done, **numbers)


def test_advantages_and_value_targets():
    golden, advantage = advantages(jnp.float32(GOLDEN["gae/next_value"]))
    assert_same(advantage, golden["plain/advantage"])
    assert_same(advantage + jnp.float32(golden["value"]), golden["plain/value_target"])
    assert_same(unbiased(normalize.standardize(advantage)), golden["standardized/advantage"])


def test_advantages_where_the_final_observation_is_lost():
    # `auto_reset_env`: a truncated step is worth V of its own observation, our bootstrap `last_obs`, and rl_games' way.
    golden, advantage = advantages(jnp.float32(GOLDEN["gae/value"]))
    assert_same(advantage, golden["no_final_obs/advantage"])


# Distributions.


def test_gaussians():
    golden = of("normal")
    normal, other = (
        distributions.Normal(jnp.asarray(golden[f"{which}mean"]), jnp.log(golden[f"{which}std"]))
        for which in ("", "other_")
    )
    assert_same(normal.log_prob(golden["sample"]), golden["log_prob"])
    assert_same(normal.entropy(), golden["entropy"])
    assert_same(normal.kl(other), golden["kl"])


def test_log_prob_of_a_squashed_gaussian():
    golden = of("normal")
    tanh_normal = distributions.TanhNormal(jnp.asarray(golden["mean"]), jnp.log(golden["std"]))
    assert_same(tanh_normal.log_prob(jnp.asarray(golden["sample"])), GOLDEN["tanh_normal/log_prob"])


# Losses and their slopes.


def policy_loss(mean, log_std):
    golden = of("loss")
    normal = distributions.Normal(mean, log_std)
    log_ratio = normal.log_prob(golden["action"]) - golden["behaviour_log_prob"]
    return losses.clipped_surrogate(log_ratio, golden["advantage"][:, 0], CLIP)


def test_policy_loss_and_its_slopes():
    golden = of("loss")
    point = jnp.asarray(golden["mean"]), jnp.asarray(golden["log_std"])
    assert_same(policy_loss(*point), golden["objective"])
    slopes = jax.grad(lambda *point: policy_loss(*point).sum(), argnums=(0, 1))(*point)
    assert_same(slopes[0], golden["objective/slope_mean"])
    assert_same(slopes[1], golden["objective/slope_log_std"])
    # The golden advantages and ratios fall on both sides of both corners.
    assert 0.1 < golden["clip_fraction"] < 0.9


def test_entropy_of_the_loss():
    golden = of("loss")
    assert_same(distributions.Normal(golden["mean"], golden["log_std"]).entropy(), golden["entropy"])


@pytest.mark.parametrize(("clip", "suffix"), [(jnp.inf, ""), (CLIP, "_clipped")])
@pytest.mark.parametrize("kind", ["l2", "smooth_l1"])
def test_value_loss_and_its_slope(kind, clip, suffix):
    golden = of("loss")
    error = losses.VALUE_LOSSES[kind]
    # Our l2 has its ½ inside.
    scale = 2.0 if kind == "l2" else 1.0

    def loss(value):
        return scale * values.Point(value).loss(golden["target"], golden["old_value"], clip, error)

    assert_same(loss(jnp.asarray(golden["value"])), golden[f"{kind}{suffix}"])
    slope = jax.grad(lambda value: loss(value).sum())(jnp.asarray(golden["value"]))
    assert_same(slope, golden[f"{kind}{suffix}/slope"])


# Whole updates.


class Case(NamedTuple):
    """A golden update and the options it was made with; and jaxrl told the same, with the same weights."""

    golden: dict
    options: dict
    parts: parts.Parts
    state: parts.State


@functools.cache
def case_of(name):
    golden = of(f"update/{name}")
    options = json.loads(golden["config"].item())
    told = options["loss"]
    overrides = {
        "ppo.num_envs": golden["obs"].shape[1],
        "ppo.unroll_length": golden["obs"].shape[0],
        "ppo.num_minibatches": 1,  # dealt below
        "ppo.gamma": options["gamma"],
        "ppo.lambda_": options["lambda"],
        "ppo.clip": options["clip"],
        "ppo.value_loss": told["loss_critic_type"],
        # Our l2 has its ½ inside.
        "ppo.value_cost": told["critic_coeff"] * (2.0 if told["loss_critic_type"] == "l2" else 1.0),
        "ppo.value_clip": told.get("clip_value", 0.0),
        "ppo.entropy_cost": told.get("entropy_coeff", 0.0),
        "ppo.normalize_obs": False,
        "ppo.normalize_value": False,
        "ppo.normalize_advantage": "no",  # done below, by the unbiased deviation
    }
    spec = Spec(golden["obs"].shape[1], jax.ShapeDtypeStruct(golden["obs"].shape[2:], jnp.float32), Box((2,)), 1)
    algorithm = agent.make(jaxrl.configure({}, overrides), spec)
    nets = Network(
        init=lambda key: params_of(golden),
        carry=lambda num: (),
        apply=lambda params, carry, obs, reset: (*network(params, obs, options["distribution"]), carry),
        value=lambda params, carry, obs, reset: network(params, obs, options["distribution"])[1],
    )
    chosen = algorithm.update.args[0]._replace(network=nets)
    return Case(golden, options, chosen, agent.init(chosen, jax.random.key(0), algorithm.hyper))


def params_of(golden):
    """Parameters by torch's names, as the update begins."""
    return {key.removeprefix("weights/"): jnp.asarray(x) for key, x in golden.items() if key.startswith("weights/")}


KINDS = {"normal": distributions.Normal, "tanh_normal": distributions.TanhNormal}


def network(params, obs, kind):
    """The tutorial's two nets; σ = max(softplus(x + b) + 0.01, 1e-4) of the second half of the policy's outputs x."""

    def mlp(which, x):
        for layer in (0, 2, 4):
            x = x @ params[f"{which}.{layer}.weight"].T + params[f"{which}.{layer}.bias"]
            x = jnp.tanh(x) if layer < 4 else x
        return x

    mean, raw = jnp.split(mlp("policy", obs), 2, axis=-1)
    bias = np.log(np.expm1(1.0 - 0.01))  # σ = 1 at x = 0
    std = jnp.maximum(jax.nn.softplus(raw + bias) + 0.01, 1e-4)
    return KINDS[kind](mean, jnp.log(std)), values.Point(mlp("value", obs)[..., 0])


@functools.partial(jax.jit, static_argnums=0)
def prepare(name, params):
    """What is learned from, with the critic of `params`: a parts.Batch of [1, N·T, ...], rows n·T + t as TorchRL's."""
    case = case_of(name)
    golden = {key: jnp.asarray(x) for key, x in case.golden.items() if x.dtype.kind != "U"}
    behaviour = KINDS[case.options["distribution"]](golden["mean"], jnp.log(golden["std"]))
    value = case.parts.network.value(params, (), golden["obs"], golden["done"]).expectation()
    rollout = Rollout(
        obs=golden["obs"],
        reset=jnp.zeros_like(golden["done"]),
        reward=golden["reward"],
        terminated=golden["terminated"],
        truncated=golden["done"] & ~golden["terminated"],
        valid=jnp.ones_like(golden["done"]),
        memo=parts.Memo(golden["sample"], golden["log_prob"], value, behaviour),
        carry=(),
        final_obs=golden["next_obs"],
        final_carry=(),
        last_obs=golden["next_obs"][-1],
        last_carry=(),
        last_reset=golden["done"][-1],
    )
    _, batch, _ = learning.prepare(case.parts, case.state._replace(params=params), rollout)
    if case.options["average_gae"]:
        batch = batch._replace(advantage=unbiased(normalize.standardize(batch.advantage)))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(1, -1, *x.shape[2:]), batch)


@functools.partial(jax.jit, static_argnums=0)
def step(name, params, optimizer, batch):
    """One step of Adam on the loss of a minibatch [1, B, ...], as ppo's update takes it."""
    case = case_of(name)
    if case.options["loss"].get("normalize_advantage"):
        batch = batch._replace(advantage=unbiased(normalize.standardize(batch.advantage)))
    loss = jax.value_and_grad(terms.joint_loss, argnums=1, has_aux=True)
    (total, _), gradient = loss(case.parts, params, case.state.hyper, batch, ())
    norm = optax.tree.norm(gradient)
    gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, case.options["grad_norm"] / norm), gradient)
    direction, optimizer = case.parts.optimizer.update(gradient, optimizer)
    params = jax.tree.map(lambda p, d: p - case.options["learning_rate"] * d, params, direction)
    return params, optimizer, {"total": total, "gradient_norm": norm}


@functools.cache
def steps_of(name):
    """After each minibatch: parameters, loss and gradient norm."""
    case = case_of(name)
    params, results, batch = case.state.params, [], None
    optimizer = case.parts.optimizer.init(params)
    for hands in case.golden["rows"]:
        if batch is None or case.options["gae_each_pass"]:
            batch = prepare(name, params)
        for hand in hands:
            minibatch = jax.tree.map(lambda x, hand=hand: x[:, hand], batch)
            params, optimizer, numbers = step(name, params, optimizer, minibatch)
            results.append({"params": params} | numbers)
    return results


@pytest.mark.parametrize("name", ["tutorial", "normal"])
def test_the_network_says_the_same(name):
    golden, options = case_of(name)[:2]
    distribution, _ = network(params_of(golden), golden["obs"], options["distribution"])
    assert_same(distribution.mean, golden["mean"])
    assert_same(jnp.exp(distribution.log_std), golden["std"])
    # TorchRL takes the sample back out of the squashed action, jaxrl remembers it.
    np.testing.assert_allclose(distribution.log_prob(golden["sample"]), golden["log_prob"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["tutorial", "normal"])
def test_every_minibatch_has_the_same_loss_and_gradient_norm(name):
    theirs = of(f"update/{name}/minibatches")
    np.testing.assert_allclose([x["total"] for x in steps_of(name)], theirs["total"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose([x["gradient_norm"] for x in steps_of(name)], theirs["gradient_norm"], rtol=1e-5)


@pytest.mark.parametrize("name", ["tutorial", "normal"])
def test_weights_after_every_minibatch_are_the_same(name):
    theirs = of(f"update/{name}/minibatches/weights")
    for visit, result in enumerate(steps_of(name)):
        for key, x in theirs.items():
            np.testing.assert_allclose(result["params"][key], x[visit], rtol=1e-5, atol=1e-5)
    before = of(f"update/{name}/weights")
    assert all(np.max(np.abs(theirs[key][-1] - before[key])) > 1e-3 for key in before)
