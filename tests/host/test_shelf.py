"""Programs of earlier processes: the same bits without tracing, and none that the code, the config or the physics left.

Here an earlier process is an earlier start in this one, but for the last test.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import jaxrl
from jaxrl.acting import epoch as epochs
from jaxrl.envs import probe
from jaxrl.host import program, sharding, shelf

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SMALL = {
    "env.suite": "probe",
    "env.name": "target",
    "network.hidden_sizes": (16, 16),
    "ppo.num_envs": 64,
    "ppo.unroll_length": 8,
    "ppo.num_minibatches": 2,
    "eval.episodes": 16,
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache in which the programs of `start()` are."""
    cache = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch, using(cache):
        patch.setattr(shelf, "_BEGAN", time.time() + 3600)
        start()
    return cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The shelves of an empty cache, and code that has been left alone for long."""
    monkeypatch.setattr(shelf, "_BEGAN", time.time() + 3600)
    with using(tmp_path / "cache"):
        yield tmp_path / "cache" / "shelf"


@pytest.fixture
def started(kept, folder):
    """The shelves of a cache in which the programs of `start()` are."""
    shutil.copytree(kept, folder.parent)
    return folder


@contextlib.contextmanager
def using(cache):
    before = jax.config.jax_compilation_cache_dir
    try:
        use(cache)
        yield
    finally:
        use(before)


def use(cache):
    jax.config.update("jax_compilation_cache_dir", cache and str(cache))
    compilation_cache.reset_cache()


@pytest.fixture
def traced(monkeypatch):
    """A list that grows by one whenever an iteration is traced."""
    times, rollout = [], epochs.rollout
    monkeypatch.setattr(epochs, "rollout", lambda *arguments: times.append(1) or rollout(*arguments))
    return times


def start(devices=1, code=(), seed=3, **overrides):
    config = jaxrl.configure({}, SMALL | overrides)
    mesh = sharding.mesh(jax.devices()[:devices])
    source = program.make(config, mesh)
    programs = program.compile(source, mesh, seed, shelf.find(config, mesh, source.env, code))
    return mesh, programs


def outcome(started):
    """All numbers of two epochs and an evaluation, as bytes."""
    mesh, programs = started
    state = programs.init()
    for length in (1, 2):
        state, metrics = programs.epoch(state, jax.device_put(np.int32(length), sharding.replicated(mesh)))
    evaluated = programs.evaluate(state)
    plain = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    return [np.asarray(plain(leaf)).tobytes() for leaf in jax.tree.leaves((state, metrics, evaluated))]


@pytest.mark.parametrize("devices", [1, 8])
def test_the_second_start_traces_nothing_and_gives_the_same_bits(devices, traced):
    first = start(devices)
    assert len(traced) == 1
    second = start(devices)
    assert len(traced) == 1
    assert outcome(first) == outcome(second)
    templates = [jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), built[1].template) for built in (first, second)]
    assert templates[0] == templates[1]
    state = second[1].init()
    second[1].epoch(state, jax.device_put(np.int32(1), sharding.replicated(second[0])))
    assert state.actor.obs.is_deleted()  # the state that goes in is gone, as ever


def test_another_seed_is_an_argument(started, traced):
    assert outcome(start(seed=4)) != outcome(start(seed=3))
    assert not traced


def test_another_config_is_traced_and_compiled_only_where_it_makes_another_program(started, traced, compiled_names):
    start(**{"ppo.learning_rate": 1e-2})  # a number that goes in
    assert len(traced) == 1
    assert not {"jit(epoch)", "jit(evaluate)"} & set(compiled_names)
    start(**{"ppo.unroll_length": 4})
    assert len(traced) == 2
    assert "jit(epoch)" in compiled_names


@pytest.fixture
def compiled_names():
    """A list of the functions that XLA compiles."""
    names = []

    def listen(event, _, fun_name="", **__):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def test_other_code_is_another_run(tmp_path, started, traced):
    file = tmp_path / "experiment.py"
    file.write_text("1")
    start(code=(file,))  # of which the record says nothing
    start(code=(file,))
    assert len(traced) == 1
    file.write_text("2")
    start(code=(file,))
    assert len(traced) == 2
    start(code=(file,))
    assert len(traced) == 2  # the new is kept in the place of the old
    file.unlink()
    start(code=(file,))
    assert len(traced) == 3


def test_a_module_that_was_not_there_is_other_code(tmp_path, started, traced, monkeypatch):
    plug_in = types.ModuleType("plug_in")
    plug_in.__file__ = str(tmp_path / "plug_in.py")
    Path(plug_in.__file__).write_text("")
    start()
    assert not traced
    monkeypatch.setitem(sys.modules, "plug_in", plug_in)
    start()
    assert len(traced) == 1


@pytest.mark.parametrize("amount", [1.0, 2.0])
def test_another_environment_of_that_name_is_another_run(traced, monkeypatch, amount):
    """As where a file that no import shows, or a registry, holds other physics."""
    rule = probe.RULES["target"]

    def paying(amount):
        amounts = np.asarray([amount, 0.0], np.float32)  # the text of a program shows its type only

        def paid(config):
            def pay(*arguments):
                reward, terminated = rule(config).pay(*arguments)
                return reward * jnp.asarray(amounts).sum(), terminated

            return rule(config)._replace(pay=pay)

        monkeypatch.setitem(probe.RULES, "target", paid)

    paying(1.0)
    start()
    paying(amount)
    start()
    assert len(traced) == amount


def test_a_transformed_environment_has_a_shelf_too(traced):
    outcomes = [outcome(start(**{"env.frame_stack": 2})) for _ in range(2)]
    assert len(traced) == 1
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("which", ["run", "program"])
@pytest.mark.parametrize("damage", [lambda body: body[:-1] + b"?", lambda body: body[:100], lambda body: b""])
def test_what_is_damaged_is_made_again(started, traced, which, damage):
    first = outcome(start())
    for file in started.glob(f"{which}-*"):
        file.write_bytes(damage(file.read_bytes()))
    for _ in range(2):
        assert outcome(start()) == first
        assert len(traced) == 1


class One(NamedTuple):
    x: jax.Array


class Other(NamedTuple):
    x: jax.Array


def test_a_program_of_another_type_is_another_though_it_computes_the_same(folder):
    config = jaxrl.configure({}, SMALL)
    mesh = sharding.mesh(jax.devices()[:1])
    place = shelf.find(config, mesh, program.make(config, mesh).env, ())
    for kind in (One, Other, One):
        lowered = jax.jit(lambda state: type(state)(state.x + 1)).lower(kind(jnp.zeros(2)))
        assert isinstance(place.compile("add", lowered, {})(kind(jnp.zeros(2))), kind)
    assert len(list(folder.glob("program-*"))) == 2


def test_code_that_was_changed_as_the_process_began_is_not_trusted(started, monkeypatch, tmp_path):
    """The process may have imported what it was before."""
    before = {file: file.read_bytes() for file in started.glob("run-*")}
    file = tmp_path / "experiment.py"
    file.write_text("")
    monkeypatch.setattr(shelf, "_BEGAN", time.time() + shelf.UNSETTLED - 5)
    start(code=(file,))
    assert {file: file.read_bytes() for file in started.glob("run-*")} == before


def test_a_folder_that_cannot_be_written_to_is_no_mistake(folder, traced):
    folder.parent.mkdir()
    folder.write_text("in the way")
    start()
    assert len(traced) == 1


def test_an_environment_that_calls_python_is_never_kept(folder, monkeypatch):
    """Its program calls what was in the process that made it."""
    rule = probe.RULES["target"]
    shape = jax.ShapeDtypeStruct((), np.float32)

    def calling(config):
        def pay(*arguments):
            reward, terminated = rule(config).pay(*arguments)
            return jax.pure_callback(lambda x: x, shape, jnp.float32(reward), vmap_method="sequential"), terminated

        return rule(config)._replace(pay=pay)

    monkeypatch.setitem(probe.RULES, "target", calling)
    start(**{"ppo.num_envs": 4, "eval.episodes": 2})
    assert not list(folder.glob("run-*"))


def test_who_has_no_shelf(tmp_path):
    config = jaxrl.configure({}, SMALL)
    mesh = sharding.mesh(jax.devices()[:1])
    env = program.make(config, mesh).env
    assert shelf.find(config, mesh, env, ())
    config.network.module = "package.module"
    assert not shelf.find(config, mesh, env, ())
    config.network.module = ""
    assert not shelf.find(config, mesh, env._replace(spec=env.spec._replace(traceable=False)), ())
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    for cache in ("gs://bucket/cache", in_the_way, None):
        jax.config.update("jax_compilation_cache_dir", cache and str(cache))
        assert not shelf.find(config, mesh, env, ())


def test_what_nobody_uses_makes_room(started, monkeypatch):
    old = set(started.iterdir())
    size = sum(file.stat().st_size for file in old)
    for file in old:
        os.utime(file, (0, 0))
    monkeypatch.setattr(shelf, "MOST_BYTES", int(1.5 * size))
    start(**{"network.hidden_sizes": (16, 8)})
    left = set(started.iterdir())
    assert sum(file.stat().st_size for file in left) <= 1.5 * size
    assert len(left - old) == 5  # a record and four programs


LEFT_ALONE = "from jaxrl.host import shelf\nshelf._BEGAN += 3600\n"  # as if all code had been for an hour
RUN = LEFT_ALONE + "import runpy\nrunpy.run_module('jaxrl.train', run_name='__main__', alter_sys=True)\n"


@pytest.fixture
def train(tmp_path, folder):
    """A function that trains in a process: (how Python is begun, name of the run) -> files on the shelf, numbers."""

    def run(begin, name):
        flags = [f"--config={HERE / 'probe_experiment.py'}", f"--workdir={tmp_path / name}"]
        path = os.pathsep.join(map(str, (tmp_path, ROOT)))
        environ = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder.parent), "PYTHONPATH": path}
        subprocess.run([sys.executable, *begin, *flags], check=True, capture_output=True, env=environ, cwd=ROOT)
        rows = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        numbers = [{key: row[key] for key in row if not key.startswith(("speed/", "wall_"))} for row in rows]
        return {file.name: file.stat().st_ino for file in folder.glob("*")}, numbers

    (tmp_path / "sitecustomize.py").write_text(LEFT_ALONE)
    return run


def test_the_command_line_goes_to_the_shelf(train):
    (kept, first), (still, second) = (train(["-m", "jaxrl.train"], name) for name in "ab")
    assert len(kept) == 6  # five programs, and which they are
    assert kept == still  # no file was written anew
    assert first == second


def test_a_script_that_runs_the_command_does_not(train):
    # It may have put its own code in the place of what the files say.
    kept, _ = train(["-c", RUN], "a")
    assert not kept
