"""Convolutions that are XLA's own, except where a matrix product is faster on a CPU.

XLA computes the gradient of a convolution's kernel as another convolution, whose "kernel" is as
large as an image. On a CPU that is up to 25 times slower than the matrix product it is made of: of
what each place in the kernel meets in the input, side by side as columns, and the gradient of the
output. Here it is computed so, and a convolution of one channel likewise, from its columns. A
transposed convolution, which the gradient of a strided one's input is too, and one of few features
are a product that makes columns, which are then added up. Everything else, and every other
platform, is left to XLA.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cityjax.ops.columns import column_product, kernel_gradient, overlap_add
from cityjax.ops.padding import cut, transposed, within

Pairs = tuple[tuple[int, int], ...]

# Beyond this many places in the kernel, columns would be many times the images.
MOST_PLACES = 64
# Without steps, what an input gives is added up faster than XLA convolves up to this many numbers.
MOST_ADDED = 50
# Numbers that all inputs give, at most; and inputs for each output, beyond which many give to none.
MOST_GIVEN, MOST_INPUTS = 2**26, 3


def conv_general_dilated(
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
) -> jax.Array:
    """Return `jax.lax.conv_general_dilated` of the same arguments, with a faster gradient.

    Made for Flax's hook, `nn.Conv(..., conv_general_dilated=conv_general_dilated)`. On a CPU the
    gradient of the kernel is a sum of matrix products for one or two spatial axes with channels
    last and neither groups nor dilation of the kernel, and a transposed convolution, or one of few
    features, is such a product; what this does not cover is JAX's own function, gradient included.
    Reverse mode works to any order, under vmap and scan at the same speed. Forward mode does not
    work, and what is made of it neither (`jax.jvp`, `jax.jacfwd`, `jax.hessian`;
    `jax.jacrev(jax.grad(f))` is a Hessian that does): JAX raises a TypeError.

    Args:
        lhs: the inputs, [B, *space, C] where covered.
        rhs: the kernel, [*kernel, C, F] where covered.
        window_strides: the stride along each spatial axis.
        padding: "SAME", "VALID" or (low, high) for each spatial axis.
        lhs_dilation: the dilation of the inputs along each spatial axis (transposed convolution).
        rhs_dilation: the dilation of the kernel along each spatial axis.
        dimension_numbers: as for `jax.lax.conv_general_dilated`.
        feature_group_count: as for `jax.lax.conv_general_dilated`.
        batch_group_count: as for `jax.lax.conv_general_dilated`.
        precision: as for `jax.lax.conv_general_dilated`.
        preferred_element_type: as for `jax.lax.conv_general_dilated`.

    Returns:
        [B, *space, F] where covered.
    """
    rank = lhs.ndim - 2
    ones = (1,) * rank
    strides = tuple(window_strides)
    precision = tuple(precision) if isinstance(precision, list) else precision
    dilation = ones if lhs_dilation is None else tuple(lhs_dilation)
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    covered = (
        rank in (1, 2)
        and numbers == channels_last(rank)
        and (rhs_dilation is None or tuple(rhs_dilation) == ones)
        and (strides == ones or dilation == ones)
        and (dilation == ones or not isinstance(padding, str))
        and feature_group_count == batch_group_count == 1
        and math.prod(rhs.shape[:-2]) <= MOST_PLACES
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and preferred_element_type in (None, lhs.dtype)
        and lhs.size > 0
        and rhs.size > 0
        # Of an image whose size a program leaves open there is no telling how many fit a cache.
        and all(isinstance(size, int) for size in lhs.shape[1:])
    )
    if covered:
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(lhs.shape[1:-1], rhs.shape[:-2], strides, padding)
        pads = tuple((operator.index(low), operator.index(high)) for low, high in padding)
        extents = zip(lhs.shape[1:-1], rhs.shape[:-2], dilation, pads, strict=True)
        if all((n - 1) * step + 1 + low + high >= size for n, size, step, (low, high) in extents):
            return _conv(lhs, rhs, strides, pads, dilation, precision)

    def convolve(lhs, padding):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )

    if isinstance(padding, str):
        return convolve(lhs, padding)
    axes, spread = numbers.lhs_spec[2:], ones if rhs_dilation is None else rhs_dilation
    sizes = [rhs.shape[axis] for axis in numbers.rhs_spec[2:]]
    reach = [(size - 1) * step for size, step in zip(sizes, spread, strict=True)]
    lhs, padding = within(lhs, padding, reach, dilation, axes)
    return cut(convolve, lhs, padding, dilation, axes)


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    precision: Any = None,
) -> jax.Array:
    """Return `jax.lax.conv_transpose(x, kernel, strides, padding)`, faster on a CPU.

    What `conv_general_dilated` here says of gradients holds here too.

    Args:
        x: [B, *space, C].
        kernel: [*kernel, C, F]; it is not flipped.
        strides: the factor by which each spatial axis grows.
        padding: "SAME" (space * stride), "VALID", or (low, high) for each spatial axis, which is
            the padding of the inputs after they are spread out.
        precision: as for `jax.lax.conv_general_dilated`.

    Returns:
        [B, *space, F].

    Raises:
        ValueError: the padding is another string.
    """
    rank = x.ndim - 2
    if isinstance(padding, str):
        padding = [
            transposed(size, stride, padding)
            for size, stride in zip(kernel.shape[:-2], strides, strict=True)
        ]
    return conv_general_dilated(
        x,
        kernel,
        (1,) * rank,
        padding,
        lhs_dilation=strides,
        dimension_numbers=channels_last(rank),
        precision=precision,
    )


def channels_last(rank: int) -> lax.ConvDimensionNumbers:
    """Return the order of axes of [B, *space, C] and [*kernel, C, F]."""
    space = tuple(range(rank))
    images = (0, rank + 1, *(axis + 1 for axis in space))
    return lax.ConvDimensionNumbers(images, (rank + 1, rank, *space), images)


def _native(lhs, rhs, strides, pads, dilation, precision):
    """Convolve as XLA does, channels last."""
    numbers = channels_last(lhs.ndim - 2)

    def convolve(lhs, pads):
        return lax.conv_general_dilated(
            lhs, rhs, strides, pads, dilation, None, numbers, precision=precision
        )

    return cut(convolve, lhs, pads, dilation, range(1, lhs.ndim - 1))


def _one_by_one(convolve):
    """Return `convolve`, which vmap over images and kernels calls for one pair after the other.

    XLA makes one convolution in groups of them, on a CPU two to four times as slow.
    """

    @jax.custom_batching.custom_vmap
    def each(lhs, rhs):
        return convolve(lhs, rhs)

    @each.def_vmap
    def over(size, batched, lhs, rhs):
        if all(batched):
            return lax.map(lambda pair: each(*pair), (lhs, rhs)), True
        if batched[1]:  # of one batch of images, the channels of all are those of one kernel
            wide = each(lhs, jnp.moveaxis(rhs, 0, -2).reshape(*rhs.shape[1:-1], -1))
            return jnp.moveaxis(wide.reshape(*wide.shape[:-1], size, -1), -2, 0), True
        # Of one kernel, all are images of one batch.
        found = each(lhs.reshape(-1, *lhs.shape[2:]), rhs)
        return found.reshape(size, -1, *found.shape[1:]), True

    return each


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _conv(
    lhs: jax.Array,
    rhs: jax.Array,
    strides: tuple[int, ...],
    pads: Pairs,
    dilation: tuple[int, ...],
    precision: Any,
) -> jax.Array:
    """Convolve lhs [B, *space, C] with rhs [*kernel, C, F]; strides or dilation are all one."""
    native = functools.partial(
        _native, strides=strides, pads=pads, dilation=dilation, precision=precision
    )

    def on_cpu(lhs, rhs):
        count, *space, channels = lhs.shape
        fronts, counts = [low for low, _ in pads], jax.eval_shape(native, lhs, rhs).shape[1:-1]
        if channels == max(dilation) == 1:
            return column_product(lhs, rhs, strides, fronts, counts, precision)
        inputs, added = math.prod(space), rhs.size // channels
        fits = isinstance(count, int) and count * inputs * added <= MOST_GIVEN
        used = inputs * math.prod(dilation) <= MOST_INPUTS * math.prod(counts)
        if fits and used and max(strides) == 1 and (max(dilation) > 1 or added <= MOST_ADDED):
            return overlap_add(lhs, rhs, dilation, fronts, counts, precision)
        return native(lhs, rhs)

    # Through a scan, the gradient of a gradient would find JAX's residuals of the branches in each
    # other's places (jax 0.10 to 0.12): of a checkpoint there are none but what goes in.
    @jax.checkpoint
    def convolve(lhs, rhs):
        return lax.platform_dependent(lhs, rhs, cpu=_one_by_one(on_cpu), default=native)

    return convolve(lhs, rhs)


def _conv_forward(lhs, rhs, strides, pads, dilation, precision):
    return _conv(lhs, rhs, strides, pads, dilation, precision), (lhs, rhs)


def _conv_backward(strides, pads, dilation, precision, residuals, gradient):
    lhs, rhs = residuals
    # Made once for the two products that read it, rather than inside each. The inputs are left to
    # XLA, which then has the columns of the forward product, where that was one, for this one too.
    gradient = lax.optimization_barrier(gradient)

    # The gradient of the inputs is a convolution of the same family, in which strides and dilation
    # change places; as it is computed by _conv, gradients of gradients are fast too.
    rank = lhs.ndim - 2
    kernel = jnp.swapaxes(jnp.flip(rhs, range(rank)), -1, -2)
    pads_back = []
    for axis in range(rank):
        low = rhs.shape[axis] - 1 - pads[axis][0]
        spread = (gradient.shape[axis + 1] - 1) * strides[axis] + 1
        extent = (lhs.shape[axis + 1] - 1) * dilation[axis] + 1
        pads_back.append((low, extent + rhs.shape[axis] - 1 - spread - low))
    lhs_gradient = _conv(gradient, kernel, dilation, tuple(pads_back), strides, precision)

    def on_cpu(lhs, rhs, gradient):
        shape = rhs.shape
        products = kernel_gradient(lhs, gradient, shape, strides, pads, dilation, precision)
        return summed_like(products, rhs)

    def elsewhere(lhs, rhs, gradient):
        native = functools.partial(
            _native, lhs, strides=strides, pads=pads, dilation=dilation, precision=precision
        )
        return jax.vjp(native, rhs)[1](gradient)[0]

    rhs_gradient = lax.platform_dependent(lhs, rhs, gradient, cpu=on_cpu, default=elsewhere)
    return summed_like(lhs_gradient, lhs), rhs_gradient


_conv.defvjp(_conv_forward, _conv_backward)


def summed_like(gradient, argument):
    """Under shard_map, sum the devices' gradients of an argument that the devices share."""

    def varying(x):
        kind = jax.typeof(x)
        if hasattr(kind, "vma"):  # JAX before 0.10
            return kind.vma
        return kind.manual_axis_type.varying

    axes = tuple(sorted(varying(gradient) - varying(argument)))
    return lax.psum(gradient, axes) if axes else gradient
