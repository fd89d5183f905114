"""Policies come back from a run folder bit for bit, and are called as their docstring says."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs, find
from jaxrl.functional import normalize
from jaxrl.host import checkpoint, policies
from jaxrl.networks import actor_critic
from jaxrl.types import ConfigError

EXPERIMENT = Path(__file__).with_name("probe_experiment.py")


def train(folder, **overrides):
    short = {"total_env_steps": 512, "checkpoint.interval": 128, "checkpoint.keep_latest": 3, "eval.interval": 128}
    return jaxrl.train(EXPERIMENT, folder, short | {name.replace("__", "."): x for name, x in overrides.items()})


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "target", env__name="target")


@pytest.fixture(scope="module")
def recall(tmp_path_factory):
    sizes = {"network__core": "lstm", "network__core_size": 8}
    return train(tmp_path_factory.mktemp("runs") / "recall", env__name="recall", **sizes)


@pytest.fixture
def copy(target, tmp_path):
    """The run, to be damaged."""
    return Path(shutil.copytree(target.workdir, tmp_path / "run"))


def observations(policy, *lead, seed=0):
    draw = np.random.default_rng(seed).normal
    return draw(size=(*lead, *policy.spec.obs.shape)).astype(np.float32)


def untrained(**overrides):
    """A policy that has learned nothing, of no run."""
    config = jaxrl.configure(EXPERIMENT, {name.replace("__", "."): x for name, x in overrides.items()})
    spec = envs.make(config.env, 1).spec
    algorithm = find.find("algorithms", config.algorithm).make(config, spec)
    return policies.Policy(algorithm, algorithm.init(jax.random.key(0), algorithm.hyper), spec, config, 0)


def equal(a, b):
    """Bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_actions_are_those_of_the_state_that_training_returned(target):
    policy = jaxrl.load_policy(target.workdir)
    assert policy.env_steps == target.env_steps == 512 and not policy.is_recurrent
    equal(policy.agent, jax.device_get(target.state.agent))
    obs = observations(policy, 16)
    algorithm = policy.algorithm
    expected, _ = jax.jit(algorithm.policy)(jax.device_get(target.state.agent), (), obs, np.zeros(16, bool))
    equal(policy(obs), expected)
    assert np.ptp(expected) > 0


def test_one_observation_gives_one_action_and_jax_arrays_do_as_well(target):
    policy = jaxrl.load_policy(target.workdir)
    obs = observations(policy, 3)
    actions = policy(obs)
    assert actions.shape == (3, 1) and policy(obs[0]).shape == (1,)
    equal(policy(jnp.asarray(obs)), actions)
    equal(policy(obs.astype(np.float64)), actions)
    np.testing.assert_allclose(np.stack([policy(each) for each in obs]), actions, rtol=1e-6)


def test_a_sample_takes_a_key_and_is_what_acting_draws(target):
    policy = jaxrl.load_policy(target.workdir)
    obs, seen = observations(policy, 4), []
    for seed in (0, 1):
        seen.append(policy(obs, deterministic=False, key=jax.random.key(seed)))
        act = jax.jit(policy.algorithm.act)
        equal(seen[-1], act(policy.agent, (), obs, np.zeros(4, bool), jax.random.key(seed))[0])
    assert not np.array_equal(*seen)
    with pytest.raises(ConfigError, match=r"give it a key=jax\.random\.key"):
        policy(obs, deterministic=False)
    with pytest.raises(ConfigError, match="say deterministic=False"):
        policy(obs, key=jax.random.key(0))


def test_a_memory_goes_on_from_call_to_call_as_over_the_whole_sequence(recall):
    policy = jaxrl.load_policy(recall.workdir)
    assert policy.is_recurrent
    obs, begins = observations(policy, 7, 3), np.zeros((7, 3), bool)
    begins[0], begins[4, 1] = True, True
    agent = policy.agent

    # The network itself, over [T, N] at once, from what the agent's normaliser makes of the observations.
    config = recall.config
    network = actor_critic.make(config.network, policy.spec)
    seen = normalize.normalize(agent.obs_moments, obs, clip=config.ppo.obs_clip)
    distribution, _, carry = network.apply(agent.params, network.carry(3), seen, begins)
    expected = distribution.action(distribution.mode())
    logits = distribution.logits

    equal(np.stack([policy(each, begins=first) for each, first in zip(obs, begins, strict=True)]), expected)
    np.testing.assert_allclose(jax.tree.leaves(policy._carry)[0], jax.tree.leaves(carry)[0], atol=1e-6)
    assert np.ptp(np.asarray(logits)[4, 1] - np.asarray(logits)[0, 1]) > 0


