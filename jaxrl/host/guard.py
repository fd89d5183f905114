"""What ends a run before its time: a rule of the user's, a signal, a number that is not finite."""

import math
import signal
import threading
from collections.abc import Callable

from ml_collections import ConfigDict, config_dict

from jaxrl import find

LIMITS = {"stop.wall_clock_limit_s": (0.0, None)}


def default_config() -> ConfigDict:
    """The groups `stop` and `guard`."""
    config = ConfigDict()
    config.stop = ConfigDict()
    config.stop.target_return = config_dict.placeholder(float)  # stop once an evaluation reaches this mean return
    config.stop.wall_clock_limit_s = config_dict.placeholder(float)  # stop after this many seconds, compiling included
    config.stop.predicate = ""  # 'package.module:function' of a row of metrics; stop once it returns true
    config.guard = ConfigDict()
    config.guard.non_finite = True  # stop, keeping the last good checkpoint, once a loss or a return is not finite
    return config


class BrokenRunError(RuntimeError):
    """Going on would only make it worse; exit status 3, the last good checkpoint is kept."""


class NonFiniteError(BrokenRunError):
    """A metric of the run is NaN or infinite."""


class BlockedError(BrokenRunError):
    """An environment allowed no action."""


def check(row: dict, config: ConfigDict) -> None:
    """NonFiniteError or BlockedError if the row tells of it; config is the group `guard`."""
    if row.get("rollout/blocked", 0) > 0:
        raise BlockedError(
            f"obs['action_mask'] allowed no option of a discrete part in {row['rollout/blocked']:.2%} of the steps "
            f"before {row['env_steps']:,} env steps; the environment must allow at least one in every observation; "
            "the last good checkpoint is kept."
        )
    broken = [name for name, value in row.items() if not math.isfinite(value)]
    if config.non_finite and broken:
        raise NonFiniteError(
            f"{', '.join(broken)} not finite at {row['env_steps']:,} env steps; "
            "the last good checkpoint is kept; try a lower config.ppo.learning_rate or config.ppo.max_gradient_norm."
        )


def stop_rule(config: ConfigDict) -> Callable[[dict], str]:
    """row -> why the run should stop now, or ''; config is the group `stop`.

    Raises:
        ConfigError: the predicate cannot be imported.
    """
    path = config.predicate
    predicate = find.function(path, "config.stop.predicate") if path else lambda row: False

    def reason(row: dict) -> str:
        best, limit = config.target_return, config.wall_clock_limit_s
        if best is not None and row.get("eval/episode_return", -math.inf) >= best:
            return f"the evaluation reached config.stop.target_return={best:g}"
        if limit is not None and row["wall_seconds"] >= limit:
            return f"config.stop.wall_clock_limit_s={limit:g} has passed"
        if predicate(row):
            return f"config.stop.predicate={path} is true"
        return ""

    return reason


class Signals:
    """Catches SIGINT and SIGTERM while it is open, so that the run can save before it ends; a second one interrupts.

    Elsewhere than in the main thread signals cannot be caught, and nothing is.
    """

    def __init__(self):
        self.received = 0  # number of the signal, 0 if none came
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        del frame
        if self.received:
            raise KeyboardInterrupt
        self.received = number
