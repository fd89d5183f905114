"""Reads the .pth files of torch.save without torch, and without running anything that stands in them.

    archive/data.pkl       a pickle, protocol 2, in which a tensor is its storage's name, an offset, a size and strides
    archive/data/<name>    the bytes of a storage
    archive/byteorder      'little' or 'big'

A pickle is a program. This reader runs it with nothing to call but what makes a tensor, a dict or a NumPy scalar;
whatever else it names is refused before it runs. Tensors are views of their storages' bytes, so that a file cannot ask
for more memory than it is long. The format: https://docs.pytorch.org/docs/stable/notes/serialization.html.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.host.keys import clip, error, show
from jaxrl.types import ConfigError

LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the pickled magic number with which torch < 1.6 begins
MOST_PICKLED = 64 * 2**20  # bytes of data.pkl; rl_games' have some 10 kB, as the numbers lie elsewhere
MOST_TEXT = 64  # letters of the raw bytes of a NumPy scalar
STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
SCALARS = "bif"  # kinds of NumPy's dtypes that may be read
CURE = "save with torch the tensors alone: torch.save({name: part[name] for name in (...)}, path)"


class StorageType(NamedTuple):
    """What torch.FloatStorage and its like stand for."""

    dtype: np.dtype


class Storage(NamedTuple):
    """The numbers of one or several tensors."""

    data: np.ndarray  # [numel], read-only


class Maker(NamedTuple):
    """A function that a pickle may call, and, unlike one, not change."""

    function: Callable

    def __call__(self, *arguments):
        return self.function(*arguments)


class Dict(dict):
    """An OrderedDict; the attributes that torch gives a state dict (its _metadata) are left out."""

    def __setstate__(self, state):
        del state


class ScalarType:
    """A NumPy dtype, as its pickle makes it: dtype('f8', False, True), then a state that has the byte order."""

    def __init__(self, code: str, *_):
        self.dtype = np.dtype(str(code)[:8])
        if self.dtype.kind not in SCALARS:
            raise error(f"a NumPy scalar of type {show(code)} is no number")

    def __setstate__(self, state):
        order = state[1]
        self.dtype = self.dtype.newbyteorder(order if order in ("<", ">") else "=")


def read(file: Path) -> Any:
    """What torch.save wrote: dicts, lists, tuples, numbers, texts, and each tensor as a read-only NumPy array.

    Raises:
        ConfigError: there is no such file, it is damaged or of another format, or its pickle holds something else.
    """
    try:
        with open(file, "rb") as opened:
            start = opened.read(len(LEGACY))
        if start == LEGACY:
            raise error(
                f"{file} is in torch's format before 1.6, a pickle without an archive; write it anew with "
                "torch.save(torch.load(path), path) in a newer torch"
            )
        with zipfile.ZipFile(file) as archive:
            return _read(archive)
    except ConfigError as refused:
        raise refused if str(file) in str(refused) else error(f"{file} cannot be read: {refused}") from None
    except OSError as mistake:
        raise error(f"{file} cannot be read ({mistake}); give a .pth that torch.save wrote") from None
    except Exception as mistake:  # a pickle that is damaged, or made to do damage, fails in any way
        reason = clip(" ".join(f"{type(mistake).__name__}: {mistake}".split()))
        raise error(f"{file} is damaged, or no .pth of torch.save ({reason}); copy it again") from None


def _read(archive: zipfile.ZipFile) -> Any:
    entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    folder = pickles[0].removesuffix("data.pkl") if len(pickles) == 1 else ""
    if not folder or f"{folder}constants.pkl" in entries:
        raise error("it is a zip, but none of torch.save (perhaps TorchScript, of torch.jit.save); give a checkpoint")

    def content(name):
        entry = entries[folder + name]
        if entry.compress_type != zipfile.ZIP_STORED:  # torch never compresses, and zeros compress to nothing
            raise error(f"{name} in it is compressed, as torch.save does not write it; give the file itself")
        return archive.read(entry)

    if entries[pickles[0]].file_size > MOST_PICKLED:
        raise error(f"its data.pkl is of {entries[pickles[0]].file_size} bytes, too many for a checkpoint; {CURE}")
    order = content("byteorder").decode("ascii") if f"{folder}byteorder" in entries else "little"
    data = content("data.pkl")
    _check_memo(data)
    return _Reader(data, lambda name: content(f"data/{name}"), "<" if order == "little" else ">").load()


def _check_memo(data: bytes) -> None:
    """Refuses a pickle that asks for more places to remember things in than it has bytes; they are made at once."""
    for opcode, place, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and place > len(data):
            raise error(f"its pickle remembers something in place {place} of {len(data)} bytes; copy it again")


class _Reader(pickle.Unpickler):
    """An unpickler that can call nothing but the functions below."""

    def __init__(self, data: bytes, content: Callable, order: str):
        super().__init__(io.BytesIO(data))
        self._content, self._order = content, order
        self._storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return StorageType(np.dtype(STORAGES[name]))
        if f"{module}.{name}" in GLOBALS:
            return GLOBALS[f"{module}.{name}"]
        raise error(f"its pickle names {clip(f'{module}.{name}')}, which is no tensor, so it is not run; {CURE}")

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_type, name, _, numel = pid
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise error(f"its pickle refers to {show(kind)}, which is no storage of torch; {CURE}")
        name = str(name)
        if name not in self._storages:
            dtype = storage_type.dtype
            dtype = dtype if dtype.itemsize == 1 or dtype.kind == "V" else dtype.newbyteorder(self._order)
            data = np.frombuffer(self._content(name), dtype)
            if data.size != numel:
                raise error(f"storage {show(name)} declares {numel} elements and has {data.size}; copy it again")
            self._storages[name] = Storage(data)
        return self._storages[name]


def tensor(storage: Storage, offset: int, size: tuple, strides: tuple, *_) -> np.ndarray:
    """torch._utils._rebuild_tensor_v2: a view of a storage; offset and strides in elements.

    Raises:
        ConfigError: it reaches beyond its storage.
    """
    size, strides = tuple(map(int, size)), tuple(map(int, strides))
    data = storage.data
    last = offset + sum((n - 1) * stride for n, stride in zip(size, strides, strict=True))
    is_within = min((offset, *size, *strides)) >= 0 and (0 in size or last < data.size)
    # A stride of 0 shows one number many times: little on disk, and more than any memory once it is copied.
    if not is_within or math.prod(size) > data.size:
        raise error(f"a tensor of size {show(size)} does not fit its storage of {data.size} elements; copy it again")
    view = np.lib.stride_tricks.as_strided(
        data[offset:], size, [stride * data.itemsize for stride in strides], writeable=False
    )
    return view.astype(view.dtype.newbyteorder("="), copy=False) if view.dtype.kind != "V" else view


def parameter(data: np.ndarray, *_) -> np.ndarray:
    """torch._utils._rebuild_parameter."""
    return data


def scalar(kind: ScalarType, raw: bytes) -> np.generic:
    """numpy.core.multiarray.scalar."""
    return np.frombuffer(raw, kind.dtype)[0]


def encode(text: str, encoding: str = "latin1") -> bytes:
    """_codecs.encode, by which protocol 2 writes bytes."""
    if encoding != "latin1" or len(text) > MOST_TEXT:
        raise error(f"its pickle holds {len(text)} raw bytes, more than a number has; {CURE}")
    return text.encode("latin1")


# What a pickle may name, and what stands for it here.
GLOBALS: dict[str, Callable] = {
    "collections.OrderedDict": Dict,
    "torch._utils._rebuild_tensor_v2": Maker(tensor),
    "torch._utils._rebuild_parameter": Maker(parameter),
    "numpy.dtype": ScalarType,
    "numpy.core.multiarray.scalar": Maker(scalar),
    "numpy._core.multiarray.scalar": Maker(scalar),
    "_codecs.encode": Maker(encode),
}
