"""Imputation: by hand, against numpy, and what a filled value may not depend on."""

import jax
import numpy as np
import pytest

from benchmarks import imputation
from cityjax.data import impute
from cityjax.data.files import DataError

NONE = np.nan


def column(*values):
    values = np.array(values, np.float32)[:, None]
    return values, np.isfinite(values)


def city(steps=200, sensors=12, missing=0.4, rank=2, seed=0):
    """Smooth factors times loadings: exactly of low rank, on sensors of different size."""
    random = np.random.default_rng(seed)
    time = np.arange(steps)[:, None]
    factors = np.sin(2 * np.pi * time / random.uniform(20, 60, rank) + random.uniform(0, 6, rank))
    values = 100 + 10 ** random.uniform(0, 2, sensors) * (
        factors @ random.normal(size=(rank, sensors))
    )
    return values.astype(np.float32), random.random(values.shape) >= missing


FILLS = {
    "last_value": lambda values, observed: impute.last_value(values, observed, default=7),
    "seasonal": lambda values, observed: impute.seasonal(values, observed, period=5, default=7),
    "linear": lambda values, observed: impute.linear(values, observed, default=7),
    "low_rank": lambda values, observed: impute.low_rank(
        values, observed, default=7, rank=2, iterations=5
    ),
}


def test_the_last_value_by_hand():
    values, observed = column(NONE, 2, NONE, NONE, 5, NONE)
    found = impute.last_value(values, observed, default=1)
    np.testing.assert_array_equal(found[:, 0], [1, 2, 2, 2, 5, 5])


def test_seasonal_by_hand():
    values, observed = column(NONE, 2, NONE, 4, NONE, NONE, 7, NONE)
    found = impute.seasonal(values, observed, period=3, default=1)
    # Step 2 has no season before and takes the last value, 4 takes 1, 5 takes the last, 7 takes 1.
    np.testing.assert_array_equal(found[:, 0], [1, 2, 2, 4, 2, 4, 7, 2])


def test_linear_by_hand():
    values, observed = column(NONE, 2, NONE, NONE, 8, NONE)
    found = impute.linear(values, observed, default=1)
    np.testing.assert_array_equal(found[:, 0], [2, 2, 4, 6, 8, 8])


@pytest.mark.parametrize("name", FILLS)
def test_observed_values_stand_and_what_is_hidden_is_not_read(name):
    values, observed = city()
    observed[:, 3] = False  # a sensor without any value
    observed[50:60] = False
    filled = FILLS[name](values, observed)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[observed], values[observed])
    np.testing.assert_array_equal(filled[:, 3], 7)
    for hidden in (np.nan, 1e9):
        again = FILLS[name](np.where(observed, values, np.float32(hidden)), observed)
        np.testing.assert_array_equal(again, filled)


@pytest.mark.parametrize("name", ["last_value", "seasonal"])
def test_the_causal_ones_never_read_later_rows(name):
    values, observed = city()
    filled = FILLS[name](values, observed)
    for row in (0, 1, 17, 150):
        later, seen = values.copy(), observed.copy()
        later[row:], seen[row:] = -1, ~seen[row:]
        np.testing.assert_array_equal(FILLS[name](later, seen)[:row], filled[:row])


@pytest.mark.parametrize("name", FILLS)
def test_nothing_observed_and_everything_observed(name):
    values, observed = city(steps=8, sensors=3)
    nothing = FILLS[name](values, np.zeros_like(observed))
    np.testing.assert_array_equal(nothing, np.full(values.shape, 7))
    np.testing.assert_array_equal(FILLS[name](values, np.ones_like(observed)), values)


def test_a_constant_sensor_stays_constant():
    values, observed = city()
    values[:, 0] = 3
    found = impute.low_rank(values, observed, default=0, rank=2, iterations=5)
    np.testing.assert_allclose(found[:, 0], 3, rtol=1e-6)


def test_low_rank_finds_a_matrix_of_low_rank():
    values, observed = city()
    # One more than the city's: the mean of the observed values is not that of all.
    found = impute.low_rank(
        values, observed, default=0, rank=3, penalty=1e-3, smoothness=0, iterations=100
    )
    scale = values.std(axis=0)
    error = np.abs(found - values) / scale
    assert error.mean() < 1e-3
    assert (np.abs(impute.last_value(values, observed, default=0) - values) / scale).mean() > 0.02


def test_low_rank_is_at_the_minimum_of_its_objective():
    # The least penalty of two factors is twice the nuclear norm of their product, so that without
    # smoothness every singular value of a complete matrix shrinks by the penalty.
    random = np.random.default_rng(1)
    scores = random.normal(size=(40, 6))
    scores = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    left, sizes, right = np.linalg.svd(scores, full_matrices=False)
    expected = (left * np.maximum(sizes - 4, 0)) @ right
    hidden = np.asarray(
        impute._factorise(
            scores.astype(np.float32),
            np.ones_like(scores, dtype=np.float32),
            jax.random.key(0),
            4.0,
            0.0,
            rank=6,
            lags=(),
            iterations=300,
        )
    )
    np.testing.assert_allclose(hidden, expected, atol=2e-3)


def test_smoothness_bridges_steps_at_which_nothing_was_observed():
    values, observed = city(missing=0.0)
    observed[80:84] = False
    hidden = np.s_[80:84]
    scale = values.std(axis=0)

    def error(**options):
        found = impute.low_rank(values, observed, default=0, rank=2, penalty=0.1, **options)
        return (np.abs(found - values)[hidden] / scale).mean()

    assert error(smoothness=1.0) < 0.5 * error(smoothness=0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, o: impute.seasonal(v, o, period=0, default=0), "period=0 steps"),
        (lambda v, o: impute.low_rank(v, o, default=0, rank=0), "rank=0, .* at least 1"),
        (lambda v, o: impute.low_rank(v, o, default=0, penalty=0), "penalty=0 positive"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(DataError, match=message):
        call(*city(steps=8))


def test_car_parks_with_hidden_cells_are_filled_better_than_published():
    # Birmingham, 40 % of the cells hidden by the published draw; BATF, the best there, has 25.21.
    try:
        tensor = imputation.load()
    except DataError:
        pytest.skip("transdim/birmingham_tensor.mat is not in CITYJAX_DATA")
    values = imputation.rows(tensor)
    kept = imputation.published_mask(tensor.shape, "RM", 0.4) & (tensor != 0)
    observed = imputation.rows(kept) > 0
    hidden = (values != 0) & ~observed
    assert hidden.sum() == 14_150  # of 35,389
    filled = impute.low_rank(
        values, observed, default=0, rank=20, penalty=0.1, smoothness=10.0, iterations=15
    )
    rmse, _ = imputation.score(filled, values, hidden)
    assert rmse < 25.2
