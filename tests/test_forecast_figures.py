"""The figures of a forecasting run: the numbers drawn, and every shape of city."""

import numpy as np
import pytest

from cityjax.data import floors
from cityjax.data.dataset import Protocol
from cityjax.data.series import Series
from cityjax.data.windows import last_observed
from cityjax.report import figures as drawing
from cityjax.report import forecasts
from cityjax.report.maps import Places, graph_layout, sensor_map
from cityjax.tasks import forecast_figures
from cityjax.tasks.conformity import LINEAR, Scale, bounds, conformity
from cityjax.tasks.forecast_errors import calibrated, covered, measured, phases, points_of
from cityjax.tasks.forecast_figures import duration, figures, places, shown_sensors, stretch
from cityjax.tasks.intervals import interval_scores
from cityjax.tasks.problem import make_problem
from cityjax.tasks.scores import measure, truth

HOUR, DAY, WEEK = 3600, 86_400, 7 * 86_400


def city(steps=400, sensors=5, step=HOUR, *, missing=0.1, coordinates=False, unit="mph"):
    random = np.random.default_rng(1)
    values = 50 + 10 * np.sin(np.arange(steps) / 24 * 2 * np.pi)[:, None]
    values = values + random.normal(size=(steps, sensors)) * np.arange(1, sensors + 1)
    values[random.random(values.shape) < missing] = np.nan
    time = np.datetime64("2024-01-01T00:00:00") + np.arange(steps) * np.timedelta64(step, "s")
    at = random.uniform((39, 116), (40, 117), (sensors, 2)) if coordinates else None
    names = tuple(f"station {number}" for number in range(sensors))
    return Series(values.astype(np.float32), time, step, names, unit, coordinates=at)


def problem_of(series, quantiles=(), history=6, horizon=4, season=24, graph="auto", **protocol):
    return make_problem(
        series,
        Protocol(split=(0.6, 0.2, 0.2), history=history, horizon=horizon, **protocol),
        season=season,
        quantiles=quantiles,
        graph=graph,
    )


def outputs_of(problem, split="test"):
    """The last value, 0 where missing, and 1 more; quantiles 3 on either side."""
    last = np.nan_to_num(problem.series.values)[problem.origins[split]] + 1
    point = np.repeat(last[:, None], problem.horizon, axis=1)
    if not problem.quantiles:
        return point
    return point[..., None] + np.linspace(-3.0, 3.0, len(problem.quantiles), dtype=np.float32)


def drawn(problem, parts=("validation", "test")):
    return figures(problem, {part: outputs_of(problem, part) for part in parts})


FLOORS = 4  # lines of a stretch before the truth


def labels(figure):
    return [text.get_text().strip() for text in figure.legends[0].get_texts()]


def line(axes, number):
    return np.ma.filled(np.ma.asarray(axes.get_lines()[number].get_ydata(), float), np.nan)


# What is drawn


