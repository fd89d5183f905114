"""Advantages against the definition of them, written out as sums over episodes.

Letters in shapes: T steps, N environments, K bootstrap slots.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl.functional import returns


@jax.jit
def advantages(data, gamma, lambda_):
    """What PPO makes of a rollout: `gae` of `next_values`."""
    following = returns.next_values(data["value"], data["last_value"], data["final_value"], data["truncated"])
    done = data["terminated"] | data["truncated"]
    return returns.gae(data["reward"], data["value"], following, data["terminated"], done, gamma=gamma, lambda_=lambda_)


def random_data(seed, steps, envs, end=0.3):
    """A rollout that may end, either way, at any step; every step has its own bootstrap slot (K = T)."""
    random = np.random.default_rng(seed)
    normal = lambda *shape: random.normal(size=shape).astype(np.float32)  # noqa: E731
    ending = random.random((steps, envs))
    return {
        "reward": normal(steps, envs),
        "value": normal(steps, envs),
        "last_value": normal(envs),
        "final_value": normal(steps, envs),
        "terminated": ending < end / 2,
        "truncated": (ending >= end / 2) & (ending < end),
    }


def reference(data, gamma, lambda_):
    """Σ_l (γλ)^l δ_{t+l} up to the end of the episode or of the rollout; float64, O(T²)."""
    steps, envs = data["reward"].shape
    data = {name: x if x.dtype == bool else x.astype(np.float64) for name, x in data.items()}
    advantage = np.zeros((steps, envs))
    for n in range(envs):
        for t in range(steps):
            for later in range(t, steps):
                if data["terminated"][later, n]:
                    following = 0.0
                elif data["truncated"][later, n]:
                    following = data["final_value"][later, n]
                else:
                    following = data["value"][later + 1, n] if later + 1 < steps else data["last_value"][n]
                delta = data["reward"][later, n] + gamma * following - data["value"][later, n]
                advantage[t, n] += (gamma * lambda_) ** (later - t) * delta
                if data["terminated"][later, n] or data["truncated"][later, n]:
                    break
    return advantage


unit = st.floats(0.0, 1.0, width=32)


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 20), gamma=unit, lambda_=unit)
def test_gae_is_the_discounted_sum_of_td_errors(seed, steps, gamma, lambda_):
    data = random_data(seed, steps, envs=3)
    actual = advantages(data, jnp.float32(gamma), jnp.float32(lambda_))
    np.testing.assert_allclose(actual, reference(data, gamma, lambda_), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("envs", [1, 2, 17])
def test_gae_of_any_number_of_environments(envs):
    data = random_data(envs, steps=5, envs=envs)
    np.testing.assert_allclose(advantages(data, 0.99, 0.95), reference(data, 0.99, 0.95), rtol=1e-5, atol=2e-5)


def test_an_episode_may_end_either_way_at_every_step():
    steps = 9  # one more than the scan unrolls
    # Environment i < T terminates at step i, environment T + i is cut off at step i, the last one goes on.
    data = random_data(0, steps, envs=2 * steps + 1, end=0.0)
    data["terminated"][np.arange(steps), np.arange(steps)] = True
    data["truncated"][np.arange(steps), steps + np.arange(steps)] = True
    np.testing.assert_allclose(advantages(data, 0.9, 0.8), reference(data, 0.9, 0.8), rtol=1e-5, atol=2e-5)


def test_gae_worked_by_hand():
    # γ = λ = ½, so γλ = ¼; all values 2 but V(final_obs) = 8 and V(last_obs) = 4; all rewards 1.
    #
    #                env 0 terminates at t=1     env 1 is cut off at t=1     env 2 goes on
    #   δ₂           1 + ½·4 - 2 = 1             1                           1
    #   δ₁           1 + 0   - 2 = -1            1 + ½·8 - 2 = 3             1 + ½·2 - 2 = 0
    #   δ₀           1 + ½·2 - 2 = 0             0                           0
    #   A₂           1                           1                           1
    #   A₁           -1                          3                           0 + ¼·1
    #   A₀           0 - ¼                       0 + ¾                       0 + 1/16
    data = {
        "reward": np.full((3, 3), 1.0, np.float32),
        "value": np.full((3, 3), 2.0, np.float32),
        "last_value": np.full(3, 4.0, np.float32),
        "final_value": np.full((1, 3), 8.0, np.float32),
        "terminated": np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]], bool),
        "truncated": np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], bool),
    }
    expected = [[-0.25, 0.75, 0.0625], [-1.0, 3.0, 0.25], [1.0, 1.0, 1.0]]
    np.testing.assert_array_equal(advantages(data, 0.5, 0.5), expected)


def test_no_reward_reaches_back_into_an_earlier_episode():
    # dAₜ/drₖ = (γλ)^(k - t) while t and k are of one episode; env 0 terminates at t=1, env 1 is cut off there.
    data = random_data(1, steps=4, envs=2, end=0.0)
    data["terminated"][1, 0] = data["truncated"][1, 1] = True
    jacobian = jax.jacobian(lambda reward: advantages(data | {"reward": reward}, 0.5, 1.0))(data["reward"])
    expected = [[1.0, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.5], [0.0, 0.0, 0.0, 1.0]]
    for env in range(2):
        np.testing.assert_array_equal(jacobian[:, env, :, env], expected)
    np.testing.assert_array_equal(jacobian[:, 0, :, 1], 0.0)


def test_a_step_that_terminates_and_is_cut_off_at_once_counts_as_terminated():
    data = random_data(2, steps=3, envs=1, end=0.0)
    data["terminated"][1] = True
    alone = advantages(data, 0.9, 0.9)
    data["truncated"][1] = True
    np.testing.assert_array_equal(advantages(data, 0.9, 0.9), alone)


def test_lambda_one_is_monte_carlo():
    data = random_data(3, steps=12, envs=4)
    gamma = 0.97
    actual = advantages(data, gamma, 1.0) + data["value"]
    for n in range(4):
        to_go = float(data["last_value"][n])
        for t in reversed(range(12)):
            if data["terminated"][t, n]:
                to_go = 0.0
            elif data["truncated"][t, n]:
                to_go = float(data["final_value"][t, n])
            to_go = float(data["reward"][t, n]) + gamma * to_go
            np.testing.assert_allclose(actual[t, n], to_go, rtol=1e-5, atol=2e-5)


def test_lambda_zero_is_one_step_td():
    data = random_data(4, steps=12, envs=4)
    following = np.concatenate([data["value"][1:], data["last_value"][None]])
    following = np.where(data["truncated"], data["final_value"], following) * ~data["terminated"]
    expected = data["reward"] + 0.97 * following - data["value"]
    np.testing.assert_allclose(advantages(data, 0.97, 0.0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_next_value_is_of_the_final_observation_where_the_clock_stopped(slots):
    # Environment n is cut off at step n; its slot is the one of the T/K steps around it, the others hold a trap.
    value = np.arange(16.0, dtype=np.float32).reshape(4, 4)  # V(sₜ) of environment n is 4t + n
    last_value = np.array([16.0, 17.0, 18.0, 19.0], np.float32)
    truncated = np.eye(4, dtype=bool)
    final_value = np.full((slots, 4), -1.0, np.float32)
    final_value[[n * slots // 4 for n in range(4)], range(4)] = [100.0, 101.0, 102.0, 103.0]
    actual = returns.next_values(value, last_value, final_value, truncated)
    expected = [
        [100.0, 5.0, 6.0, 7.0],
        [8.0, 101.0, 10.0, 11.0],
        [12.0, 13.0, 102.0, 15.0],
        [16.0, 17.0, 18.0, 103.0],
    ]
    np.testing.assert_array_equal(actual, expected)


def test_one_slot_serves_only_the_environments_that_were_cut_off_within_its_steps():
    # T = 4, K = 2: environment 0 is cut off in both halves, environment 1 in the second alone.
    truncated = np.array([[1, 0], [0, 0], [0, 0], [1, 1]], bool)
    final_value = np.array([[10.0, -1.0], [20.0, 21.0]], np.float32)
    actual = returns.next_values(np.zeros((4, 2)), np.ones(2), final_value, truncated)
    np.testing.assert_array_equal(actual, [[10.0, 0.0], [0.0, 0.0], [0.0, 0.0], [20.0, 21.0]])


def test_explained_variance():
    target = np.random.default_rng(5).normal(3.0, 2.0, (6, 7)).astype(np.float32)
    value = target + np.random.default_rng(6).normal(1.0, 1.0, (6, 7)).astype(np.float32)
    explained = functools.partial(returns.explained_variance, target=target)
    double = lambda x: np.var(x, dtype=np.float64)  # noqa: E731
    np.testing.assert_allclose(explained(value), 1 - double(target - value) / double(target), rtol=1e-5)
    assert explained(target) == 1.0
    np.testing.assert_allclose(explained(np.full_like(target, target.mean())), 0.0, atol=1e-6)
    # Minus a perfect critic: target - value = 2 target, so 1 - 4.
    np.testing.assert_allclose(explained(-target), -3.0, rtol=1e-5)


def test_explained_variance_of_heads_is_about_the_mean_of_each():
    target = np.random.default_rng(7).normal([3.0, -50.0], [2.0, 1.0], (6, 7, 2)).astype(np.float32)
    mean = np.broadcast_to(target.mean((0, 1)), target.shape)  # knowing both means explains nothing yet
    np.testing.assert_allclose(returns.explained_variance(mean, target), 0.0, atol=1e-5)
    half = np.stack([target[..., 0], mean[..., 1]], axis=-1)
    double = np.float64(target).var((0, 1))
    np.testing.assert_allclose(returns.explained_variance(half, target), 1 - double[1] / double.sum(), rtol=1e-4)


def test_explained_variance_of_a_constant_target_is_a_number():
    assert returns.explained_variance(np.ones(4), np.full(4, 2.0)) == 1.0
