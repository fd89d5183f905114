"""Which members one compiled program can train: those whose configs differ in Hyper and the seed alone.

No list of keys says which those are: a number may be in Hyper and choose a loss as well (0 leaves it out). So the
algorithm itself is asked: its functions, lowered in an environment that does nothing, must be the same text with Hyper
as an argument. What is not the algorithm's own (environment, network, lengths, evaluation) must be equal.
"""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxrl import envs
from jaxrl.acting import epoch as epochs
from jaxrl.find import find
from jaxrl.host.sweeping.members import Member
from jaxrl.types import Algorithm, Environment, Spec, Timestep


def split(members: list[Member]) -> list[list[Member]]:
    """The members of each program, in the order of their first; of an environment on the host, each by itself.

    Raises:
        ConfigError: a member cannot be built.
    """
    found: dict[object, list[Member]] = {}
    specs: dict[str, Spec] = {}
    texts: dict[str, str] = {}
    for member in members:
        config = member.config
        algorithm = config.algorithm.split(".")[-1]
        rest = {name: value for name, value in config.to_dict().items() if name not in (algorithm, "seed")}
        place = json.dumps([rest, config[algorithm].num_envs])
        if place not in specs:
            specs[place] = envs.make(config.env, config[algorithm].num_envs).spec
        if not specs[place].traceable:
            found[member.name] = [member]
            continue
        own = json.dumps([place, config[algorithm].to_dict()])
        if own not in texts:  # seeds of one setting are asked for once
            texts[own] = text_of(config, specs[place])
        found.setdefault((place, texts[own]), []).append(member)
    return list(found.values())


def text_of(config: ConfigDict, spec: Spec) -> str:
    """sha256 of what the algorithm of a config compiles to, whatever the numbers in its Hyper.

    Args:
        config: resolved.
        spec: of its environments.
    """
    algorithm = find("algorithms", config.algorithm).make(config, spec)
    init, epoch = epochs.make(_nothing(spec), algorithm)
    seed, hyper = jax.random.key(0), jax.tree.map(np.float32, algorithm.hyper)
    state = jax.eval_shape(init, seed, hyper)
    lowered = [
        jax.jit(init).lower(seed, hyper),
        jax.jit(epoch).lower(state, jnp.int32(1)),
        jax.jit(lambda agent, carry, obs, reset: algorithm.policy(agent, carry, obs, reset)).lower(
            state.agent, *_seen(spec, algorithm)
        ),
    ]
    digest = hashlib.sha256()
    for each in lowered:
        digest.update(each.as_text().encode())
    return digest.hexdigest()


def _seen(spec: Spec, algorithm: Algorithm):
    """carry, obs and reset of N environments."""
    obs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((spec.num_envs, *x.shape), x.dtype), spec.obs)
    carry = jax.eval_shape(lambda: algorithm.carry(spec.num_envs))
    return carry, obs, jax.ShapeDtypeStruct((spec.num_envs,), bool)


def _nothing(spec: Spec) -> Environment:
    """Environments of that spec in which nothing happens: what is lowered is the algorithm, not the physics."""
    num_envs = spec.num_envs

    def show() -> Timestep:
        obs = jax.tree.map(lambda x: jnp.zeros((num_envs, *x.shape), x.dtype), spec.obs)
        heads = (spec.num_value_heads,) if spec.num_value_heads > 1 else ()
        never = jnp.zeros(num_envs, bool)
        return Timestep(obs, jnp.zeros((num_envs, *heads)), never, never, obs, {}, ~never)

    return Environment(lambda key: ((), show()), lambda state, action: ((), show()), spec)
