"""Naive floors: by hand, and equal to what is published or measured for them on real files."""

import os
from pathlib import Path

import numpy as np
import pytest

from cityjax.data import floors, forecast
from cityjax.data.dataset import Protocol, bounds
from cityjax.data.series import Series, checked

DATA = Path(os.environ.get("CITYJAX_DATA", "nowhere"))


def series(values, step=300):
    values = np.asarray(values, np.float32)
    time = np.datetime64("2012-03-01T00:00:00") + np.arange(len(values)) * np.timedelta64(step, "s")
    return checked(Series(values, time, step, tuple(map(str, range(values.shape[1]))), "mph"))


def table(name, **options):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in CITYJAX_DATA")
    return np.loadtxt(path, delimiter=",", **options)


def test_floors_by_hand():
    nan = np.nan
    city = series([[1, 5], [2, nan], [nan, 7], [4, 8]])
    at = np.array([2])
    np.testing.assert_array_equal(floors.last_value(city, at, 2)[0], [[2, 7], [2, 7]])
    # Two steps before the targets 3 and 4: step 1, missing at the second sensor, and step 2.
    np.testing.assert_array_equal(floors.seasonal(city, at, 2, season=2)[0], [[2, nan], [1, 7]])
    # A season shorter than the horizon goes back as many as are known.
    np.testing.assert_array_equal(floors.seasonal(city, at, 2, season=1)[0], [[2, 7], [2, 7]])
    np.testing.assert_array_equal(floors.window_mean(city, at, 1, history=3)[0], [[1.5, 6]])


def test_the_historical_average_reads_train_only():
    values = np.arange(14 * 24, dtype=float)[:, None]
    city = series(values, step=3600)
    stop = 10 * 24
    at = np.array([11 * 24])
    found = floors.historical_average(city, at, 1, stop=stop)[0, 0, 0]
    assert found == np.mean([4 * 24 + 1])  # the only other day of the same weekday before `stop`
    values[stop:] = -1
    assert floors.historical_average(series(values, step=3600), at, 1, stop=stop)[0, 0, 0] == found


def errors(city, protocol, outputs):
    at = forecast.origins(city, protocol, history=protocol.history, horizon=protocol.horizon)[
        "test"
    ]
    start, stop = bounds(city, protocol)["test"]
    steps = at[:, None] + np.arange(1, protocol.horizon + 1)
    inside = (steps >= start) & (steps < stop)
    targets = city.values[np.minimum(steps, len(city.values) - 1)].astype(np.float64)
    return np.where(inside[..., None], outputs(at) - targets, np.nan)


@pytest.mark.parametrize(
    ("horizon", "rmse", "mae"), [(3, 5.5428, 3.1561), (6, 6.6986, 3.6317), (12, 8.4555, 4.4332)]
)
def test_the_last_value_on_los_loop_under_its_authors_protocol(horizon, rmse, mae):
    city = series(table("los_loop/los_speed.csv", skiprows=1))
    protocol = Protocol(split=(1411, 201, 404), history=12, horizon=horizon, inside=True)
    found = errors(city, protocol, lambda at: floors.last_value(city, at, horizon))
    # The authors' loop stops one window early.
    found = found[:-1]
    assert round(float(np.sqrt(np.mean(found**2))), 4) == pytest.approx(rmse, abs=2e-3)
    assert round(float(np.mean(np.abs(found))), 4) == pytest.approx(mae, abs=2e-3)


@pytest.mark.parametrize(
    ("horizon", "drop_last", "mse", "mae"),
    [
        (96, 0, 1.294, 0.713),
        (192, 0, 1.325, 0.733),
        (336, 32, 1.323, 0.744),
        (336, 0, 1.330, 0.746),
    ],
)
def test_the_repeat_row_of_etth1_with_and_without_the_last_batch(horizon, drop_last, mse, mae):
    raw = table("etth/ETTh1.csv", skiprows=1, usecols=range(1, 8))
    scaled = (raw - raw[:8640].mean(axis=0)) / raw[:8640].std(axis=0)
    city = series(scaled, step=3600)
    protocol = Protocol(split=(8640, 2880, 2880), history=336, horizon=horizon, drop_last=drop_last)
    found = errors(city, protocol, lambda at: floors.last_value(city, at, horizon))
    assert np.mean(found**2) == pytest.approx(mse, abs=1.1e-3)
    assert np.mean(np.abs(found)) == pytest.approx(mae, abs=1.1e-3)


@pytest.mark.parametrize("drop_last", [32, 0])
def test_the_repeat_row_of_ili_depends_on_the_dropped_windows(drop_last):
    raw = table("ili/national_illness.csv", skiprows=1, usecols=range(1, 8))
    scaled = (raw - raw[:676].mean(axis=0)) / raw[:676].std(axis=0)
    city = series(scaled, step=7 * 86_400)
    protocol = Protocol(split=(676, 97, 193), history=36, horizon=24, drop_last=drop_last)
    found = errors(city, protocol, lambda at: floors.last_value(city, at, 24))
    assert np.mean(found**2) == pytest.approx(6.5871 if drop_last else 6.2133, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "split", "last", "year_ago"),
    [
        ("region785", (0.5, 0.2, 0.3), {2: 545, 3: 713, 5: 957, 10: 1414, 15: 1749}, 876),
        # int(0.7 * 360) is 251 to a computer: the authors' test part has a week more.
        ("state360", (180, 71, 109), {2: 151, 3: 191, 5: 245, 10: 361, 15: 429}, 307),
    ],
)
def test_influenza_panels_where_each_test_week_is_a_target_at_each_lead(
    name, split, last, year_ago
):
    city = series(table(f"epi_colagnn/{name}.txt"), step=7 * 86_400)
    protocol = Protocol(split=split, history=20, horizon=15, whole=False)
    found = errors(city, protocol, lambda at: floors.last_value(city, at, 15))
    seasonal = errors(city, protocol, lambda at: floors.seasonal(city, at, 15, season=52))
    for lead, value in last.items():
        assert np.sqrt(np.nanmean(found[:, lead - 1] ** 2)) == pytest.approx(value, abs=0.6)
        assert np.sqrt(np.nanmean(seasonal[:, lead - 1] ** 2)) == pytest.approx(year_ago, abs=0.6)