def test_after_a_reset_everything_begins_again(recall):
    policy = jaxrl.load_policy(recall.workdir)
    one = observations(policy)
    policy(one)
    first = policy._carry
    policy(one)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (first, policy._carry)), strict=True))
    policy.reset()
    policy(one)
    equal(policy._carry, first)
    with pytest.raises(ConfigError, match=r"obs is of 3 episodes, and the policy remembers 1; call reset\(\)"):
        policy(observations(policy, 3))


def test_step_keeps_nothing_and_can_be_scanned(recall):
    policy = jaxrl.load_policy(recall.workdir)
    obs, begins = observations(policy, 5, 2), np.zeros((5, 2), bool)
    begins[0] = True

    def step(carry, x):
        action, carry = policy.step(*x[:1], carry, x[1])
        return carry, action

    carry, actions = jax.jit(lambda obs, begins: jax.lax.scan(step, policy.carry(2), (obs, begins)))(obs, begins)
    equal(actions, np.stack([policy(each) for each in obs]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), carry, policy._carry)


def test_masks_hold_and_what_only_the_critic_reads_may_be_left_out():
    policy = untrained(env__name="masked_arms")
    masks = np.eye(4, dtype=bool)
    equal(policy({"policy": np.zeros((4, 1), np.float32), "action_mask": masks}), [0, 1, 2, 3])
    key = jax.random.key(0)
    equal(policy({"policy": np.zeros(1), "action_mask": masks[2]}, deterministic=False, key=key), 2)

    policy = untrained(env__name="asymmetric")
    blind = policy({"policy": np.zeros((2, 1))})
    equal(blind, policy({"policy": np.zeros((2, 1)), "critic": np.ones((2, 1))}))
    with pytest.raises(ConfigError, match=r"obs is .* trained on .*critic.*"):
        policy({"policy": np.zeros((2, 1)), "critics": np.ones((2, 1))})


@pytest.mark.parametrize(
    "obs", [np.zeros(3), np.zeros((4, 3)), np.zeros((2, 2, 2)), {"obs": np.zeros(2)}, [0.0, 0.0], np.float32(0)]
)
def test_another_form_of_observation_is_refused_in_one_line(target, obs):
    with pytest.raises(ConfigError) as caught:
        jaxrl.load_policy(target.workdir)(obs)
    assert re.fullmatch(r"obs is .*, and the policy was trained on float32\[2\]; give .*", str(caught.value))


def test_numbers_are_not_taken_for_pixels():
    policy = untrained(env__name="image", network__encoder="flatten")
    assert policy(np.zeros((8, 8, 1), np.int64)).shape == ()
    with pytest.raises(ConfigError, match="trained on uint8"):
        policy(np.zeros((8, 8, 1), np.float32))


# Checkpoints.


def test_a_checkpoint_is_chosen_by_name_number_or_path(target):
    saved = sorted(int(path.name) for path in (target.workdir / "checkpoints").iterdir())
    scores = {row["env_steps"]: row["eval/episode_return"] for row in target.history if row["env_steps"] in saved}
    best = max(scores, key=lambda step: (scores[step], step))
    run = target.workdir
    for selector, expected in [
        ("latest", 512), ("best", best), (384, 384), ("384", 384), (run / "checkpoints" / "384", 384),
    ]:  # fmt: skip
        assert jaxrl.load_policy(run, selector).env_steps == expected
    obs = observations(jaxrl.load_policy(run), 8)
    assert not np.array_equal(jaxrl.load_policy(run, 384)(obs), jaxrl.load_policy(run)(obs))


def test_the_path_may_be_of_another_run_that_fits(target, copy):
    shutil.rmtree(copy / "checkpoints" / "512")
    elsewhere = target.workdir / "checkpoints" / "512"
    equal(jaxrl.load_policy(copy, elsewhere).agent, jaxrl.load_policy(target.workdir).agent)


