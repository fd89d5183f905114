"""Checkpoints come back bit for bit, a broken one is passed over aloud, a kill at any moment loses the last at most."""

import json
import os
import pickle
import resource
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.host import checkpoint
from jaxrl.types import ConfigError

CHILD = Path(__file__).with_name("checkpoint_child.py")
make_state = runpy.run_path(str(CHILD))["make_state"]


class Moments(NamedTuple):
    count: jax.Array
    mean: jax.Array


@flax.struct.dataclass
class EnvState:
    moments: Moments
    contacts: jax.Array
    key: jax.Array


def nasty_state():
    """Every kind of leaf that a training state may hold."""
    floats = jnp.array([0.0, -0.0, np.nan, -np.nan, np.inf, 1e-45, -1e-45, 3.4e38], jnp.float32)
    return {
        "env": EnvState(
            moments=Moments(count=jnp.int32(7), mean=floats),
            contacts=jnp.zeros((4, 0, 3), jnp.float32),
            key=jax.random.split(jax.random.key(3), 5),
        ),
        "rbg": jax.random.key(1, impl="rbg"),
        "no_keys": jax.random.split(jax.random.key(3), 5)[:0],
        "optimiser": (jnp.float32(0.5), [jnp.array([1, 2**31 - 1, -(2**31)], jnp.int32)]),
        "a/b.c ['d']": jnp.array([True, False]),
        "half": jnp.array([1.5, -0.0, np.nan], jnp.bfloat16),
        "bytes": jnp.array([0, 255], jnp.uint8),
        "wide": np.array([2**62, -1], np.int64),  # numpy's own: JAX would make it int32
        "nothing": None,
    }


def scrambled(state):
    """Another state of the same form."""

    def scramble(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jax.random.key_data(leaf) + 1, impl=jax.random.key_impl(leaf))
        return ~leaf if leaf.dtype == bool else leaf + np.ones((), leaf.dtype)

    return jax.tree.map(scramble, state)


def raw(leaf) -> bytes:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()


def config(**changes):
    merged = checkpoint.default_config()
    merged.update(changes)
    return merged


@pytest.fixture
def lines():
    return []


@pytest.fixture
def open_checkpointer(tmp_path, lines):
    """Opens RUN/checkpoints as one process of a run does; closed at the end."""
    opened = []

    def open_one(**changes):
        opened.append(checkpoint.Checkpointer(tmp_path / "checkpoints", config(**changes), lines.append))
        return opened[-1]

    yield open_one
    for checkpointer in opened:
        checkpointer.close()


def small(seed: int):
    return {"w": jnp.arange(1000.0) + seed, "key": jax.random.key(seed)}


