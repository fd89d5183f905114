"""Gymnasium's environments shared out over processes: each steps its share, one after the other, and all at once."""

import os
import sys

import numpy as np

from jaxrl import cores
from jaxrl.envs import gymnasium_server
from jaxrl.envs.child import Child
from jaxrl.types import ConfigError

LEAST = 16  # environments, for fewer of which a process of their own does not pay


def number(wanted: int, num_envs: int) -> int:
    """How many processes: as many as wanted; if that is 0 one for each core, of at least LEAST environments each."""
    if wanted:
        return min(wanted, num_envs)
    # Elsewhere no descriptors are handed down.
    return max(1, min(cores.number(), num_envs // LEAST)) if os.name == "posix" else 1


class Workers:
    """As `gymnasium_server.Here`, and with the same numbers: environment i gets seed + i, wherever it is.

    Args:
        made: what they are made of.
        num_envs: N, at least as many as workers.
        num_workers: processes.
        setting: what of the config made them, for errors.

    Raises:
        ConfigError: an environment fails, or a process ends, from all that is called here; or what they are made of
            cannot be pickled.
    """

    def __init__(self, made: gymnasium_server.Made, num_envs: int, num_workers: int, setting: str):
        import cloudpickle  # gymnasium brings it

        ends = np.linspace(0, num_envs, num_workers + 1).astype(int).tolist()
        self._rows = [slice(start, end) for start, end in zip(ends, ends[1:], strict=False)]
        try:
            # A notebook's classes by value: nobody could import them. A plain tuple: nothing of jaxrl is imported.
            packed = [cloudpickle.dumps((tuple(made), rows.stop - rows.start)) for rows in self._rows]
        except Exception as mistake:  # what a user has registered may refuse in any way
            cause = " ".join(f"{type(mistake).__name__}: {mistake}".split())
            raise ConfigError(f"{setting} cannot be sent there ({cause}).") from mistake
        self._children = [Child(sys.executable, gymnasium_server, setting) for _ in self._rows]
        self._ask([{"path": list(sys.path), "made": np.frombuffer(each, np.uint8)} for each in packed])

    def reset(self, seed: int):
        """obs [N, ...]."""
        return _joined(self._ask([seed + rows.start for rows in self._rows], call="reset"))

    def step(self, action):
        """(obs, reward, terminated, truncated, final_obs) [N, ...]; final_obs is None where it is obs everywhere."""
        *shown, finals = zip(*self._ask([action[rows] for rows in self._rows], call="step"), strict=True)
        if any(final is not None for final in finals):
            finals = [obs if final is None else final for obs, final in zip(shown[0], finals, strict=True)]
            return *map(_joined, shown), _joined(finals)
        return *map(_joined, shown), None

    def _ask(self, arguments, **message):
        """What each answers to its argument."""
        try:
            for child, argument in zip(self._children, arguments, strict=True):
                child.send(argument, **message)
            return [child.receive()[0] for child in self._children]
        except ConfigError:
            for child in self._children:  # what the others answer would be taken for that of the next question
                child.close()
            raise


def _joined(parts):
    """A tree of arrays of our own, of trees of rows."""
    first = parts[0]
    if isinstance(first, dict):
        return {name: _joined([part[name] for part in parts]) for name in first}
    return np.concatenate(parts)
