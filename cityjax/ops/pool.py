"""Pooling over windows: XLA's own, except on a CPU, where slices and comparisons are faster.

XLA's reduction over windows takes a CPU ten times as long as the values take to be read, and its
gradient, which looks for each maximum once more, longer still.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Window = tuple[int, ...]
Axes = tuple[int, ...]
_MOST_PLACES = 8  # of a window that is reduced along all axes at once


def max_pool(
    x: jax.Array,
    window: Window = (2, 2),
    strides: Window | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
) -> jax.Array:
    """Return the maximum of each window of x [B, *space, C].

    Equal to `flax.linen.max_pool` of the same arguments, gradients included; except that strides
    are the window's length by default, and that on a CPU a window with NaN has no gradient.
    Among equal maxima the first one, in row-major order of the window, gets the whole gradient.
    Forward mode, reverse mode and their compositions all work.

    Args:
        x: [B, *space, C] with as many spatial axes as the window has.
        window: the window's length along each spatial axis.
        strides: steps from one window to the next along each; the window's length by default.
        padding: "VALID", "SAME" or (low, high) for each, of what is below every number.

    Returns:
        [B, *windows, C], (space + low + high - window) // stride + 1 windows along each axis.

    Raises:
        ValueError: the window does not fit x, or an argument is not one number an axis.
    """
    if jnp.issubdtype(x.dtype, jnp.integer):
        lowest = jnp.iinfo(x.dtype).min
    else:
        lowest = -math.inf if jnp.issubdtype(x.dtype, jnp.floating) else 0  # of truth values
    return _pool(x, window, strides, padding, _max_along, lax.max, lowest)


def avg_pool(
    x: jax.Array,
    window: Window = (2, 2),
    strides: Window | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
) -> jax.Array:
    """Return the mean of each window of x [B, *space, C], padding counting as zeros.

    Args, shapes and errors are those of `max_pool`.
    """
    x = x.astype(jnp.result_type(x, float))  # in whole numbers a sum could overflow
    return _pool(x, window, strides, padding, jnp.sum, lax.add, 0) / math.prod(window)


def _pool(
    x: jax.Array,
    window: Window,
    strides: Window | None,
    padding: str | Sequence[tuple[int, int]],
    along: Callable[[jax.Array, Axes], jax.Array],
    both: Callable[[jax.Array, jax.Array], jax.Array],
    edge: float,
) -> jax.Array:
    """Reduce each window to a number, by axes or two values at a time."""
    strides = window if strides is None else strides
    refused = ValueError(
        f"a window of {window} with strides {strides} and padding {padding} does not fit an input"
        f" of shape {x.shape}: one whole number for each axis, of the padding two, or its name"
    )
    try:
        window, strides = tuple(map(operator.index, window)), tuple(map(operator.index, strides))
        if not len(window) == len(strides) == x.ndim - 2 or min(window + strides, default=1) < 1:
            raise refused
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(x.shape[1:-1], window, strides, padding)
        pads = [(operator.index(low), operator.index(high)) for low, high in padding]
    except (TypeError, RuntimeError):  # what is no sequence, and an unknown name
        raise refused from None
    if len(pads) != len(window) or not all(
        length <= low + extent + high and min(low, high) >= 0
        for length, extent, (low, high) in zip(window, x.shape[1:-1], pads, strict=True)
    ):
        raise refused

    def native(x):
        start = np.asarray(edge, x.dtype)
        around = [(0, 0), *pads, (0, 0)]
        return lax.reduce_window(x, start, both, (1, *window, 1), (1, *strides, 1), around)

    on_cpu = functools.partial(
        _slices, window=window, strides=strides, pads=pads, along=along, edge=edge
    )
    return lax.platform_dependent(x, cpu=on_cpu, default=native)


def _slices(
    x: jax.Array,
    window: Window,
    strides: Window,
    pads: Sequence[tuple[int, int]],
    along: Callable[[jax.Array, Axes], jax.Array],
    edge: float,
) -> jax.Array:
    """Reduce the windows, [.., count, length, ..], over their lengths."""
    x = _once(x)
    if any(map(any, pads)):
        x = lax.pad(x, jnp.asarray(edge, x.dtype), [(0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0)])
    # Small windows that do not overlap in one pass; others axis by axis, which reads a value less
    # often. The last axis goes first: a tie is then the first row's, and in it the first column's.
    axes = range(1, len(window) + 1)
    small = window == strides and math.prod(window) <= _MOST_PLACES
    for group in [tuple(axes)] if small else [(axis,) for axis in reversed(axes)]:
        for axis in reversed(group):
            x = _windows(x, window[axis - 1], strides[axis - 1], axis)
        x = along(x, tuple(axis + order for order, axis in enumerate(group, start=1)))
    return lax.optimization_barrier(x)


def _windows(x: jax.Array, length: int, stride: int, axis: int) -> jax.Array:
    """Return the windows along an axis: [.., extent, ..] as [.., count, length, ..]."""
    count = (x.shape[axis] - length) // stride + 1
    if stride == length:  # no copy
        whole = lax.slice_in_dim(x, 0, count * length, axis=axis)
        return whole.reshape(*x.shape[:axis], count, length, *x.shape[axis + 1 :])
    stop = stride * (count - 1) + 1
    places = [lax.slice_in_dim(x, i, i + stop, stride, axis) for i in range(length)]
    return jnp.stack(places, axis + 1)


@jax.custom_jvp
def _once(x: jax.Array) -> jax.Array:
    """Return x; its gradient is made once, rather than inside each operation that reads it."""
    return x


@_once.defjvp
def _once_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return primals[0], lax.optimization_barrier(tangents[0])


def _places(x: jax.Array, axes: Axes) -> list[jax.Array]:
    """Return what lies at each place along some axes, the last of them fastest."""
    found = [x]
    for axis in axes:
        found = [
            lax.slice_in_dim(part, i, i + 1, axis=axis)
            for part in found
            for i in range(x.shape[axis])
        ]
    return [lax.squeeze(place, axes) for place in found]


# Written out place by place, since XLA turns that into one pass over memory, which it does not do
# with a reduction; and as a rule for tangents, which JAX transposes, so that both modes work.
@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_along(x: jax.Array, axes: Axes) -> jax.Array:
    return functools.reduce(jnp.maximum, _places(x, axes))


@_max_along.defjvp
def _max_along_jvp(
    axes: Axes, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (change,) = primals, tangents
    maximum, places = _max_along(x, axes), _places(x, axes)
    # The number of the first place that holds the maximum, beyond the last where none equals it.
    kind = jnp.int8 if len(places) < 128 else jnp.int32
    first = jnp.full(maximum.shape, len(places), kind)
    for number in reversed(range(len(places))):
        first = jnp.where(places[number] == maximum, jnp.asarray(number, kind), first)
    # It is what the gradient keeps of x; XLA would keep a truth value for every place.
    first = lax.optimization_barrier(first)
    lengths = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    numbers = jnp.arange(len(places), dtype=kind).reshape(lengths)
    taken = jnp.expand_dims(first, axes) == numbers
    return maximum, jnp.sum(jnp.where(taken, change, 0), axes)
