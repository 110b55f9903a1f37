"""A convolution and the maximum of each window of it, at once where an image has few channels.

Of one channel a convolution does little work and writes much: on a CPU most of its time goes into
memory that pooling reads once and drops three quarters of. Here each value is the sum that it is,
taken in registers, and what is written is the maximum. Everything else, and every other platform,
convolves and pools.
"""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cityjax.ops.conv import channels_last, conv_general_dilated, summed_like
from cityjax.ops.pool import max_pool

Pair = tuple[int, int]

# Products behind one maximum, beyond which a matrix product pays.
MOST_PRODUCTS = 128


def conv_max_pool(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    window: Pair = (2, 2),
) -> jax.Array:
    """Return `max_pool(conv_general_dilated(...), window)` of the same arguments.

    Made for Flax's hook, `nn.Conv(..., conv_general_dilated=conv_max_pool)`: the bias that is added
    to what a hook returns commutes with the maximum. What `ops.conv` and `ops.pool` say of
    gradients holds here too.

    Args, shapes and errors are those of `conv_general_dilated` and `max_pool`.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    strides = tuple(window_strides)
    precision = tuple(precision) if isinstance(precision, list) else precision
    convolve = functools.partial(
        conv_general_dilated,
        window_strides=strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    covered = (
        lhs.ndim == 4
        and len(window) == 2
        and numbers == channels_last(2)
        and all(o is None or tuple(o) == (1, 1) for o in (strides, lhs_dilation, rhs_dilation))
        and feature_group_count == batch_group_count == 1
        and math.prod(window) * math.prod(rhs.shape[:-1]) <= MOST_PRODUCTS
        and rhs.size > 0
        and all(isinstance(step, int) for step in window)
        and lhs.dtype == rhs.dtype
        and lhs.dtype in (jnp.float32, jnp.float64)
        and preferred_element_type in (None, lhs.dtype)
        and all(isinstance(size, int) for size in lhs.shape[1:])
    )
    if covered:
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(lhs.shape[1:-1], rhs.shape[:2], strides, padding)
        (top, bottom), (left, right) = (tuple(map(operator.index, pair)) for pair in padding)
        pads = (top, bottom), (left, right)
        sizes = zip(lhs.shape[1:-1], rhs.shape[:2], pads, window, strict=True)
        if min(map(min, pads)) >= 0 and all(n + sum(p) - k + 1 >= w > 0 for n, k, p, w in sizes):
            return _fused(lhs, rhs, pads, tuple(window), precision)
    return max_pool(convolve(lhs, rhs), window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _fused(
    lhs: jax.Array, rhs: jax.Array, pads: tuple[Pair, Pair], window: Pair, precision: Any
) -> jax.Array:
    """Return the maxima [B, h, w, F] of lhs [B, H, W, C] convolved with rhs [K, L, C, F]."""

    def on_cpu(lhs, rhs):
        return _in_halves(lambda half: _largest(_values(half, rhs, pads, window))[0], lhs)

    native = functools.partial(_native, pads=pads, window=window, precision=precision)
    return lax.platform_dependent(lhs, rhs, cpu=on_cpu, default=native)


def _convolve(lhs, rhs, pads, precision):
    return conv_general_dilated(
        lhs, rhs, (1, 1), pads, dimension_numbers=channels_last(2), precision=precision
    )


def _native(lhs, rhs, pads, window, precision):
    return max_pool(_convolve(lhs, rhs, pads, precision), window)


def _forward(lhs, rhs, pads, window, precision):
    asked = () if lhs.perturbed else None  # whether for a gradient of the images
    lhs, rhs = lhs.value, rhs.value
    # By this function's own rule where it is derived once more, ties included.
    maxima = _fused(lhs, rhs, pads, window, precision)

    def on_cpu(lhs, rhs, maxima):
        del maxima
        return _in_halves(lambda half: _largest(_values(half, rhs, pads, window))[1], lhs)

    def elsewhere(lhs, rhs, maxima):  # nobody reads it there
        return (maxima != maxima).astype(jnp.int8)

    first = lax.platform_dependent(lhs, rhs, maxima, cpu=on_cpu, default=elsewhere)
    return maxima, (lhs, rhs, first, asked)


def _backward(pads, window, precision, residuals, gradient):
    lhs, rhs, first, asked = residuals
    if isinstance(gradient, jax.custom_derivatives.SymbolicZero):
        return None, None
    places = list(itertools.product(*map(range, window)))
    convolve = functools.partial(_convolve, pads=pads, precision=precision)
    native = functools.partial(_native, pads=pads, window=window, precision=precision)

    def taken(number, first, gradient):
        """Return the gradient where that place of the window was the largest, else 0."""
        return jnp.where(first == number, gradient, 0)

    def kernel_on_cpu(lhs, rhs, first, gradient):
        met, total = _met(lhs, rhs.shape[:2], pads, window), jnp.zeros((), rhs.dtype)
        for number, place in enumerate(places):
            # What each of the kernel's places meets there.
            rows = [
                jnp.moveaxis(met(place, at), -1, 0).reshape(lhs.shape[-1], -1)
                for at in itertools.product(*map(range, rhs.shape[:2]))
            ]
            here = taken(number, first, gradient).reshape(-1, gradient.shape[-1])
            pair = lax.optimization_barrier((jnp.concatenate(rows), here))
            total += jnp.matmul(*pair, precision=precision)
        return summed_like(total.reshape(rhs.shape), rhs)

    def images_on_cpu(lhs, rhs, first, gradient):
        _, *space, _ = jax.eval_shape(convolve, lhs, rhs).shape
        batch, height, width, features = gradient.shape
        whole = jnp.stack([taken(number, first, gradient) for number in range(len(places))], 3)
        whole = whole.reshape(batch, height, width, *window, features).swapaxes(2, 3)
        whole = whole.reshape(batch, height * window[0], width * window[1], features)
        # What no window holds has no gradient.
        beyond = [(0, size - held) for size, held in zip(space, whole.shape[1:-1], strict=True)]
        whole = jnp.pad(whole, [(0, 0), *beyond, (0, 0)])
        return jax.vjp(lambda lhs: convolve(lhs, rhs), lhs)[1](whole)[0]

    def elsewhere(argument):
        def derived(lhs, rhs, first, gradient):
            del first
            return jax.vjp(native, lhs, rhs)[1](gradient)[argument]

        return derived

    given = (lhs, rhs, first, gradient)
    images_gradient = None
    if asked is not None:  # it is not for a network's first layer
        images_gradient = lax.platform_dependent(*given, cpu=images_on_cpu, default=elsewhere(0))
    return images_gradient, lax.platform_dependent(*given, cpu=kernel_on_cpu, default=elsewhere(1))


_fused.defvjp(_forward, _backward, symbolic_zeros=True)


def _in_halves(make, lhs):
    """Return `make(lhs)`, put together from two halves of the images.

    XLA would join it with what comes after, such as a change of shape, and compute each value from
    its place among all of them, where it goes along the channels otherwise; it does not so join
    what is put together.
    """
    half = lhs.shape[0] // 2 if isinstance(lhs.shape[0], int) else 0
    if not half:
        return make(lhs)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), make(lhs[:half]), make(lhs[half:]))


def _met(x, kernel, pads, window):
    """Return what gives, for a place in the window and one in the kernel, what they meet.

    x: [B, H, W, C]; given is [B, h, w, C] for all h, w windows. The places that lie a window's
    length apart are put side by side first, so that nothing is read in strides.
    """
    edges, counts, apart = [], [], {}
    for size, length, (low, high), step in zip(x.shape[1:-1], kernel, pads, window, strict=True):
        counts.append((size + low + high - length + 1) // step)
        whole = (counts[-1] + (step + length - 2) // step) * step
        edges.append((low, whole - size - low, 0))
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    for first in itertools.product(*map(range, window)):
        apart[first] = lax.slice(x, (0, *first, 0), x.shape, (1, *window, 1))

    def met(place, at):
        ends = [sum(both) for both in zip(place, at, strict=True)]
        part = apart[tuple(end % step for end, step in zip(ends, window, strict=True))]
        starts = [end // step for end, step in zip(ends, window, strict=True)]
        rows, columns = (slice(s, s + count) for s, count in zip(starts, counts, strict=True))
        return part[:, rows, columns]

    return met


def _values(images, rhs, pads, window):
    """Return what the convolution is at each place of the windows, [B, h, w, F] each."""
    met, found = _met(images, rhs.shape[:2], pads, window), []
    for place in itertools.product(*map(range, window)):
        total = 0.0
        for row, column, channel in itertools.product(*map(range, rhs.shape[:-1])):
            at = met(place, (row, column))[..., channel : channel + 1]
            total += at * rhs[row, column, channel][None, None, None]
        found.append(total)
    return found


def _largest(values):
    """Return the largest of some arrays, and the number of the first that is; theirs where none."""
    largest = functools.reduce(jnp.maximum, values)
    first = jnp.full(largest.shape, len(values), jnp.int8)
    for number in reversed(range(len(values))):
        first = jnp.where(values[number] == largest, jnp.int8(number), first)
    return largest, first
