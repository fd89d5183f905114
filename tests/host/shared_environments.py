"""Environments whose states several devices share, each for another reason not as the compiler would: for test_devices.

| name | what happens |
|---|---|
| pairs | two agents see a number x of their environment, reward -(a - x)² each, four steps |
| lapack | the same for one agent, whose x goes through a custom call that the compiler knows nothing of |
"""

import jax
import jax.numpy as jnp
import jaxlib.lapack
import numpy as np
from ml_collections import ConfigDict

from jaxrl.envs import folding, wrappers
from jaxrl.types import Box, Environment, Spec

LENGTH = 4  # steps of an episode


def default_config() -> ConfigDict:
    """The group `env`."""
    return ConfigDict({"suite": __name__, "name": "pairs"})


def make(config: ConfigDict, num_envs: int, restarts: bool = True) -> Environment:
    """N of them."""
    return {"pairs": pairs, "lapack": lapack}[config.name](num_envs, restarts)


def pairs(num_envs, restarts):
    """The state is [N], the rows are [2·N]."""

    def reset(key):
        x = jax.random.uniform(key)
        return x, jnp.stack([x, x])[:, None]

    def step(x, action):
        joint = folding.Joint(
            jnp.stack([x, x])[:, None], -jnp.square(action[:, 0] - x), jnp.bool_(False), jnp.ones(2, bool), {}
        )
        return x, joint

    return folding.restarting(reset, step, num_envs, 2, Box((1,)), LENGTH, restarts)


def lapack(num_envs, restarts):
    """√(x² + 1), by the Cholesky factor of a matrix of one number."""

    def reset(key):
        x = jax.random.uniform(key)
        return x, x[None]

    def step(x, action):
        root = cholesky((jnp.square(x) + 1.0)[None, None])[0, 0]
        return x, wrappers.Single(root[None], -jnp.square(action[0] - x), jnp.bool_(False), {})

    action = Box((1,))
    begin, go_on = wrappers.restarting(reset, step, num_envs, action, LENGTH, restarts)
    return Environment(begin, go_on, Spec(num_envs, jax.ShapeDtypeStruct((1,), jnp.float32), action, LENGTH))


def cholesky(matrix):
    """LAPACK's spotrf of [..., n, n], as anybody's custom call: JAX tells the compiler how to share its own out."""
    jaxlib.lapack._lapack.initialize()
    factor, _ = jax.ffi.ffi_call(
        "lapack_spotrf_ffi",
        (jax.ShapeDtypeStruct(matrix.shape, matrix.dtype), jax.ShapeDtypeStruct(matrix.shape[:-2], jnp.int32)),
        vmap_method="broadcast_all",
    )(matrix, uplo=np.uint8(ord("L")))
    return factor
