"""One process of several that train, which the tests signal or kill.

python processes_child.py SIGNAL ENV_STEPS ARGUMENTS_OF_TRAIN ...
When it hears of the row at ENV_STEPS, the process sends itself SIGNAL; 0 is none.
"""

import importlib
import os
import sys

from jaxrl.host import guard

if __name__ == "__main__":
    signal, at, *arguments = sys.argv[1:]
    check = guard.check

    def check_and_send(row, config):
        check(row, config)
        if int(signal) and row["env_steps"] == int(at):
            os.kill(os.getpid(), int(signal))

    guard.check = check_and_send
    # Not `from jaxrl import train`: that is the function of the library.
    sys.exit(importlib.import_module("jaxrl.train").main(arguments))
