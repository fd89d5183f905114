"""What the benchmarks make of their measurements, against numbers by hand."""

import argparse
import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import jaxrl
from benchmarks import ahead, compiling, forms, growth, host, model, report, returns, speed, start, turns
from benchmarks.problem import Problem
from jaxrl.host import config as configs
from jaxrl.host import costs
from jaxrl.types import ConfigError


def options(module, *argv):
    parser = argparse.ArgumentParser()
    module.arguments(parser)
    return parser.parse_args(argv)


def rates(*values):
    return {"net": "shared", "rates": list(values), "rate": sorted(values)[len(values) // 2], "cpu_cost": 1.0}


def test_a_ratio_is_the_median_over_the_turns_and_not_of_medians():
    results = {"a": rates(10.0, 40.0, 30.0), "b": rates(10.0, 20.0, 10.0)}
    assert turns.ratio(results, "a", "b") == 2.0  # of 1, 2 and 3


def test_of_several_peers_the_fastest_of_each_turn_counts():
    results = {"a": rates(10.0, 10.0, 10.0), "b": rates(5.0, 20.0, 5.0), "c": rates(10.0, 2.0, 4.0)}
    assert turns.ratio(results, "a", "b", "c") == 1.0  # of 10 / 10, 10 / 20, 10 / 5


def test_peers_that_were_not_measured_do_not_count():
    results = {
        "a": rates(10.0),
        "b": {"net": "", "absent": "pip"},
        "c": rates(5.0) | {"failed": "why"},
        "d": rates(2.0),
    }
    assert turns.ratio(results, "a", "b", "c") is None
    assert turns.ratio(results, "a", "b", "d") == 5.0
    assert turns.ratio(results, "b", "a") is None


def test_the_table_says_why_something_was_not_measured():
    results = {"physics": rates(100.0), "jaxrl": rates(50.0), "x": {"net": "", "absent": "pip install x"}}
    table = turns.table("title", results, {"of physics": "physics"})
    assert [row[2] for row in table.rows] == ["100", "50", "not installed: pip install x"]
    assert [row[4] for row in table.rows] == ["1.00", "0.50", ""]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_a_system_runs_in_its_python_also_with_one_thread():
    found = turns.contestants(
        ["brax", "rl_games", "rl_games_1_thread"], Problem("ant"), [("rl_games", "/other/python")]
    )
    assert [each.python for each in found.values()] == [sys.executable, "/other/python", "/other/python"]
    assert [each.environ for each in found.values()] == [{}, {}, {"OMP_NUM_THREADS": "1"}]
    assert found["rl_games"].system is found["rl_games_1_thread"].system


def test_a_python_is_given_with_its_system():
    assert options(speed, f"--python=brax={sys.executable}").python == [("brax", sys.executable)]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("brax", "'brax' is not SYSTEM=PYTHON, with a system of physics, "),
        ("rlgames=python3", "'rlgames=python3' is not SYSTEM=PYTHON, with a system of physics, "),
        ("rl_games=/nowhere/python", "'/nowhere/python' does not run; name the file of a Python that has rl_games"),
        ("rl_games=", "'' does not run; name the file of a Python that has rl_games"),
    ],
)
def test_a_python_that_is_none_is_refused_before_anything_is_measured(given, why, capsys):
    with pytest.raises(SystemExit, match="2"):
        options(speed, "--python", given)
    assert why in capsys.readouterr().err


def test_speed_is_judged_against_the_physics_and_the_best_peer_with_the_same_net():
    found = {"physics": rates(100.0), "jaxrl_shared": rates(60.0), "jaxrl_separate": rates(40.0), "brax": rates(30.0)}
    ratios = speed.ratios(Problem("inverted_double_pendulum"), found)
    told = {name.partition(": ")[2]: (round(ratio.value, 3), ratio.holds) for name, ratio in ratios.items()}
    assert told == {
        "jaxrl_shared / physics": (0.6, True),
        "jaxrl_separate / physics": (0.4, True),  # nothing is asked of it
        "jaxrl_separate / best of brax, purejaxrl": (1.333, True),
    }


def test_the_first_stretches_count_no_more_than_the_usual_one():
    assert returns.without_compiling([30.0, 9.0, 2.0, 4.0, 3.0]) == [3.0, 3.0, 2.0, 4.0, 3.0]
    assert returns.without_compiling([30.0, 2.0]) == [2.0, 2.0]
    assert returns.without_compiling([5.0]) == [5.0]


def windows(*seconds):
    return [{"env_steps": 100, "seconds": each, "cpu_seconds": 2 * each, "peak_rss_mb": 1.0} for each in seconds]


