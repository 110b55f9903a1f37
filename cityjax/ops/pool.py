"""Pooling over windows that do not overlap, with gradients that are fast on a CPU."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

Window = tuple[int, ...]


def max_pool(x: jax.Array, window: Window = (2, 2)) -> jax.Array:
    """Return the maximum of each window of x [B, *space, C]; stride = window, no padding.

    Equal to `flax.linen.max_pool(x, window, strides=window)`, gradients included: rows and
    columns that do not fill a window are left out, and among equal maxima the first one, in
    row-major order of the window, gets the whole gradient. Forward mode, reverse mode and their
    compositions all work.

    Args:
        x: [B, *space, C] with as many spatial axes as the window has.
        window: the window's length along each spatial axis.

    Returns:
        [B, *(space // window), C].

    Raises:
        ValueError: the window does not fit x.
    """
    # The last axis goes first: a tie then belongs to the first row, and in it to the first column.
    return _pool(x, window, _max_along)


def avg_pool(x: jax.Array, window: Window = (2, 2)) -> jax.Array:
    """Return the mean of each window of x [B, *space, C]; stride = window, no padding.

    Args, shapes and errors are those of `max_pool`.
    """
    return _pool(x, window, jnp.sum) / math.prod(window)


def _pool(x: jax.Array, window: Window, reduce: Callable[[jax.Array, int], jax.Array]) -> jax.Array:
    """Reduce the windows axis by axis: [.., count * length, ..] as [.., count, length, ..]."""
    space = x.shape[1:-1]
    if len(window) != len(space) or not all(
        1 <= length <= extent for length, extent in zip(window, space, strict=True)
    ):
        raise ValueError(f"a window of {window} does not fit an input of shape {x.shape}")
    x = _once(x)
    for axis in range(len(window), 0, -1):
        length = window[axis - 1]
        count = x.shape[axis] // length
        whole = jax.lax.slice_in_dim(x, 0, count * length, axis=axis)
        split = whole.reshape(*x.shape[:axis], count, length, *x.shape[axis + 1 :])
        x = reduce(split, axis + 1)
    return jax.lax.optimization_barrier(x)


@jax.custom_jvp
def _once(x: jax.Array) -> jax.Array:
    """Return x; its gradient is made once, rather than inside each operation that reads it."""
    return x


@_once.defjvp
def _once_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return primals[0], jax.lax.optimization_barrier(tangents[0])


def _places(x: jax.Array, axis: int) -> list[jax.Array]:
    return [jax.lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]


# Written out place by place, since XLA turns that into one pass over memory, which it does not do
# with a reduction; and as a rule for tangents, which JAX transposes, so that both modes work.
@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_along(x: jax.Array, axis: int) -> jax.Array:
    return functools.reduce(jnp.maximum, _places(x, axis))


@_max_along.defjvp
def _max_along_jvp(
    axis: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (change,) = primals, tangents
    maximum = _max_along(x, axis)
    taken = jnp.zeros(maximum.shape, bool)
    firsts = []
    for value in _places(x, axis):
        first = (value == maximum) & ~taken
        taken = taken | first
        firsts.append(first)
    return maximum, jnp.sum(jnp.where(jnp.stack(firsts, axis), change, 0), axis)
