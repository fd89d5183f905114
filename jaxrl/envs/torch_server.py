"""Serves a torch simulator from a process of its own, under a Python of its own: Isaac Gym's, which must be <= 3.8.

`child.py` starts this file as a script, with two descriptors that it hands down: a socket, and memory that both
map. Nothing of it has a name on the machine, so nothing is left of it when either side dies, and each sees at once
that the other is gone. The file is complete in itself: Python 3.7, NumPy and torch are all that it needs.

A request is a line of JSON that names a function, and its arguments; so is a reply, with what was returned. Tensors
lie in the memory, and the line says where. What has one structure always lies at one place, so that place, shapes and
types are told once. What the simulator says of itself goes with every reply: its counter of steps, and what it wants
in a checkpoint.

A tensor of a GPU is copied to that memory, which is pinned if CUDA agrees, and JAX copies it on: over PCI, but across
any two versions of torch and CUDA. With `cuda_ipc` it is copied to memory of the GPU that both processes have, and
never comes to the host. The driver makes that memory and its handle: torch's own handles differ between its versions,
and need the sender's allocator to keep still. Neither has run on a GPU yet; the tests have a stand-in for the driver.
"""

import ctypes
import importlib
import inspect
import itertools
import json
import mmap
import os
import socket
import sys
import traceback

import numpy as np

PROTOCOL = 1
MOST_LAYOUTS = 100
# Of the extras that a step returns, those that mean something to torch_contracts.py.
EXTRAS = ("time_outs", "TimeLimit.truncated", "final_obs", "final_observation", "observations")
FUNCTIONS = ("reset", "step", "reset_done", "zero_actions", "set_env_state")


