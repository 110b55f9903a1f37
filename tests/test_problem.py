"""What a forecasting problem says of its inputs and of its graph."""

import numpy as np

from cityjax.data.dataset import Protocol
from cityjax.data.series import Series, checked
from cityjax.tasks.problem import describe, make_problem


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
