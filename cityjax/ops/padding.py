"""Paddings of convolutions: those that XLA on a CPU gets right, and a transposed one's."""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
from jax import lax


def cut(
    convolve: Callable[[jax.Array, Sequence[tuple[int, int]]], jax.Array],
    lhs: jax.Array,
    pads: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    axes: Iterable[int],
) -> jax.Array:
    """Return `convolve(lhs, pads)`, XLA never being given padding below zero.

    Of a low one below 0 and a high one above, XLA on a CPU reads what lies beside the input
    (openxla/xla#48713). dilation: of the inputs; axes: the spatial ones of lhs.
    """
    if min((end for pair in pads for end in pair), default=0) >= 0:
        return convolve(lhs, pads)
    shape = jax.eval_shape(lambda lhs: convolve(lhs, pads), lhs)
    # Of -low places before the first that stays, whole rows go; zeros between rows are put back.
    left = []
    for axis, step, (low, high) in zip(axes, dilation, pads, strict=True):
        before, after = -(min(low, 0) // step), -(min(high, 0) // step)
        stop = lhs.shape[axis] - after
        if stop <= before:  # nothing but padding is met
            return jnp.zeros_like(shape)
        lhs = lax.slice_in_dim(lhs, before, stop, axis=axis)
        left.append((low + step * before, high + step * after))
    return convolve(lhs, left)


def within(
    lhs: jax.Array,
    pads: Sequence[tuple[int, int]],
    reach: Sequence[int],
    dilation: Sequence[int],
    axes: Iterable[int],
) -> tuple[jax.Array, list[tuple[int, int]]]:
    """Return the inputs with zeros around them, and what is left to pad: not more than `reach`.

    In XLA's own gradient what is padded by more than a kernel reaches is padding below zero, which
    `cut` says more of. reach: places of a kernel behind its first, along each of the axes.
    """
    zeros, left = [(0, 0, 0)] * lhs.ndim, []
    for axis, step, size, pair in zip(axes, dilation, reach, pads, strict=True):
        # Whole rows, of which each is `step` places where the inputs are spread out.
        rows = [min(-(-max(end - size, 0) // step), max(end, 0) // step) for end in pair]
        zeros[axis] = rows[0], rows[1], 0
        left.append((pair[0] - step * rows[0], pair[1] - step * rows[1]))
    if any(map(any, zeros)):
        lhs = lax.pad(lhs, jnp.zeros((), lhs.dtype), zeros)
    return lhs, left


def transposed(size: int, stride: int, padding: str) -> tuple[int, int]:
    """Return the padding of the inputs that undoes `padding` of a forward convolution.

    size: of the kernel. Raises ValueError where padding is neither "SAME" nor "VALID".
    """
    if padding == "SAME":
        total = size + stride - 2
        low = size - 1 if stride > size - 1 else -(-total // 2)
    elif padding == "VALID":
        total = size + stride - 2 + max(size - stride, 0)
        low = size - 1
    else:
        raise ValueError(f'padding="{padding}" is neither "SAME" nor "VALID"')
    return low, total - low
