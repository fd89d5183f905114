"""jaxrl's functions against rl_games 1.6.5's own, whose answers stand in rl_games.npz; make_rl_games.py wrote it.

Where the two differ on purpose, the test says so and bridges the difference; docs/rl_games.md lists all of them.

Letters in shapes: T steps, N environments, B rows.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.functional import distributions, losses, normalize, returns, rewards, schedules, values
from jaxrl.networks import torsos

CLIP = 0.2

with np.load(pathlib.Path(__file__).with_name("rl_games.npz")) as file:
    GOLDEN = dict(file)


def of(group):
    """The golden arrays whose names begin with `group`/, without it."""
    return {key.removeprefix(f"{group}/"): x for key, x in GOLDEN.items() if key.startswith(f"{group}/")}


def assert_same(ours, theirs, scale=None):
    """Relative error ≤ 1e-5; of numbers that cancel to nearly nothing, relative to the greatest (or `scale`) ≤ 1e-6."""
    theirs = np.asarray(theirs)
    scale = np.max(np.abs(theirs)) if scale is None else scale
    np.testing.assert_allclose(np.asarray(ours).reshape(theirs.shape), theirs, rtol=1e-5, atol=1e-6 * scale)


# Losses.


@pytest.mark.parametrize(("ours", "theirs"), [("clip", "clip"), ("smooth_clip", "smooth_clamp")])
def test_actor_loss(ours, theirs):
    golden = of("actor")
    log_ratio = jnp.asarray(golden["old_neglogp"] - golden["neglogp"])
    assert_same(losses.SURROGATES[ours](log_ratio, golden["advantage"], CLIP), golden[theirs])


@pytest.mark.parametrize(("clip", "theirs"), [(jnp.inf, "plain"), (CLIP, "clipped")])
def test_critic_loss(clip, theirs):
    golden = of("critic")
    loss = values.Point(golden["value"]).loss(golden["target"], golden["old_value"], clip, losses.l2)
    # Our l2 has its ½ inside; rl_games multiplies it in with the coefficient.
    assert_same(2 * loss, golden[theirs])


@pytest.mark.parametrize("kind", ["bound", "regularisation"])
def test_bound_loss(kind):
    golden = of("bound")
    assert_same(losses.BOUND_LOSSES[kind](golden["mean"]), golden[kind])


def test_standardised_advantage():
    golden = of("advantage")
    n = golden["raw"].size
    # rl_games divides by the unbiased deviation, over n - 1; jaxrl by that of the rows at hand, over n.
    ours = normalize.standardize(jnp.asarray(golden["raw"])) * np.sqrt((n - 1) / n)
    assert_same(ours, golden["normalized"])


# Distributions.


def normals():
    golden = of("normal")
    normal = distributions.Normal(jnp.asarray(golden["mean"]), jnp.asarray(golden["log_std"]))
    other = distributions.Normal(jnp.asarray(golden["other_mean"]), jnp.asarray(golden["other_log_std"]))
    return golden, normal, other


def test_neglogp_and_entropy_of_a_gaussian():
    golden, normal, _ = normals()
    assert_same(-normal.log_prob(golden["sample"]), golden["neglogp"])
    assert_same(normal.entropy(), golden["entropy"])


def test_kl_of_gaussians_is_the_exact_one():
    golden, normal, other = normals()
    assert_same(normal.kl(other), golden["exact_kl"])


def policy_kl(new, old):
    """rl_games' own KL(new ‖ old), with its epsilons: log(σo/σn + 1e-5) and 2 (σo² + 1e-5)."""
    new_std, old_std = jnp.exp(new.log_std), jnp.exp(old.log_std)
    spread = jnp.square(new_std) + jnp.square(old.mean - new.mean)
    terms = jnp.log(old_std / new_std + 1e-5) + spread / (2 * (jnp.square(old_std) + 1e-5)) - 0.5
    return jnp.sum(terms, axis=-1)


def test_kl_that_rl_games_schedules_by_is_off_by_its_epsilons():
    golden, normal, other = normals()
    # 1 is the size of the terms that cancel for like policies.
    assert_same(policy_kl(normal, other), golden["policy_kl"], scale=1.0)
    # The last rows are of a policy and itself, 0 nats. The epsilons make Σ (1e-5 - 5e-6 / σ²) of it, to first order.
    assert np.all(normal.kl(other)[-8:] == 0)
    bias = np.sum(1e-5 - 5e-6 * np.exp(-2.0 * golden["log_std"][-8:]), axis=-1)
    np.testing.assert_allclose(golden["policy_kl"][-8:], bias, rtol=1e-2)
    assert bias.min() < -1e-3


def test_log_prob_of_a_squashed_gaussian():
    golden = of("tanh")
    tanh_normal = distributions.TanhNormal(jnp.asarray(golden["mean"]), jnp.log(jnp.float32(golden["std"])))
    assert_same(tanh_normal.log_prob(jnp.asarray(golden["sample"])), golden["log_prob"])


@pytest.mark.parametrize("masked", ["", "masked_"])
def test_categorical(masked):
    golden = of("categorical")
    allowed = golden["mask"] if masked else np.ones_like(golden["mask"])
    ours, other = (
        distributions.Categorical(distributions.mask(jnp.asarray(golden[key]), allowed))
        for key in ("logits", "other_logits")
    )
    assert_same(-ours.log_prob(jnp.int32(golden[f"{masked}action"])), golden[f"{masked}neglogp"])
    assert_same(ours.entropy(), golden[f"{masked}entropy"])
    assert_same(ours.kl(other), golden[f"{masked}kl"])


