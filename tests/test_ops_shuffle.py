"""Shuffling by index: permutations, whole epochs, even chances, and no overflow."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cityjax.ops.shuffle import epoch_indices, permute

SIZES = [1, 2, 3, 5, 7, 64, 1000, 54000, 60000]


@functools.partial(jax.jit, static_argnums=1)
def permutation(key, size):
    return permute(key, jnp.arange(size), size)


def batches(key, steps, batch_size, size):
    """Return the batches [step, batch_size] of an array of steps."""
    return jax.jit(jax.vmap(lambda step: epoch_indices(key, step, batch_size, size)))(steps)


def chi_square(counts):
    """Return (statistic, its 1 - 1e-6 quantile) for counts that should be even.

    The quantile is that of Wilson and Hilferty (1931).
    """
    freedom = counts.size - 1
    expected = counts.sum() / counts.size
    assert expected >= 20
    statistic = ((counts - expected) ** 2 / expected).sum()
    spread = 2 / (9 * freedom)
    return statistic, freedom * (1 - spread + 4.7534 * spread**0.5) ** 3


@pytest.mark.parametrize("size", SIZES)
def test_every_key_gives_a_permutation(size):
    for seed in range(3):
        elements = permutation(jax.random.key(seed), size)
        assert elements.dtype == jnp.int32
        np.testing.assert_array_equal(np.sort(elements), np.arange(size))


def test_keys_give_different_permutations_without_order():
    first, second = (np.asarray(permutation(jax.random.key(seed), 60000)) for seed in (0, 1))
    assert np.mean(first == second) < 1e-3
    assert np.mean(first == np.arange(60000)) < 1e-3
    # Correlations of a random permutation scatter by 1 / sqrt(60000) = 0.004.
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first, np.arange(60000))[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02


@pytest.mark.parametrize("size", [2, 3, 5, 7, 10])
def test_each_position_gets_each_element_equally_often(size):
    keys = jax.random.split(jax.random.key(2), 10000)
    tables = np.asarray(jax.jit(jax.vmap(lambda key: permutation(key, size)))(keys))
    counts = np.stack([np.bincount(column, minlength=size) for column in tables.T])
    for row in counts:
        statistic, limit = chi_square(row)
        assert statistic < limit
    # Neighbours: each of the size * (size - 1) ordered pairs of different elements.
    pairs = np.bincount(tables[:, 0] * size + tables[:, 1], minlength=size * size)
    different = ~np.eye(size, dtype=bool).ravel()
    assert pairs[~different].sum() == 0
    statistic, limit = chi_square(pairs[different])
    assert statistic < limit


@pytest.mark.parametrize("size", [3, 4])
def test_small_permutations_are_equally_likely_as_a_whole(size):
    keys = jax.random.split(jax.random.key(3), 10000)
    tables = np.asarray(jax.jit(jax.vmap(lambda key: permutation(key, size)))(keys))
    orders = list(itertools.permutations(range(size)))
    counts = np.array([np.all(tables == order, axis=1).sum() for order in orders])
    statistic, limit = chi_square(counts)
    assert statistic < limit


def test_a_large_permutation_spreads_positions_and_neighbours_evenly():
    elements = np.asarray(permutation(jax.random.key(4), 60000))
    tenths = elements // 6000
    by_place = np.bincount(np.arange(60000) // 6000 * 10 + tenths, minlength=100)
    neighbours = np.bincount(tenths[:-1] * 10 + tenths[1:], minlength=100)
    for counts in (by_place, neighbours):
        statistic, limit = chi_square(counts)
        assert statistic < limit


def test_any_shape_of_index_and_every_transformation_agree():
    key = jax.random.key(5)
    index = jnp.arange(60).reshape(3, 4, 5)
    expected = np.asarray(permutation(key, 60)).reshape(3, 4, 5)
    one = functools.partial(permute, key, size=60)
    scanned = jax.lax.scan(lambda carry, row: (carry, one(row)), None, index)[1]
    np.testing.assert_array_equal(one(index), expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(one))(index), expected)
    np.testing.assert_array_equal(scanned, expected)
    assert one(7) == expected.ravel()[7]
    keys = jax.random.split(key, 2)
    by_key = jax.vmap(lambda key: permute(key, index, 60))(keys)
    np.testing.assert_array_equal(by_key[1], permute(keys[1], index, 60))


def test_the_largest_size_needs_no_memory_and_stays_in_range():
    size = 2**31 - 1
    index = jnp.concatenate([jnp.arange(500), size - 1 - jnp.arange(500)])
    elements = np.asarray(jax.jit(lambda index: permute(jax.random.key(6), index, size))(index))
    assert len(np.unique(elements)) == 1000
    assert elements.min() >= 0
    assert elements.max() < size
    assert abs(elements.mean() / size - 0.5) < 0.05


@pytest.mark.parametrize(
    ("batch_size", "size"), [(4, 12), (5, 12), (12, 12), (30, 12), (7, 1), (1, 5), (3, 2)]
)
def test_batches_are_the_stream_of_permuted_epochs(batch_size, size):
    key = jax.random.key(7)
    stream = np.asarray(batches(key, jnp.arange(25), batch_size, size)).ravel()
    epochs = -(-len(stream) // size)
    expected = jax.vmap(lambda epoch: permutation(jax.random.fold_in(key, epoch), size))(
        jnp.arange(epochs)
    )
    np.testing.assert_array_equal(stream, np.asarray(expected).ravel()[: len(stream)])


def test_every_epoch_is_complete_and_differs_from_the_last():
    stream = np.asarray(batches(jax.random.key(8), jnp.arange(1500), 128, 54000)).ravel()
    epochs = stream[: 3 * 54000].reshape(3, 54000)
    for epoch in epochs:
        assert len(np.unique(epoch)) == 54000
    assert np.mean(epochs[0] == epochs[1]) < 1e-3


@pytest.mark.parametrize(
    ("batch_size", "size"),
    [(128, 60000), (128, 2**31 - 1), (2**16, 2**31 - 1), (1000, 65537), (100, 7), (3, 1)],
)
def test_late_steps_agree_with_exact_integers(batch_size, size):
    key = jax.random.key(9)
    steps = [0, 1, 468, 2**16 - 1, 2**16, 10**9 + 7, 2**31 - 2, 2**31 - 1]
    traced = batches(key, jnp.array(steps, jnp.int32), batch_size, size)
    for step, batch in zip(steps, traced, strict=True):
        position = step * batch_size + np.arange(batch_size, dtype=object)
        epoch = jnp.array([int(p // size) % 2**32 for p in position], jnp.uint32)
        offset = jnp.array([int(p % size) for p in position], jnp.int32)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, epoch)
        expected = jax.vmap(lambda key, index: permute(key, index, size))(keys, offset)
        np.testing.assert_array_equal(batch, expected)


def test_a_python_step_a_traced_step_and_a_scan_agree():
    key = jax.random.key(10)
    one = functools.partial(epoch_indices, key, batch_size=6, size=10)
    for step in (0, 3, 2**31 - 1):
        np.testing.assert_array_equal(one(step), jax.jit(one)(jnp.int32(step)))
    scanned = jax.lax.scan(lambda carry, step: (carry, one(step)), None, jnp.arange(5))[1]
    np.testing.assert_array_equal(scanned, jnp.stack([one(step) for step in range(5)]))
    assert scanned.dtype == jnp.int32
    with jax.enable_x64(True):
        np.testing.assert_array_equal(one(3), scanned[3])


def test_the_program_does_not_grow_with_the_data():
    def operations(size):
        program = jax.jit(lambda key, step: epoch_indices(key, step, 128, size))
        cost = program.lower(jax.random.key(0), jnp.int32(0)).compile().cost_analysis()
        assert cost is not None
        return cost["bytes accessed"]

    assert operations(2**30) < 2 * operations(1000)


@pytest.mark.parametrize("size", [0, -1, 2**31])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(ValueError, match=f"size={size} is not between 1 and"):
        permute(jax.random.key(0), 0, size)
    with pytest.raises(ValueError, match=f"size={size} is not between 1 and"):
        epoch_indices(jax.random.key(0), 0, 4, size)
    with pytest.raises(ValueError, match=f"batch_size={size} is not between 1 and"):
        epoch_indices(jax.random.key(0), 0, size, 4)
