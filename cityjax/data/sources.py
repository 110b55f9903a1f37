"""Device sources: arrays that live on the device, batches gathered from them by index.

A source is a pure function `(key, step) -> batch`, here a `jax.tree_util.Partial`: its arrays are
leaves of a pytree, so that they reach a compiled program as arguments, never as constants.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data.files import DataError
from cityjax.ops.shuffle import epoch_indices

# A batch is a dict of arrays with an explicit `mask`; a source makes batch number `step`.
Batch = Mapping[str, Any]
Source = Callable[[jax.Array, jax.Array], Batch]


class Batches(NamedTuple):
    """A finite source: `source(key, i)` for i in 0 .. count-1 covers a split exactly once."""

    count: int
    source: Source


# (key, arrays, indices [B]) -> batch. The key is one per step; noise of augmentation folds the
# example's place in the batch into it.
Gather = Callable[[jax.Array, Mapping[str, Any], jax.Array], Batch]

_ORDER, _NOISE = 0, 1


def as_tree(source: Any) -> Any:
    """Return a source that compiled programs can be given: of a plain function, a pytree of it."""
    plain = callable(source) and jax.tree_util.all_leaves([source])
    return jax.tree_util.Partial(source) if plain else source


def take(key: jax.Array, arrays: Mapping[str, Any], indices: jax.Array) -> Batch:
    """Gather the rows at `indices` of every array: the plain way to make a batch."""
    del key
    return {name: array[indices] for name, array in arrays.items()}


def shuffled(
    arrays: Mapping[str, Any], batch_size: int, *, size: int | None = None, gather: Gather = take
) -> Source:
    """Make an endless source of shuffled batches, in full epochs without repeats.

    arrays: what `gather` reads, moved to the device once. size: how many examples there are, by
    default the length of the arrays. Choosing a batch costs O(batch_size), whatever the size.
    Every batch is full: `mask`, where `gather` gives none, is all ones. Raises DataError where a
    batch would be larger than the data.
    """
    size = _length(arrays) if size is None else size
    if batch_size > size:
        message = f"batch_size={batch_size} is above the {size} training examples"
        raise DataError(f"{message}: take {1 << (size.bit_length() - 1)}" if size else message)

    def batch(arrays: Mapping[str, Any], key: jax.Array, step: jax.Array) -> Batch:
        indices = epoch_indices(jax.random.fold_in(key, _ORDER), step, batch_size, size)
        noise = jax.random.fold_in(jax.random.fold_in(key, _NOISE), step)
        rows = gather(noise, arrays, indices)
        return {"mask": jnp.ones(batch_size, bool), **rows}

    return jax.tree_util.Partial(batch, _on_device(arrays))


def in_order(
    arrays: Mapping[str, Any], batch_size: int, *, size: int | None = None, gather: Gather = take
) -> Batches:
    """Make a finite source that covers every example once, the last batch padded.

    Padding repeats the last example with `mask` zero, so that sums over the batches are exact for
    any batch size. A mask that `gather` gives is kept where the example is real.
    """
    size = _length(arrays) if size is None else size

    def batch(arrays: Mapping[str, Any], key: jax.Array, step: jax.Array) -> Batch:
        indices = step * batch_size + jnp.arange(batch_size)
        real = indices < size
        rows = dict(gather(key, arrays, jnp.minimum(indices, size - 1)))
        mask = rows.pop("mask", real)
        real = real.reshape(real.shape + (1,) * (mask.ndim - 1))
        return {**rows, "mask": jnp.logical_and(mask.astype(bool), real)}

    return Batches(-(-size // batch_size), jax.tree_util.Partial(batch, _on_device(arrays)))


def _on_device(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jax.tree.map(jnp.asarray, array) for name, array in arrays.items()}


def _length(arrays: Mapping[str, Any]) -> int:
    lengths = {name: np.shape(array)[0] for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"arrays have different lengths {lengths}: give size= and gather=")
    return next(iter(lengths.values()))