def test_the_lines_are_the_truth_the_forecast_and_the_floor_of_the_right_sensors_and_steps():
    problem = problem_of(city())
    found = drawn(problem)
    targets, mask = truth(problem, "test")
    targets = np.where(mask, targets, np.nan)
    errors = np.nanmean(np.abs(outputs_of(problem) - targets), axis=(0, 1))
    for name, lead in (("first", 1), ("last", 4)):
        figure = found[f"forecast_at_the_{name}_lead"]
        ranks = np.argsort(errors)[[0, 2, 4]]
        for axes, sensor in zip(figure.axes, ranks, strict=True):
            assert f"{lead} h ahead" in axes.get_title(loc="left")
            assert f"sensor station {sensor} " in axes.get_title(loc="left")
            times = axes.get_lines()[FLOORS].get_xdata()
            rows = ((times - problem.series.time[0]) // np.timedelta64(HOUR, "s")).astype(int)
            series = problem.series.values[:, sensor]
            np.testing.assert_array_equal(line(axes, FLOORS), series[rows])
            known = np.isin(rows - lead, problem.origins["test"])
            expected = np.where(known, np.nan_to_num(series)[rows - lead] + 1, np.nan)
            np.testing.assert_allclose(line(axes, FLOORS + 1), expected)
            assert known.any()
            assert np.isnan(line(axes, FLOORS)).any() or np.isfinite(series[rows]).all()
            last = last_observed(series[:, None], np.isfinite(series)[:, None], 1)[rows - lead, 0]
            np.testing.assert_allclose(line(axes, 0), np.where(known, last, np.nan))
        names = labels(figure)[3:]
        assert len(names) == FLOORS and names[0].startswith("last value")
        assert sum(name.endswith("the best floor here") for name in names) == 1


def test_a_floor_that_lies_far_off_does_not_flatten_the_rest():
    series = city()
    series.values[:250] += 5000  # all of train, and so its historical average
    found = drawn(problem_of(series))
    for axes in found["forecast_at_the_first_lead"].axes:
        bottom, top = axes.get_ylim()
        assert np.nanmax(line(axes, FLOORS - 1)) > 4000 and top < 200
        for own in (line(axes, FLOORS), line(axes, FLOORS + 1)):
            assert bottom <= np.nanmin(own) and np.nanmax(own) <= top
    assert found["reliability"].axes[1].get_yscale() == "log"


def test_long_names_leave_the_maps_and_the_titles_their_room():
    names = tuple(f"Station at the corner of Long Street, number {n}, north side" for n in range(5))
    found = drawn(problem_of(city()._replace(sensors=names)))
    for name in ("forecast_at_the_first_lead", "map_of_errors"):
        found[name].draw_without_rendering()
    for axes in found["forecast_at_the_first_lead"].axes:
        title = axes.title if axes.title.get_text() else axes._left_title
        assert "sensor …" in title.get_text() and "number" not in title.get_text()
        assert title.get_text().endswith("over all leads)")
        assert title.get_window_extent().x1 < found["forecast_at_the_first_lead"].bbox.width
    left, right = found["map_of_errors"].axes[:2]
    assert min(axes.bbox.width for axes in (left, right)) > 350
    labels = {text.get_text().rpartition(": ")[2] for text in left.texts}
    assert labels == {f"…{number}, north side" for number in range(5)}


def test_missing_values_are_gaps_and_never_zeros():
    series = city(missing=0.0)
    series.values[-60:-50] = np.nan
    axes = drawn(problem_of(series))["forecast_at_the_first_lead"].axes[0]
    shown = line(axes, FLOORS)
    assert np.isnan(shown).sum() == 10
    assert np.nanmin(shown) > 30


def test_a_value_alone_is_a_point():
    series = city(missing=0.0)
    series.values[-60:] = np.nan
    series.values[-50], series.values[-40:-38] = 61, 62
    axes = drawn(problem_of(series))["forecast_at_the_first_lead"].axes[0]
    assert line(axes, FLOORS + 2).tolist() == [61]  # two side by side are a line


def test_a_floor_that_forecasts_nothing_is_in_no_figure():
    found = drawn(problem_of(city(steps=100), season=200))  # longer than the series
    for name in ("forecast_at_the_first_lead", "error_by_horizon", "reliability"):
        floors = " ".join(labels(found[name]))
        assert "last value" in floors and "seasonal" not in floors
    series = city(steps=100)
    axes = drawn(problem_of(series, season=200, horizon=1))["error_by_horizon"].axes[0]
    assert not any("seasonal" in text.get_text() for text in axes.get_yticklabels())


def test_a_jump_of_the_clock_breaks_the_line():
    times = np.array([0, 1, 2, 9, 10], "datetime64[h]")
    cut, values = forecasts._broken(times, np.arange(5.0))
    np.testing.assert_array_equal(values, [0, 1, 2, np.nan, 3, 4])
    assert (np.diff(cut) >= np.timedelta64(0, "h")).all()


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("kind", ["mae", "rmse", "mse"])
def test_errors_by_lead_are_those_of_the_metrics_and_of_the_baselines(kind, standardised):
    problem = problem_of(city(), measures=(kind,), leads=(1, 2, 3, 4), standardised=standardised)
    figure = drawn(problem)["error_by_horizon"]
    of_series = floors.floors(problem.series, season=24, history=6, stop=problem.train_stop)
    at, leads = problem.origins["test"], np.arange(1, 5)
    made = {"model": outputs_of(problem)} | {n: floor(at, leads) for n, floor in of_series.items()}
    assert labels(figure) == list(made)
    for number, outputs in enumerate(made.values()):
        expected = measure(problem, outputs)
        by_lead = [expected[f"{kind}@{lead}"] for lead in (1, 2, 3, 4)]
        np.testing.assert_allclose(line(figure.axes[0], number), by_lead, rtol=1e-4)


def test_errors_by_hour_and_by_sensor_in_plain_numpy():
    problem = problem_of(city(), measures=("mae",))
    figure = drawn(problem)["error_by_hour_of_day"]
    targets, mask = truth(problem, "test")
    distance = np.where(mask, np.abs(outputs_of(problem) - targets), np.nan)
    hours = (problem.origins["test"][:, None] + np.arange(1, 5)) % 24
    expected = [np.nanmean(distance[hours == hour]) for hour in range(24)]
    np.testing.assert_allclose(line(figure.axes[0], 0), expected, rtol=1e-5)
    by_sensor = measured(problem, lambda part: {"model": outputs_of(problem)[part]})["model"].sensor
    np.testing.assert_allclose(by_sensor, np.nanmean(distance, axis=(0, 1)), rtol=1e-5)
    axes = drawn(problem)["map_of_errors"].axes[0]
    at = {tuple(place): value for place, value in zip(places(problem).at, by_sensor, strict=True)}
    spots, colours = axes.collections[2].get_offsets(), axes.collections[2].get_array()
    for place, colour in zip(spots, colours, strict=True):
        np.testing.assert_allclose(colour, at[tuple(place)], rtol=1e-5)
    assert len(spots) == len(at)


def test_sensors_at_one_place_show_their_mean_and_one_in_a_ring_its_own_error():
    at = np.array([[1.0, 2], [1, 2], [3, 2], [np.nan, np.nan]])
    error = np.array([1.0, 3, 5, 7])
    figure = sensor_map(Places(at, np.array([[0, 2], [1, 3]]), True), error, error,
                        names={1: "worst"}, error="MAE", floor="last value")  # fmt: skip
    edges, unknown, spots, ring = figure.axes[0].collections
    np.testing.assert_array_equal(spots.get_offsets(), [[1, 2], [3, 2]])
    np.testing.assert_array_equal(spots.get_array(), [2, 5])
    np.testing.assert_array_equal(ring.get_array(), [3])
    assert len(edges.get_segments()) == 1 and len(unknown.get_offsets()) == 1


def test_one_lead_alone_is_drawn_as_bars():
    published = {"famous": {"mae@1": 3.5}}
    problem = problem_of(city(), horizon=1, measures=("mae",), published=published)
    axes = drawn(problem)["error_by_horizon"].axes[0]
    expected = measure(problem, outputs_of(problem))["mae@1"]
    widths = [bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose([widths[0], widths[-1]], [expected, 3.5], rtol=1e-5)
    assert [text.get_text() for text in axes.get_yticklabels()][-1] == "published: famous"


def test_a_published_row_at_a_single_lead_is_a_point_and_a_pooled_one_is_not_drawn():
    published = {"famous": {"mae@2": 3.5, "mae@1-4": 2.0, "rmse@1": 9.0}, "pooled": {"mae@1-4": 2}}
    problem = problem_of(city(), measures=("mae",), published=published)
    figure = drawn(problem)["error_by_horizon"]
    assert labels(figure)[5:] == ["published: famous"]
    points = figure.axes[0].get_lines()[5]
    assert (list(points.get_xdata()), list(points.get_ydata())) == ([2.0], [3.5])


@pytest.mark.parametrize("quantiles", [(), (0.1, 0.5, 0.9)])
@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("scale", [LINEAR, Scale(np.cbrt, lambda root: root**3, lowest=0.0)])
def test_coverage_and_width_at_90_percent_are_the_reported_ones(quantiles, standardised, scale):
    series = city()
    series.values[-40:] -= 50  # some of it, in test alone, below 0
    problem = problem_of(series, quantiles, standardised=standardised)
    problem = problem._replace(interval_scale=scale)
    axes = drawn(problem)["reliability"].axes
    std = np.nanstd(problem.series.values[: problem.train_stop], axis=0)
    scores = interval_scores(
        {split: outputs_of(problem, split) for split in ("validation", "test")},
        {split: truth(problem, split) for split in ("validation", "test")},
        problem.origins,
        scale=scale,
        unit=std if standardised else 1.0,
    )
    at = forecast_figures.LEVELS.index(0.9)
    for number, name in ((0, "90"), (1, "90_online")):
        share, width = line(axes[0], number + 1)[at], line(axes[1], number)[at]
        np.testing.assert_allclose(share, 100 * scores[f"coverage_{name}"], rtol=1e-3)
        np.testing.assert_allclose(width, scores[f"width_{name}"], rtol=1e-3)


@pytest.mark.parametrize("quantiles", [(), (0.1, 0.5, 0.9)])
def test_a_target_lies_between_the_bounds_where_its_score_is_within_the_half_width(quantiles):
    problem = problem_of(city(), quantiles)
    outputs, (targets, mask) = outputs_of(problem), truth(problem, "test")
    half = np.full((4, 5), 1.3 if quantiles else 7.0, np.float32)
    for lead in range(4):
        low, high = bounds(outputs[:, lead], half[lead, None])
        inside = (low <= targets[:, lead]) & (targets[:, lead] <= high)
        scores = conformity(outputs, targets, mask)[:, lead]
        seen = mask[:, lead]
        np.testing.assert_array_equal(inside[seen], (scores <= half[lead])[seen])
        assert 0 < inside[seen].mean() < 1


# Any city


CITIES = {
    "one sensor": (dict(sensors=1), {}),
    "two sensors": (dict(sensors=2), {}),
    "many sensors": (dict(sensors=220, steps=150), dict(graph="none")),
    "coordinates": (dict(coordinates=True), {}),
    "one step ahead": ({}, dict(horizon=1)),
    "long": (dict(steps=900, sensors=2), dict(horizon=120)),
    "no whole windows": ({}, dict(whole=False)),
    "quantiles": ({}, dict(quantiles=(0.05, 0.5, 0.95))),
    "standardised": ({}, dict(standardised=True, measures=("mse", "mae"))),
    "a correlation first": ({}, dict(measures=("pcc", "mape", "rmse"))),
    "half is missing": (dict(missing=0.5), {}),
    "nothing is missing": (dict(missing=0.0), {}),
    "minutes": (dict(step=300, steps=900), dict(season=288)),
    "six hours": (dict(step=6 * HOUR), dict(season=28)),
    "days": (dict(step=DAY), dict(season=7)),
    "weeks": (dict(step=WEEK), dict(season=52)),
    "shorter than its season": (dict(step=WEEK, steps=50), dict(season=52, horizon=2)),
    "no unit": (dict(unit=""), {}),
    "thirty days": (dict(step=30 * DAY, steps=120), dict(season=12)),
}


@pytest.mark.parametrize("name", CITIES)
def test_every_city_gets_its_figures(name):
    of_city, of_problem = CITIES[name]
    problem = problem_of(city(**of_city), **of_problem)
    found = drawn(problem)
    leads = ("first", "last") if problem.horizon > 1 else ("only",)
    expected = {f"forecast_at_the_{lead}_lead" for lead in leads}
    expected |= {"error_by_horizon", f"error_by_{phases(problem.series)[2].replace(' ', '_')}"}
    expected |= {"map_of_errors"} if len(problem.series.sensors) > 1 else set()
    assert set(found) == expected | {"reliability"}
    for figure in found.values():
        figure.draw_without_rendering()  # warnings are errors
        for axes in figure.axes:
            assert not axes.get_xlabel().endswith(", ") and not axes.get_ylabel().endswith(", ")


@pytest.mark.parametrize("quantiles", [(), (0.1, 0.5, 0.9)])
def test_without_a_validation_part_there_are_no_intervals(quantiles):
    problem = problem_of(city(), quantiles)
    whole, without = drawn(problem), drawn(problem, ["test"])
    assert set(whole) - set(without) == {"reliability"}
    for name in ("forecast_at_the_first_lead", "forecast_at_the_last_lead"):
        assert [text for text in labels(whole[name]) if text not in labels(without[name])] == [
            "90 % interval (split-conformal)"
        ]
        assert whole[name].axes[0].collections and not without[name].axes[0].collections


def test_equal_runs_give_bit_equal_figures():
    problem = problem_of(city())
    first, second = drawn(problem), drawn(problem)
    assert all(drawing.png(first[name]) == drawing.png(second[name]) for name in first)


def test_a_forecast_that_is_no_number_says_so():
    problem = problem_of(city())
    found = figures(problem, {"test": np.nan * outputs_of(problem)})
    assert list(found) == ["forecast"]
    assert found["forecast"].texts[0].get_text() == "No forecast of the test part is a number"


# Choices


def test_best_median_and_worst_of_those_there_are():
    assert shown_sensors(np.array([4, 2, 0, 1])) == {"best": 4, "median": 2, "worst": 1}
    assert shown_sensors(np.array([4, 2])) == {"best": 4, "worst": 2}
    assert shown_sensors(np.array([4])) == {"best": 4}


def test_the_stretch_begins_at_the_midnight_of_the_most_complete_days():
    time = np.datetime64("2024-01-01T05:00:00") + np.arange(500) * np.timedelta64(HOUR, "s")
    complete = np.ones(500)
    complete[30] = 0
    part = stretch(time, complete, HOUR, 24)
    assert str(time[part][0]) == "2024-01-03T00:00:00"
    assert part.stop - part.start == 168
    assert stretch(time[:10], complete[:10], HOUR, 24) == slice(0, 10)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(300, "5 min"), (3600, "1 h"), (5400, "90 min"), (DAY, "1 day"), (3 * WEEK, "3 weeks")],
)
def test_a_lead_in_words(seconds, text):
    assert duration(seconds) == text


