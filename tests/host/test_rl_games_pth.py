"""The reader of .pth files: what torch wrote comes back, and nothing in a file is executed.

The archives here are written by hand, as torch.save writes them; those of rl_games itself are read in tests/parity.
"""

import os
import pickle
import re
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from jaxrl.host.rl_games import pth
from jaxrl.types import ConfigError

TENSOR = "ctorch._utils\n_rebuild_tensor_v2\n"


def name(text):
    """Pickle's code for a text."""
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def whole(number):
    return b"J" + struct.pack("<i", number)


def numbers(*values):
    return b"(" + b"".join(map(whole, values)) + b"t"


def tensor(storage="FloatStorage", key="0", numel=6, offset=0, size=(2, 3), strides=(3, 1)):
    """Pickle's code for a tensor."""
    pid = b"(" + name("storage") + f"ctorch\n{storage}\n".encode() + name(key) + name("cpu") + whole(numel) + b"tQ"
    rest = whole(offset) + numbers(*size) + numbers(*strides) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return TENSOR.encode() + b"(" + pid + rest + b"tR"


def model(code):
    """Pickle's code for {'model': ...}."""
    return b"\x80\x02}" + name("model") + code + b"s."


def archive(folder, data, storages=None, compression=zipfile.ZIP_STORED, byteorder="little"):
    file = folder / "some.pth"
    with zipfile.ZipFile(file, "w", compression) as zipped:
        zipped.writestr("some/data.pkl", data)
        zipped.writestr("some/byteorder", byteorder)
        for key, raw in (storages or {"0": np.arange(6, dtype=np.float32).tobytes()}).items():
            zipped.writestr(f"some/data/{key}", raw)
    return file


def refused(file, *words):
    """Reading fails with one line that has these words."""
    with pytest.raises(ConfigError) as error:
        pth.read(file)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in (*words, str(file)))


@pytest.mark.parametrize(
    "storage, dtype",
    [
        ("FloatStorage", np.float32),
        ("DoubleStorage", np.float64),
        ("HalfStorage", np.float16),
        ("BFloat16Storage", ml_dtypes.bfloat16),
        ("LongStorage", np.int64),
        ("IntStorage", np.int32),
        ("ByteStorage", np.uint8),
        ("BoolStorage", np.bool_),
    ],
)
def test_every_dtype_comes_back(tmp_path, storage, dtype):
    values = np.array([0, 1, 1, 0, 1, 0]).astype(dtype)
    read = pth.read(archive(tmp_path, model(tensor(storage)), {"0": values.tobytes()}))["model"]
    assert read.dtype == dtype
    np.testing.assert_array_equal(read.astype(np.float64), values.reshape(2, 3).astype(np.float64))


@pytest.mark.parametrize(
    "offset, size, strides, expected",
    [
        (0, (3, 2), (1, 3), [[0, 3], [1, 4], [2, 5]]),  # transposed
        (2, (2,), (2,), [2, 4]),  # a part of its storage
        (5, (), (), 5),
        (6, (0, 4), (4, 1), np.zeros((0, 4))),
    ],
)
def test_offsets_and_strides_are_those_of_torch(tmp_path, offset, size, strides, expected):
    code = tensor(offset=offset, size=size, strides=strides)
    np.testing.assert_array_equal(pth.read(archive(tmp_path, model(code)))["model"], expected)


def test_the_other_byte_order_is_read_too(tmp_path):
    raw = np.arange(6, dtype=">f4").tobytes()
    read = pth.read(archive(tmp_path, model(tensor()), {"0": raw}, byteorder="big"))["model"]
    np.testing.assert_array_equal(read, np.arange(6).reshape(2, 3))


def test_a_numpy_scalar_is_a_number(tmp_path):
    data = pickle.dumps({"last_mean_rewards": np.float32(-1.5), "epoch": 3}, protocol=2)
    assert pth.read(archive(tmp_path, data)) == {"last_mean_rewards": -1.5, "epoch": 3}


class Evil:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("function, called", [(os.system, "system"), (eval, "eval"), (getattr, "getattr")])
def test_a_pickle_that_would_run_something_is_refused_by_its_name(tmp_path, function, called, protocol):
    made = tmp_path / "made"
    data = pickle.dumps({"model": Evil(function, f"touch {made}", "x")}, protocol=protocol)
    refused(archive(tmp_path, data), called, "not run")
    assert not made.exists()


def test_what_may_be_called_cannot_be_changed(tmp_path):
    code = TENSOR.encode() + b"(N}" + name("__defaults__") + numbers(1) + b"std" + b"b"
    refused(archive(tmp_path, b"\x80\x02" + code + b"."))
    assert pth.tensor.__defaults__ is None


def test_a_file_that_ends_early_is_refused(tmp_path):
    file = archive(tmp_path, model(tensor()))
    raw = file.read_bytes()
    for length in (0, 10, len(raw) // 2, len(raw) - 5):
        file.write_bytes(raw[:length])
        refused(file, "damaged")


def test_a_flipped_byte_is_noticed(tmp_path):
    file = archive(tmp_path, model(tensor()))
    raw = bytearray(file.read_bytes())
    place = raw.index(np.arange(6, dtype=np.float32).tobytes()) + 5
    raw[place] ^= 1
    file.write_bytes(raw)
    refused(file, "damaged")


@pytest.mark.parametrize(
    "wrong",
    [
        {"numel": 2**31 - 1},
        {"size": (2**31 - 1, 2**31 - 1), "strides": (0, 0)},
        {"size": (2**31 - 1,), "strides": (1,)},
        {"offset": 4},
        {"offset": -1},
        {"strides": (-3, 1)},
        {"strides": (3,)},
        {"key": "../../etc/passwd"},
        {"storage": "ComplexFloatStorage"},
    ],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(tmp_path, wrong):
    refused(archive(tmp_path, model(tensor(**wrong))))


def test_a_pickle_cannot_ask_for_memory(tmp_path):
    refused(archive(tmp_path, b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b"."), "remembers")
    refused(archive(tmp_path, model(tensor()), compression=zipfile.ZIP_DEFLATED), "compressed")


def test_the_old_format_and_others_are_refused_with_a_cure(tmp_path):
    file = tmp_path / "old.pth"
    file.write_bytes(pth.LEGACY + pickle.dumps(1001, protocol=2))
    refused(file, "before 1.6", "torch.save(torch.load(path), path)")
    file.write_bytes(pickle.dumps({"model": 1}))
    refused(file, "damaged")
    refused(tmp_path / "nothing.pth", "No such file")
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("some/data.pkl", b"\x80\x02}.")
        zipped.writestr("some/constants.pkl", b"\x80\x02).")
    refused(file, "TorchScript")


def test_the_magic_number_is_that_of_torch():
    assert re.match(re.escape(pth.LEGACY), pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2))
