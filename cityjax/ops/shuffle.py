"""Shuffling by index: element i of a keyed permutation, without ever building the permutation."""

import math
import operator

import jax
import jax.numpy as jnp

# Four rounds of a Feistel network already pass for random (Luby and Rackoff 1988); the halves of
# a data set's index have so few values that twice as many are needed for even pairs.
ROUNDS = 8
LARGEST_SIZE = 2**31 - 1


def permute(key: jax.Array, index: jax.typing.ArrayLike, size: int) -> jax.Array:
    """Return the elements at `index` of a pseudo-random permutation of range(size).

    The cost is that of a few integer operations per index, whatever the size: a generalised
    Feistel network with cycle walking (Black and Rogaway 2002, "Ciphers with arbitrary finite
    domains") whose round function is an integer hash. Not meant for cryptography.

    Args:
        key: a JAX random key; it names the permutation.
        index: integers in range(size), of any shape.
        size: the number of elements, a Python int from 1 to 2**31 - 1.

    Returns:
        int32, of the shape of `index`.

    Raises:
        ValueError: `size` is out of range.
    """
    size = _checked("size", size)
    return _permute(_round_keys(key), jnp.asarray(index).astype(jnp.uint32), size)


def epoch_indices(
    key: jax.Array, step: jax.typing.ArrayLike, batch_size: int, size: int
) -> jax.Array:
    """Return the indices of batch `step` of an endless stream of shuffled epochs.

    The stream is epoch 0, epoch 1, ... without a gap: epoch e lists range(size) in the order
    `permute(fold_in(key, e), ., size)`, and batch `step` is the stream's positions
    step * batch_size to (step + 1) * batch_size - 1. Every epoch is therefore complete and free
    of repeats, also where a batch straddles two epochs or is longer than one.
    The position itself may be far above 2**32; only the number of the epoch wraps there.

    Args:
        key: a JAX random key.
        step: the number of the batch, a Python int or an integer scalar, 0 to 2**31 - 1.
        batch_size: a Python int of at least 1; it may exceed `size`.
        size: the number of examples, a Python int from 1 to 2**31 - 1.

    Returns:
        int32 [batch_size], each in range(size).

    Raises:
        ValueError: `batch_size` or `size` is out of range.
    """
    size, batch_size = _checked("size", size), _checked("batch_size", batch_size)
    first_epoch, first_offset = _divide_product(step, batch_size, size)
    place = jnp.arange(batch_size, dtype=jnp.uint32)
    epoch, offset = _carry(place // size, first_offset + place % size, size)
    epochs = (size + batch_size - 2) // size + 1  # how many a batch can touch at most
    epoch_keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        key, first_epoch + jnp.arange(epochs, dtype=jnp.uint32)
    )
    return _permute(jax.vmap(_round_keys, out_axes=1)(epoch_keys)[:, epoch], offset, size)


def _checked(name: str, value: int) -> int:
    """Return `value` as a Python int in 1..2**31 - 1."""
    value = operator.index(value)
    if not 1 <= value <= LARGEST_SIZE:
        raise ValueError(f"{name}={value} is not between 1 and {LARGEST_SIZE}")
    return value


def _round_keys(key: jax.Array) -> jax.Array:
    return jax.random.bits(key, (ROUNDS,), jnp.uint32)


def _permute(round_keys: jax.Array, index: jax.Array, size: int) -> jax.Array:
    """Permute `index` (uint32) by round_keys [rounds] or [rounds, *index.shape]."""
    # The index is a pair of digits (high, low) of bases as equal as they can be, so that the
    # network's domain, rows * columns, is at most sqrt(size) larger than size.
    columns = math.isqrt(size - 1) + 1
    rows = -(-size // columns)

    def network(value: jax.Array) -> jax.Array:
        high, low = value // columns, value % columns
        for number in range(0, ROUNDS, 2):
            high = (high + _mix(low ^ round_keys[number]) % rows) % rows
            low = (low + _mix(high ^ round_keys[number + 1]) % columns) % columns
        return high * columns + low

    def walk(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value, outside = state
        value = jnp.where(outside, network(value), value)
        return value, value >= size

    # Cycle walking: what falls outside of range(size) goes through the network again. It must come
    # back, because the network permutes its domain and the walk began inside.
    everywhere = jnp.ones(index.shape, bool)
    value, _ = jax.lax.while_loop(lambda state: jnp.any(state[1]), walk, (index, everywhere))
    return value.astype(jnp.int32)


def _mix(value: jax.Array) -> jax.Array:
    """Hash uint32 to uint32: the finaliser of MurmurHash3 (Appleby 2011)."""
    value = (value ^ (value >> 16)) * jnp.uint32(0x85EBCA6B)
    value = (value ^ (value >> 13)) * jnp.uint32(0xC2B2AE35)
    return value ^ (value >> 16)


def _divide_product(
    step: jax.typing.ArrayLike, factor: int, size: int
) -> tuple[jax.Array, jax.Array]:
    """Return step * factor // size (modulo 2**32) and step * factor % size, both uint32.

    The product does not fit 32 bits, so `step` is taken digit by digit, in digits short enough
    that a digit times a remainder fits; what each digit is worth is known when tracing.
    """
    step = jnp.asarray(step).astype(jnp.uint32)
    width = min(32 - (size - 1).bit_length(), 16)
    shifts = range(0, 32, width)
    parts = [divmod(factor << shift, size) for shift in shifts]
    digits = (
        jnp.array(shifts, jnp.uint32),
        jnp.array([worth % 2**32 for worth, _ in parts], jnp.uint32),
        jnp.array([rest for _, rest in parts], jnp.uint32),
    )

    def add(total, digit):
        quotient, remainder = total
        shift, worth, rest = digit
        value = (step >> shift) & jnp.uint32(2**width - 1)
        product = value * rest
        quotient = quotient + value * worth + product // size
        return _carry(quotient, remainder + product % size, size), None

    # A loop, for XLA may take minutes over a chain of up to 32 links; two, the usual, are quick.
    zero = jnp.zeros_like(step)
    return jax.lax.scan(add, (zero, zero), digits, unroll=2)[0]


def _carry(quotient: jax.Array, remainder: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Bring a remainder below 2 * size back below size."""
    over = remainder >= size
    return quotient + over.astype(jnp.uint32), jnp.where(over, remainder - size, remainder)
