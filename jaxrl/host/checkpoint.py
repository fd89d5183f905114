"""Checkpoints of the whole training state: Orbax save, verify, restore, fall back.

    RUN/checkpoints/<env_steps>/state    the arrays, dtype -> vector
    RUN/checkpoints/<env_steps>/meta     JSON: format_version, env_steps, metrics, leaves, fingerprint; sha256 of that

Why Orbax's plain `Checkpointer` on a thread of our own, and not its `CheckpointManager`: the manager lists a step as
saved before the background write has ended, takes any directory with a number for a step, and silently refuses to save
a step that exists, which is just what a run meets that fell back from a broken checkpoint and comes by again. On our
thread also hashing, metadata and deletion stay off the training loop (Orbax's `AsyncCheckpointer` makes directories
while the caller waits), and a failed write ends as one line. From Orbax comes what is hard: the array format, and a
step directory that appears in one atomic rename.

The arrays go to Orbax laid end to end in the order of the metadata, as one vector for each dtype: an array by itself
takes half a millisecond of a core, which 150 of them take from the training. So tuples, structs and key types come from
the template and never from the disk, zero-size arrays (which Orbax refuses) live in the metadata, and Orbax has no
dtype to cast to. Format 1 had an array for each path, and is read as well. Orbax does not notice flipped bits: every
restore hashes what it has read and compares that with the fingerprint taken of the snapshot.

Of several processes of one program, the first alone has to do with the disk, and the layout is the same: a snapshot
gathers what is split over processes, and what is restored goes from the first to all. So every process calls `save` and
`restore`, and the next run may have another number of them.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import math
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxrl.host import processes, sharding
from jaxrl.types import ConfigError, PyTree

FORMAT_VERSION = 2  # of state and meta; a reader refuses what it does not know
ENVIRONMENTS = ".env_state"  # in the path of what is theirs
SCORE = "eval/episode_return"  # what the best checkpoint is best at

# Two saves of one process at once, as of the members of a sweep, take each other's temporary folders: Orbax 0.12 makes
# and waits for these by an id of the process.
_WRITING = threading.Lock()

LIMITS = {"interval": (0, None), "keep_latest": (1, None), "keep_best": (0, None), "keep_every": (0, None)}


class Leaf(NamedTuple):
    """One array of a state, on the host."""

    path: str  # as jax.tree_util.keystr writes it
    dtype: str  # 'float32', 'bool', 'key<fry>'
    shape: tuple[int, ...]  # of keys, not of their data, for a typed key array
    impl: str  # of a typed key array, as jax.random.key takes it; else ''
    data: np.ndarray  # of a typed key array, its key_data


def default_config() -> ConfigDict:
    """The group `checkpoint.*`."""
    return ConfigDict(
        {
            "interval": 0,  # env steps between saves; 0: a tenth of the run
            "keep_latest": 2,  # the newest ones; at least 2 leave something to fall back to
            "keep_best": 1,  # the best ones by eval/episode_return
            "keep_every": 0,  # env steps; the first checkpoint at or after each multiple is kept for ever; 0: none
        }
    )


def fingerprint(state: PyTree) -> str:
    """sha256 in hex over every leaf's path, dtype, shape and bytes; the same however many devices hold the state."""
    return _digest(_snapshot(state))


