"""Memory of a GPU that two processes have, on a stand-in for CUDA's driver."""

import ctypes
import os
import socket
import sys

import numpy as np
import pytest

from jaxrl.envs import torch_client, torch_server
from jaxrl.types import ConfigError


class Driver:
    """libcuda.so.1 of two processes with one GPU: memory of the host, handles that number its pieces."""

    def __init__(self):
        self.pieces, self.status = [], 0

    def cuMemAlloc_v2(self, address, size):  # noqa: N802
        self.pieces.append(np.zeros(size.value, np.uint8))
        address._obj.value = self.pieces[-1].ctypes.data
        return self.status

    def cuIpcGetMemHandle(self, handle, address):  # noqa: N802
        [number] = [n for n, piece in enumerate(self.pieces) if piece.ctypes.data == address.value]
        ctypes.memmove(ctypes.addressof(handle._obj), bytes([number + 1, 0, 255]).ljust(64, b"\7"), 64)
        return self.status

    def cuIpcOpenMemHandle_v2(self, address, handle, flags):  # noqa: N802
        data = bytes(handle)
        assert data[1:] == b"\0\xff".ljust(63, b"\7") and flags.value == 1
        address._obj.value = self.pieces[data[0] - 1].ctypes.data
        return self.status

    def cuCtxGetDevice(self, device):  # noqa: N802
        device._obj.value = 1
        return 0

    def cuDeviceGetPCIBusId(self, name, size, device):  # noqa: N802
        assert size.value >= 13 and device.value == 1
        name.value = b"0000:c1:00.0"
        return 0

    def cuDeviceGetByPCIBusId(self, device, name):  # noqa: N802
        assert name == b"0000:c1:00.0"
        device._obj.value = 3  # the other process sees more of them
        return 0


@pytest.fixture
def driver(monkeypatch):
    """The stand-in in the place of the driver, and of what torch would do with a GPU."""
    torch = pytest.importorskip("torch")
    driver = Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch_server.Cuda, "_enter", lambda self, gpu: self._gpus.add(gpu))

    def as_tensor(shown):
        place = shown.__cuda_array_interface__
        count = int(np.prod(place["shape"])) * np.dtype(place["typestr"]).itemsize
        raw = (ctypes.c_uint8 * count).from_address(place["data"][0])
        return torch.from_numpy(np.frombuffer(raw, place["typestr"]).reshape(place["shape"]))

    monkeypatch.setattr(torch, "as_tensor", as_tensor)
    return driver


@pytest.fixture
def ends(driver):
    """Both ends of a wire, and how often each has waited for its GPU."""
    waits = {"ours": 0, "theirs": 0}

    def count(name):
        waits[name] += 1

    ours, theirs = socket.socketpair()
    memory = os.memfd_create("test")
    here, there = torch_server.Wire(ours, memory), torch_server.Wire(theirs, memory)
    for name, wire in (("ours", here), ("theirs", there)):
        wire.cuda = torch_server.Cuda()
        wire.cuda.finish = lambda name=name: count(name)
    yield here, there, memory, waits
    ours.close()
    theirs.close()
    os.close(memory)


def on_gpu(tensor, gpu=0):
    """A tensor that says that it is on a GPU."""
    import torch

    class OnGpu(torch.Tensor):
        is_cuda = True
        device = torch.device("cuda", gpu)

    return tensor.as_subclass(OnGpu)


@pytest.mark.torch
def test_tensors_of_a_gpu_never_come_to_the_host(ends, driver):
    import torch

    here, there, memory, _ = ends
    obs = torch.arange(3_000_000, dtype=torch.float32).reshape(1000, 3000)
    tree = {"obs": on_gpu(obs), "done": on_gpu(torch.tensor([True, False])), "grid": torch.ones(5), "level": 3}
    for turn in range(3):
        obs += turn
        here.send(tree)
        got, message = there.receive()
        assert ("handle" in message) == (turn == 0)
        np.testing.assert_array_equal(got["obs"], obs)
        np.testing.assert_array_equal(got["done"], [True, False])
        np.testing.assert_array_equal(got["grid"], np.ones(5))
        assert got["level"] == 3 and got["obs"].dtype == torch.float32 and got["done"].dtype == torch.bool
    assert os.fstat(memory).st_size == 64  # the grid
    assert [len(piece) for piece in driver.pieces] == [12 * 2**20]  # whole blocks of 2 MiB
    there.send(tree)  # and back, in memory that the other end has made
    np.testing.assert_array_equal(here.receive()[0]["obs"], obs)
    assert len(driver.pieces) == 2


@pytest.mark.torch
def test_what_was_written_and_read_is_finished_before_the_other_end_hears_of_it(ends):
    import torch

    here, there, _, waits = ends
    here.send(on_gpu(torch.ones(2)))
    assert waits == {"ours": 1, "theirs": 0}
    there.receive()
    there.send(None)  # no tensor in it, but theirs may still be copied from where ours will write next
    assert waits == {"ours": 1, "theirs": 1}


@pytest.mark.torch
def test_nothing_of_it_is_where_nobody_asked_for_it(ends):
    import torch

    here, there, memory, _ = ends
    here.cuda = there.cuda = None
    here.send(torch.ones(3, 3))
    got, message = there.receive()
    assert got.shape == (3, 3) and "handle" not in message and os.fstat(memory).st_size == 64


@pytest.mark.torch
def test_several_gpus_are_refused(ends):
    import torch

    with pytest.raises(ValueError, match="lies on several GPUs; set config.env.cuda_ipc to False"):
        ends[0].send([on_gpu(torch.ones(2), 0), on_gpu(torch.ones(2), 1)])


@pytest.mark.torch
def test_what_the_driver_refuses_is_named(driver):
    driver.status = 201
    with pytest.raises(RuntimeError, match="^cuMemAlloc_v2 fails with CUDA's error 201$"):
        torch_server.Cuda().allocate(0, 10)


@pytest.mark.torch
def test_without_a_driver_it_is_one_line_and_no_process(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ConfigError) as error:
        torch_client.Client(sys.executable, "users.make", {}, cuda_ipc=True)
    assert str(error.value) == (
        "config.env.cuda_ipc=True needs the driver of an NVIDIA GPU (libcuda.so.1: cannot open shared object file); "
        "set it to False."
    )