def test_places_are_longitude_and_latitude_or_laid_out_by_the_graph():
    series = city(coordinates=True)
    known = places(problem_of(series))
    assert known.geographic
    np.testing.assert_array_equal(known.at, series.coordinates[:, ::-1])
    assert not places(problem_of(city())).geographic
    assert len(known.edges) and (known.edges[:, 0] < known.edges[:, 1]).all()


def test_a_layout_brings_neighbours_together_and_is_always_the_same():
    ring = np.roll(np.eye(30), 1, axis=1)
    at = graph_layout(ring)
    np.testing.assert_array_equal(at, graph_layout(ring))
    apart = np.hypot(*(at[:, None] - at[None]).T)
    assert apart[np.arange(30), np.arange(30) - 1].max() < 0.5 * np.median(apart)
    assert apart[~np.eye(30, dtype=bool)].min() > 0.01
    assert at.min() >= 0 and at.max() <= 1


@pytest.mark.parametrize("weights", [np.zeros((4, 4)), np.ones((6, 6)), np.eye(2), np.eye(1)])
def test_a_layout_of_any_graph_is_finite_and_no_two_nodes_share_a_place(weights):
    at = graph_layout(weights)
    assert at.shape == (len(weights), 2) and np.isfinite(at).all()
    assert len(np.unique(at.round(6), axis=0)) == len(weights)


def test_points_of_quantiles_are_those_nearest_the_median():
    problem = problem_of(city(), (0.1, 0.45, 0.9))
    outputs = outputs_of(problem)
    np.testing.assert_array_equal(points_of(problem, outputs), outputs[..., 1])


def test_a_floor_without_history_counts_for_nothing_in_the_coverage():
    problem = problem_of(city())
    outputs = outputs_of(problem)
    outputs[:5] = np.nan
    found = covered(problem, outputs, calibrated(problem, outputs_of(problem, "validation")))
    shares = found.share["split-conformal"]
    assert all(0 < share < 1 for share in shares) and shares == sorted(shares)