class Checkpointer:
    """Saves and restores the states of one run; one writer per directory, any number of readers.

    Args:
        directory: RUN/checkpoints; made by the first save.
        config: the group `checkpoint.*`; `interval` is the training loop's to read.
        report: takes each warning, one line; also called from the writing thread. Prints to standard error by default.
        crew: the processes that call `save` and `restore` together; this one alone by default.
    """

    def __init__(
        self,
        directory: Path,
        config: ConfigDict,
        report: Callable[[str], None] | None = None,
        crew: processes.Alone = processes.ALONE,
    ):
        self._directory = Path(directory).absolute()
        self._config = config
        self._report = report or (lambda line: print(line, file=sys.stderr, flush=True))
        self._crew = crew
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: concurrent.futures.Future | None = None  # -> bool, the last save reached the disk
        self._sound: dict[int, str] = {}  # env_steps -> fingerprint, of what this object wrote or verified
        self._scores: dict[int, float | None] = {}  # env_steps -> eval/episode_return, None without one

    def save(self, state: PyTree, env_steps: int, metrics: dict) -> None:
        """Copies the state to the host and returns; hashing, writing and deleting go on in the background.

        The caller may donate the state right afterwards. A save that is still being written is waited for. To save is
        to say that the run now stands at env_steps: checkpoints beyond it (broken, or of a future that a fallback left)
        go once this one is on disk. One at env_steps is replaced, or left alone where this object wrote or verified it
        and it holds the same state.

        A write that fails is reported in one line and training goes on: the next save tries again, and `wait` and
        `close` say how the last one ended.

        Args:
            state: pytree of jax or numpy arrays, typed keys included.
            env_steps: names the checkpoint.
            metrics: numbers by name; with 'eval/episode_return' the checkpoint can become a best one.

        Raises:
            TypeError: a leaf is not an array.
        """
        self.wait()
        metrics = {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
        leaves = _snapshot(state)
        if self._crew.is_first:
            self._pending = self._thread.submit(self._write, leaves, int(env_steps), metrics)

    def restore(
        self,
        template: PyTree,
        env_steps: int | None = None,
        partial: bool = False,
        complete: Callable[[], PyTree] | None = None,
    ) -> tuple[PyTree, int] | None:
        """The state of the newest checkpoint that verifies, bit for bit, and its env_steps.

        Broken checkpoints are passed over with a warning each. Nothing on disk is changed.

        Args:
            template: a state of the same shapes and dtypes, or its jax.ShapeDtypeStructs; arrays come back with its
                shardings, numpy arrays as numpy arrays.
            env_steps: only this checkpoint will do.
            partial: the template may be a part of the state: what it has not is verified and left behind.
            complete: -> a state of which whole fields are taken that the checkpoint has nothing of; without it, such
                a checkpoint does not fit.

        Returns:
            (state, env_steps), or None where nothing was ever saved.

        Raises:
            ConfigError: the checkpoint does not fit the template, or is of another format version; the one asked for
                cannot be had; or there are checkpoints and none can be read (to start over would overwrite them).
        """
        self.wait()
        found: list[tuple[list[Leaf], str]] = []

        def look() -> list | None:
            found.extend(self._newest_sound(env_steps))
            return [[step, digest, [leaf[:-1] for leaf in leaves]] for step, leaves, digest in found]

        for step, digest, forms in self._crew.first(look):
            data = [leaf.data for _, leaves, _ in found for leaf in leaves]
            data = self._crew.spread(data, [_data_form(dtype, shape, impl) for _, dtype, shape, impl in forms])
            leaves = [Leaf(*form[:2], tuple(form[2]), form[3], array) for form, array in zip(forms, data, strict=True)]
            state = self._fit(leaves, template, step, partial, complete)
            self._sound[step] = digest
            return state, step
        return None

    def _newest_sound(self, env_steps: int | None) -> list[tuple[int, list[Leaf], str]]:
        """[(env_steps, leaves, fingerprint)] of the newest checkpoint that verifies, or that asked for; [] if none."""
        if env_steps is not None and env_steps not in self.steps():
            raise ConfigError(f"checkpoint {env_steps} is not in {self._directory}; there are {self._offer()}")
        candidates = self._numbered() if env_steps is None else [env_steps]
        for step in reversed(candidates):
            try:
                leaves, digest = self._read(step)
            except ConfigError:
                raise
            except Exception as error:  # whatever Orbax, TensorStore or JSON make of broken files
                if env_steps is not None:
                    others = ", ".join(str(other) for other in self.steps() if other != step) or "no others"
                    raise ConfigError(
                        f"checkpoint {step} in {self._directory} is broken ({_reason(error)}); there are {others}"
                    ) from None
                self._report(f"warning: checkpoint {step} is broken and passed over ({_reason(error)})")
                continue
            return [(step, leaves, digest)]
        if self.steps():
            raise ConfigError(
                f"none of the checkpoints in {self._directory} can be read; "
                "use a new --workdir, or delete that folder to start over"
            )
        return []

    def steps(self) -> list[int]:
        """env_steps of the checkpoints that are on disk now, ascending; complete ones, not necessarily unharmed."""
        # Orbax renames a whole step into place, and a deletion renames it away: a part of one never has this name.
        return [step for step in self._numbered() if (self._path(step) / "meta").is_dir()]

    def latest(self) -> int | None:
        """env_steps of the newest checkpoint on disk."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """env_steps of the checkpoint with the highest eval/episode_return; None if none has one."""
        self.wait()
        return max(best_of(self._score_all(), 1), default=None)

    def wait(self) -> bool:
        """Waits for the save in progress; True unless the last save failed (which has been reported)."""
        return self._pending is None or self._pending.result()

    def close(self) -> bool:
        """Waits as `wait` does and ends the writing thread; call it before the interpreter exits."""
        done = self.wait()
        self._thread.shutdown()
        return done

    def _path(self, step: int) -> Path:
        return self._directory / str(step)

    def _numbered(self) -> list[int]:
        """Whatever is named as a checkpoint is, also an empty directory."""
        if not self._directory.is_dir():
            return []
        names = [entry.name for entry in self._directory.iterdir() if entry.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)

    def _offer(self) -> str:
        return ", ".join(map(str, self.steps())) or "none"

    # The writing thread.

    def _write(self, leaves: list[Leaf], env_steps: int, metrics: dict) -> bool:
        """Writes one checkpoint and lets old ones go; True if it is on disk. Raises nothing."""
        with _WRITING:
            return self._write_alone(leaves, env_steps, metrics)

    def _write_alone(self, leaves: list[Leaf], env_steps: int, metrics: dict) -> bool:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._commit(leaves, env_steps, metrics)
        except Exception as error:  # a full disk has many names, depending on who meets it first
            self._report(
                f"warning: checkpoint {env_steps} could not be saved ({_reason(error)}); training goes on and the next "
                f"save tries again: is there space on, and permission for, {self._directory}?"
            )
            with contextlib.suppress(OSError):
                self._sweep()  # a full disk needs the room
            return False
        try:
            self._prune(env_steps)
        except OSError as error:
            self._report(f"warning: old checkpoints could not be deleted ({_reason(error)})")
        return True

    def _commit(self, leaves: list[Leaf], env_steps: int, metrics: dict) -> None:
        digest = _digest(leaves)
        if self._sound.get(env_steps) == digest and env_steps in self.steps():
            return
        self._discard(env_steps)
        meta = {
            "format_version": FORMAT_VERSION,
            "env_steps": env_steps,
            "metrics": metrics,
            "leaves": [[leaf.path, leaf.dtype, list(leaf.shape), leaf.impl] for leaf in leaves],
            "fingerprint": digest,
        }
        self._files.write(self._path(env_steps), _lay(leaves), {"meta": meta, "sha256": _seal(meta)})
        self._sound[env_steps] = digest
        self._scores[env_steps] = _score(metrics)

    def _prune(self, env_steps: int) -> None:
        for step in self._numbered():
            if step > env_steps:
                self._discard(step)
        scores = self._score_all()
        for step in scores.keys() - retained(scores, self._config):
            self._discard(step)

    def _discard(self, step: int) -> None:
        """Deletes a checkpoint: first its name, in one rename, then what is in it."""
        self._sound.pop(step, None)
        self._scores.pop(step, None)
        path = self._path(step)
        if path.exists():
            aside = path.with_name(f"{step}.deleting")
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _sweep(self) -> None:
        """Deletes what a killed save or deletion has left; only the one writer may."""
        for pattern in ("*.orbax-checkpoint-tmp*", "*.deleting"):
            for leftover in self._directory.glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)

    def _score_all(self) -> dict[int, float | None]:
        """eval/episode_return of every checkpoint on disk, None where it has none or cannot be read."""
        scores = {}
        for step in self.steps():
            if step not in self._scores:
                try:
                    self._scores[step] = _score(self._read_meta(step)["metrics"])
                except Exception:  # broken; restore says so when it gets there
                    self._scores[step] = None
            scores[step] = self._scores[step]
        return scores

    # Reading.

    @functools.cached_property
    def _files(self):
        """Orbax, which takes 0.3 s to import: a run that has nothing to go on with needs it only when it saves."""
        from jaxrl.host.orbax_files import Files

        return Files()

    def _read_meta(self, step: int) -> dict:
        if not (self._path(step) / "meta").is_dir():
            raise ValueError("the directory holds no checkpoint")
        sealed = self._files.read_meta(self._path(step))
        meta = sealed["meta"]
        if _seal(meta) != sealed["sha256"] or meta["env_steps"] != step:
            raise ValueError("its metadata was changed")
        return meta

    def _read(self, step: int) -> tuple[list[Leaf], str]:
        """The leaves of a checkpoint, verified, and their fingerprint; raises anything if it is broken."""
        meta = self._read_meta(step)
        if meta["format_version"] not in (1, FORMAT_VERSION):
            raise ConfigError(
                f"checkpoint {step} in {self._directory} has format_version={meta['format_version']} and this jaxrl "
                f"reads 1 to {FORMAT_VERSION}; use the jaxrl it was written with, or a new --workdir"
            )
        arrays = self._files.read_arrays(self._path(step))
        cut = _by_path if meta["format_version"] == 1 else _cut
        data = cut(arrays, [(path, *_data_form(*form)) for path, *form in meta["leaves"]])
        told = zip(meta["leaves"], data, strict=True)
        leaves = [Leaf(path, dtype, tuple(shape), impl, data) for (path, dtype, shape, impl), data in told]
        if _digest(leaves) != meta["fingerprint"]:
            raise ValueError("its arrays do not match their fingerprint")
        return leaves, meta["fingerprint"]

    def _fit(
        self, leaves: list[Leaf], template: PyTree, step: int, partial: bool, complete: Callable[[], PyTree] | None
    ) -> PyTree:
        """The leaves in the template's structure and places, if they are the template's in path, shape and dtype."""
        saved = _joined(_thinned({leaf.path: leaf for leaf in leaves}, template), template)
        if complete and (absent := _absent_fields(saved, template)):
            rest = complete()
            known = template._replace(**{field: () for field in absent})
            state = self._fit(leaves, known, step, partial, None)
            return state._replace(**{field: getattr(rest, field) for field in absent})
        likes = _flatten(template)
        if difference := _first_difference(saved, likes, partial):
            cure = "give one of its own" if partial else "use a new --workdir, or the config and the jaxrl of its start"
            raise ConfigError(f"checkpoint {step} in {self._directory} does not fit this run: {difference}; {cure}")
        return jax.tree.unflatten(jax.tree.structure(template), [_place(saved[path], like) for path, like in likes])


def retained(scores: dict[int, float | None], config: ConfigDict) -> set[int]:
    """Which checkpoints stay: the latest, the best, and the first at or after each multiple of keep_every.

    Args:
        scores: env_steps -> eval/episode_return of each checkpoint, None where there was no evaluation.
        config: the group `checkpoint.*`.
    """
    steps = sorted(scores)
    kept = set(steps[-config.keep_latest :]) | best_of(scores, config.keep_best)
    if config.keep_every:
        # Saves fall where epochs end; the first in each interval stays the first whatever is deleted after it.
        first = {step // config.keep_every: step for step in reversed(steps)}
        kept |= {step for interval, step in first.items() if interval > 0}
    return kept


def best_of(scores: dict[int, float | None], count: int) -> set[int]:
    """The `count` checkpoints with the highest scores, of equal ones the later; those without a score never."""
    ranked = sorted((score, step) for step, score in scores.items() if score is not None)
    return {step for _, step in ranked[len(ranked) - min(count, len(ranked)) :]}


def _thinned(saved: dict[str, Leaf], template: PyTree) -> dict[str, Leaf]:
    """The leaves without those of environments that are None now: what their steps do not read was kept once."""
    places = jax.tree_util.tree_leaves_with_path(template, is_leaf=lambda x: x is None)
    gone = {jax.tree_util.keystr(path) for path, x in places if x is None}
    return {path: leaf for path, leaf in saved.items() if not (path in gone and ENVIRONMENTS in path)}


def _joined(saved: dict[str, Leaf], template: PyTree) -> dict[str, Leaf]:
    """The leaves, of which those are one vector [..., P] that are one now: an optimiser's, each a tree once."""
    for path, like in _flatten(template):
        lead = like.shape[:-1]
        parts = [x for name, x in saved.items() if name.startswith(f"{path}[") and x.shape[: len(lead)] == lead]
        if path in saved or not parts:
            continue
        vector = np.concatenate([leaf.data.reshape(*lead, -1) for leaf in parts], axis=-1)
        saved = {name: leaf for name, leaf in saved.items() if not name.startswith(f"{path}[")}
        saved[path] = Leaf(path, str(vector.dtype), vector.shape, "", vector)
    return saved


def _absent_fields(saved: dict[str, Leaf], template: PyTree) -> list[str]:
    """The fields of a NamedTuple that have leaves, of which the checkpoint has not one."""
    has = lambda field: any(path.startswith(f".{field}") for path in saved)  # noqa: E731
    return [field for field in template._fields if jax.tree.leaves(getattr(template, field)) and not has(field)]


def _flatten(state: PyTree) -> list[tuple[str, jax.Array]]:
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]]
    for path, leaf in leaves:
        if not (hasattr(leaf, "dtype") and hasattr(leaf, "shape")):
            raise TypeError(f"state{path} is {type(leaf).__name__}, not an array: it has no dtype to come back with")
    return leaves


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _snapshot(state: PyTree) -> list[Leaf]:
    """The state on the host, in memory of its own."""
    named = _flatten(state)
    data = jax.device_get([sharding.whole(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for _, leaf in named])
    return [
        # On CPU device_get shows the device's own memory, which the next epoch writes into once the state is donated.
        Leaf(path, str(leaf.dtype), leaf.shape, _impl(leaf), np.array(value, order="C", copy=True))
        for (path, leaf), value in zip(named, data, strict=True)
    ]


def _impl(leaf) -> str:
    return str(jax.random.key_impl(leaf)) if _is_key(leaf) else ""


def _data_form(dtype: str, shape: list[int], impl: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a leaf's data."""
    if not impl:
        return tuple(shape), jax.numpy.dtype(dtype)
    keys = jax.ShapeDtypeStruct(tuple(shape), jax.random.key(0, impl=impl).dtype)
    data = jax.eval_shape(jax.random.key_data, keys)
    return data.shape, data.dtype


def _lay(leaves: list[Leaf]) -> dict[str, np.ndarray]:
    """dtype -> the data of all leaves of that dtype, end to end."""
    parts = {}
    for leaf in leaves:
        parts.setdefault(str(leaf.data.dtype), []).append(leaf.data.reshape(-1))
    vectors = {dtype: np.concatenate(each) for dtype, each in parts.items()}
    return {dtype: vector for dtype, vector in vectors.items() if vector.size}


def _cut(vectors: dict[str, np.ndarray], forms: list[tuple[str, tuple[int, ...], np.dtype]]) -> list[np.ndarray]:
    """The data of leaves of these paths, shapes and dtypes, as `_lay` laid them; ValueError if there are fewer."""
    data, ends = [], {}
    for _, shape, dtype in forms:
        start = ends.get(str(dtype), 0)
        ends[str(dtype)] = end = start + math.prod(shape)
        data.append(np.array(vectors.get(str(dtype), np.zeros(0, dtype))[start:end]).reshape(shape))
    return data


def _by_path(arrays: dict[str, np.ndarray], forms: list[tuple[str, tuple[int, ...], np.dtype]]) -> list[np.ndarray]:
    """The same of format 1."""
    return [np.asarray(arrays[path]) if math.prod(shape) else np.zeros(shape, dtype) for path, shape, dtype in forms]


def _digest(leaves: list[Leaf]) -> str:
    """sha256 in hex over path, dtype, shape and bytes of every leaf; bytes, as -0.0 and NaN are values too."""
    sha256 = hashlib.sha256()
    for leaf in leaves:
        sha256.update(json.dumps([leaf.path, leaf.dtype, leaf.shape, leaf.impl]).encode())
        sha256.update(np.ascontiguousarray(leaf.data).reshape(-1).view(np.uint8))
    return sha256.hexdigest()


def _seal(meta: dict) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _score(metrics: dict) -> float | None:
    score = metrics.get(SCORE)
    return score if score is not None and math.isfinite(score) else None


def _first_difference(saved: dict[str, Leaf], likes: list[tuple[str, jax.Array]], partial: bool) -> str:
    """What in the checkpoint is not as in this run, or '' if nothing."""
    for path, like in likes:
        if path not in saved:
            return f"state{path} is not in the checkpoint"
        here, there = _form(like), _form(saved[path])
        if here != there:
            return f"state{path} is {there} in the checkpoint and {here} in this run"
    surplus = set() if partial else saved.keys() - {path for path, _ in likes}
    return f"state{min(surplus)} is in the checkpoint and not in this run" if surplus else ""


def _form(leaf) -> str:
    """'float32[8, 3]'."""
    return f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]"


def _place(leaf: Leaf, like) -> jax.Array | np.ndarray:
    """The leaf where the template's leaf is; numpy stays numpy."""
    if not isinstance(like, jax.Array | jax.ShapeDtypeStruct):
        return leaf.data
    # An uncommitted array must come back uncommitted: to jit, the other is a new signature, and a second compilation.
    place = like.sharding if getattr(like, "committed", True) else None
    data = sharding.put(leaf.data, place) if place else jax.device_put(leaf.data)
    return jax.random.wrap_key_data(data, impl=leaf.impl) if leaf.impl else data


def _reason(error: Exception) -> str:
    """An exception as part of a line; those of Orbax quote arrays and paths at length, and the gist comes last."""
    text = " ".join(str(error).split()).split(" [tensorstore_spec=")[0].split(" [source locations=")[0]
    if len(text) > 200:
        text = f"{text[:70]} ... {text[-120:]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