class Wire:
    """One end of the connection: trees of tensors, arrays, numbers and texts go through it, one at a time.

    Args:
        connection: a socket.
        memory: descriptor of a file that both ends have open and that grows as it is needed.
        is_alive: () -> bool, asked each second while nothing comes.

    With a `Cuda` as `cuda`, at both ends, tensors of a GPU stay there.
    """

    cuda = None

    def __init__(self, connection, memory, is_alive=lambda: True):
        connection.settimeout(1.0)
        self._socket, self._memory, self._is_alive = connection, memory, is_alive
        self._sent, self._received = {}, []  # form -> (number, views); (form, views)
        self.has_failed = False

    def send(self, tree, **message):
        """Sends a tree, and what else the line is to say."""
        leaves, values = [], []
        form = _form(tree, leaves, values, self.cuda is not None)
        known = self._sent.get(form)
        if known is None:
            if len(self._sent) == MOST_LAYOUTS:
                raise ValueError("what is shown has another shape each time")
            start = -(-os.fstat(self._memory).st_size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
            gpu, size = None, _size(form, "cuda")
            if size:
                gpu, message["handle"] = self.cuda.allocate(*_gpus(leaves), size=size)
            views = self._views(form, start, gpu)
            self._sent[form] = known = (len(self._sent), views)
            message["layout"] = (form, start)
            _pin(form, leaves, views)
        for view, leaf in zip(known[1], leaves):  # noqa: B905 (Python 3.7)
            if isinstance(leaf, np.ndarray):
                view[...] = leaf
            elif leaf.is_cuda:
                view.copy_(leaf.detach())
            else:  # by NumPy: where the cores are busy, torch's threads wait for one another
                view.numpy()[...] = leaf.detach().numpy()
        if self.cuda is not None:
            self.cuda.finish()  # what was written here, and what was read there: the other end writes over it next
        message.update(number=known[0], values=values)
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def fail(self, mistake):
        """Tells the other end, in one line, why it gets no answer, and the log all of it."""
        self.has_failed = True
        traceback.print_exc()
        self.send(None, error=" ".join(f"{type(mistake).__name__}: {mistake}".split()))

    def receive(self):
        """The tree, in memory that the other end will write into again, and the line; EOFError if nobody is there."""
        heard = b""
        while not heard.endswith(b"\n"):
            try:
                part = self._socket.recv(1 << 16)
            except socket.timeout:  # noqa: UP041 (Python 3.7)
                if self._is_alive():
                    continue
                part = b""
            except ConnectionError:
                part = b""
            if not part:
                raise EOFError
            heard += part
        message = json.loads(heard.decode())
        if "layout" in message:
            form, start = message["layout"]
            gpu = self.cuda.open(message["handle"]) if "handle" in message else None
            self._received.append((form, self._views(form, start, gpu)))
        form, views = self._received[message["number"]]
        return _tree(form, iter(views), iter(message["values"])), message

    def _views(self, form, start, gpu):
        """The tensors and arrays of a form: in the host's memory from `start` on, or in that of the GPU."""
        everything, size = bytearray(64), _size(form, "host")  # nothing can be mapped of a file if it is nothing
        if size:
            os.ftruncate(self._memory, max(os.fstat(self._memory).st_size, start + size))
            everything = mmap.mmap(self._memory, size, offset=start)
        views, ends = [], {"host": 0, "cuda": 0}
        for kind, dtype, shape in _leaves(form):
            offset = ends[_side(kind)]
            ends[_side(kind)] += _room(dtype, shape)
            if kind == "cuda":
                views.append(self.cuda.tensor(gpu, offset, dtype, shape))
                continue
            view = np.frombuffer(everything, np.dtype(dtype), int(np.prod(shape)), offset).reshape(shape)
            if kind == "tensor":
                import torch  # not before there is a tensor: Isaac Gym must be imported before torch

                view = torch.from_numpy(view)
            views.append(view)
        return views


class Cuda:
    """Memory of a GPU that two processes have, by CUDA's driver, which is one for both, whatever their torch is."""

    BLOCK = 1 << 21  # bytes; of less the driver would share what lies beside it, too

    def __init__(self):
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._gpus = set()  # by torch's number

    def allocate(self, gpu, size):
        """(new memory of so many bytes, its handle, which is text), on the GPU of that number."""
        self._enter(gpu)
        address, handle, name = ctypes.c_uint64(), _Handle(), ctypes.create_string_buffer(64)
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(-(-size // self.BLOCK) * self.BLOCK))
        self._call("cuIpcGetMemHandle", ctypes.byref(handle), address)
        device = ctypes.c_int()
        self._call("cuCtxGetDevice", ctypes.byref(device))
        self._call("cuDeviceGetPCIBusId", name, ctypes.c_int(len(name)), device)
        return (gpu, address.value), [name.value.decode(), bytes(handle).hex()]

    def open(self, handle):
        """The memory of a handle from the other process."""
        name, number = handle
        device, address = ctypes.c_int(), ctypes.c_uint64()
        import torch

        torch.cuda.init()
        self._call("cuDeviceGetByPCIBusId", ctypes.byref(device), name.encode())
        self._enter(device.value)
        handle = _Handle.from_buffer_copy(bytes.fromhex(number))
        self._call("cuIpcOpenMemHandle_v2", ctypes.byref(address), handle, ctypes.c_uint(1))
        return device.value, address.value

    def tensor(self, memory, offset, dtype, shape):
        """A tensor in that memory."""
        import torch

        gpu, address = memory
        if not np.prod(shape):
            return torch.empty(shape, dtype=getattr(torch, dtype), device="cuda:%d" % gpu)  # noqa: UP031
        place = {"data": (address + offset, False), "shape": tuple(shape), "typestr": np.dtype(dtype).str, "version": 2}
        return torch.as_tensor(type("Memory", (), {"__cuda_array_interface__": place})())

    def finish(self):
        """Waits for what torch has been told to do."""
        for gpu in self._gpus:
            import torch

            torch.cuda.current_stream(gpu).synchronize()

    def _enter(self, gpu):
        """Makes torch's context of a GPU that of this thread."""
        import torch

        torch.cuda.set_device(gpu)
        torch.zeros(1, device="cuda:%d" % gpu)  # noqa: UP031 (which makes the context, if there is none)
        self._gpus.add(gpu)

    def _call(self, name, *arguments):
        status = getattr(self._driver, name)(*arguments)
        if status:
            raise RuntimeError("%s fails with CUDA's error %d" % (name, status))  # noqa: UP031


class _Handle(ctypes.Structure):
    """CUipcMemHandle, which goes by value."""

    _fields_ = [("bytes", ctypes.c_char * 64)]


def _gpus(leaves):
    """The numbers of the GPUs that tensors are on; ValueError if they are several."""
    numbers = {leaf.device.index for leaf in leaves if getattr(leaf, "is_cuda", False)}
    if len(numbers) > 1:
        raise ValueError("what is shown lies on several GPUs; set config.env.cuda_ipc to False")
    return numbers


def _form(tree, leaves, values, on_gpu=False):
    """What a tree is made of, and its tensors and arrays, and its other values, in order.

    A tensor of a GPU is of the kind `cuda` if it is to stay `on_gpu`, else a `tensor` as all others.
    """
    if hasattr(tree, "items"):
        return "dict", tuple((str(name), _form(part, leaves, values, on_gpu)) for name, part in tree.items())
    if isinstance(tree, (tuple, list)):
        return type(tree).__name__, tuple(_form(part, leaves, values, on_gpu) for part in tree)
    if hasattr(tree, "detach") or isinstance(tree, np.ndarray):
        leaves.append(tree)
        kind = "array" if isinstance(tree, np.ndarray) else "cuda" if on_gpu and tree.is_cuda else "tensor"
        return kind, str(tree.dtype).replace("torch.", ""), tuple(tree.shape)
    if not (tree is None or isinstance(tree, (bool, int, float, str))):
        raise TypeError(f"{type(tree).__name__} is no tensor, array, number or text")
    values.append(tree)
    return ("value",)


def _tree(form, views, values):
    kind = form[0]
    if kind == "dict":
        return {name: _tree(part, views, values) for name, part in form[1]}
    if kind in ("tuple", "list"):
        parts = [_tree(part, views, values) for part in form[1]]
        return parts if kind == "list" else tuple(parts)
    return next(values) if kind == "value" else next(views)


def _size(form, side):
    """Bytes that the leaves of a form take, on the `host` or on a GPU, `cuda`."""
    return sum(_room(dtype, shape) for kind, dtype, shape in _leaves(form) if _side(kind) == side)


def _side(kind):
    return "cuda" if kind == "cuda" else "host"


def _room(dtype, shape):
    return -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // 64) * 64


def _leaves(form):
    if form[0] in ("tensor", "array", "cuda"):
        yield form
    elif form[0] != "value":
        for part in form[1]:
            yield from _leaves(part[1] if form[0] == "dict" else part)


def _pin(form, leaves, views):
    """Lets CUDA copy to the host's memory directly. It also may refuse; then it copies by way of its own."""
    kinds = [kind for kind, _, _ in _leaves(form)]
    if not any(kind == "tensor" and leaf.is_cuda for kind, leaf in zip(kinds, leaves)):  # noqa: B905
        return
    import torch

    ours = [view for kind, view in zip(kinds, views) if kind != "cuda"]  # noqa: B905
    first = min(view.data_ptr() if hasattr(view, "data_ptr") else view.ctypes.data for view in ours)
    torch.cuda.cudart().cudaHostRegister(first, _size(form, "host"), 0)


def find(simulator, *names):
    """Who has the first of these attributes, the simulator or what it wraps, and which; None if nobody has one."""
    for name in names:
        for layer in (simulator, getattr(simulator, "unwrapped", None), getattr(simulator, "env", None)):
            if getattr(layer, name, None) is not None:
                return layer, name
    return None


def value(simulator, *names):
    """The first of these attributes that there is; None if there is none."""
    found = find(simulator, *names)
    return found and getattr(*found)


def make(name, options):
    """The simulator that a function at a dotted path makes of these options."""
    path, _, name = name.rpartition(".")
    return getattr(importlib.import_module(path), name)(**options)


def describe(simulator):
    """What the client has to know of a simulator before it is used."""
    space = value(simulator, "single_action_space", "action_space")
    length = value(simulator, "max_episode_length", "max_episode_steps")
    reset = getattr(simulator, "reset", None)
    buffer = value(simulator, "reset_buf") if find(simulator, "obs_buf") else None
    counter = find(simulator, "progress_buf", "episode_length_buf")
    return {
        "kind": type(simulator).__name__,
        "functions": [name for name in FUNCTIONS if callable(value(simulator, name))],
        "reset_takes": list(inspect.signature(reset).parameters) if callable(reset) else [],
        "action_space": {
            each: np.asarray(getattr(space, each)).tolist()
            for each in ("n", "start", "nvec", "low", "high", "shape")
            if getattr(space, each, None) is not None
        },
        "num_agents": int(value(simulator, "num_agents") or 1),
        "max_episode_length": length if isinstance(length, (int, float)) else None,
        "autoreset_mode": str((value(simulator, "metadata") or {}).get("autoreset_mode", "")),
        "waits_for": None if buffer is None else len(buffer),
        "counter": counter and counter[1],
        "saves": callable(value(simulator, "get_env_state")),
        "is_vmas": hasattr(simulator, "reset_at") and hasattr(simulator, "scenario"),
    }


def known(returned):
    """What a step or a reset returned, without the extras that nobody reads."""
    if not isinstance(returned, (tuple, list)) or not returned or not hasattr(returned[-1], "get"):
        return returned
    return tuple(returned[:-1]) + ({name: returned[-1][name] for name in EXTRAS if name in returned[-1]},)


def serve(wire):
    """Makes the simulator that the first request asks for, and answers the others until nobody is there."""
    asked, message = wire.receive()
    if message["protocol"] != PROTOCOL:
        raise ValueError(f"protocol {message['protocol']} is asked for, this server speaks {PROTOCOL}")
    simulator = make(asked["simulator"], asked["options"])
    import torch  # not before isaacgym, which that function imports

    wire.cuda = Cuda() if message.get("cuda_ipc") else None

    counter, state = find(simulator, "progress_buf", "episode_length_buf"), value(simulator, "get_env_state")
    calls = {
        "manual_seed": torch.manual_seed,
        "restart_all": lambda number: value(simulator, "reset_buf").fill_(number),
    }
    calls.update({name: value(simulator, name) for name in FUNCTIONS})
    silent = ("manual_seed", "restart_all", "set_env_state")  # what they return means nothing
    device = torch.device("cpu")

    def answer(returned, **message):
        told = {"counter": counter and getattr(*counter), "state": state and state(), "returned": returned}
        wire.send(told, **message)

    answer(None, protocol=PROTOCOL, **describe(simulator))
    while True:
        try:
            (arguments, named), message = wire.receive()
        except EOFError:
            break
        name = message["call"]
        try:
            with torch.no_grad():
                places = [leaf.device for leaf in tensors(state())] if name == "set_env_state" else []
                arguments, named = own((arguments, named), itertools.chain(places, itertools.repeat(device)))
                returned = known(calls[name](*arguments, **named))
            returned = None if name in silent else returned
            device = next((leaf.device for leaf in tensors(returned)), device)
            answer(returned)
        except Exception as mistake:  # a simulator may fail in any way
            wire.fail(mistake)
    close = value(simulator, "close")
    if close is not None:
        close()


def tensors(tree):
    """All tensors of a tree, in order."""
    leaves = []
    _form(tree, leaves, [])
    return [leaf for leaf in leaves if hasattr(leaf, "detach")]


def own(tree, devices):
    """A tree whose tensors are copies on the devices that come next, and its arrays copies."""
    if isinstance(tree, dict):
        return {name: own(part, devices) for name, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(own(part, devices) for part in tree)
    if isinstance(tree, np.ndarray):
        return tree.copy()
    return tree.to(next(devices), copy=True) if hasattr(tree, "detach") else tree


def attend(serve):
    """What a script does whom a `child.Child` has started: `serve(wire)`; its exit status says whether it failed."""
    descriptors, parent = [int(each) for each in sys.argv[1:]], os.getppid()
    for each in descriptors:
        os.set_inheritable(each, False)
    wire = Wire(socket.socket(fileno=descriptors[0]), descriptors[1], lambda: os.getppid() == parent)
    try:
        serve(wire)
    except (EOFError, ConnectionError):  # nobody is there any more
        pass
    except Exception as mistake:
        wire.fail(mistake)
    sys.exit(wire.has_failed)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as python -m has it; the folder of this file has modules called gymnasium and brax
    attend(serve)