def told(*means):
    return [{"mean": mean, "std": 1.0, "seconds": 0.5} for mean in means]


def test_a_curve_is_what_was_used_by_each_evaluation():
    curve = returns.curve(windows(9.0, 1.0, 1.0, 1.0), told(0.0, 10.0, 30.0, 20.0))
    assert [point["env_steps"] for point in curve] == [100, 200, 300, 400]
    assert [point["seconds"] for point in curve] == [1.0, 2.0, 3.0, 4.0]
    assert curve[3]["cpu_seconds"] == 8.0
    assert returns.reached(curve, 25.0)["env_steps"] == 300
    assert returns.reached(curve, 31.0) is None


def run(*means, seed=0, second=1.0):
    curve = returns.curve(windows(*[second] * len(means)), told(*means))
    taken = {"windows": windows(*[second] * len(means)), "evaluations": told(*means), "start_seconds": 3.0}
    return taken | {"seed": seed, "curve": curve, "failed": "", "machine": {"accelerator": None}}


def test_time_to_a_return_is_compared_by_the_median_over_the_seeds():
    runs = {
        "jaxrl": [run(5.0, 10.0), run(10.0, 10.0, seed=1), run(0.0, 10.0, seed=2)],
        "brax": [run(0.0, 0.0, 0.0, 10.0), run(0.0, 10.0, seed=1), run(*[0.0] * 5, 10.0, seed=2)],
    }
    result = returns.summarize(runs, [10.0])
    ratio = result.ratios["training s to 10: brax / jaxrl"]
    assert ratio.value == 4.0 / 2.0 and ratio.needed == 1.3
    assert [row[:3] for row in result.tables[0].rows] == [
        ["jaxrl to 10", "3 of 3", "200"],
        ["brax to 10", "3 of 3", "400"],
    ]


def test_a_peer_that_never_got_there_is_a_bound_and_not_a_time():
    runs = {"jaxrl": [run(10.0)], "brax": [run(0.0, 1.0, 2.0)]}
    result = returns.summarize(runs, [10.0])
    assert [name for name in result.ratios if "did not get there" in name] == list(result.ratios)
    assert result.ratios["env steps to 10: brax / jaxrl (at least: it did not get there)"].value == 3.0
    assert result.tables[0].rows[1] == ["brax to 10", "0 of 1", "–", "–", "–"]


def test_a_finished_run_is_not_repeated_and_one_by_other_rules_is(tmp_path):
    arguments = options(returns, "--targets", "10")
    path = tmp_path / "jaxrl-0.json"
    assert not returns.is_finished(path, "brax", arguments)
    path.write_text(json.dumps(run(5.0) | {"rules": returns.rules("brax", arguments)}))
    assert not returns.is_finished(path, "brax", arguments)
    path.write_text(json.dumps(run(5.0, 10.0) | {"rules": returns.rules("brax", arguments)}))
    assert returns.is_finished(path, "brax", arguments)
    assert not returns.is_finished(path, "brax", options(returns, "--targets", "11"))
    assert returns.is_finished(path, "brax", options(returns, "--targets", "11", "--max_env_steps", "200"))
    assert not returns.is_finished(path, "brax", options(returns, "--targets", "10", "--interval", "1"))


def test_a_run_of_ours_is_of_its_commit_and_one_of_a_peer_is_not(tmp_path, monkeypatch):
    arguments = options(returns, "--targets", "10")
    path = tmp_path / "a.json"
    for name, still in (("jaxrl", False), ("brax", True)):
        monkeypatch.setattr(returns.report, "commit", lambda: "before")
        path.write_text(json.dumps(run(5.0, 10.0) | {"rules": returns.rules(name, arguments)}))
        assert returns.is_finished(path, name, arguments)
        monkeypatch.setattr(returns.report, "commit", lambda: "now")
        assert returns.is_finished(path, name, arguments) is still


def test_growth_compares_the_second_half_of_a_run_with_the_first():
    slowing = [(100, 1.0, 50.0), (200, 2.0, 50.0), (300, 4.0, 51.0), (400, 6.0, 55.0)]
    time, memory = growth.ratios("ant", slowing).values()
    assert time.value == 2.0 and not time.holds
    assert memory.value == pytest.approx(1.1) and not memory.holds


def compilations(epochs, others, seconds):
    return {"functions": {start.EPOCH: [epochs, seconds], "jit(f)": [others, 0.5]}, "preparing": 1.0, "cache_hits": 0}