def save_all(checkpointer, *steps, **metrics):
    for step in steps:
        checkpointer.save(small(step), step, metrics)
    assert checkpointer.wait()


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def break_checkpoint(directory: Path) -> None:
    """One bit of rot in the middle of the largest file, which holds arrays."""
    largest = max(files(directory), key=lambda path: path.stat().st_size)
    flip_bit(largest, largest.stat().st_size // 2)


def environment(num_devices: int) -> dict[str, str]:
    """Of a child with so many fake devices."""
    return os.environ | {
        # The other flags stay: who compiles otherwise computes other bits.
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={num_devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(checkpoint.__file__).parents[2]),
    }


# Round trips.


@pytest.mark.parametrize("version", [1, 2])
def test_every_kind_of_leaf_comes_back_bit_for_bit(open_checkpointer, lines, monkeypatch, version):
    state = nasty_state()
    writer = open_checkpointer()
    with monkeypatch.context() as patch:
        if version == 1:
            patch.setattr(checkpoint, "FORMAT_VERSION", 1)
            patch.setattr(
                checkpoint, "_lay", lambda leaves: {leaf.path: leaf.data for leaf in leaves if leaf.data.size}
            )
        writer.save(state, 4096, {"eval/episode_return": jnp.float32(3)})
        assert writer.close()

    def refuse(*_args, **_kwargs):
        raise AssertionError("pickle runs code that it finds in a file")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    restored, env_steps = open_checkpointer().restore(scrambled(nasty_state()))
    assert env_steps == 4096 and not lines
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for leaf, like in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert (type(leaf), leaf.dtype, leaf.shape, raw(leaf)) == (type(like), like.dtype, like.shape, raw(like))
    assert jax.random.key_impl(restored["rbg"]) == "rbg"
    assert checkpoint.fingerprint(restored) == checkpoint.fingerprint(state)


def test_template_may_be_abstract(open_checkpointer):
    checkpointer = open_checkpointer()
    save_all(checkpointer, 5)
    restored, _ = checkpointer.restore(jax.eval_shape(lambda: small(0)))
    assert checkpoint.fingerprint(restored) == checkpoint.fingerprint(small(5))


@pytest.mark.parametrize("lead", [(), (3,)])
def test_tree_that_is_a_vector_now_is_read_as_one(open_checkpointer, lead):
    kernel, bias = jnp.arange(6.0 * len(np.zeros(lead).reshape(-1))).reshape(*lead, 2, 3), jnp.ones((*lead, 2))
    old = {"count": jnp.int32(4), "mu": {"a": {"kernel": kernel}, "b": {"bias": bias}}}
    checkpointer = open_checkpointer()
    checkpointer.save(old, 5, {})
    assert checkpointer.wait()
    restored, _ = checkpointer.restore({"count": jnp.int32(0), "mu": jnp.zeros((*lead, 8))})
    expected = np.concatenate([kernel.reshape(*lead, 6), bias], axis=-1)
    np.testing.assert_array_equal(restored["mu"], expected)
    assert int(restored["count"]) == 4
    for mu in (jnp.zeros((*lead, 7)), jnp.zeros((9, *lead, 8)), jnp.zeros((*lead, 8), jnp.bfloat16)):
        with pytest.raises(ConfigError, match="mu'\\] is"):
            checkpointer.restore({"count": jnp.int32(0), "mu": mu})


class Actor(NamedTuple):
    env_state: dict


def test_what_environments_do_not_keep_any_more_is_left_behind(open_checkpointer):
    checkpointer = open_checkpointer()
    checkpointer.save(Actor({"read": jnp.ones(2), "derived": {"far": jnp.zeros(3), "near": jnp.ones(3)}}), 5, {})
    assert checkpointer.wait()
    restored, _ = checkpointer.restore(Actor({"read": jnp.zeros(2), "derived": {"far": None, "near": jnp.zeros(3)}}))
    assert restored.env_state["derived"]["far"] is None
    np.testing.assert_array_equal(restored.env_state["derived"]["near"], np.ones(3))
    with pytest.raises(ConfigError, match="near"):  # what is not there at all is another matter
        checkpointer.restore(Actor({"read": jnp.zeros(2), "derived": {"far": None}}))


def test_restored_state_runs_without_compiling_again(open_checkpointer):
    checkpointer = open_checkpointer()
    save_all(checkpointer, 5)
    epoch = jax.jit(lambda state: {**state, "w": state["w"] * 2}, donate_argnums=0)
    committed = jax.device_put(small(0), jax.devices()[0])
    for num_compiled, fresh in enumerate((small(0), committed), start=1):
        restored, _ = checkpointer.restore(fresh)
        epoch(fresh)
        epoch(restored)
        assert epoch._cache_size() == num_compiled


def test_nothing_saved_is_nothing_restored(open_checkpointer, lines):
    checkpointer = open_checkpointer()
    assert checkpointer.restore(small(0)) is None
    assert (checkpointer.steps(), checkpointer.latest(), checkpointer.best()) == ([], None, None)
    assert checkpointer.close() and not lines


def test_one_device_saves_and_four_restore(open_checkpointer, tmp_path):
    checkpointer = open_checkpointer()
    checkpointer.save(make_state(3), 64, {})
    assert checkpointer.wait()
    command = [sys.executable, str(CHILD), "restore", str(tmp_path / "checkpoints")]
    said = subprocess.run(command, env=environment(num_devices=4), check=True, capture_output=True, text=True)
    assert said.stderr == ""
    assert json.loads(said.stdout) == {
        "env_steps": 64,
        "fingerprint": checkpoint.fingerprint(make_state(3)),
        "devices": 4,
        "rows": 2,
        "placed_as_template": True,
    }


# The fingerprint.


@pytest.mark.parametrize(
    "other",
    [
        {"x": jnp.array([-0.0, 1.0])},
        {"x": jnp.array([0, 0x3F800000], jnp.int32)},  # the bits of 0.0 and 1.0
        {"x": jnp.array([[0.0, 1.0]])},
        {"y": jnp.array([0.0, 1.0])},
        {"x": jnp.array([0.0, 1.0]), "y": jnp.zeros((0,))},
    ],
    ids=["sign of zero", "dtype", "shape", "path", "another leaf"],
)
def test_fingerprint_tells_states_apart(other):
    state = {"x": jnp.array([0.0, 1.0])}
    assert checkpoint.fingerprint(state) == checkpoint.fingerprint({"x": np.array([0.0, 1.0], np.float32)})
    assert checkpoint.fingerprint(state) != checkpoint.fingerprint(other)


def test_fingerprint_tells_a_key_from_its_data():
    key = jax.random.key(0)
    assert checkpoint.fingerprint(key) != checkpoint.fingerprint(jax.random.key_data(key))


def test_leaf_that_is_no_array_is_refused():
    with pytest.raises(TypeError, match=r"state\['steps'\] is int"):
        checkpoint.fingerprint({"steps": 3})


# Saving in the background.


@pytest.fixture
def held_back(monkeypatch):
    """Holds the writing thread at its first act until the event is set."""
    event, digest = threading.Event(), checkpoint._digest

    def wait_and_digest(leaves):
        assert event.wait(timeout=60)
        return digest(leaves)

    monkeypatch.setattr(checkpoint, "_digest", wait_and_digest)
    yield event
    event.set()


def test_save_returns_before_it_writes_and_keeps_what_was_there(open_checkpointer, held_back):
    checkpointer = open_checkpointer()
    epoch = jax.jit(lambda w: w * 0 + 7, donate_argnums=0)
    state = {"w": epoch(jnp.arange(1000.0)) + 1, "numpy": np.arange(1000.0)}
    memory = state["w"].unsafe_buffer_pointer()
    checkpointer.save(state, 10, {})
    state["numpy"][:] = -1
    after = epoch(state["w"])
    # Donated in place: the snapshot does not hold on to the device's memory, and so the epoch costs no copy.
    assert state["w"].is_deleted() and after.unsafe_buffer_pointer() == memory
    assert checkpointer.steps() == []
    held_back.set()
    assert checkpointer.wait() and checkpointer.steps() == [10]
    restored, _ = checkpointer.restore({"w": after, "numpy": state["numpy"]})
    np.testing.assert_array_equal(restored["w"], np.full(1000, 8.0))
    np.testing.assert_array_equal(restored["numpy"], np.arange(1000.0))


def test_close_finishes_the_save_in_progress(open_checkpointer):
    checkpointer = open_checkpointer()
    checkpointer.save(small(1), 1, {})
    assert checkpointer.close() and checkpointer.steps() == [1]


def test_full_disk_is_one_line_and_the_next_save_tries_again(open_checkpointer, lines, capfd):
    checkpointer = open_checkpointer()
    noise = np.random.default_rng(0).standard_normal((20, 20_000))  # does not compress
    states = [{str(i): jnp.asarray(row + step, jnp.float32) for i, row in enumerate(noise)} for step in range(2)]
    checkpointer.save(states[0], 1, {})
    assert checkpointer.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # bytes in a file, as a full disk would allow
    try:
        checkpointer.save(states[1], 2, {})
        assert not checkpointer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (line,) = lines
    assert line.startswith("warning: checkpoint 2 could not be saved") and "File too large" in line and "\n" not in line
    assert checkpointer.steps() == [1]
    assert checkpoint.fingerprint(checkpointer.restore(states[1])[0]) == checkpoint.fingerprint(states[0])
    checkpointer.save(states[1], 2, {})
    assert checkpointer.wait() and checkpointer.steps() == [1, 2]
    assert capfd.readouterr().err == ""


def test_unwritable_place_is_reported_to_standard_error_by_default(tmp_path, capsys):
    (tmp_path / "file").touch()
    checkpointer = checkpoint.Checkpointer(tmp_path / "file" / "checkpoints", config())
    checkpointer.save(small(1), 1, {})
    assert not checkpointer.close()
    assert capsys.readouterr().err.count("warning: checkpoint 1 could not be saved (NotADirectoryError") == 1


# Broken checkpoints.


def test_flipped_bit_is_noticed_and_the_previous_checkpoint_used(open_checkpointer, lines, tmp_path, capfd):
    checkpointer = open_checkpointer()
    save_all(checkpointer, 10, 20)
    break_checkpoint(tmp_path / "checkpoints" / "20")
    restored, env_steps = open_checkpointer().restore(small(0))
    assert env_steps == 10 and checkpoint.fingerprint(restored) == checkpoint.fingerprint(small(10))
    assert len(lines) == 1 and lines[0].startswith("warning: checkpoint 20 is broken and passed over (")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "remove"])
