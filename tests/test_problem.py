"""What a forecasting problem says of its inputs and of its graph, and what it measures."""

import numpy as np

from cityjax.data.dataset import Protocol
from cityjax.data.series import Series, checked
from cityjax.tasks.problem import describe, make_problem
from cityjax.tasks.scores import baselines


def city(**more):
    values = np.random.default_rng(0).normal(size=(240, 3)).astype(np.float32)
    time = np.datetime64("2024-03-01T00:00:00") + np.arange(240) * np.timedelta64(900, "s")
    return checked(Series(values, time, 900, ("a", "b", "c"), "mph", **more))


def said(series, **more):
    inputs = ("day", "covariates")
    problem = make_problem(series, Protocol(history=4, horizon=2), season=96, inputs=inputs, **more)
    return describe(problem)


def test_only_covariates_that_there_are_are_named():
    words = said(city())
    assert words["inputs"] == "history, day" and "covariates" not in words
    words = said(city(known={"school term": np.ones(240)}))
    assert words["inputs"] == "history, day, covariates" and words["covariates"] == "school term"
    problem = make_problem(
        city(known={"school term": np.ones(240)}), Protocol(history=4, horizon=2), season=96
    )
    assert "covariates" not in describe(problem)


def test_the_share_of_a_covariate_that_is_missing_is_said():
    hourly = np.where(np.arange(240) % 4 == 0, 5.0, np.nan)
    words = said(city(known={"term": np.ones(240)}, past={"rain": np.ones(240), "heat": hourly}))
    assert words["covariates"] == "heat (75.0 % missing), rain, term"
    many = {f"c{number}": np.ones(240) for number in range(8)}
    words = said(city(past={**many, "heat": hourly}))
    assert words["covariates"].startswith("heat (75.0 % missing), c0,")
    assert words["covariates"].endswith("c4 and 3 more")


def test_the_edges_of_the_graph_and_sensors_without_any_are_said():
    pair = np.eye(3)
    pair[0, 1] = 0.5
    words = said(city(adjacency=pair))
    assert words["graph"] == "of the data set, 1 edge, 1 of 3 sensors without neighbours"
    places = np.array([[52.5, 13.4], [52.6, 13.4], [52.5, 13.5]])
    words = said(city(coordinates=places), graph="distance")
    assert words["graph"].startswith("Gaussian kernel of distances, ")
    words = said(city(adjacency=np.ones((3, 3))), graph="given")
    assert words["graph"] == "of the data set, 6 edges"
    found = said(city(), graph="correlation")["graph"]
    assert found.startswith("the 2 largest correlations in train, ") and " edge" in found


def test_correlation_is_right_far_above_zero():
    draw = np.random.default_rng(0)
    weeks = np.datetime64("2012-01-01", "s") + np.arange(400) * np.timedelta64(7, "D")
    values = 200_000 + 70 * draw.normal(size=(400, 5)).cumsum(axis=0)
    series = Series(values.astype(np.float32), weeks, 7 * 86_400, tuple("abcde"), "visits")
    problem = make_problem(series, Protocol(history=8, horizon=3, measures=("pcc",)), season=52)
    at = problem.origins["test"]
    truth = series.values[at[:, None] + np.arange(1, 4)].astype(float)
    last = np.broadcast_to(series.values[at][:, None], truth.shape).astype(float)
    expected = np.corrcoef(truth.ravel(), last.ravel())[0, 1]
    found = baselines(problem)["last value"]["test/pcc@1-3"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
