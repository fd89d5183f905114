"""docs/torchrl.md: the code of every row runs, and does what TorchRL's tutorial does there.

The code is the page's own; only the sizes in `tutorial` are shrunk, and where physics would have to be compiled a probe
stands in for the pendulum.
Letters in shapes: T steps, N environments, B rows of a minibatch.
"""

import configparser
import contextlib
import io
import pathlib
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.host import history

pytestmark = [pytest.mark.slow, pytest.mark.learning]
ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "torchrl.md").read_text()
NUMBERS, IMPORTS, LOOP = re.findall(r"```python\n(.*?)```", TEXT, re.S)
T, N, B = 16, 8, 32
SMALL = {
    "total_env_steps": 512,
    "network": {"hidden_sizes": (8,)},
    "ppo": {"num_envs": N, "unroll_length": T, "minibatch_size": B, "update_epochs": 2},
    "eval": {"episodes": 8},
}
FUSE = {"suite": "probe", "name": "fuse"}  # reward 1 at each step, terminated at the third: V = 1 + γ + γ², 1 + γ, 1


def table(head: str) -> list[list[str]]:
    """The cells of the table with this head."""
    lines = TEXT.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("|") and head in line)
    end = next(i for i, line in enumerate(lines[start:], start) if not line.startswith("|"))
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[start + 2 : end]]


def code(cell: str) -> list[str]:
    """The statements of a cell: what in it begins with code that calls or sets something."""
    parts = (re.match(r"`([^`]*[=(][^`]*)`", part.strip()) for part in cell.split("<br>"))
    return [part[1] for part in parts if part]


STEPS = {int(number): cell for number, _, cell in table("| the tutorial | jaxrl |")}


def pendulum() -> dict:
    """The page's own `tutorial`."""
    names = {}
    exec(NUMBERS, names)
    return names["tutorial"]


def shrunk(**ppo) -> dict:
    """The page's `tutorial` with small sizes, of a probe; ppo: more numbers to change."""
    whole = pendulum() | {"env": FUSE, "total_env_steps": SMALL["total_env_steps"]}
    small = {group: whole[group] | SMALL[group] for group in ("network", "ppo", "eval")}
    return whole | small | {"ppo": small["ppo"] | ppo}


class Walk(NamedTuple):
    """The eighteen rows, walked through."""

    after: dict[int, dict]  # the names that there are after each row
    printed: dict[int, str]
    folder: pathlib.Path


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    names, after, printed = {"tutorial": shrunk()}, {}, {}
    exec(IMPORTS, names)
    folder = tmp_path_factory.mktemp("tutorial")
    with contextlib.chdir(folder):
        for number, cell in STEPS.items():
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                for statement in code(cell):
                    exec(statement, names)
            after[number], printed[number] = dict(names), stream.getvalue()
            if number == 4:
                names["env"] = jaxrl.make_env("probe/fuse", 8)
    return Walk(after, printed, folder)


def test_there_are_eighteen_rows_and_all_but_the_installation_run():
    assert list(STEPS) == list(range(1, 19))
    assert [number for number, cell in STEPS.items() if not code(cell)] == [1]


def test_1_the_extras_to_install_exist():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = re.findall(r"pip install -e \.(?:\[(\w+)\])?", STEPS[1])
    assert named == ["", "gymnasium"]
    assert "gymnasium" in setup["options.extras_require"]
    needed = setup["options"]["install_requires"]
    assert all(name in needed for name in ("brax", "tqdm"))


def test_2_the_numbers_are_the_tutorials_and_those_of_the_table(walk):
    assert walk.printed[2] == "0.2\n"
    config = jaxrl.configure(pendulum())
    ppo = config.ppo
    # coding_ppo.py of pytorch/rl, where they are spelt out.
    assert (ppo.learning_rate, ppo.max_gradient_norm, ppo.minibatch_size, ppo.update_epochs) == (3e-4, 1.0, 64, 10)
    assert (ppo.clip, ppo.gamma, ppo.lambda_, ppo.entropy_cost) == (0.2, 0.99, 0.95, 1e-4)
    assert config.network.hidden_sizes == (256, 256, 256) and config.total_env_steps == 1_000_000
    rows = table("| TorchRL |")
    for _, _, keys, same in rows:
        for key, number in zip(re.findall(r"`([\w.]+)`", keys), re.findall(r"`([^`]+)`", same), strict=False):
            group, _, name = key.rpartition(".")
            assert (config[group] if group else config)[name] == eval(number), key
    shown = {key for row in rows for key in re.findall(r"`([\w.]+)`", row[2])}
    told = {f"{group}.{name}" for group in ("network", "ppo") for name in pendulum()[group]} | {"total_env_steps"}
    assert shown == told


