"""Random numbers by example: the same whole, on eight devices, and under a named vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cityjax.ops import random

DRAWS = {
    "normal": lambda key, batch, axis: random.normal(key, (batch, 3), axis_name=axis),
    "uniform": lambda key, batch, axis: random.uniform(
        key, (batch, 3), axis_name=axis, minval=-2.0, maxval=5.0
    ),
    "randint": lambda key, batch, axis: random.randint(key, (batch, 3), -2, 5, axis_name=axis),
    "bernoulli": lambda key, batch, axis: random.bernoulli(key, 0.3, (batch, 3), axis_name=axis),
    "keys": lambda key, batch, axis: jax.random.key_data(random.example_keys(key, batch, axis)),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.eight_devices
@pytest.mark.parametrize("devices", [2, 8])
def test_how_a_batch_is_split_does_not_change_the_numbers(key, name, devices):
    draw = DRAWS[name]
    whole = np.asarray(draw(key, 16, None))
    share = 16 // devices
    mapped = jax.pmap(lambda _: draw(key, share, "batch"), axis_name="batch")(jnp.arange(devices))
    named = jax.vmap(lambda _: draw(key, share, "batch"), axis_name="batch")(jnp.arange(devices))
    assert jax.device_count() == 8
    np.testing.assert_array_equal(np.asarray(mapped).reshape(whole.shape), whole)
    np.testing.assert_array_equal(np.asarray(named).reshape(whole.shape), whole)


def test_an_axis_of_two_names_counts_row_by_row(key):
    whole = random.normal(key, (12, 2))
    inner = jax.vmap(
        lambda _: random.normal(key, (2, 2), axis_name=("outer", "inner")),
        axis_name="inner",
    )
    split = jax.vmap(lambda row: inner(row), axis_name="outer")(jnp.zeros((2, 3)))
    np.testing.assert_array_equal(split.reshape(12, 2), whole)


def test_an_example_keeps_its_numbers_in_a_longer_batch(key):
    np.testing.assert_array_equal(random.normal(key, (4, 5)), random.normal(key, (9, 5))[:4])


def test_keys_are_those_of_fold_in(key):
    keys = random.example_keys(key, 3)
    assert keys.shape == (3,)
    for index in range(3):
        assert keys[index] == jax.random.fold_in(key, index)


def test_examples_and_keys_differ(key):
    draws = random.normal(key, (64, 4))
    assert len(np.unique(draws)) == 256
    assert not np.array_equal(draws, random.normal(jax.random.key(1), (64, 4)))


def test_moments_of_the_distributions(key):
    shape = (200, 500)  # a mean over it scatters by 0.003 standard deviations
    normal, uniform = random.normal(key, shape), random.uniform(key, shape)
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert abs(uniform.mean() - 0.5) < 0.01
    assert 0 <= uniform.min() < uniform.max() < 1
    whole = random.randint(key, shape, 3, 7)
    assert np.abs(np.bincount(whole.ravel())[3:] / whole.size - 0.25).max() < 0.01
    assert set(np.unique(whole)) == {3, 4, 5, 6}


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli_has_its_probability(key, probability):
    kept = random.bernoulli(key, probability, (200, 501))
    assert kept.shape == (200, 501)
    assert kept.dtype == bool
    assert abs(kept.mean() - probability) < (0.01 if 0 < probability < 1 else 1e-9)
    # Both halves of each random word are used, and they are independent.
    first, second = kept[:, :250], kept[:, 251:]
    assert abs((first & second).mean() - probability**2) < 0.01


def test_probabilities_may_be_traced(key):
    traced = jax.jit(lambda probability: random.bernoulli(key, probability, (8, 3)))(0.3)
    np.testing.assert_array_equal(traced, random.bernoulli(key, 0.3, (8, 3)))


def test_a_batch_of_single_numbers(key):
    assert random.normal(key, (5,)).shape == (5,)
    assert random.bernoulli(key, 0.5, (5,)).shape == (5,)
    assert random.bernoulli(key, 0.5, (5, 0)).shape == (5, 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_types_are_as_asked(key, dtype):
    assert random.normal(key, (2, 2), dtype=dtype).dtype == dtype
    assert random.uniform(key, (2, 2), dtype=dtype).dtype == dtype


def test_the_same_bits_in_float64_mode(key):
    kept = random.bernoulli(key, 0.4, (6, 7))
    with jax.enable_x64(True):
        np.testing.assert_array_equal(random.bernoulli(key, 0.4, (6, 7)), kept)
        assert random.normal(key, (2, 2), dtype=jnp.float64).dtype == jnp.float64
