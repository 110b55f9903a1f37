"""What a forecasting problem says of its inputs and of its graph, and what it measures."""

import numpy as np
import pytest

from cityjax.data.dataset import Protocol
from cityjax.data.files import DataError
from cityjax.data.series import Series, checked
from cityjax.tasks.problem import describe, make_problem
from cityjax.tasks.scores import baselines, measure, measure_leads, truth


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


@pytest.mark.parametrize(("validation", "words"), [(8, "of 8 errors at a lead"), (9, None)])
def test_intervals_of_too_few_errors_say_so(validation, words):
    one = city()._replace(values=city().values[:, :1], sensors=("a",))
    split = (100, validation + 2, 50)  # at horizon 3, so many windows and two steps
    problem = make_problem(one, Protocol(history=4, horizon=3, split=split), season=96)
    assert len(problem.origins["validation"]) == validation
    text = describe(problem)["intervals"]
    assert (words in text and "where 9 are needed" in text) if words else "narrow" not in text


@pytest.mark.parametrize(
    ("step", "lacks"),
    [
        (10, {"typical_day": "fewer than two days of train hold a value"}),
        (900, {}),
        (86_401, {"typical_day": "a step of this series is longer than a day"}),
        (
            5_000_000,
            {
                "typical_day": "a step of this series is longer than a day",
                "past_years": "horizon=7 reaches beyond a year",
            },
        ),
    ],
)
def test_inputs_that_a_series_cannot_have_are_refused_or_left_out(step, lacks):
    time = np.datetime64("2024-03-01T00:00:00") + np.arange(240) * np.timedelta64(step, "s")
    series = city()._replace(time=time, step=step)
    wanted = ["week", "typical_day", *(["past_years"] if step > 10**6 else [])]
    make = dict(season=4, horizon=7, graph="none", inputs=wanted)
    problem = make_problem(series, Protocol(history=4), **make, lenient=True)
    kept = [name for name in wanted if name not in lacks]
    without = [f"without {name} ({reason})" for name, reason in lacks.items()]
    assert describe(problem)["inputs"] == ", ".join(["history", *kept, *without])
    assert problem.data["profile"].shape[-1] == len(kept) - 1
    for name, reason in list(lacks.items())[:1]:
        with pytest.raises(DataError) as caught:
            make_problem(series, Protocol(history=4), **make)
        assert str(caught.value) == f"inputs has {name}, but {reason}: leave it out"


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


def test_leads_count_alike_where_published_rows_train_anew_for_each():
    # From the step before test on: the farther ahead, the fewer windows.
    protocol = Protocol(split=(200, 20, 20), history=4, horizon=3, whole=False, refit=1)
    problem = make_problem(city(), protocol, season=96)
    found = baselines(problem)["last value"]["test/mae@1-3"]
    last = problem.series.values[problem.origins["test"]]
    by_lead = measure_leads(problem, np.repeat(last[:, None], 3, axis=1))["mae"]
    np.testing.assert_allclose(found, by_lead.mean(), rtol=1e-5)
    values = problem.series.values
    each = [np.abs(values[220 + lead :] - values[219 : 239 - lead]).mean() for lead in range(3)]
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-5)


def test_points_have_no_coverage_and_no_width_where_quantiles_are_asked_for():
    protocol = Protocol(history=4, horizon=2)
    problem = make_problem(city(), protocol, season=96, quantiles=(0.1, 0.5, 0.9))
    kinds = {name.partition("@")[0] for name in problem.metrics}
    assert {"crps", "pinball", "coverage", "width"} < kinds
    for row in baselines(problem).values():
        names = {name.removeprefix("test/").partition("@")[0] for name in row}
        assert names == kinds - {"coverage", "width"}
        # Of a point the CRPS is the absolute error.
        np.testing.assert_allclose(row["test/crps@1-2"], row["test/mae@1-2"], rtol=1e-5)
        np.testing.assert_allclose(row["test/pinball@1-2"], row["test/mae@1-2"] / 2, rtol=1e-5)
    points = truth(problem, "test")[0] + 1
    assert not {"coverage", "width"} & measure_leads(problem, points).keys()
    three = points[..., None] + np.array([-2.0, 0.0, 2.0])
    assert measure(problem, three)["coverage@1-2"] == 1
    np.testing.assert_allclose(measure_leads(problem, three)["width"], [4, 4], rtol=1e-6)
