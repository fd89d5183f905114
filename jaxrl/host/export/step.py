"""One step of a trained policy as a pure function of arrays with names: what is exported, and what that is held to.

Letters in shapes: N rows of a batch, M options of all discrete parts of an action.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import envs, find
from jaxrl.functional.distributions import option_sizes
from jaxrl.host import policies
from jaxrl.host.export import flatten, optional
from jaxrl.host.export.flatten import Constant, Program
from jaxrl.types import Array, Box, ConfigError, PyTree

MASK = "action_mask"


class Port(NamedTuple):
    """An input or output by name."""

    name: str
    dtype: str
    shape: tuple[int, ...]  # without the leading N
    meaning: str


class Step(NamedTuple):
    """The deterministic policy, (*inputs) -> outputs, all [N, ...]."""

    policy: policies.Policy  # that computes in float32
    inputs: tuple[Port, ...]  # observations, then the carry, then `begins`
    outputs: tuple[Port, ...]  # actions, and what else there is, then the carry
    function: Callable  # (agent, *inputs) -> outputs
    program: Program  # the same as equations, with the agent's numbers inside
    batch: Any  # the symbolic dimension N
    num_obs: int  # inputs that are observations
    num_carry: int
    num_actions: int  # outputs that are what the environment gets

    def carry(self, num: int) -> list[Array]:
        """The memory before the first step."""
        ports = self.inputs[self.num_obs : self.num_obs + self.num_carry]
        return [jnp.zeros((num, *port.shape), port.dtype) for port in ports]


def make(policy: policies.Policy, control: envs.Control) -> Step:
    """The step of a policy.

    Args:
        policy: of a run.
        control: the limits of its environment's own actions.

    Raises:
        ConfigError: it cannot be traced for N rows, or loops in a way that cannot be written out.
    """
    policy = in_float32(policy)
    obs, carry = observed(policy.spec.obs), jax.tree.leaves(jax.eval_shape(lambda: policy.carry(1)))
    inputs = [Port(name, _seen_type(x), tuple(x.shape), _meaning(name, x)) for name, x in obs.items()]
    inputs += [
        Port(
            f"carry.{i}", str(x.dtype), tuple(x.shape[1:]), "memory: zeros at first, then next_carry of the same number"
        )
        for i, x in enumerate(carry)
    ]
    inputs.append(Port("begins", "bool", (), "true where an episode begins with these observations: memory is cleared"))
    full = _function(policy, control, len(obs))
    traced, batch = _trace(full, policy.agent, inputs)
    program = flatten.flatten(traced.jaxpr, _constants(policy.agent))
    outputs = _outputs(policy, control, traced.out_info, len(carry))
    return _pruned(policy, full, program, batch, inputs, outputs, len(obs), len(carry))


def in_float32(policy: policies.Policy) -> policies.Policy:
    """The policy with the same numbers, whose network computes in float32 if it did in bfloat16."""
    if policy.config.network.get("dtype", "float32") == "float32":
        return policy
    config = policy.config.copy_and_resolve_references()
    config.network.dtype = "float32"
    algorithm = find.find("algorithms", config.algorithm).make(config, policy.spec)
    return policies.Policy(algorithm, policy.agent, policy.spec, config, policy.env_steps)


def observed(obs: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
    """What the policy sees, by name: `obs` of an array; of a dict `obs.` and the key, and `action_mask`."""
    if isinstance(obs, Mapping):
        obs = {name: part for name, part in obs.items() if name != "critic"}
    leaves = jax.tree_util.tree_leaves_with_path(obs)
    return {_name(path): leaf for path, leaf in leaves}


def _name(path):
    inner = jax.tree_util.keystr(path, simple=True, separator=".")
    return MASK if inner == MASK else ".".join(filter(None, ("obs", inner)))


def _seen_type(x):
    # Rounded inside to what the environment would have shown; few programs that deploy know of float16.
    return "float32" if jnp.issubdtype(x.dtype, jnp.floating) else str(x.dtype)


def _meaning(name, x):
    if name == MASK:
        return "true where an option is allowed, of all discrete parts of the action in order"
    if x.dtype == jnp.uint8:
        return "observation, 0 to 255; scaled inside"
    return "observation as the environment shows it; the normaliser is inside"


def _function(policy, control, num_obs) -> Callable:
    """(agent, *observations, *carry, begins) -> [*actions, *own units, *logits, *carry], all [N, ...]."""
    like = policy.spec.obs
    if isinstance(like, Mapping):
        like = {name: part for name, part in like.items() if name != "critic"}
    obs_form, carry_form = jax.tree.structure(like), jax.tree.structure(jax.eval_shape(lambda: policy.carry(1)))
    space, has_options = policy.spec.action, bool(option_sizes(policy.spec.action))

    def function(agent, *inputs):
        obs = jax.tree.unflatten(obs_form, inputs[:num_obs])
        carry = jax.tree.unflatten(carry_form, inputs[num_obs:-1])
        acting = policies.Policy(policy.algorithm, agent, policy.spec, policy.config, policy.env_steps)
        action, after = acting.step(obs, carry, inputs[-1])
        actions = within(space, action) if control.clips else jax.tree.leaves(action)
        own = [] if control.low is None else [stretched(actions[0], control)]
        return [
            *actions,
            *own,
            *(_logits(acting, obs, carry, inputs[-1]) if has_options else []),
            *jax.tree.leaves(after),
        ]

    return function


def within(space, action: PyTree) -> list[Array]:
    """The parts of an action, numbers clipped to their bounds, as the environment does."""
    if isinstance(space, Box):
        return [jnp.clip(action, space.low, space.high)]
    if isinstance(space, tuple) and not hasattr(space, "_fields"):
        return sum((within(part, each) for part, each in zip(space, action, strict=True)), [])
    return [action]


def stretched(action: Array, control: envs.Control) -> Array:
    """[N, A] from [-1, 1] to the environment's own limits."""
    low, high = jnp.asarray(control.low, jnp.float32), jnp.asarray(control.high, jnp.float32)
    return low + 0.5 * (action + 1.0) * (high - low)