def test_harm_to_any_file_is_noticed_or_harmless(open_checkpointer, lines, tmp_path, harm):
    checkpointer = open_checkpointer()
    save_all(checkpointer, 10, 20)
    known = {step: checkpoint.fingerprint(small(step)) for step in (10, 20)}
    passed_over = 0
    for path in files(tmp_path / "checkpoints" / "20"):
        content = path.read_bytes()
        if harm == "flip" and content:
            flip_bit(path, len(content) // 2)
        elif harm == "truncate":
            path.write_bytes(content[: len(content) // 2])
        elif harm == "empty":
            path.write_bytes(b"")
        elif harm == "remove":
            path.unlink()
        lines.clear()
        restored, env_steps = checkpointer.restore(small(0))
        assert checkpoint.fingerprint(restored) == known[env_steps]
        assert len(lines) == (env_steps == 10)
        passed_over += env_steps == 10
        path.write_bytes(content)
    assert passed_over >= 3  # the arrays, their index and the metadata


def test_empty_directory_and_leftovers_are_no_checkpoints(open_checkpointer, lines, tmp_path):
    save_all(open_checkpointer(), 10)
    directory = tmp_path / "checkpoints"
    for name in ("20", "30.orbax-checkpoint-tmp", "40.deleting", "050", "plots"):
        (directory / name).mkdir()
    (directory / "60").touch()
    checkpointer = open_checkpointer()
    assert checkpointer.steps() == [10] and checkpointer.latest() == 10
    assert checkpointer.restore(small(0))[1] == 10
    assert lines == ["warning: checkpoint 20 is broken and passed over (ValueError: the directory holds no checkpoint)"]
    save_all(checkpointer, 15)
    assert sorted(path.name for path in directory.iterdir()) == ["050", "10", "15", "60", "plots"]


def test_run_that_fell_back_saves_over_the_broken_checkpoints(open_checkpointer, lines, tmp_path):
    save_all(open_checkpointer(keep_latest=3), 10, 20, 30)
    for step in ("20", "30"):
        break_checkpoint(tmp_path / "checkpoints" / step)
    checkpointer = open_checkpointer(keep_latest=1)
    assert checkpointer.restore(small(0))[1] == 10 and len(lines) == 2
    save_all(checkpointer, 20)  # a broken 30 must not count as the latest and outlive it
    assert checkpointer.steps() == [20]
    assert checkpoint.fingerprint(checkpointer.restore(small(0))[0]) == checkpoint.fingerprint(small(20))


def test_saving_the_restored_state_again_never_leaves_the_run_without_it(open_checkpointer, tmp_path):
    save_all(open_checkpointer(keep_latest=1), 10)
    checkpointer = open_checkpointer(keep_latest=1)
    state, env_steps = checkpointer.restore(small(0))
    before = {path: path.stat().st_ino for path in files(tmp_path)}
    checkpointer.save(state, env_steps, {})
    assert checkpointer.wait()
    assert {path: path.stat().st_ino for path in files(tmp_path)} == before


def test_changed_metadata_is_noticed(open_checkpointer, lines, tmp_path):
    save_all(open_checkpointer(), 10, **{"eval/episode_return": 5.0})
    save_all(open_checkpointer(), 20, **{"eval/episode_return": 1.0})
    path = tmp_path / "checkpoints" / "20" / "meta" / "metadata"
    path.write_text(path.read_text().replace('"eval/episode_return": 1.0', '"eval/episode_return": 9.0'))
    checkpointer = open_checkpointer()
    assert checkpointer.best() == 10
    assert checkpointer.restore(small(0))[1] == 10 and "metadata was changed" in lines[0]


def test_renamed_checkpoint_is_noticed(open_checkpointer, lines, tmp_path):
    save_all(open_checkpointer(), 10, 20)
    (tmp_path / "checkpoints" / "20").rename(tmp_path / "checkpoints" / "99")
    assert open_checkpointer().restore(small(0))[1] == 10 and len(lines) == 1


def test_no_readable_checkpoint_is_an_error_and_not_a_fresh_start(open_checkpointer, lines, tmp_path):
    save_all(open_checkpointer(), 10)
    break_checkpoint(tmp_path / "checkpoints" / "10")
    with pytest.raises(ConfigError, match="none of the checkpoints in .* can be read; use a new --workdir"):
        open_checkpointer().restore(small(0))
    assert len(lines) == 1


def test_the_checkpoint_asked_for_or_none(open_checkpointer, tmp_path):
    checkpointer = open_checkpointer()
    save_all(checkpointer, 10, 20)
    assert checkpointer.restore(small(0), 10)[1] == 10
    with pytest.raises(ConfigError, match="checkpoint 15 is not in .*; there are 10, 20"):
        checkpointer.restore(small(0), 15)
    break_checkpoint(tmp_path / "checkpoints" / "20")
    with pytest.raises(ConfigError, match="checkpoint 20 in .* is broken"):
        checkpointer.restore(small(0), 20)


# Checkpoints of another run.


@pytest.mark.parametrize(
    "change, difference",
    [
        ({"w": jnp.zeros((500,))}, r"state\['w'\] is float32\[1000\] in the checkpoint and float32\[500\] in this run"),
        ({"w": jnp.zeros((1000,), jnp.bfloat16)}, r"float32\[1000\] in the checkpoint and bfloat16\[1000\]"),
        ({"key": jax.random.key(0, impl="rbg")}, r"state\['key'\] is key<fry>\[\] in the checkpoint and key<rbg>\[\]"),
        ({"new": jnp.zeros(3)}, r"state\['new'\] is not in the checkpoint"),
        ({"w": None}, r"state\['w'\] is in the checkpoint and not in this run"),
    ],
    ids=["shape", "dtype", "key implementation", "missing", "surplus"],
)
def test_checkpoint_that_does_not_fit_is_refused_with_the_difference(open_checkpointer, change, difference):
    checkpointer = open_checkpointer()
    save_all(checkpointer, 10)
    cure = "use a new --workdir, or the config and the jaxrl of its start"
    with pytest.raises(ConfigError, match=f"checkpoint 10 in .* does not fit this run: .*{difference}.*; {cure}"):
        checkpointer.restore(small(0) | change)


def test_checkpoint_of_another_format_is_refused(open_checkpointer, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 3)
    checkpointer = open_checkpointer()
    save_all(checkpointer, 10)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="format_version=3 and this jaxrl reads 1 to 2"):
        checkpointer.restore(small(0))


def test_arrays_that_were_written_as_a_compressed_database_are_read(open_checkpointer, monkeypatch):
    """As Orbax does it of its own accord, and jaxrl did."""
    import orbax.checkpoint as ocp

    from jaxrl.host import orbax_files

    handler = ocp.PyTreeCheckpointHandler
    usual = lambda use_ocdbt, use_compression, **rest: handler(**rest)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(orbax_files.ocp, "PyTreeCheckpointHandler", usual)
        checkpointer = open_checkpointer()
        save_all(checkpointer, 10)
    assert list((checkpointer._directory / "10" / "state").glob("manifest.ocdbt"))
    state, step = open_checkpointer().restore(small(0))
    assert step == 10
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(small(10)), strict=True):
        assert raw(one) == raw(other)


# What is kept.


@pytest.mark.parametrize(
    "changes, kept",
    [
        ({}, {50, 60, 30}),
        ({"keep_latest": 1, "keep_best": 0}, {60}),
        ({"keep_latest": 1, "keep_best": 2}, {60, 30, 20}),
        ({"keep_latest": 1, "keep_best": 99}, {60, 30, 20, 10}),
        ({"keep_latest": 1, "keep_best": 0, "keep_every": 25}, {60, 30, 50}),  # the first at or after 25, and after 50
    ],
)
def test_latest_best_and_every_are_retained(changes, kept):
    scores = {10: 1.0, 20: 3.0, 30: 3.0, 40: None, 50: None, 60: None}
    assert checkpoint.retained(scores, config(**changes)) == kept


def test_retention_on_disk_goes_on_after_a_restart(open_checkpointer):
    returns = {10: 1.0, 20: 9.0, 30: None, 40: float("nan"), 50: 2.0, 60: 3.0}
    changes = {"keep_latest": 2, "keep_best": 1, "keep_every": 30}
    for step, score in returns.items():
        checkpointer = open_checkpointer(**changes)  # each save by a process that knows only the disk
        save_all(checkpointer, step, **({} if score is None else {"eval/episode_return": score}))
    assert checkpointer.steps() == [20, 30, 50, 60]
    assert (checkpointer.best(), checkpointer.latest()) == (20, 60)
    assert checkpoint.fingerprint(checkpointer.restore(small(0), 20)[0]) == checkpoint.fingerprint(small(20))


def test_checkpoints_without_evaluation_are_never_best(open_checkpointer):
    checkpointer = open_checkpointer()
    save_all(checkpointer, 10, 20, **{"rollout/episode_return": 5.0})
    assert checkpointer.best() is None


# Kills.

TEMPORARY = "/3.orbax-checkpoint-tmp"
KILLS = {  # when: audit event, end of the path, who kills, the latest checkpoint then
    "as the first directory appears": ("os.mkdir", TEMPORARY, "self", 2),
    "between arrays and commit": ("open", f"{TEMPORARY}/state.orbax-checkpoint-tmp/_METADATA", "self", 2),
    "before the final rename": ("os.rename", TEMPORARY, "self", 2),
    "in a deletion": ("shutil.rmtree", "/1.deleting", "self", 3),
    "from outside while the arrays are written": ("os.mkdir", "/state.orbax-checkpoint-tmp", "parent", None),
}


@pytest.fixture(scope="module")
def saving_children(tmp_path_factory):
    """A process that saves for each of KILLS, side by side, as they mostly import."""
    children = {}
    for name, (event, path_end, who, _) in KILLS.items():
        directory = tmp_path_factory.mktemp("kill") / "checkpoints"
        command = [sys.executable, str(CHILD), "save", str(directory), event, path_end, who]
        children[name] = directory, subprocess.Popen(command, env=environment(num_devices=1), stdout=subprocess.PIPE)
    yield children
    for _, child in children.values():
        child.kill()
        child.communicate()


@pytest.mark.parametrize("when", KILLS)
def test_sigkill_in_the_middle_of_saving_loses_no_more_than_the_last(saving_children, lines, when):
    directory, child = saving_children[when]
    _, _, who, latest = KILLS[when]
    if who == "parent":
        for _ in range(3):
            assert child.stdout.readline() == b"now\n"
        child.kill()
    assert child.wait(timeout=120) == -signal.SIGKILL
    checkpointer = checkpoint.Checkpointer(directory, config(), lines.append)
    state, env_steps = checkpointer.restore(make_state(0))
    assert env_steps == (latest or checkpointer.latest())
    assert checkpoint.fingerprint(state) == checkpoint.fingerprint(make_state(env_steps))
    checkpointer.save(make_state(99), 99, {})
    assert checkpointer.close() and not lines
    assert checkpointer.latest() == 99 and all(path.name.isdecimal() for path in directory.iterdir())