def test_3_and_4_environments_and_what_changes_their_view(walk):
    env, seen = walk.after[3]["env"], walk.after[4]["seen"]
    assert (env.spec.num_envs, env.spec.obs.shape, env.spec.action.shape) == (8, (8,), (1,))
    assert {name: x.shape for name, x in seen.spec.obs.items()} == {"policy": (16,), "time": (1,)}
    assert all(x.dtype == jnp.float32 for x in seen.spec.obs.values())


def test_5_moments_of_random_steps(walk):
    moments, env = walk.after[5]["moments"], walk.after[5]["env"]
    assert walk.printed[5] == "(2,)\n"
    seen = np.float64(jaxrl.rollout(env, 1000, key=jax.random.key(0)).obs)
    np.testing.assert_allclose(moments.mean[0], seen.mean((0, 1)), atol=1e-4)
    np.testing.assert_allclose(moments.variance[0], seen.var((0, 1)), rtol=1e-3)
    assert float(moments.count[0]) == 8000
    assert walk.after[5]["frozen"].ppo.random_steps == 1000 and walk.after[5]["frozen"].ppo.normalize_obs


def test_6_to_8_specs_checks_and_rollouts_can_be_printed(walk):
    assert "float32" in walk.printed[6] and "Box(shape=(1,), low=-1.0, high=1.0)" in walk.printed[6]
    assert walk.printed[7].startswith("8 environments x 1000 random steps") and "fault" not in walk.printed[7]
    assert "obs=float32[3, 8, 2], action=float32[3, 8, 1], reward=float32[3, 8]" in walk.printed[8]


def test_9_the_actor_has_a_deviation_for_each_state_and_the_critic_is_another_net(walk):
    params = walk.after[9]["state"].agent.params
    assert params["policy_head"]["log_std"]["kernel"].shape == (8, 1)
    assert (
        params["policy_torso"]["Dense_0"]["kernel"].shape == params["value_torso"]["Dense_0"]["kernel"].shape == (2, 8)
    )


def forward(params: dict, who: str, obs: np.ndarray) -> np.ndarray:
    """The hidden layer of the shrunk tutorial's net: tanh(W x + b)."""
    layer = params[f"{who}_torso"]["Dense_0"]
    # Nothing has been seen yet: mean 0, variance 1, and the ε of the division.
    return np.tanh(np.float64(obs) / np.sqrt(1 + 1e-5) @ np.float64(layer["kernel"]) + np.float64(layer["bias"]))


def test_10_policy_and_value_by_hand_are_what_the_weights_say(walk):
    names = walk.after[10]
    params, obs = names["state"].agent.params, names["first"].obs
    head = params["value_head"]["Dense_0"]
    value = forward(params, "value", obs) @ np.float64(head["kernel"])[:, 0] + np.float64(head["bias"])
    np.testing.assert_allclose(names["value"], value, atol=1e-5)
    mean = params["policy_head"]["mean"]
    action = np.tanh(forward(params, "policy", obs) @ np.float64(mean["kernel"]) + np.float64(mean["bias"]))
    np.testing.assert_allclose(names["action"], action, atol=1e-5)