def _logits(policy, obs, carry, begins) -> list[Array]:
    """[[N, M]], if the algorithm remembers the distribution that it draws from; it is the same network once more."""
    spec = policy.spec.obs
    if isinstance(spec, Mapping) and "critic" in spec:
        num = jax.tree.leaves(obs)[0].shape[0]
        obs = {**obs, "critic": jax.tree.map(lambda x: jnp.zeros((num, *x.shape), x.dtype), spec["critic"])}
    obs = jax.tree.map(lambda x, each: x.astype(each.dtype), obs, spec)
    memo = policy.algorithm.act(policy.agent, carry, obs, begins, jax.random.key(0))[2]
    distribution = getattr(memo, "distribution", None)
    parts = [] if distribution is None else _categories(distribution)
    return [jnp.concatenate(parts, axis=-1)] if parts else []


def _categories(distribution):
    if hasattr(distribution, "logits"):
        return [distribution.logits]
    return sum((_categories(part) for part in getattr(distribution, "parts", ())), [])


def _trace(function, agent, inputs):
    """The traced function of N rows, and N."""
    [batch] = optional.jax_export().symbolic_shape("N")
    shapes = [jax.ShapeDtypeStruct((batch, *port.shape), port.dtype) for port in inputs]
    try:
        with jax.default_matmul_precision("highest"):
            return jax.jit(function).trace(agent, *shapes), batch
    except ConfigError:
        raise
    except Exception as error:  # the network is perhaps a user's own, and may fail in any way
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ConfigError(
            f"the policy cannot be exported: its network cannot be traced for N rows ({cause}); "
            "let it take its sizes from x.shape and compare none of them with numbers."
        ) from error


def _constants(agent):
    leaves = jax.tree_util.tree_leaves_with_path(agent)
    return [Constant(leaf, jax.tree_util.keystr(path, simple=True, separator=".")) for path, leaf in leaves]


def _outputs(policy, control, shapes, num_carry) -> list[Port]:
    """Names for what the function gives."""
    parts = _parts(policy.spec.action)
    names = ["action"] if len(parts) == 1 else [f"action.{i}" for i in range(len(parts))]
    meanings = [_of_part(part) for part in parts]
    if control.low is not None:
        names.append("env_action")
        meanings.append("the same action in the units of the environment's own limits")
    if len(shapes) - num_carry > len(names):
        names.append("logits")
        meanings.append("log-probabilities up to a constant, of all options in order; -1e8 where not allowed")
    names += [f"next_carry.{i}" for i in range(num_carry)]
    meanings += ["memory after this step"] * num_carry
    return [
        Port(name, str(x.dtype), tuple(x.shape[1:]), meaning)
        for name, x, meaning in zip(names, shapes, meanings, strict=True)
    ]


def _parts(space):
    return space if isinstance(space, tuple) and not hasattr(space, "_fields") else (space,)


def _of_part(part):
    if isinstance(part, Box):
        return f"numbers in [{part.low:g}, {part.high:g}], the policy's mode, clipped"
    return "the most probable option, or one of each part, counted from 0"


def _pruned(policy, full, program, batch, inputs, outputs, num_obs, num_carry) -> Step:
    """The step without the memory that no action depends on, such as that of a critic."""
    first = len(outputs) - num_carry
    carries = program.inputs[num_obs : num_obs + num_carry]
    kept: set[int] = set()
    while True:
        read = flatten.reads(program, [*program.outputs[:first], *(program.outputs[first + i] for i in sorted(kept))])
        now = {i for i, wire in enumerate(carries) if wire in read}
        if now == kept:
            break
        kept = now
    order = sorted(kept)
    ins = [*range(num_obs), *(num_obs + i for i in order), *([len(inputs) - 1] if order else [])]
    outs = [*range(first), *(first + i for i in order)]
    chosen = [program.outputs[i] for i in outs]

    def function(agent, *given):
        num = given[0].shape[0]
        every = [jnp.zeros((num, *port.shape), port.dtype) for port in inputs]
        for i, x in zip(ins, given, strict=True):
            every[i] = x
        made = full(agent, *every)
        return [made[i] for i in outs]

    return Step(
        policy=policy,
        inputs=tuple(_renumbered([inputs[i] for i in ins])),
        outputs=tuple(_renumbered([outputs[i] for i in outs])),
        function=function,
        program=Program([program.inputs[i] for i in ins], flatten.needed(program.equations, chosen), chosen),
        batch=batch,
        num_obs=num_obs,
        num_carry=len(order),
        num_actions=len(_parts(policy.spec.action)),
    )


def _renumbered(ports: Sequence[Port]) -> list[Port]:
    """The ports with their carries counted from 0 again."""
    count, named = 0, []
    for port in ports:
        if "carry." in port.name:
            port = port._replace(name=f"{port.name.rpartition('.')[0]}.{count}")
            count += 1
        named.append(port)
    return named


def parameters(step: Step) -> dict[str, np.ndarray]:
    """The numbers of the agent on which the outputs depend, by their path in it."""
    read = flatten.reads(step.program, step.program.outputs)
    constants = [x for x in read if isinstance(x, Constant) and x.name]
    return {x.name: np.asarray(x.value) for x in sorted(constants, key=lambda x: x.name)}
