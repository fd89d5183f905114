"""Programs that earlier processes compiled, found again without tracing and lowering them: half of a second start.

JAX's own cache is asked with the lowered program. The shelf is asked with what a program follows from. The config, the
settings of JAX and the machine name its file. What lies in it counts while every file of code is as it was, and while
the reset and the step of the environment, traced anew, are as they were: they may follow from data that no import
shows. A config that names code or files of the user's has no shelf.
"""

import concurrent.futures
import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import os
import pickle
import platform
import re
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.sharding import Mesh
from jax.stages import Compiled, Lowered
from ml_collections import ConfigDict

from jaxrl import cores
from jaxrl.envs import spaces
from jaxrl.host import files, keys, sharding
from jaxrl.types import Environment

PLATFORMS = ("cpu",)  # where programs have been seen to come back as they were
MOST_BYTES = 2**30  # of all programs that are kept, a few MB each
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
VARIABLES = ("JAX", "XLA", "TF_", "MUJOCO")  # beginnings of their names
WHERE = "compilation_cache_dir"  # a setting of JAX that may change: caches are moved
ARGUMENTS = ("seed",)  # of the programs, which they do not follow from
UNSETTLED = 60.0  # seconds before a process for which code must have been left alone, to be what it has imported

_BEGAN = time.time()
_INSTALLED = tuple(sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib", "stdlib"))


class Shelf:
    """The programs of one run, in files beside those of JAX's cache: each by its content, and which they are."""

    def __init__(self, folder: Path, run: list, machine: dict, mesh: Mesh, env: Environment, sources: tuple[Path, ...]):
        """The shelf; `find` finds it.

        Args:
            folder: of all shelves.
            run, machine: what the programs follow from beside the code.
            mesh, env: of the run.
            sources: files of code that runs without being imported.
        """
        self._folder, self._machine, self._mesh, self._env, self._sources = folder, machine, mesh, env, sources
        self._record = folder / f"run-{_digest([run, machine])}"
        self._made: dict[str, str] = {}  # files of programs by their names; '' for one that cannot be kept

    def load(self) -> dict[str, Compiled]:
        """The programs by their names; {} if there are none, or they may not be those of this code any more."""
        try:
            stamps, fingerprint, names = pickle.loads(_read(self._record))
            if not _code(self._sources) <= stamps.keys() or any(_stamp(file) != was for file, was in stamps.items()):
                return {}
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                loading = {name: pool.submit(self._load, file) for name, file in names.items()}
                same = _fingerprint(self._env, self._mesh) == fingerprint  # while they load
            return {name: each.result() for name, each in loading.items()} if same else {}
        except Exception:  # no file, or nothing that JAX can use: as if it were not there
            return {}

    @contextlib.contextmanager
    def making(self) -> Iterator[None]:
        """While programs are made: JAX's cache rests, whose programs cannot be kept anew; then, which they are."""
        # XLA loses the code of a program of a CPU that is written again after it was read.
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            jax.config.update("jax_enable_compilation_cache", True)
            compilation_cache.reset_cache()
        with contextlib.suppress(Exception):  # a full disk, a folder that may not be written to: it is a cache
            stamps = {file: _stamp(file) for file in _code(self._sources)}
            if all(self._made.values()) and all(_changed(file) < _BEGAN - UNSETTLED for file in stamps):
                _write(self._record, pickle.dumps((stamps, _fingerprint(self._env, self._mesh), self._made)))
                self._make_room()

    def compile(self, name: str, lowered: Lowered, options: dict) -> Compiled:
        """`lowered.compile(options)`, or what an earlier process made of the same."""
        text = lowered.as_text()
        trees = _placeless(f"{lowered.in_tree} {lowered.out_tree}")  # which go to the file with it
        file = f"program-{_digest([text, trees, options, self._machine])}"
        with contextlib.suppress(Exception):
            found = self._load(file)
            self._made[name] = file
            return found
        compiled = lowered.compile(options)
        self._made[name] = ""
        if not re.search(r"custom_call @\w*callback", text):  # which calls what is in this process
            with contextlib.suppress(Exception):  # what JAX cannot write, or the disk cannot hold
                _write(self._folder / file, pickle.dumps(serialize_executable.serialize(compiled)))
                self._made[name] = file
        return compiled

    def _load(self, file):
        devices = list(self._mesh.devices.flat)
        parts = pickle.loads(_read(self._folder / file))
        return serialize_executable.deserialize_and_load(*parts, execution_devices=devices)

    def _make_room(self):
        """Deletes what nobody has used for the longest time."""
        left = MOST_BYTES
        for file in sorted(self._folder.iterdir(), key=lambda file: -file.stat().st_mtime):
            left -= file.stat().st_size
            if left < 0:
                file.unlink(missing_ok=True)


def find(config: ConfigDict, mesh: Mesh, env: Environment, sources: tuple[Path, ...]) -> Shelf | None:
    """The shelf of a run, None if it may have none.

    Args:
        config: resolved.
        mesh: its devices.
        env: its environment.
        sources: files of code that runs without being imported, such as the experiment's.
    """
    folder = jax.config.jax_compilation_cache_dir
    devices = list(mesh.devices.flat)
    is_kept = folder and "://" not in folder and jax.config.jax_enable_compilation_cache
    is_seen = devices[0].platform in PLATFORMS and jax.process_count() == 1 and env.spec.traceable
    values = dict(keys.leaves(config))
    texts = [text for text in jax.tree.leaves(values) if isinstance(text, str)]
    if not (is_kept and is_seen) or any(re.search(r"[./\\:]", text) for text in texts):
        return None
    run = [{name: repr(value) for name, value in values.items() if name not in ARGUMENTS}, sys.path]
    machine = {
        "settings": {name: repr(value) for name, value in jax.config.values.items() if name != "jax_" + WHERE},
        "variables": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(VARIABLES) and name != "JAX_" + WHERE.upper()
        },
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "devices": [f"{device.id} {device.device_kind}" for device in devices],
        "system": [sys.version, platform.platform(), _processor(), cores.number()],
    }
    place = Path(folder) / "shelf"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    # What JAX has kept in a folder that is only read is better than nothing.
    return Shelf(place, run, machine, mesh, env, sources) if os.access(place, os.W_OK) else None


