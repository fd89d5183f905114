"""A process for test_checkpoint.py: saves until it is killed, or restores onto the devices there are.

`save DIRECTORY EVENT PATH_END WHO`: when Python is about to do EVENT (an audit event) to a path in DIRECTORY that ends
so, the process kills itself (WHO=self), or says so and goes on (WHO=parent).
`restore DIRECTORY`: prints as JSON what came and where it lies.
"""

import json
import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxrl.host import checkpoint


def make_state(seed: int) -> dict:
    """A state in miniature: parameters for every device, environments and keys to be split over them."""
    kernel_key, actor_key = jax.random.split(jax.random.key(seed))
    return {
        "agent": {"kernel": jax.random.normal(kernel_key, (64, 32)), "empty": jnp.zeros((8, 0))},
        "actor": {"obs": jnp.arange(8 * 5000.0).reshape(8, 5000) + seed, "keys": jax.random.split(actor_key, 8)},
    }


def save(directory: Path, event: str, path_end: str, who: str) -> None:
    """Saves make_state(1), make_state(2), ... as env_steps 1, 2, ..."""

    def watch(name, arguments):
        if name == event and str(arguments[0]).startswith(str(directory)) and str(arguments[0]).endswith(path_end):
            if who == "self":
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(1, b"now\n")

    sys.addaudithook(watch)
    config = checkpoint.default_config()
    config.keep_best = 0
    checkpointer = checkpoint.Checkpointer(directory, config)
    env_steps = 0
    while True:
        env_steps += 1
        checkpointer.save(make_state(env_steps), env_steps, {})


def restore(directory: Path) -> None:
    """Restores into a template whose agent is on every device and whose actor is split over them."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    template = make_state(0)
    template = {
        "agent": jax.device_put(template["agent"], NamedSharding(mesh, PartitionSpec())),
        "actor": jax.device_put(template["actor"], NamedSharding(mesh, PartitionSpec("data"))),
    }
    state, env_steps = checkpoint.Checkpointer(directory, checkpoint.default_config()).restore(template)
    same = jax.tree.map(lambda leaf, like: leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim), state, template)
    said = {
        "env_steps": env_steps,
        "fingerprint": checkpoint.fingerprint(state),
        "devices": jax.device_count(),
        "rows": state["actor"]["obs"].addressable_shards[0].data.shape[0],
        "placed_as_template": all(jax.tree.leaves(same)),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    verb, where, *rest = sys.argv[1:]
    {"save": save, "restore": restore}[verb](Path(where), *rest)
