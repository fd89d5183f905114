"""Trains a probe in a process of its own, which the tests of the loop kill.

python train_child.py WORKDIR [--kill-in-save ENV_STEPS] [--config.KEY=VALUE ...]
With --kill-in-save the process kills itself, as by SIGKILL, while the checkpoint of ENV_STEPS is being written.
"""

import importlib
import os
import re
import signal
import sys


def kill_inside(env_steps):
    """Kills this process at the moment that Orbax has written part of that checkpoint."""

    def watch(event, arguments):
        if event == "os.mkdir" and re.search(rf"/{env_steps}\.[^/]*tmp[^/]*/", str(arguments[0])):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    workdir, *rest = sys.argv[1:]
    if rest[:1] == ["--kill-in-save"]:
        kill_inside(rest[1])
        rest = rest[2:]
    experiment = os.path.join(os.path.dirname(__file__), "probe_experiment.py")
    # Not `from jaxrl import train`: that is the function of the library.
    main = importlib.import_module("jaxrl.train").main
    sys.exit(main([f"--config={experiment}", f"--workdir={workdir}", *rest]))
