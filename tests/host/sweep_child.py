"""Sweeps a probe in a process of its own, which the tests kill.

python sweep_child.py WORKDIR [--kill-in-save ENV_STEPS] [FLAGS ...]
With --kill-in-save the process kills itself, as by SIGKILL, while the first checkpoint of ENV_STEPS is being written.
"""

import importlib
import os
import sys

from train_child import kill_inside

if __name__ == "__main__":
    workdir, *rest = sys.argv[1:]
    if rest[:1] == ["--kill-in-save"]:
        kill_inside(rest[1])
        rest = rest[2:]
    experiment = os.path.join(os.path.dirname(__file__), "probe_experiment.py")
    # Not `from jaxrl import sweep`: that is the function of the library.
    sys.exit(importlib.import_module("jaxrl.sweep").main([f"--config={experiment}", f"--workdir={workdir}", *rest]))
