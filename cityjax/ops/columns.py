"""What a kernel meets in its inputs, or gives its outputs, as columns: `ops.conv` on a CPU."""

import itertools
import math

import jax.numpy as jnp
from jax import lax

# Bytes of columns that are made at a time.
CACHE = 2**21


def kernel_gradient(lhs, gradient, kernel_shape, strides, pads, dilation, precision):
    """Return the gradient of the kernel, [*kernel, C, F].

    Convolution: kernel place k takes input s * o + k - low to output o, so that its gradient is
    sum_o input[s * o + k - low] gradient[o]. Transposed: it takes input i to output
    d * i + low - k, so that the roles are exchanged and the places run backwards.
    """
    kernel = kernel_shape[:-2]
    transposed = any(step > 1 for step in dilation)
    moving, still = (gradient, lhs) if transposed else (lhs, gradient)
    steps = dilation if transposed else strides
    fronts = [
        size - 1 - low if transposed else low for size, (low, _) in zip(kernel, pads, strict=True)
    ]

    # A product is fastest where the rows of the result are the longer side of it.
    wide = math.prod(kernel) * moving.shape[-1] >= still.shape[-1]

    whole = at_least_single(moving.dtype)

    def product(moving, still):
        columns = columns_of(moving, kernel, steps, fronts, still.shape[1:-1], flip=transposed)
        still = still.reshape(-1, still.shape[-1])
        # What XLA would fuse into the operands of a matrix product costs more than the product.
        columns, still = lax.optimization_barrier((columns, still))
        left, right = (still, columns) if wide else (columns, still)
        return jnp.matmul(left.T, right, precision=precision, preferred_element_type=whole)

    # The columns of a few images at a time, which stay in a core's cache; of all at once where one
    # channel is met, whose columns are few and made already for the forward product, and where a
    # program is exported for any number of images.
    count = still.shape[0]
    row = math.prod(kernel) * moving.shape[-1] * moving.dtype.itemsize
    images = max(1, CACHE // (row * math.prod(still.shape[1:-1])))

    def add(total, start):
        pair = (lax.dynamic_slice_in_dim(x, start, images) for x in (moving, still))
        return total + product(*pair), None

    if not isinstance(count, int) or count <= images or moving.shape[-1] == 1:
        gradients = product(moving, still)
    else:
        first = count - (count - 1) // images * images
        total = product(moving[:first], still[:first])
        gradients, _ = lax.scan(add, total, jnp.arange(first, count, images))
    gradients = gradients.astype(moving.dtype)
    if wide:
        gradients = gradients.reshape(-1, *kernel, moving.shape[-1])
        return jnp.moveaxis(gradients, 0, -2 if transposed else -1)
    gradients = gradients.reshape(*kernel, moving.shape[-1], -1)
    return jnp.swapaxes(gradients, -1, -2) if transposed else gradients


def columns_of(x, kernel, steps, fronts, counts, *, flip=False):
    """Return what each place in a kernel meets, [B * counts, places * C] of x [B, *space, C].

    Place k meets x[steps * o + k - fronts] at output o; beyond its edges x is zero. flip: the last
    place comes first.
    """
    lengths = [
        size + step * (count - 1) for size, step, count in zip(kernel, steps, counts, strict=True)
    ]
    edges = [
        (front, length - front - extent, 0)
        for front, length, extent in zip(fronts, lengths, x.shape[1:-1], strict=True)
    ]
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    ends = [step * (count - 1) + 1 for step, count in zip(steps, counts, strict=True)]
    met = []
    for place in itertools.product(*map(range, kernel)):
        stops = [start + end for start, end in zip(place, ends, strict=True)]
        limits = (x.shape[0], *stops, x.shape[-1])
        taken = lax.slice(padded, (0, *place, 0), limits, (1, *steps, 1))
        met.append(taken.reshape(-1, x.shape[-1]))
    return jnp.concatenate(met[::-1] if flip else met, axis=1)


def column_product(x, kernel, steps, fronts, counts, precision):
    """Return the convolution [B, *counts, F] of x [B, *space, C] by one matrix product.

    Output o is the product of what the places meet there, as `columns_of` has it, and the kernel.
    """
    columns = columns_of(x, kernel.shape[:-2], steps, fronts, counts)
    outputs = jnp.matmul(columns, kernel.reshape(columns.shape[1], -1), precision=precision)
    return outputs.reshape(-1, *counts, kernel.shape[-1])


def overlap_add(x, kernel, steps, fronts, counts, precision):
    """Return the transposed convolution [B, *counts, F] of x [B, *space, C] by one matrix product.

    Input i gives x[i] kernel[k], of kernel [*kernel, C, F], to output steps * i + fronts - k: a
    product makes what each gives to all places, and each output adds up what it is given.
    """
    *sizes, channels, features = kernel.shape
    space, whole = x.shape[1:-1], at_least_single(x.dtype)
    matrix = jnp.moveaxis(kernel, -2, 0).reshape(channels, -1)
    given = jnp.matmul(x, matrix, precision=precision, preferred_element_type=whole)
    # Fused into the sums, a product is made anew for each of them.
    given = lax.optimization_barrier(given.reshape(*x.shape[:-1], *sizes, features))

    # Outputs steps * o + phase, of one phase each: a place gives to those of one alone.
    lengths = [-(-count // step) for count, step in zip(counts, steps, strict=True)]
    nothing = jnp.zeros((x.shape[0], *lengths, features), whole)
    sums = dict.fromkeys(itertools.product(*map(range, steps)), nothing)
    for place in itertools.product(*map(range, sizes)):
        firsts = [front - k for front, k in zip(fronts, place, strict=True)]  # of input 0
        shifts = [divmod(first, step) for first, step in zip(firsts, steps, strict=True)]
        edges = [
            (low, length - low - extent, 0)
            for (low, _), length, extent in zip(shifts, lengths, space, strict=True)
        ]
        taken = given[(slice(None),) * (x.ndim - 1) + place]
        moved = lax.pad(taken, jnp.zeros((), whole), [(0, 0, 0), *edges, (0, 0, 0)])
        sums[tuple(phase for _, phase in shifts)] += moved

    outputs = list(sums.values())
    for axis in reversed(range(len(steps))):  # phases of the last axis lie innermost
        step = steps[axis]
        starts = range(0, len(outputs), step)
        outputs = [jnp.stack(outputs[start : start + step], axis + 2) for start in starts]
    full = [length * step for length, step in zip(lengths, steps, strict=True)]
    found = outputs[0].reshape(x.shape[0], *full, features)
    return found[:, *map(slice, counts)].astype(x.dtype)


def at_least_single(dtype):
    """Return the type in which to add up values of a type: half precision holds no long sum."""
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
