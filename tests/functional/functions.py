"""Functions of one row, and rows to map them over: what a map has to be able to do."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ROWS = 5
MATRIX = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
PLACES = np.array([2, 0, 2])

# Of one row: x [3], y [2, 3], wide [3, 12], n [] int32.
ELEMENTS = {
    "of each element": lambda x, y, wide, n: (
        jnp.sin(x)[None] * y + jnp.arctan2(y, 2.0) ** 2 - jnp.exp(-jnp.abs(x))[None]
    ),
    "numbers beside arrays": lambda x, y, wide, n: jnp.clip(y, x[0], 1.5) + x[1] * y + n,
    "a choice by a number": lambda x, y, wide, n: lax.select(x[0] > 0, y, jnp.ones_like(y)),
    "a choice of numbers": lambda x, y, wide, n: lax.select_n(n % 2 == 0, x[0], 7.0),
    "bounds that are numbers": lambda x, y, wide, n: lax.clamp(x[0], y, 0.5),
    "types": lambda x, y, wide, n: (n > 2, n.astype(jnp.float32), (x > 0) & (n > 1), x.astype(jnp.int8) << 1),
    "the same for all": lambda x, y, wide, n: (MATRIX, jnp.float32(3.0), jnp.arange(4), x),
    "a function of its own": lambda x, y, wide, n: jax.jit(jnp.cross)(x, y[0]),
    "what has a slope of its own": lambda x, y, wide, n: jax.nn.relu(x) + jax.nn.silu(x),
    "keys": lambda x, y, wide, n: jax.random.normal(jax.random.fold_in(jax.random.key(3), n), (2, 3)),
}
SHAPES = {
    "reshape": lambda x, y, wide, n: (y.reshape(3, 2), y.ravel(), x[None, :, None], y.T, jnp.swapaxes(wide, 0, 1)),
    "broadcast": lambda x, y, wide, n: (jnp.broadcast_to(x, (4, 3)), jnp.broadcast_to(n, (2,)), jnp.ones((2, 2)) * n),
    "put together": lambda x, y, wide, n: (jnp.concatenate([x, MATRIX[0], y[1]]), jnp.stack([x, MATRIX[1]], axis=1)),
    "repeat": lambda x, y, wide, n: (jnp.tile(y, (2, 1)), jnp.repeat(x, 2)),
    "take apart": lambda x, y, wide, n: (*jnp.split(wide, 3, axis=1), y[:, ::2], x[1:], y[..., -1]),
    "pad": lambda x, y, wide, n: (jnp.pad(y, ((1, 0), (0, 2))), jnp.pad(x, 1, constant_values=x[0])),
    "turn round": lambda x, y, wide, n: (x[::-1], jnp.flip(y, 0), jnp.roll(x, 1), jnp.sort(x), jnp.argsort(y, axis=0)),
    "along an axis": lambda x, y, wide, n: (jnp.max(y, 0), jnp.argmin(x), jnp.cumsum(y, 1), jnp.all(y > 0), y.any(1)),
    "in place": lambda x, y, wide, n: (
        x.at[1].set(7.0),
        y.at[PLACES[:2], 1].add(x[:2]),
        jnp.array(MATRIX[0]).at[n % 3].set(1.0),
    ),
    "in places": lambda x, y, wide, n: (
        y[:, PLACES],
        jnp.array(MATRIX)[PLACES],
        jnp.array(MATRIX)[n],
        x[n],
        y.at[:, n % 3].set(0.0),
    ),
    "a window": lambda x, y, wide, n: (
        lax.dynamic_slice(wide, (n % 2, 0), (2, 4)),
        lax.dynamic_slice(wide, (jnp.int32(1), jnp.int32(2)), (2, 4)),
        lax.dynamic_update_slice(wide, y, (jnp.int32(1), jnp.int32(2))),
        lax.dynamic_update_slice(jnp.zeros((3, 12)), y, (n % 2, jnp.int32(2))),
    ),
}
SUMS = {
    "sums": lambda x, y, wide, n: (jnp.sum(y), jnp.sum(y, 0), jnp.sum(y, 1), jnp.sum(wide), jnp.sum(wide, (0, 1))),
    "products": lambda x, y, wide, n: (x @ y[0], y @ x, y @ y.T, jnp.outer(x, y[0]), jnp.linalg.norm(x)),
    "by a matrix for all": lambda x, y, wide, n: (
        MATRIX @ x,
        x @ MATRIX.T,
        y @ MATRIX.T,
        MATRIX @ y.T,
        MATRIX @ MATRIX.T,
    ),
    "of many terms": lambda x, y, wide, n: (wide @ wide.T, wide @ jnp.ones((12, 2)), jnp.ones((2, 12)) @ wide.T),
    "of matrices in rows": lambda x, y, wide, n: (
        jnp.einsum("bij,bjk->bik", wide.reshape(3, 3, 4), wide.reshape(3, 4, 3)),
        jnp.einsum("bij,bj->bi", wide.reshape(4, 3, 3), MATRIX),
        jnp.einsum("bj,bij->bi", MATRIX, wide.reshape(4, 3, 3)),
        jnp.einsum("ab,cb->ac", y, y),
        jnp.einsum("ij,ij->", y, y),
        jnp.einsum("i,jk->kij", x, y),
        jnp.einsum("bijk,bl->bklij", wide.reshape(2, 3, 3, 2), MATRIX[:2]),
    ),
    "of no terms": lambda x, y, wide, n: (jnp.sum(y[:, :0], 1), y[:, :0] @ wide[:0], jnp.zeros((2, 0)) @ wide[:0]),
    "of half a float": lambda x, y, wide, n: (
        y.astype(jnp.bfloat16) @ x.astype(jnp.bfloat16) * 0.5,
        jnp.einsum("ij,j->i", y.astype(jnp.bfloat16), x.astype(jnp.bfloat16), preferred_element_type=jnp.float32),
    ),
    "of whole numbers": lambda x, y, wide, n: (jnp.arange(3) * n @ jnp.arange(3), (wide > 0).sum()),
    "a linear system": lambda x, y, wide, n: jnp.linalg.solve(wide @ wide.T + 9 * jnp.eye(3), x),
}
LOOPS = {
    "scan": lambda x, y, wide, n: lax.scan(lambda c, i: (c * x + i, c[0] + n), jnp.zeros(3), jnp.arange(4.0)),
    "a scan over what is of each row": lambda x, y, wide, n: lax.scan(lambda c, z: (c + z, c), x, y, reverse=True),
    "a loop": lambda x, y, wide, n: lax.fori_loop(0, 3, lambda i, c: c + jnp.array(MATRIX)[i] * x, x),
    "a loop as long as the row says": lambda x, y, wide, n: lax.while_loop(
        lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * 2), (0, x)
    ),
    "one way or the other": lambda x, y, wide, n: lax.cond(n > 2, lambda x: x + 1, lambda x: x[::-1] * n, x),
    "one way for all": lambda x, y, wide, n: lax.cond(jnp.arange(2).sum() > 0, lambda x: x + n, lambda x: x, x),
}
FUNCTIONS = ELEMENTS | SHAPES | SUMS | LOOPS


def some_rows():
    """x [5, 3], y [5, 2, 3], wide [5, 3, 12], n [5] int32."""
    random = np.random.default_rng(0)
    shapes = ((3,), (2, 3), (3, 12))
    numbers = [random.normal(size=(ROWS, *shape)).astype(np.float32) for shape in shapes]
    return *numbers, np.arange(ROWS, dtype=np.int32)


def leaves(tree):
    """Shapes and types."""
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def names(jaxpr):
    """Of all operations of a jaxpr, in loops and functions too."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from names(inner.jaxpr)
