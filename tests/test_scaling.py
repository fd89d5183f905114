"""The cost model of benchmarks/scaling.py against numbers worked out by hand, and against the program it speaks of."""

import json

import jax
import pytest

import jaxrl
from benchmarks import scaling
from jaxrl.host import program


def test_parameters_are_those_of_the_network():
    # (2 + 1)·3 + (3 + 1)·4 = 25 a torso; (4 + 1)·1 means, 1 deviation, 4 + 1 of the value: 11.
    assert scaling.parameters(2, 1, (3, 4)) == 2 * 25 + 11
    assert scaling.parameters(2, 1, (3, 4), shared=True) == 25 + 11
    overrides = {"env.suite": "probe", "env.name": "target", "network.hidden_sizes": (3, 4), "ppo.num_envs": 8}
    source = program.make(jaxrl.configure({}, overrides | {"ppo.num_minibatches": 2}), None)
    agent = jax.eval_shape(lambda: source.algorithm.init(jax.random.key(0), source.algorithm.hyper))
    assert program.num_parameters(agent) == 61


LOAD = scaling.Workload(parameters=1000, envs=64, length=8, minibatches=4, passes=4)


def test_sixteen_steps_of_adam_send_sixteen_gradients():
    assert scaling.sums_an_iteration(LOAD) == (16, 24)
    assert scaling.bytes_an_iteration(LOAD) == 16 * 4000


def test_a_ring_of_eight_gpus_takes_fourteen_steps():
    # A few bytes, LL: 3.6 + 14 · 0.47 µs. Many, Simple: 8.4 + 14 · 3.4 µs and 14/8 of the bytes at 450 GB/s.
    assert scaling.nvlink(8, 0) == pytest.approx(10.18e-6)
    assert scaling.nvlink(8, 8e8) == pytest.approx(56e-6 + 1.4e9 / 450e9)
    assert scaling.nvlink(1, 8e8) == 0.0


def test_hosts_are_joined_by_a_tree():
    # 32 hosts: 4.4 + 2 · (7 · 0.52 · 1.8 + 5 · 5) µs, and twice the bytes at 400 / 3.8 GB/s.
    assert scaling.infiniband(256, 0) == pytest.approx(67.504e-6)
    assert scaling.infiniband(256, 4e6) - scaling.infiniband(256, 0) == pytest.approx(8e6 * 3.8 / 400e9)
    assert scaling.infiniband(8, 4e6) == scaling.nvlink(8, 4e6)


def test_a_torus_takes_its_hops_or_its_bytes_there_and_back():
    # 16 x 16: half way around each ring is 8 hops, 16 for both, of 1 µs, twice; two rings are 180 GB/s.
    assert scaling.torus("v5e", 256, 4e5) == pytest.approx(32e-6)
    assert scaling.torus("v5e", 256, 18e6) == pytest.approx(2 * 18e6 / 180e9)
    # 4 x 4 is no torus: lines of 3 hops, of half the bandwidth.
    assert scaling.torus("v5e", 16, 0) == pytest.approx(12e-6)
    assert scaling.torus("v5e", 16, 9e6) == pytest.approx(2 * 9e6 / 90e9)
    # 4 x 8 x 8 of a v5p: 2 + 4 + 4 hops.
    assert scaling.torus("v5p", 256, 0) == pytest.approx(20e-6)
    assert scaling.torus("v5p", 1, 1e9) == 0.0


def test_the_physics_is_what_was_measured_and_on_a_line_between():
    for envs, rate in scaling.H200_ANT.items():
        assert envs / scaling.physics_step(envs) == pytest.approx(rate)
    middle = (8192 / 5.93e6 + 16384 / 6.85e6) / 2
    assert scaling.physics_step(12288) == pytest.approx(middle)
    # Below the smallest, the line of the two smallest goes on: 2 · 1.0667 - 1.3814 ms at no environments.
    assert scaling.physics_step(0) == pytest.approx(2 * 4096 / 3.84e6 - 8192 / 5.93e6)


@pytest.mark.parametrize("share", [scaling.BRAX_SHARE, scaling.GOAL_SHARE])
def test_one_device_has_the_share_of_the_physics_that_it_is_given(share):
    load = scaling.ANT
    assert load.envs * load.length / scaling.compute(load, share) == pytest.approx(share * 5.93e6)


def test_weak_scaling_loses_what_is_waited_for():
    one, many = scaling.weak(scaling.ANT, "v5e", 0.85, [1, 256])
    assert (one["efficiency"], one["exchange_ms"]) == (1.0, 0.0)
    # 16 gradients and 24 small sums, of 32 µs each.
    assert many["exchange_ms"] == pytest.approx(40 * 0.032)
    assert many["efficiency"] == pytest.approx(one["iteration_ms"] / (one["iteration_ms"] + 1.28))
    assert many["steps_per_second"] == pytest.approx(256 * one["steps_per_second"] * many["efficiency"])


def test_strong_scaling_is_bounded_by_the_step_of_few_environments():
    rows = scaling.strong(scaling.ANT, 8192, "H200", 0.85, [1, 2, 4, 8])
    assert rows[0]["speedup"] == 1.0
    assert rows[1]["physics_ms"] == pytest.approx(16e3 * 4096 / 3.84e6)
    fewest = 16 * scaling.physics_step(0) + 16 * scaling.STEP_FLOOR
    assert rows[0]["speedup"] < rows[-1]["speedup"] < 1e-3 * rows[0]["iteration_ms"] / fewest


def test_a_save_is_mostly_environments():
    told = scaling.checkpoint(LOAD, 16, "H200")
    assert told == {"devices": 16, "agent": 12_000, "environments": 16 * 64 * 5080, "a_host": 8 * 64 * 5080}


def test_the_tables_are_printed_and_written(tmp_path, capsys):
    scaling.main(["--json", str(tmp_path / "tables.json")])
    tables = json.loads((tmp_path / "tables.json").read_text())
    assert tables["workload"]["parameters"] == 97_233  # jaxrl's own count of its ant with two nets
    printed = capsys.readouterr().out
    for title in tables:
        assert f"\n{title}\n\n| " in printed