def _processor():
    """What tells one processor from another, for which XLA would make other code."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return platform.processor()


# Files.


def _digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _write(file: Path, content: bytes) -> None:
    """With a checksum before it, for who writes the same at the same time."""
    with files.replacing(file) as new:
        new.write_bytes(hashlib.sha256(content).digest() + content)


def _read(file: Path) -> bytes:
    """What `_write` wrote; OSError or ValueError if that is not there."""
    checksum, content = (body := file.read_bytes())[:32], body[32:]
    if hashlib.sha256(content).digest() != checksum:
        raise ValueError(f"{file} is damaged")
    os.utime(file)  # it was used
    return content


# The code.


def _code(sources) -> set[str]:
    """The files of all code: of every module that has been imported, and the others."""
    return {*filter(None, map(_file, list(sys.modules.values()))), *(str(file.resolve()) for file in sources)}


def _file(module):
    try:  # not getattr: a module may load itself when it is looked at
        return object.__getattribute__(module, "__dict__").get("__file__")
    except AttributeError:  # anything may stand there
        return None


def _stamp(file):
    """Of what is installed its date and size, else its content; '' where there is no such file."""
    with contextlib.suppress(OSError):
        if file.startswith(_INSTALLED):
            about = os.stat(file)
            return f"{about.st_mtime_ns} {about.st_size}"
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return ""


def _changed(file):
    """When somebody last changed or replaced it, seconds since 1970; 0 where there is no such file."""
    with contextlib.suppress(OSError):
        about = os.stat(file)
        return max(about.st_mtime, about.st_ctime)
    return 0.0


# The environment.


def _fingerprint(env: Environment, mesh: Mesh) -> str:
    """What tells the reset and the step apart: their operations, and the numbers in them."""
    # Of one environment where it is made of such, as they are jitted: what has been traced of them is not traced again.
    reset, step = (inspect.unwrap(each, stop=lambda f: hasattr(f, "trace")) for each in (env.reset, env.step))
    action = spaces.example(env.spec.action, env.spec.num_envs)
    if reset is not env.reset:
        action = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), action)
    reset = jax.jit(sharding.over(reset, mesh)).trace(jax.random.key(0))
    step = jax.jit(sharding.over(step, mesh)).trace(reset.out_info[0], action)
    digest = hashlib.sha256()
    for traced in (reset, step):
        digest.update(_placeless(traced.jaxpr.pretty_print(use_color=False)).encode())
        for constant in _constants(traced.jaxpr):
            is_key = isinstance(constant, jax.Array) and jax.dtypes.issubdtype(constant.dtype, jax.dtypes.prng_key)
            number = np.asarray(jax.random.key_data(constant) if is_key else constant)
            digest.update(f"{number.dtype} {number.shape}".encode() + number.tobytes())
    return digest.hexdigest()


def _placeless(text):
    """Without the places in memory where functions lie, which are others in every process."""
    return re.sub(r"0x[0-9a-f]+", "", text)


def _constants(jaxpr: ClosedJaxpr | Jaxpr) -> Iterator:
    """The numbers that are no arguments, in it and in all that it calls; its text may name their types only."""
    yield from getattr(jaxpr, "consts", ())
    is_jaxpr = lambda x: isinstance(x, ClosedJaxpr | Jaxpr)  # noqa: E731
    for equation in jaxpr.eqns:
        yield from (atom.val for atom in equation.invars if isinstance(atom, Literal))
        for inner in filter(is_jaxpr, jax.tree.leaves(equation.params, is_leaf=is_jaxpr)):
            yield from _constants(inner)
