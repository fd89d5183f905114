"""What a checkpoint of rl_games holds: its tensors by name, its optimisers and its counters."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrl.host import keys
from jaxrl.host.keys import error
from jaxrl.host.rl_games import pth, rules
from jaxrl.host.rl_games.source import Source
from jaxrl.host.rl_games.weights import CENTRAL, NET

# Parts of a checkpoint that are read.
READ = ("model", "optimizer", "epoch", "frame", "assymetric_vf_nets", "assymetric_vf_optimizer", "central_val_stats")


class Checkpoint(NamedTuple):
    """What a .pth of rl_games holds."""

    file: Path
    tensors: dict[str, np.ndarray]  # of the model; of the central value behind CENTRAL
    optimizers: dict[str, Mapping]  # {'': the policy's, CENTRAL: the central value's}, those that are there
    epoch: int
    frame: int  # env steps
    others: tuple[str, ...]  # names of the other parts


def read(file: Path) -> Checkpoint:
    """The checkpoint, without running anything that stands in it.

    Raises:
        ConfigError: it cannot be read, or is none of rl_games.
    """
    parts = pth.read(file)
    if not (isinstance(parts, dict) and isinstance(parts.get("model"), dict)):
        raise error(f"{file} has no part 'model', so it is no checkpoint of rl_games; give one of its nn/ folder")
    tensors = _tensors(parts["model"], file)
    central = parts.get("assymetric_vf_nets")
    if isinstance(central, dict):
        tensors |= {f"{CENTRAL}{name.removeprefix('model.')}": x for name, x in _tensors(central, file).items()}
    if not any(name.startswith(f"{NET}.") for name in tensors):
        raise error(
            f"{file} has no tensor {NET}..., so it is none of PPO; give a checkpoint of a2c_continuous or a2c_discrete"
        )
    counters = [parts.get(name, 0) for name in ("epoch", "frame")]
    if not all(isinstance(number, int | np.integer) and 0 <= number < 2**62 for number in counters):
        raise error(f"{file} has epoch and frame {keys.show(counters)}, which are no counters; copy it again")
    optimizers = {"": parts.get("optimizer"), CENTRAL: parts.get("assymetric_vf_optimizer")}
    return Checkpoint(
        file,
        tensors,
        {name: one for name, one in optimizers.items() if isinstance(one, dict)},
        *map(int, counters),
        tuple(str(name) for name, part in parts.items() if name not in READ and part is not None),
    )


def _tensors(part, file):
    """Arrays by name; those of torch.compile have a prefix."""
    for name, x in part.items():
        if not (isinstance(name, str) and isinstance(x, np.ndarray)):
            raise error(f"{file} has {keys.show(name)} among its tensors, which is none; copy it again")
    return {name.replace("_orig_mod.", ""): x for name, x in part.items()}


def with_num_envs(source: Source, found: Checkpoint) -> Source:
    """The yaml with the num_actors that the counters tell, where it leaves them to the task."""
    steps = found.epoch * rules.horizon(source)
    if source.whole("num_actors", -1) > 0 or not steps or found.frame % steps or not found.frame:
        return source
    remark = f"num_actors={found.frame // steps} follows from the checkpoint's epoch and frame"
    leaves = source.leaves | {"config.num_actors": found.frame // steps}
    return source._replace(leaves=leaves, remarks=(*source.remarks, remark))
