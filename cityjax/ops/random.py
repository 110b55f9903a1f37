"""Random numbers indexed by example: how a batch is split over devices does not change them."""

import math

import jax
import jax.numpy as jnp

AxisName = str | tuple[str, ...] | None


def example_keys(key: jax.Array, batch_size: int, axis_name: AxisName = None) -> jax.Array:
    """Return one key per example: fold_in(key, the example's index in the whole batch).

    Args:
        key: a JAX random key, the same on every device.
        batch_size: the number of examples here: of the whole batch, or of this device's share.
        axis_name: the mapped axis (pmap, shard_map, vmap) over which the batch is split evenly
            and in order, or None where this is the whole batch.

    Returns:
        keys [batch_size].
    """
    index = jnp.arange(batch_size, dtype=jnp.uint32)
    if axis_name is not None:
        index = index + (jax.lax.axis_index(axis_name) * batch_size).astype(jnp.uint32)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def normal(
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    axis_name: AxisName = None,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> jax.Array:
    """Draw standard normal numbers of shape [B, ...], each example with its own key."""
    keys = example_keys(key, shape[0], axis_name)
    return jax.vmap(lambda one: jax.random.normal(one, shape[1:], dtype))(keys)


def uniform(
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    axis_name: AxisName = None,
    dtype: jax.typing.DTypeLike = jnp.float32,
    minval: float = 0.0,
    maxval: float = 1.0,
) -> jax.Array:
    """Draw numbers of shape [B, ...] from [minval, maxval), each example with its own key."""
    keys = example_keys(key, shape[0], axis_name)
    return jax.vmap(lambda one: jax.random.uniform(one, shape[1:], dtype, minval, maxval))(keys)


def randint(
    key: jax.Array,
    shape: tuple[int, ...],
    minval: int,
    maxval: int,
    *,
    axis_name: AxisName = None,
    dtype: jax.typing.DTypeLike = jnp.int32,
) -> jax.Array:
    """Draw integers of shape [B, ...] from minval..maxval - 1, each example with its own key."""
    keys = example_keys(key, shape[0], axis_name)
    return jax.vmap(lambda one: jax.random.randint(one, shape[1:], minval, maxval, dtype))(keys)


def bernoulli(
    key: jax.Array,
    probability: jax.typing.ArrayLike,
    shape: tuple[int, ...],
    *,
    axis_name: AxisName = None,
) -> jax.Array:
    """Draw booleans of shape [B, ...] that are True with a scalar probability, by example.

    The probability is rounded to a multiple of 2**-16; 0 and 1 stay exact.
    """
    # Sixteen bits decide each element: half the random words, which are what a mask costs.
    keys = example_keys(key, shape[0], axis_name)
    size = math.prod(shape[1:])
    words = jax.vmap(lambda one: jax.random.bits(one, ((size + 1) // 2,), jnp.uint32))(keys)
    halves = jnp.concatenate([words & 0xFFFF, words >> 16], axis=1)[:, :size]
    threshold = jnp.round(jnp.asarray(probability, jnp.float32) * 2**16).astype(jnp.uint32)
    return (halves < threshold).reshape(shape)
