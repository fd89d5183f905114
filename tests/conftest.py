"""The strict switches, set before jax wakes up: they hold for the whole suite."""

import configparser
import os
import pathlib
import re
import sys
import tempfile


def cache_folder() -> str:
    """Where compiled programs are kept, so that the next run of the suite need not compile them again."""
    folder = pathlib.Path("~/.cache/jaxrl-tests").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to
        folder = pathlib.Path(tempfile.gettempdir(), f"jaxrl-tests-{os.getuid()}")
    return str(folder)


os.environ.setdefault("JAX_PLATFORMS", "cpu")
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")  # MuJoCo looks at it once, as it is imported
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache_folder())
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

from jaxrl.host import sharding  # noqa: E402

jax.config.update("jax_debug_key_reuse", True)

# The same examples on every run: a failure is of the change under test, not of the dice.
hypothesis.settings.register_profile("jaxrl", deadline=None, max_examples=20, derandomize=True, database=None)
hypothesis.settings.load_profile("jaxrl")


def pytest_configure(config):
    """Wakes XLA up with eight devices; processes that a test starts have one, unless it says otherwise.

    XLA compiles quickly, as that is most of what tests do; with `-m learning` as for a user, as those train for long.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if not re.search(r"(?<!not )\blearning\b", config.option.markexpr):
        flags += ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
    # Eight devices meet for each sum, on as few cores as there are: where others compute too, that may take a while.
    shared = [
        "--xla_force_host_platform_device_count=8",
        "--xla_cpu_collective_call_terminate_timeout_seconds=300",
    ]
    os.environ["XLA_FLAGS"] = " ".join([*flags, *shared])
    jax.devices()
    os.environ["XLA_FLAGS"] = " ".join([*flags, "--xla_force_host_platform_device_count=1"])


@pytest.fixture(autouse=True, scope="session")
def one_device():
    """Trainings have the first device alone, as on a laptop: eight on few cores take long, and teach only those tests
    something that name them, `sharding.mesh(jax.devices())`."""
    mesh = sharding.mesh
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "mesh", lambda devices=None: mesh(devices or jax.devices()[:1]))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks what needs an extra, with its name and `extra`: `make test` leaves that out, .ci/run installs and runs it.

    A test that is given a suite (a tuple that begins with its name) or an experiment (a path) needs the suite's extra.
    """
    setup = configparser.ConfigParser()
    setup.read(pathlib.Path(__file__).parent.parent / "setup.cfg")
    extras = {extra.replace("-", "_") for extra in setup["options.extras_require"]}  # older pips know no _ in an extra
    for item in items:
        given = item.callspec.params.values() if hasattr(item, "callspec") else ()
        needed = {marker.name for marker in item.iter_markers()} | {suite_of(value) for value in given}
        for extra in extras & needed:
            item.add_marker(extra)
            item.add_marker(pytest.mark.extra)
            item.user_properties.append(("extra", extra))  # for the report that .ci/run reads


def suite_of(value) -> str | None:
    """The suite of an experiment, or of a (suite, name) pair."""
    if isinstance(value, pathlib.Path):
        named = re.search(r'"suite": "(\w+)"', value.read_text())
        return {"torch_bridge": "simulators"}.get(named[1], named[1]) if named else None
    return value[0] if isinstance(value, tuple) and value and isinstance(value[0], str) else None


@pytest.fixture(autouse=True)
def strict_functions(request):
    """Tests of pure functions fail on any NaN on the way, and on an axis that broadcasting would add by itself.

    Not the rest of the suite: brax and the normaliser of observations ([T, N, ...] less [...]) broadcast on purpose,
    and the guard's tests make NaNs to see them caught.
    """
    if "functional" not in request.path.parts:
        yield
        return
    with jax.debug_nans(True), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def forgotten_modules(tmp_path_factory):
    """What a test imports from a folder of its own is forgotten after it: another may lay a module of that name."""
    known = set(sys.modules)
    yield
    folders = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - known:
        spec = getattr(sys.modules[name], "__spec__", None)
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        if any(place and place.startswith(folders) for place in places):
            del sys.modules[name]


@pytest.fixture
def keys_unchecked():
    """For tests that vmap a scan over keys: jax's checker takes vmap's own transposition of the keys for a use.

    And for those that trace a whole suite, whose keys are its own affair: of Craftax's the check takes minutes.
    """
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture
def keys_unchecked_in_threads():
    """As `keys_unchecked`, which holds for its own thread alone: programs are compiled on others."""
    jax.config.update("jax_debug_key_reuse", False)
    yield
    jax.config.update("jax_debug_key_reuse", True)
