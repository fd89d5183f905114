"""Trains a sweep across machines: on a Ray cluster, one process of jaxrl.train for each run, by Ray Tune.

| file | what is there |
|---|---|
| cluster | the connection to the cluster, what it has to offer, where Ray's own log goes |
| driver | what Tune asks on the driver's side: which run is next, what to tell, what to write into the ledger |
| study | Optuna's proposals: settings one after the other, each from what the ones before have reached |
| trial | what Tune starts for each run on a machine of the cluster |
| process | the process of a run: started, looked at, stopped; it knows nothing of Ray |
| tied | the training that ends with whoever started it |

Every machine must see the sweep's folder and the folder that the driver was started in under the same path, and have
jaxrl installed, or see it there. The driver alone writes what is of the whole sweep:

SWEEP/ray/ray.log          what Ray and Optuna have to tell
SWEEP/ray/MEMBER.json      the config that a run is started with; the same command goes on with it
SWEEP/ray/MEMBER.log       what its processes printed
SWEEP/ray/MEMBER.lock      held by its process as long as it lives: a run that lost its machine is never trained twice
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from jaxrl.host import keys
from jaxrl.host.keys import error
from jaxrl.host.sweeping.ledger import Ledger
from jaxrl.host.sweeping.members import Draw, Member, Request, fitting, make, one, resolved

LIMITS = {
    "cpus_per_trial": (0.0, None),
    "gpus_per_trial": (0.0, None),
    "max_failures": (-1, None),
    "max_concurrent": (0, None),
    "grace_env_steps": (0, None),
    "reduction_factor": (1.1, None),
}
CHOICES = {"search": ("optuna", "random", "grid"), "scheduler": ("asha", "none")}
PACKAGES = ("ray.tune", "optuna")  # of the extra [sweep]


class Options(NamedTuple):
    """How a sweep is trained on a cluster."""

    command_line: list[str]  # for the record
    request: Request
    address: str = ""  # HOST:PORT of the cluster, or local to start one here; RAY_ADDRESS or auto if not given
    search: str = ""  # how settings are chosen; optuna where --sweep has draws, grid where it has not, if not given
    storage: str = ""  # URL of the database that keeps Optuna's study, sqlite:///study.db; in memory if not given
    scheduler: str = "asha"  # asha stops early the runs that fall behind the others at the same env steps
    grace_env_steps: int = 0  # before which asha stops no run; 0 = a ninth of the longest
    reduction_factor: float = 3.0  # of asha: about one in so many goes on at each milestone
    cpus_per_trial: float = 1.0  # that a run takes of its machine, as Ray counts them
    gpus_per_trial: float = 0.0  # a part of one shares it
    max_concurrent: int = 0  # runs at once; 0 = as many as the cluster has room for
    max_failures: int = 3  # times that a run whose machine or process dies is begun again; -1 = always


def crew(options: Options) -> list[Member]:
    """The members that are known before: all of a grid or of random draws, none of what Optuna is to propose.

    Raises:
        ConfigError: the search does not fit the axes, or as `members.make`.
    """
    request, search = options.request, _search(options)
    drawn = [name for name, axis in request.axes.items() if isinstance(axis, Draw)]
    if search == "grid" and drawn:
        raise error(f"--search=grid cannot try all of {drawn[0]}={request.axes[drawn[0]]}; give its values, or leave "
                    "--search out")  # fmt: skip
    if search == "random" and not drawn:
        raise error(
            "--search=random has nothing to draw in --sweep; write KEY=uniform(LOW,HIGH) or loguniform(LOW,HIGH)"
        )
    if options.storage and search != "optuna":
        raise error(f"--storage={options.storage} is for --search=optuna; leave it out")
    if options.scheduler == "asha" and not resolved(request).eval.episodes:
        raise error("--scheduler=asha compares evaluations, and config.eval.episodes=0 makes none; give some episodes, "
                    "or --scheduler=none")  # fmt: skip
    if search != "optuna":
        return make(*request)
    if not request.axes or not request.samples:
        raise error(f"--search=optuna takes both axes and --samples, not --samples={request.samples}; write "
                    "--sweep='ppo.learning_rate=loguniform(1e-5,1e-2)' --samples=32")  # fmt: skip
    if "seed" in request.axes:
        raise error("--sweep=seed=... is nothing to search; give the seeds of each setting by --seeds")
    held = dict(keys.leaves(resolved(request)))
    for name, axis in request.axes.items():
        ends = [fitting(end, axis, held.get(name)) for end in axis[1:]] if isinstance(axis, Draw) else axis
        for value in ends:  # a key or a value that is none is refused before anything is trained
            one(request, {name: value})
    return []


def run(book: Ledger, options: Options, say: Callable[[str], None]) -> int:
    """Trains every member that has not ended, each from its own newest checkpoint, and those that Optuna proposes.

    Args:
        book: of the sweep.
        options: how.
        say: takes what there is to tell, a line at a time.

    Returns:
        The signal that ended it, 0 if none did.

    Raises:
        ConfigError: the extra is not installed, there is no such cluster, or it has no room for a trial.
    """
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as mistake:
            raise error(f"--engine=ray needs the extra [sweep] ({mistake}); pip install 'jaxrl[sweep]'") from None
    from jaxrl.host.engines.ray import driver

    return driver.conduct(book, options._replace(search=_search(options)), say)


def _search(options):
    is_drawn = any(isinstance(axis, Draw) for axis in options.request.axes.values())
    return options.search or ("optuna" if is_drawn else "grid")
