"""Keeps to itself what the libraries of environments print and warn of, as they load and whenever they are traced.

The streams, the filters of warnings and MuJoCo's handler belong to the process, and programs are traced on several
threads at once: two that went quiet by themselves would put back each other's silence, and a run would say no more. So
one thread at a time is quiet, and what others print meanwhile goes through.
"""

import contextlib
import functools
import sys
import threading
import warnings

from jaxrl.envs.gymnasium_server import silent_mujoco

_ALONE = threading.RLock()


class _Others:
    """A stream, for all threads but that which is quiet."""

    def __init__(self, stream):
        self._stream, self.quiet_thread = stream, None

    def write(self, text: str) -> int:
        """Writes what another thread has to say."""
        return len(text) if threading.get_ident() == self.quiet_thread else self._stream.write(text)

    def __getattr__(self, name):
        return getattr(self._stream, name)


# Not let go of: before 3.13, Python crashes where a stream is freed that another thread is about to print into.
_for_others = functools.lru_cache(16)(_Others)


def _without_this_thread(stream):
    others = stream if isinstance(stream, _Others) else _for_others(stream)
    others.quiet_thread = threading.get_ident()
    return others


@contextlib.contextmanager
def quiet():
    """What this thread prints, warns of and hears of MuJoCo meanwhile is not shown."""
    with (
        _ALONE,
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stdout(_without_this_thread(sys.stdout)),
        contextlib.redirect_stderr(_without_this_thread(sys.stderr)),
        silent_mujoco(),
    ):
        yield