def test_starts_are_compared_turn_by_turn_and_compilations_counted():
    taken = {
        "cold": {"seconds": 20.0, "compilations": compilations(1, 3, 8.0), "later": compilations(1, 5, 8.0)},
        "warm": {"seconds": 4.0, "compilations": compilations(1, 3, 0.5), "later": compilations(1, 3, 0.5)},
    }
    parts = {
        name: [{"trace": 1.0, "lower": 1.0, "compile": seconds}]
        for name, seconds in (("epoch", 10.0), ("renewal", 1.0), ("environment", 8.0), ("physics", 4.0))
    }
    result = start.summarize(Problem("ant"), {"jaxrl_shared": [taken], "brax": [{"failed": "why"}]}, parts)
    values = {name.partition(": ")[2]: ratio.value for name, ratio in result.ratios.items()}
    assert values == {
        "jaxrl_shared, second start / first": 0.2,
        "compilations of the epoch of jaxrl_shared": 1,
        "jaxrl_shared, compiled after the first update": 2,
        "compiling the epoch / the environment's scan": 1.2,
        "compiling the epoch / the physics's scan": 2.0,
    }
    assert result.failed and result.tables[0].rows[1][:2] == ["brax", "why"]
    assert result.tables[0].rows[0] == ["jaxrl_shared", "20.0", "4.0", "0.20", "9.5", "2"]


def test_the_model_adds_kernels_bytes_and_products():
    device = model.Device(launch=0.5, bytes=10.0, flops=100.0)
    assert device.seconds(ahead.Work(kernels=2, bytes=30, products=200)) == 2 * 0.5 + 30 / 10 + 200 / 100


def test_the_model_is_fitted_to_what_was_measured():
    works = [ahead.Work(*work) for work in ((100, 1e3, 0), (200, 5e3, 1e4), (50, 9e3, 9e4), (300, 2e3, 5e4))]
    device = model.Device(launch=0.5, bytes=10.0, flops=100.0)
    assert model.fit(works, [device.seconds(work) for work in works]) == pytest.approx(device)


@pytest.mark.slow
def test_what_is_counted_beside_the_physics_is_the_nets():
    problem = Problem("inverted_double_pendulum", num_envs=8, unroll_length=4, num_minibatches=1, update_epochs=5)
    problem = problem._replace(iterations=1)
    parts = compiling.epoch(problem), compiling.physics(problem)
    whole, physics = (costs.of(function, *given).products for function, given in parts)
    sizes = (8, *problem.hidden_sizes)
    trunk = 2 * sum(inputs * outputs for inputs, outputs in zip(sizes, sizes[1:], strict=False))
    # For each step once to act, in each of five passes three times (forward, gradients of weights and of what goes in;
    # not of the observation), and the values of final and last observations.
    assert 15 < (whole - physics) / (8 * 4 * trunk) < 18


def test_the_problem_counts_its_steps():
    problem = Problem("ant", num_envs=4, unroll_length=3, iterations=2)
    assert (problem.env_steps_per_iteration, problem.env_steps_per_call) == (12, 24)
    assert "4 envs × 3 steps" in problem.sizes


def test_a_script_is_called_as_before():
    done = subprocess.run(
        [sys.executable, "benchmarks/speed.py", "--help"], capture_output=True, text=True, cwd=report.ROOT, check=True
    )
    assert "--systems" in done.stdout and "--json" in done.stdout


