"""Graphs of sensors: hand-computed weights, degenerate input, nothing read beyond train."""

import numpy as np
import pytest

from cityjax.data import graphs
from cityjax.data.files import DataError

FAR = np.inf


def test_haversine_by_hand():
    # A quarter of the equator, the way to a pole, one degree of latitude, and no way at all.
    places = np.array([[0, 0], [0, 90], [90, 0], [1, 0], [0, 0]])
    found = graphs.haversine(places)
    quarter = np.pi / 2 * graphs.EARTH_RADIUS
    np.testing.assert_allclose(found[0], [0, quarter, quarter, quarter / 90, 0], rtol=1e-12)
    np.testing.assert_allclose(found, found.T)
    # Los Angeles to New York, City Hall to City Hall, is 3,936 km.
    assert graphs.haversine(np.array([[34.0537, -118.2428], [40.7128, -74.0060]]))[0, 1] == (
        pytest.approx(3936, abs=2)
    )


def test_haversine_of_opposite_places_is_finite():
    found = graphs.haversine(np.array([[10.0, 20.0], [-10.0, -160.0]]))
    assert found[0, 1] == pytest.approx(np.pi * graphs.EARTH_RADIUS)


def test_gaussian_kernel_by_hand():
    distances = np.array([[0, 3, FAR], [5, 0, 4], [FAR, FAR, 0]])
    sigma = np.std([0, 3, 5, 0, 4, 0])
    found = graphs.gaussian_kernel(distances, threshold=0)
    near, middle, far = np.exp(-((np.array([3, 4, 5]) / sigma) ** 2))
    expected = [[1, near, 0], [far, 1, middle], [0, 0, 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32
    assert far < 0.01 < middle < near
    found = graphs.gaussian_kernel(distances, threshold=0.01)
    np.testing.assert_allclose(found, np.where(np.array(expected) < 0.01, 0, expected), rtol=1e-6)


def test_the_kernel_does_not_depend_on_the_unit():
    distances = graphs.haversine(np.random.default_rng(0).normal(size=(6, 2)))
    np.testing.assert_allclose(
        graphs.gaussian_kernel(distances), graphs.gaussian_kernel(1000 * distances), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ([[0.0]], [[1]]),
        ([[FAR]], [[0]]),
        ([[0.0, 0.0], [0.0, 0.0]], [[1, 1], [1, 1]]),  # equal places
        ([[FAR, 7.0], [7.0, FAR]], [[0, 1], [1, 0]]),  # equal distances
    ],
)
def test_degenerate_distances_give_no_nan(distances, expected):
    np.testing.assert_array_equal(graphs.gaussian_kernel(np.array(distances)), expected)


def test_nearest_by_hand():
    distances = np.array([[0, 1, 2, 3], [1, 0, 1, FAR], [9, 9, 0, 9], [FAR, FAR, FAR, 0]])
    expected = [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(graphs.nearest(distances, 2), expected)
    np.testing.assert_array_equal(graphs.nearest(np.zeros((1, 1)), 3), [[0]])
    np.testing.assert_array_equal(graphs.nearest(np.zeros((3, 3)), 9), 1 - np.eye(3))


def measured(steps=60, sensors=5, seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(size=(steps, 1)) + random.normal(size=(steps, sensors))
    values = 1e4 + 10 * values
    observed = random.random(values.shape) > 0.2
    return values, observed


def pearson(values, observed):
    """Pair by pair, with numpy's own correlation."""
    sensors = values.shape[1]
    expected = np.zeros((sensors, sensors))
    for i in range(sensors):
        for j in range(sensors):
            both = observed[:, i] & observed[:, j]
            if i != j:
                expected[i, j] = np.corrcoef(values[both, i], values[both, j])[0, 1]
    return expected


def test_correlations_are_those_of_the_steps_both_observed():
    values, observed = measured()
    expected = pearson(values[:50], observed[:50])
    found = graphs.correlation(values, observed, stop=50, threshold=0.0)
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-6)
    found = graphs.correlation(values, observed, stop=50, threshold=0.5)
    np.testing.assert_allclose(found, np.where(expected >= 0.5, expected, 0), atol=1e-6)
    found = graphs.correlation(values, observed, stop=50, k=2)
    np.testing.assert_array_equal((found > 0).sum(axis=1), 2)
    for row, scores in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.sort(row)[-2:], np.sort(scores)[-2:], atol=1e-6)


def test_correlations_read_the_steps_before_the_stop_only():
    values, observed = measured()
    found = graphs.correlation(values, observed, stop=40, k=2)
    values[40:], observed[40:] = 7, False
    np.testing.assert_array_equal(graphs.correlation(values, observed, stop=40, k=2), found)


def test_constant_silent_and_opposite_sensors_have_no_edge():
    values, observed = measured(sensors=4)
    values[:, 0] = 0.1  # its mean of 60 is not exactly 0.1
    values[:, 1] = -values[:, 2]
    observed[:, 3] = False
    values[:, 3] = np.nan
    found = graphs.correlation(values, observed, stop=60, threshold=0.0)
    np.testing.assert_array_equal(found, np.zeros((4, 4)))
    one = graphs.correlation(values[:, 1:2], observed[:, 1:2], stop=60, k=1)
    np.testing.assert_array_equal(one, [[0]])


def test_few_shared_steps_say_nothing():
    values, observed = measured(sensors=2)
    observed[:] = False
    observed[: graphs.FEWEST_STEPS - 1] = True
    values[:, 1] = values[:, 0]
    assert not graphs.correlation(values, observed, stop=60, k=1).any()
    observed[: graphs.FEWEST_STEPS] = True
    found = graphs.correlation(values, observed, stop=60, k=1)
    np.testing.assert_allclose(found, [[0, 1], [1, 0]], atol=1e-6)


def test_edges_by_name():
    edges = [("b", "a", 2.0), ("a", "c", 3.0), ("a", "elsewhere", 9.0), ("b", "a", 2.0)]
    found = graphs.from_edges(["a", "b", "c"], edges)
    np.testing.assert_array_equal(found, [[0, 0, 3], [2, 0, 0], [0, 0, 0]])
    found = graphs.from_edges(["a", "b", "c"], edges, absent=FAR, directed=False)
    np.testing.assert_array_equal(found, [[FAR, 2, 3], [2, FAR, FAR], [3, FAR, FAR]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: graphs.from_edges(["a"], [("x", "a", 1.0)]),
            "two of the sensors: compare their names, x there and a here",
        ),
        (lambda: graphs.from_edges(["a"], []), "joins two of the sensors$"),
        (lambda: graphs.from_edges(["a"], [("a", "a", np.nan)]), "from a to a has value nan"),
        (
            lambda: graphs.from_edges(
                ["a", "b"], [("a", "b", 1.0), ("b", "a", 2.0)], directed=False
            ),
            "from b to a has two values, 1 and 2",
        ),
        (lambda: graphs.nearest(np.zeros((2, 2)), 0), "k=0 neighbours"),
        (lambda: graphs.nearest(np.zeros((2, 3)), 1), r"distances of shape \(2, 3\)"),
        (lambda: graphs.gaussian_kernel(np.full((2, 2), np.nan)), "without NaN"),
        (
            lambda: graphs.correlation(np.zeros((9, 2)), np.ones((9, 2), bool), stop=9),
            "one of k and threshold",
        ),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()