@pytest.mark.parametrize(
    "selector, message",
    [
        ("bst", "checkpoint 'bst' does not exist; did you mean 'best'?"),
        ("400", "checkpoint 400 is not in .*; the nearest of .*384, 512 is 384"),
        ("config.json", "checkpoint .*config.json is no folder named by its env steps; there are .*384, 512"),
    ],
)
def test_a_bad_selector_is_one_line_with_the_cure(target, selector, message):
    given = target.workdir / selector if selector == "config.json" else selector
    with pytest.raises(ConfigError, match=f"^{message.replace('?', '[?]')}$"):
        jaxrl.load_policy(target.workdir, given)


def test_a_folder_that_is_no_run_is_one_line_with_the_cure(target, tmp_path):
    run = target.workdir
    for given, cure in [
        (run.parent / "targt", f"does not exist; did you mean '{run}'?"),
        (run / "checkpoints" / "512", f"is a part of the run {run}; give that, and --checkpoint=512"),
        (tmp_path, "is no run folder: it has no config.json"),
        (tmp_path / "no" / "where", "does not exist; give the --workdir"),
    ]:
        with pytest.raises(ConfigError, match=f"^{re.escape(f'{given} {cure}')}"):
            jaxrl.load_policy(given)


def test_a_run_without_checkpoints_says_so(copy):
    shutil.rmtree(copy / "checkpoints")
    for selector in ("latest", "best", 512):
        with pytest.raises(ConfigError, match="has no checkpoint yet; the first is saved while it trains"):
            jaxrl.load_policy(copy, selector)


def test_a_damaged_checkpoint_is_one_line_that_names_the_others(copy, capfd):
    meta = copy / "checkpoints" / "512" / "meta" / "metadata"
    meta.write_text(meta.read_text().replace('"env_steps": 512', '"env_steps": 513', 1))
    with pytest.raises(ConfigError, match=r"^checkpoint 512 in .* is broken \(.*\); there are [\d, ]*384$"):
        jaxrl.load_policy(copy)
    assert jaxrl.load_policy(copy, 384).env_steps == 384
    assert capfd.readouterr().err == ""


def test_changed_weights_are_noticed(copy):
    arrays = list((copy / "checkpoints" / "512" / "state").rglob("0"))
    assert arrays
    for path in arrays:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="checkpoint 512 in .* is broken"):
        jaxrl.load_policy(copy, "latest")


def test_best_without_evaluations_names_what_there_is(target, copy):
    shutil.rmtree(copy / "checkpoints")
    saver = checkpoint.Checkpointer(copy / "checkpoints", target.config.checkpoint)
    saver.save(target.state, 512, {})
    saver.close()
    with pytest.raises(ConfigError, match="so none is best; choose latest, or one of 512$"):
        jaxrl.load_policy(copy, "best")


def test_another_number_of_environments_plays_no_part(copy):
    config = json.loads((copy / "config.json").read_text())
    config["ppo"]["num_envs"] *= 2
    (copy / "config.json").write_text(json.dumps(config))
    assert jaxrl.load_policy(copy).env_steps == 512


def test_a_config_of_another_network_is_one_line(copy):
    config = json.loads((copy / "config.json").read_text())
    config["network"]["hidden_sizes"] = [9]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ConfigError, match=r"checkpoint 512 in .* does not fit this run: .*\[8, 1\].*\[9, 1\].*; give one of its own"
    ):
        jaxrl.load_policy(copy)


def test_a_part_of_a_state_is_restored_only_where_that_is_asked_for(target):
    saver = checkpoint.Checkpointer(target.workdir / "checkpoints", target.config.checkpoint)
    part = target.state._replace(actor=(), key=(), iterations=())
    with pytest.raises(ConfigError, match=r"state\.actor.* is in the checkpoint and not in this run"):
        saver.restore(part, 512)
    equal(saver.restore(part, 512, partial=True)[0].agent.params, target.state.agent.params)
    saver.close()


def test_nothing_in_the_run_folder_is_executed_or_written(copy):
    before = sorted((path, path.stat().st_mtime_ns) for path in copy.rglob("*"))
    policies.load(copy)
    assert sorted((path, path.stat().st_mtime_ns) for path in copy.rglob("*")) == before