def test_infinite_times_are_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        report.write({"value": math.inf}, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_what_the_model_says_is_called_predicted(monkeypatch):
    works = {"physics": ahead.Work(10.0, 1e9, 1e9), "Brax PPO": ahead.Work(20.0, 2e9, 3e9)}
    nets = {"shared": ahead.Work(15.0, 1e9, 2e9), "separate": ahead.Work(18.0, 2e9, 2e9)}
    monkeypatch.setattr(ahead, "mesh", lambda: None)
    monkeypatch.setattr(model, "count", lambda part, problem, mesh: (works | nets)[part])
    monkeypatch.setattr(model, "fit", lambda works, seconds: model.Device(1.0, 1e8, 1e9))
    result = model.run(options(model))
    # The physics takes 10 + 10 + 1 s; with the nets it is 15 + 10 + 2 and 18 + 20 + 2.
    assert [ratio.value for ratio in result.ratios.values()] == pytest.approx([21 / 27, 21 / 40] * 3)
    assert all(name.startswith("PREDICTED") for name in result.ratios)
    calibration, prediction = result.tables
    assert [len(row) for row in calibration.rows] == [len(calibration.columns)] * len(model.MEASURED)
    assert [len(row) for row in prediction.rows] == [len(prediction.columns)] * 6
    assert "PREDICTED" in prediction.title and "PREDICTED" in result.figures[0].title


def test_growth_is_told_over_environments_and_over_env_steps(monkeypatch):
    def measure(contestants, repeats, seconds):
        num_envs = contestants["physics"].problem.num_envs
        return {"physics": rates(10.0 * num_envs), "jaxrl_shared": rates(5.0 * num_envs) | {"peak_rss_mb": 100.0}}

    monkeypatch.setattr(turns, "measure", measure)
    monkeypatch.setattr(growth, "long_run", lambda contestants, seconds: [(100, 1.0, 50.0), (200, 2.0, 50.0)])
    result = growth.run(options(growth, "--env", "ant", "--num_envs", "64", "128"))
    over_envs, over_steps = result.tables
    assert over_envs.rows == [["64", "640", "320", "0.50", "100"], ["128", "1,280", "640", "0.50", "100"]]
    assert over_steps.rows[1] == ["200", "2.0", "100", "50"]
    assert result.figures[0].series["jaxrl_shared"] == [(64, 320.0), (128, 640.0)] and not result.failed


def test_a_peer_on_the_host_that_cannot_be_measured_is_a_failure(monkeypatch):
    monkeypatch.setattr(
        turns,
        "measure",
        lambda contestants, repeats, seconds: {
            name: rates(30.0) if "jaxrl" in name else {"net": "", "absent": "pip"} for name in contestants
        },
    )
    result = host.run(options(host))
    assert result.failed and not result.ratios and len(result.tables) == 2


def test_forms_are_as_likely_alike_as_by_hand():
    curves = {
        "jax": [[[0, 1.0], [5, 3.0]], [[0, 3.0], [5, 5.0]]],
        "sooner": [[[0, 5.0], [5, 7.0]], [[0, 7.0], [5, 9.0]]],
    }
    found = forms.summarize(curves)
    told = {name: (round(ratio.value, 3), ratio.holds) for name, ratio in found.ratios.items()}
    # Of 2 and 4, of 6 and 8: t is 4 / sqrt(2), and with two degrees of freedom the chance 1 - t / sqrt(2 + t²).
    names = ("at the end", "of all evaluations")
    chances = {f"jax and sooner, {name}: chance if alike": (0.106, True) for name in names}
    assert told == chances | {f"sooner / jax, {name}": (2.333, True) for name in names}
    assert [row[1:3] for row in found.tables[0].rows] == [["2 4", "3 ± 1"], ["6 8", "7 ± 1"]]
    assert found.figures[0].series == {"jax": [(0, 2.0), (5, 4.0)], "sooner": [(0, 6.0), (5, 8.0)]}


def test_the_end_is_the_last_five_evaluations_and_the_target_is_reached_once():
    curve = [[step, return_] for step, return_ in enumerate([0.0, 6000.0, 1.0, 2.0, 3.0, 4.0, 5.0])]
    [row] = forms.summarize({"jax": [curve]}).tables[0].rows
    assert row == ["jax", "3", "3", "859", "1"]


def test_forms_are_of_the_runs_that_are_there(tmp_path, capsys):
    for form, value in (("jax", 7.0), ("sooner", 8.0)):
        (tmp_path / f"{form}-0").mkdir()
        row = {"env_steps": 40, "eval/episode_return": value}
        (tmp_path / f"{form}-0" / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    found = forms.run(options(forms, "--workdir", str(tmp_path), "--seeds", "0", "--env_steps", "40"))
    assert found.data["curves"] == {"jax": [[[40, 7.0]]], "sooner": [[[40, 8.0]]]}


def test_a_folder_of_another_run_and_a_form_that_is_not_there_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "jax-0" / "config.json"
    file.parent.mkdir()
    file.write_text(before := configs.to_json(jaxrl.configure({"env": {"suite": "probe", "name": "arms"}})))
    asked = options(forms, "--workdir", str(tmp_path), "--forms", "jax", "last", "--seeds", "0")
    with pytest.raises(ConfigError, match="cannot continue a run that began .* a new --workdir"):
        forms.run(asked)
    assert file.read_text() == before
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(report.Refused, match="--forms last is how a CPU steps; leave it out"):
        forms.run(asked)


def test_each_form_is_another_program_of_the_same_step():
    def counts(form):
        with forms.stepping(form):
            env = jaxrl.make_env("brax/ant", 2)
            state, _ = jax.eval_shape(env.reset, jax.random.key(0))
            text = str(jax.make_jaxpr(env.step)(state, jnp.zeros((2, 8))))
        return {name: text.count(f"= {name}") for name in ("scatter", "transpose")}

    jax_, sooner, last = map(counts, forms.FORMS)
    assert sooner["scatter"] == 0 < jax_["scatter"]  # of rows that are known
    assert jax_["transpose"] < last["transpose"]  # of states, to where the environments are last
