"""A torch simulator that runs in a process of its own, as if it were here; `torch_server.py` says how they talk.

What is returned lies in memory that both processes have, and is overwritten with the next step.
"""

import inspect
import types
from typing import Any

import numpy as np

from jaxrl.envs import torch_server
from jaxrl.envs.child import Child
from jaxrl.types import ConfigError


class Client:
    """The simulator by the attributes that torch_contracts.py asks for.

    Args:
        python: a Python, its path or its name on the PATH; it needs NumPy, torch and the simulator.
        name: of the user's function by its dotted path, as that Python imports it.
        options: of the function.
        cuda_ipc: what is on a GPU stays there on its way from process to process.

    Raises:
        ConfigError: that Python cannot be started, or the function cannot be imported or fails, or CUDA is not here.
    """

    def __init__(self, python: str, name: str, options: dict[str, Any], cuda_ipc: bool = False):
        setting = f"config.env.name={name!r} under config.env.python={python!r}"
        cuda = _cuda() if cuda_ipc else None
        self.child = Child(python, torch_server, setting)
        self.close = self.child.close
        self.child.share(cuda)
        self._counter = None
        try:
            asked = {"simulator": name, "options": options}
            told = self._ask(asked, protocol=torch_server.PROTOCOL, cuda_ipc=cuda_ipc)
            if told["protocol"] != torch_server.PROTOCOL:
                raise ConfigError(f"{setting} speaks protocol {told['protocol']}, not {torch_server.PROTOCOL}.")
            if told["is_vmas"]:
                raise ConfigError(f"{setting} makes a VMAS environment, which is not served; leave python empty.")
        except ConfigError:
            self.close()
            raise
        self._show(told)

    def _show(self, told):
        """Gives itself the attributes of the simulator."""
        self.num_agents, self.max_episode_length = told["num_agents"], told["max_episode_length"]
        self.metadata = {"autoreset_mode": told["autoreset_mode"]}
        space = {name: np.asarray(bound) for name, bound in told["action_space"].items()}
        self.action_space = types.SimpleNamespace(**space) if space else None
        for name in told["functions"]:
            setattr(self, name, self._function(name))
        self.manual_seed = self._function("manual_seed")
        if told["saves"]:
            self.get_env_state = lambda: self._state
        if told["counter"]:
            self._counter = told["counter"]
            setattr(self, self._counter, self._count)
        if told["waits_for"] is not None:  # a VecTask, of whose buffers nobody reads another
            self.reset_buf = self.obs_buf = _Flags(told["waits_for"], self._function("restart_all"))
        if "reset" in told["functions"]:
            takes = [name for name in told["reset_takes"] if name in ("seed", "options")]
            parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in takes]
            self.reset.__signature__ = inspect.Signature(parameters)

    def _function(self, name):
        def call(*arguments, **named):
            self._ask((arguments, named), call=name)
            return self._returned

        return call

    def _ask(self, tree, **message):
        """Sends a request, keeps what is told with the reply, and returns its line."""
        told, message = self.child.ask(tree, **message)
        self._returned, self._state, self._count = told["returned"], told["state"], told["counter"]
        if self._counter:
            setattr(self, self._counter, self._count)
        return message


def _cuda():
    try:
        return torch_server.Cuda()
    except OSError as error:
        raise ConfigError(
            f"config.env.cuda_ipc=True needs the driver of an NVIDIA GPU ({error}); set it to False."
        ) from None


class _Flags:
    """The flags of a VecTask by which it restarts in its next step."""

    def __init__(self, size, fill):
        import torch

        self._size, self._fill, self.device = size, fill, torch.device("cpu")

    def __len__(self):
        return self._size

    def fill_(self, value):
        self._fill(value)