@pytest.mark.parametrize("kind", ["plain", "masked"])
def test_multi_discrete(kind):
    golden = of(f"multi/{kind}")
    cuts = np.cumsum(golden["sizes"])[:-1]
    allowed = np.split(golden["mask"], cuts, axis=-1)

    def multi(logits):
        parts = zip(np.split(logits, cuts, axis=-1), allowed, strict=True)
        return distributions.MultiCategorical(
            tuple(distributions.Categorical(distributions.mask(jnp.asarray(part), mask)) for part, mask in parts)
        )

    ours = multi(golden["logits"])
    assert_same(-ours.log_prob(jnp.int32(golden["action"])), golden["neglogp"])
    assert_same(ours.entropy(), golden["entropy"])
    assert_same(ours.kl(multi(golden["other_logits"])), golden["kl"])


# Advantages and rewards.


@pytest.mark.parametrize("heads", ["one", "two"])
def test_advantages(heads):
    golden = of(f"gae/{heads}")
    reward, value, last_value = (jnp.squeeze(jnp.asarray(golden[x])) for x in ("reward", "value", "last_value"))
    # rl_games keeps "step t is the first of its episode"; that of t + 1 is our "step t was the last".
    done = golden["first"][1:].reshape(*golden["first"][1:].shape, *(1,) * (value.ndim - 2))
    done = jnp.broadcast_to(done, value.shape)
    next_value = jnp.concatenate([value[1:], last_value[None]])
    ours = returns.gae(
        reward, value, next_value, done, done, gamma=GOLDEN["gae/gamma"].item(), lambda_=GOLDEN["gae/lambda"].item()
    )
    assert_same(ours, golden["advantage"])


@pytest.mark.parametrize("kind", ["scaled", "clipped", "log"])
def test_reward_shaper(kind):
    golden = of(f"reward/{kind}")
    options = json.loads(golden["options"].item())
    ours = rewards.shape(
        jnp.asarray(GOLDEN["reward/raw"]),
        shift=options["shift_value"],
        scale=options["scale_value"],
        bounds=(options.get("min_val", -jnp.inf), options.get("max_val", jnp.inf)),
        log=options.get("log_val", False),
    )
    assert_same(ours, golden["shaped"])


# Normalisers.


def one_sample_seen(sample):
    """Moments as rl_games begins with them: mean 0 and variance 1 count as one sample; jaxrl's count as none."""
    return normalize.init(sample)._replace(count=(jnp.ones(()), jnp.zeros(())))


@pytest.mark.parametrize("kind", ["value", "obs"])
def test_running_moments_of_a_stream_of_batches(kind):
    golden = of(f"moments/{kind}")
    moments = one_sample_seen(jax.ShapeDtypeStruct(golden["mean"].shape[1:], jnp.float32))
    for number, batch in enumerate(golden["batches"]):
        moments = normalize.update(moments, jnp.asarray(batch))
        assert_same(moments.count[0], golden["count"][number])
        assert_same(moments.mean[0], golden["mean"][number], scale=np.sqrt(golden["variance"][number].max()))
        assert_same(moments.variance[0], golden["variance"][number], scale=0)
        # rl_games clips what it normalises at ±5; in jaxrl that is `obs_clip`, and values are not clipped.
        assert_same(normalize.normalize(moments, jnp.asarray(batch), clip=5.0), golden["normalized"][number])
    within = np.clip(golden["normal"], -5, 5)  # rl_games clips before it denormalises, too
    assert_same(normalize.denormalize(moments, jnp.asarray(within)), golden["denormalized"])


def test_moments_of_a_stream_are_those_of_all_its_samples():
    # Without the sample that rl_games begins with, the running moments are the plain ones of all the numbers seen.
    batches = GOLDEN["moments/obs/batches"]
    moments = normalize.init(jax.ShapeDtypeStruct((5,), jnp.float32))
    for batch in batches:
        moments = normalize.update(moments, jnp.asarray(batch))
    rows = np.float64(batches).reshape(-1, 5)
    assert_same(moments.mean[0], rows.mean(0))
    assert_same(moments.variance[0], rows.var(0))


# Schedules.


@pytest.mark.parametrize("kind", ["adaptive", "tie"])
def test_adaptive_kl_decides_alike(kind):
    golden = of(kind)
    target = jnp.float32(golden["target_kl"])

    def decide(rate, kl):
        rate = schedules.adaptive_kl(rate, kl, target)
        return rate, rate

    _, rates = jax.lax.scan(decide, jnp.float32(3e-4), golden["kl"])
    assert_same(rates, golden["learning_rate"], scale=0)


def test_recorded_decisions_meet_both_bounds():
    rates = GOLDEN["adaptive/learning_rate"]
    assert rates.max() == 1e-2 and rates.min() == 1e-6
    assert set(np.sign(np.diff(rates))) == {-1, 0, 1}


def test_linear_schedules():
    golden = of("linear")
    progress = jnp.arange(60) / 50
    # rl_games ends at min_lr = 1e-6 and an entropy coefficient of 1e-4; jaxrl at 0.
    assert_same(1e-6 + (1e-3 - 1e-6) * schedules.linear(progress), golden["learning_rate"], scale=0)
    assert_same(1e-4 + (0.02 - 1e-4) * schedules.linear(progress), golden["entropy_coef"], scale=0)


# Networks.


@pytest.mark.parametrize("name", list(torsos.ACTIVATIONS))
def test_activations(name):
    golden = of("activation")
    error = 1e-6
    theirs = golden["swish" if name == "silu" else name]
    np.testing.assert_allclose(torsos.ACTIVATIONS[name](golden["x"]), theirs, rtol=1e-5, atol=error)