def test_11_batches_and_rows(walk):
    rollout = walk.after[11]["rollout"]
    assert rollout.reward.shape == (T, N) and np.all(rollout.reward == 1.0)
    assert np.sum(rollout.terminated) == N * (T // 3)
    shown = [line for line in walk.printed[11].splitlines() if line.isdigit()]
    assert shown == ["0", "128", "256", "384", "512"]


def test_12_minibatches_are_dealt_without_replacement(walk):
    hands = np.asarray(walk.after[12]["hands"])
    assert hands.shape == (16, 1, 64)
    assert sorted(hands.ravel()) == list(range(1024)) and list(hands.ravel()) != list(range(1024))


def test_13_a_pass_takes_every_step_once(walk):
    names = walk.after[13]
    batch, hand = names["batch"], names["hand"]
    dealt = list(hand.minibatches(batch, jax.random.key(9)))
    assert len(dealt) == T * N // B and all(one.advantage.shape == (1, B) for one in dealt)
    samples = np.concatenate([np.ravel(one.memo.sample) for one in dealt])
    assert sorted(samples) == sorted(np.ravel(batch.memo.sample)) and len(set(samples.tolist())) == T * N


def test_13_advantages_are_gae(walk):
    names = walk.after[13]
    batch, rollout, agent = names["batch"], names["rollout"], names["state"].agent
    value, after = np.float64(batch.memo.value), np.float64(names["hand"].value(agent, rollout.last_obs))
    advantage, later = np.zeros((T, N)), np.zeros(N)
    for t in reversed(range(T)):
        goes_on = ~np.asarray(rollout.terminated[t])
        delta = 1.0 + 0.99 * goes_on * after - value[t]
        advantage[t] = later = delta + 0.99 * 0.95 * goes_on * later
        after = value[t]
    np.testing.assert_allclose(batch.target, advantage + value, atol=1e-5)
    np.testing.assert_allclose(batch.advantage, (advantage - advantage.mean()) / advantage.std(), atol=1e-5)


def test_13_the_loss_is_its_terms_and_begins_with_a_ratio_of_1(walk):
    names = walk.after[13]
    terms, minibatch = names["terms"], names["minibatch"]
    assert {"loss/policy", "loss/value", "loss/entropy"} <= set(terms)
    np.testing.assert_allclose(terms["loss/policy"], -np.mean(minibatch.advantage), atol=1e-6)
    error = np.abs(np.float64(minibatch.target - minibatch.memo.value))
    np.testing.assert_allclose(terms["loss/value"], np.where(error < 1, 0.5 * error**2, error - 0.5).mean(), rtol=1e-5)
    total = terms["loss/policy"] + terms["loss/value"] - 1e-4 * terms["loss/entropy"]
    np.testing.assert_allclose(names["loss"], total, rtol=1e-5)


def test_14_adams_first_step_goes_down_by_the_rate_and_the_rate_to_0(walk):
    names = walk.after[14]
    for change, gradient in zip(*map(jax.tree.leaves, (names["change"], names["gradient"])), strict=True):
        steep = np.abs(gradient) > 1e-5
        np.testing.assert_allclose(change[steep], -3e-4 * np.sign(gradient[steep]), rtol=1e-2)
    rates = [names["schedule"](batch) for batch in (0, 488, 976)]
    np.testing.assert_allclose(rates, [3e-4, 1.5e-4, 0.0], atol=1e-9)


def test_15_progress_tells_of_returns_lengths_rate_and_evaluations(walk):
    last = walk.printed[15].splitlines()[-1]
    assert re.search(r"100% .* return 3\.00 \(start 3\.00\), length 3.*, lr \S+, eval 3\.00 \(start 3\.00\)", last)
    assert walk.after[15]["run"].env_steps == 512


def test_16_the_six_series_of_the_logs_are_in_the_history(walk):
    logs = walk.after[16]["logs"]
    ours = [name for _, cell in table("| the tutorial's |") for name in re.findall(r"`(\w+/\w+)`", cell)]
    six = {*ours, "eval/reward"} - {"eval/episode_length"}
    assert len(six) == 6 and six <= set(logs)
    assert all(len(column) == 5 for column in logs.values())
    # Of the fuse: 1 a step, three steps, whatever is done. Nothing has been trained in the first row.
    assert np.isnan(logs["rollout/reward"][0]) and np.all(logs["rollout/reward"][1:] == 1.0)
    assert np.all(logs["rollout/episode_length_max"][1:] == 3)
    evaluated = ~np.isnan(logs["eval/episode_return"])
    assert np.all(logs["eval/reward"][evaluated] == 1.0) and np.all(logs["eval/episode_length_max"][evaluated] == 3)
    # The cosine, at the beginning of the last of four updates of an epoch each.
    np.testing.assert_allclose(
        logs["update/learning_rate"][1:], 1.5e-4 * (1 + np.cos(np.pi * np.arange(4) / 4)), rtol=1e-4
    )


def test_17_the_figure_has_the_tutorials_four_panels(walk):
    figure = jaxrl.plot_training(history.read(walk.folder / "runs" / "tutorial"))
    titles = ["training rewards (average)", "Max step count (training)", "Return (test)", "Max step count (test)"]
    assert [axes.get_title() for axes in figure.axes] == titles
    assert [axes.lines[0].get_ydata()[-1] for axes in figure.axes] == [3, 3, 3, 3]
    assert (walk.folder / "tutorial.png").read_bytes() == figure._repr_png_()


def test_18_parallel_environments_are_a_number(walk):
    assert walk.after[18]["many"].spec.num_envs == 4096


def test_the_loop_by_hand_learns_what_the_fuse_is_worth():
    names = {"tutorial": shrunk(learning_rate=1e-2) | {"total_env_steps": 32 * T * N}}
    exec(LOOP, names)
    assert [row["env_steps"] for row in names["logs"]] == [T * N * number for number in range(1, 33)]
    assert names["logs"][-2]["eval/episode_return"] == 3.0
    _, first = names["learner"].env.reset(jax.random.key(5))
    np.testing.assert_allclose(names["hand"].value(names["agent"], first.obs), 1 + 0.99 + 0.99**2, atol=0.25)
    assert len(names["figure"].axes) == 4
