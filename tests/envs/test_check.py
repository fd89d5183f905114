"""The check of environments: a sound one passes, and of a broken one it names the field that is wrong."""

import importlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import library
from jaxrl.envs import check, spaces, trajectory
from jaxrl.types import Box, Discrete, Environment, MultiDiscrete

NUM_ENVS = 4
door = importlib.import_module("jaxrl.check_env")


@pytest.fixture(scope="module")
def clock():
    return jaxrl.make_env("probe/clock", NUM_ENVS, episode_length=5)


def changed(env, change, change_state=lambda state: state, spec=None):
    """`env` whose timesteps, and states, are as `change` makes them."""

    def reset(key):
        state, timestep = env.reset(key)
        return state, change(timestep)

    def step(state, action):
        state, timestep = env.step(state, action)
        return change_state(state), change(timestep)

    return env._replace(reset=reset, step=step, spec=spec or env.spec)


def replaced(**fields):
    return lambda timestep: timestep._replace(**{name: of(timestep) for name, of in fields.items()})


BROKEN = {
    "reward: float32[4, 1]": replaced(reward=lambda t: t.reward[:, None]),
    "obs: float32[4, 1]": replaced(obs=lambda t: t.obs[:, :1]),
    "final_obs: is PyTreeDef": replaced(final_obs=lambda t: {"x": t.final_obs}),
    "terminated: float32[4]": replaced(terminated=lambda t: t.terminated.astype(jnp.float32)),
    "terminated: is True after a reset": replaced(terminated=lambda t: jnp.ones_like(t.terminated)),
    "truncated: is True with terminated at step 4 of environment 0": replaced(terminated=lambda t: t.truncated),
    "valid: is False where an episode ends at step 4": replaced(valid=lambda t: ~t.truncated),
    "final_obs: is obs at all 40 ends": replaced(final_obs=lambda t: t.obs),
    "final_obs: is not obs at step 0": replaced(final_obs=lambda t: t.final_obs + 1),
    "reward: is not finite of environment 0": replaced(reward=lambda t: t.reward * jnp.nan),
    "metrics['x']: float32[]": replaced(metrics=lambda t: {"x": jnp.zeros(())}),
    "reset: gives the same observations for two keys": replaced(
        obs=lambda t: jnp.zeros_like(t.obs) + jnp.arange(4.0)[:, None] + t.truncated[:, None],
        final_obs=lambda t: jnp.zeros_like(t.obs) + jnp.arange(4.0)[:, None] + 2 * t.truncated[:, None],
    ),
    "step: of environment 0 depends on the actions of the others": replaced(
        reward=lambda t: jnp.broadcast_to(jnp.mean(t.metrics["moved"]), (4,))
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_wrong_is_named(clock, fault):
    env = clock
    if "depends on the actions" in fault:  # a reward that knows of the actions
        env = jaxrl.make_env("probe/target", NUM_ENVS)
        moved = lambda timestep: timestep._replace(metrics={"moved": timestep.reward})  # noqa: E731
        env = changed(env, moved)
    report = check.check(changed(env, BROKEN[fault]), 50)
    assert any(str(found).startswith(fault) for found in report.faults), report.faults
    assert "; expected " in str(report.faults[0])


def test_observations_that_are_not_finite_are_one_fault_and_not_two(clock):
    broken = replaced(obs=lambda t: t.obs.at[0, 0].set(jnp.nan), final_obs=lambda t: t.final_obs.at[0, 0].set(jnp.nan))
    (fault,) = check.check(changed(clock, broken), 50).faults
    assert str(fault).startswith("obs: is not finite")


def test_a_sound_environment_has_no_faults_and_costs_what_it_costs(clock):
    report = library.check_env(clock, 50)
    assert report.faults == () and report.episodes == 40
    assert report.compile_seconds > 0 and report.step_seconds > 0
    assert "4 environments x 50 random steps, 40 episodes ended" in str(report)


def test_a_state_that_changes_its_form_is_named(clock):
    grown = changed(clock, lambda t: t, lambda state: state._replace(steps=state.steps.astype(jnp.float32)))
    with pytest.raises(
        check.ContractError, match=r"env_state\.steps: float32\[4\] after a step; expected int32\[4\] as before"
    ):
        library.check_env(grown)


def test_an_interval_that_is_too_long_is_named(clock):
    spec = clock.spec._replace(truncation_interval=6)
    report = check.check(changed(clock, lambda t: t, spec=spec), 50)
    assert str(report.faults[0]).startswith("spec.truncation_interval: is 6 and two truncations are 5 steps apart")


def test_a_row_that_is_not_valid_where_all_were_promised_is_named(clock):
    never = changed(clock, replaced(valid=lambda t: t.truncated), spec=clock.spec._replace(all_valid=True))
    assert str(check.check(never, 50).faults[0]).startswith("spec.all_valid: is True and valid is False at step 0")


def test_a_call_to_the_host_is_named(clock):
    def step(state, action):
        state, timestep = clock.step(state, action)
        return state, timestep._replace(reward=jax.pure_callback(lambda x: x, timestep.reward, timestep.reward))

    report = check.check(clock._replace(step=step), 20)
    assert [fault.field for fault in report.faults] == ["step"] and "calls back to the host" in str(report)


def test_a_mask_that_allows_nothing_is_named():
    env = jaxrl.make_env("probe/masked_arms", NUM_ENVS)
    assert check.check(env, 50).faults == ()
    hide = lambda t: t._replace(obs=t.obs | {"action_mask": t.obs["action_mask"] & False})  # noqa: E731
    report = check.check(changed(env, hide), 10)
    assert any("allows nothing in part 0" in str(fault) for fault in report.faults)


def test_an_environment_on_the_host_that_ignores_the_key_is_named(clock):
    draws = iter(range(1000))

    def reset(key):
        state, timestep = jax.jit(clock.reset)(key)
        return state, timestep._replace(obs=timestep.obs + next(draws), final_obs=timestep.final_obs)

    env = clock._replace(reset=reset, step=jax.jit(clock.step), spec=clock.spec._replace(traceable=False))
    assert any("other observations for the same key" in str(fault) for fault in check.check(env, 10).faults)


def test_on_the_host_only_what_the_environment_takes_counts(clock, monkeypatch):
    now = [0.0]  # seconds
    monkeypatch.setattr(check.time, "perf_counter", lambda: now[0])
    compiled = jax.jit(clock.step)

    def spend(function, seconds):
        def spent(*arguments):
            now[0] += seconds
            return function(*arguments)

        return spent

    env = Environment(spend(clock.reset, 100.0), spend(compiled, 2.0), clock.spec._replace(traceable=False))
    report = check.check(env, 10)
    assert (report.faults, report.compile_seconds, report.step_seconds) == ((), None, 2.0)


def test_a_trajectory_is_what_happened_and_says_its_shapes(clock):
    seen = jaxrl.rollout(clock, 12, key=jax.random.key(0))
    np.testing.assert_array_equal(np.flatnonzero(seen.truncated[:, 0]), [4, 9])
    # Each observation is what came of the step before, but for the first of an episode.
    going_on = ~(seen.terminated | seen.truncated)[:-1]
    np.testing.assert_array_equal(seen.obs[1:][going_on], seen.next_obs[:-1][going_on])
    assert repr(seen).startswith("Trajectory(obs=float32[12, 4, 2], action=float32[12, 4, 1], reward=float32[12, 4],")
    assert len(repr(seen)) < 300
    right = jaxrl.rollout(clock, 3, lambda obs, key: jnp.ones((4, 1)), key=jax.random.key(0))
    np.testing.assert_array_equal(right.action, 1.0)


@pytest.mark.parametrize("space", [Discrete(3), MultiDiscrete((2, 3)), (Box((2,)), Discrete(3))])
def test_random_actions_are_even_and_keep_to_the_mask(space):
    options = sum(spaces.option_sizes(space))
    mask = jnp.ones((3000, options), bool).at[:, -1].set(False)
    drawn = spaces.sample(space, jax.random.key(0), 3000, mask)
    last = drawn[1] if isinstance(space, tuple) and not hasattr(space, "_fields") else drawn
    last = np.asarray(last).reshape(3000, -1)[:, -1]
    counts = np.bincount(last, minlength=3)
    assert counts[2] == 0
    assert abs(counts[0] - 1500) < 150  # 5 standard deviations


def test_the_random_policy_reads_the_mask():
    env = jaxrl.make_env("probe/masked_arms", 64)
    seen = trajectory.rollout(env, 20, key=jax.random.key(0))
    assert not np.any(seen.metrics["illegal"])


def test_the_command_line_lists_checks_and_refuses(capsys):
    assert door.main([]) == 0
    assert {"brax", "probe"} <= set(capsys.readouterr().out.split())
    assert door.main(["probe"]) == 0
    assert "probe/clock" in capsys.readouterr().out.split()
    assert door.main(["probe/clock", "--steps=20", "--config.env.episode_length=7"]) == 0
    assert "random steps" in capsys.readouterr().out
    for wrong, cure in [
        (["probe/clok"], "did you mean 'clock'"),
        (["prob/clock"], "did you mean 'probe'"),
        (["probe/clock", "--config.env.episode_lenght=7"], "did you mean config.env.episode_length=7"),
        (["probe/clock", "--fast"], "--config.env.KEY=VALUE"),
        (["probe/clock", "--steps=0"], "choose 1 or more"),
    ]:
        assert door.main(wrong) == 2
        error = capsys.readouterr().err
        assert cure in error and error.count("\n") == 1


def test_its_help_is_there():
    done = subprocess.run(
        [sys.executable, "-m", "jaxrl.check_env", "--help"], capture_output=True, text=True, check=True
    )
    assert "suite/name" in done.stdout
