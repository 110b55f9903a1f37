"""Every data set: its real file, published floors met to the digit, and no leak from the future."""

import functools
import os

import numpy as np
import pytest
from test_readers import hdf5, npz

from cityjax import forecast_metrics
from cityjax.data import floors
from cityjax.data.catalog import dataset, datasets
from cityjax.data.dataset import SPLITS, Protocol, arranged, bounds, printed
from cityjax.data.files import locate, read
from cityjax.data.forecast import origins
from cityjax.data.leaks import disturbed, leaks, training_view
from cityjax.data.readers import matlab
from cityjax.data.series import Series, checked, regular
from cityjax.data.sets import _pandemic, covid_france, crime_nyc, parking, taxi
from cityjax.data.synthetic import DOMAINS
from cityjax.data.windows import fit_scaler
from cityjax.tasks.problem import INPUTS, make_problem


@functools.cache
def real(name):
    """The series of a data set; skips where its files are not on this machine."""
    one = dataset(name)
    if not all(locate(file) or file.optional for file in one.files):
        pytest.skip(f"{name} is not in CITYJAX_DATA={os.environ.get('CITYJAX_DATA')}")
    return one.read()


# Shape, first and last time, seconds a step, values missing in the rows, rows missing between them.
HOLDS = {
    "appliances": ((19735, 1), "2016-01-11T17:00", "2016-05-27T18:00", 600, 0, 0),
    "beijing_air": ((35064, 9), "2013-03-01T00:00", "2017-02-28T23:00", 3600, 6625, 0),
    "bike": ((17544, 1), "2011-01-01T00:00", "2012-12-31T23:00", 3600, 17544 - 17379, 0),
    "chickenpox": ((521, 20), "2005-01-03T00:00", "2014-12-22T00:00", 604800, 0, 0),
    "covid_england": ((61, 129), "2020-03-13T00:00", "2020-05-12T00:00", 86400, 0, 0),
    "covid_england_all": ((61, 151), "2020-03-13T00:00", "2020-05-12T00:00", 86400, 0, 0),
    "covid_france": ((78, 81), "2020-03-10T00:00", "2020-05-26T00:00", 86400, 0, 0),
    "crime_nyc": ((730, 490), "2014-01-01T00:00", "2015-12-31T00:00", 86400, 0, 0),
    "ett": ((17420, 7), "2016-07-01T00:00", "2018-06-26T19:00", 3600, 0, 0),
    "flu_regions": ((785, 10), "2002-09-29T00:00", "2017-10-08T00:00", 604800, 0, 0),
    "flu_states": ((360, 49), "2010-10-03T00:00", "2017-08-20T00:00", 604800, 0, 0),
    "i94": ((52551, 1), "2012-10-02T09:00", "2018-09-30T23:00", 3600, 52551 - 40575, 0),
    "ili": ((966, 7), "2002-09-29T00:00", "2021-03-28T00:00", 604800, 0, 0),
    "los_loop": ((2016, 207), "2012-03-01T00:00", "2012-03-07T23:55", 300, 0, 0),
    "parking": ((77 * 18, 29), "2016-10-04T08:00", "2016-12-19T16:30", 1800, 4893, 76 * 30),
    "pems_single": ((7776 + 4320, 1), "2016-01-04T00:00", "2016-03-31T23:55", 300, 0, 46 * 288),
    "pjm": ((121269, 1), "2004-10-01T01:00", "2018-08-03T00:00", 3600, 0, 27),
    "taxi": ((1464, 30), "2018-05-01T00:00", "2018-06-30T23:00", 3600, 0, 0),
    "water_flow": ((1268, 1), "2022-03-20T11:00", "2022-05-16T22:00", 3600, 0, 112),
}
MADE = {f"synthetic_{domain}" for domain in DOMAINS}
BROUGHT = {"metr_la", "pems_bay", "pems04", "pems08"}  # by a user: tests/test_readers.py


def test_every_data_set_is_read_in_some_test():
    assert set(HOLDS) | BROUGHT | MADE == set(datasets())


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_synthetic_city_has_windows_in_every_part(name):
    found = dataset(name)
    series, protocol = found.read(), found.protocols["honest"]
    assert len(series.sensors) == 30 and series.adjacency is not None
    assert 86_400 * 7 == found.season * series.step
    if name == "synthetic_transport":
        assert series.unit == "vehicles/h" and found.title.startswith("Vehicles an hour ")
    parts = origins(series, protocol, history=protocol.history, horizon=protocol.horizon)
    assert min(map(len, parts.values())) >= 50


@pytest.mark.parametrize("name", HOLDS)
def test_a_real_file_holds_what_its_home_says(name):
    series = real(name)
    found = (
        series.values.shape,
        *(str(time.astype("datetime64[m]")) for time in series.time[[0, -1]]),
        series.step,
        int((~series.observed).sum()),
        len(regular(series).values) - len(series.values),
    )
    assert found == HOLDS[name]
    hashes = dataset(name).hashes()
    assert hashes and all(len(sha256) == 64 for sha256 in hashes.values())


@pytest.mark.parametrize("name", datasets())
def test_protocols_speak_the_language_of_the_metrics(name):
    one = dataset(name)
    assert "honest" in one.protocols and one.season > 1
    assert one.domain in ("transport", "energy", "health", "safety", "environment")
    for protocol in one.protocols.values():
        for measure in protocol.measures:
            forecast_metrics.by_name(measure)
        for values in protocol.published.values():
            for metric in values:
                assert forecast_metrics.by_name(metric) and "@" in metric
    assert not one.protocols["honest"].published and not one.protocols["honest"].drop_last


def test_a_printed_table_is_read_by_column():
    found = printed("mae@1 mape@1 mae@3", {"GRU": "7.2/16.78 -", "SAE": "1 2 3"})
    assert found["GRU"] == {"mae@1": 7.2, "mape@1": 16.78}
    assert found["SAE"] == {"mae@1": 1.0, "mape@1": 2.0, "mae@3": 3.0}
    with pytest.raises(ValueError):
        printed("mae@1 mae@3", {"GRU": "1"})


# Published figures, met by floors under the published protocols.


def scores(name, protocol, floor, *names, horizon=None, **options):
    """Metrics of a floor on the test windows of a protocol, and how many windows there are."""
    series, protocol = real(name), dataset(name).protocols[protocol]
    horizon = horizon or protocol.horizon
    series = arranged(series, protocol)
    rows = bounds(series, protocol)
    at = origins(series, protocol, history=protocol.history, horizon=horizon)["test"]
    steps = at[:, None] + np.arange(1, horizon + 1)
    truth = series.values[np.minimum(steps, len(series.values) - 1)]
    inside = (steps >= rows["test"][0]) & (steps < rows["test"][1])
    batch = {"targets": np.nan_to_num(truth), "mask": np.isfinite(truth) & inside[..., None]}
    guess = floor(series, **options)(at, np.arange(1, horizon + 1))
    found = []
    for metric in map(forecast_metrics.by_name, names):
        if protocol.standardised:
            scaler = fit_scaler(series.values, series.observed, stop=rows["train"][1])
            metric = forecast_metrics.standardised(metric, *scaler)
        found.append(float(metric.finalize(metric.accumulate(guess, batch))))
    return [len(at), *found]


@pytest.mark.parametrize(
    ("horizon", "last", "mean"),
    [
        (3, (5.5428, 3.1561, 0.9056), (7.4751, 3.9725, 0.8727)),
        (6, (6.6986, 3.6317, 0.8859), (8.3128, 4.3778, 0.8584)),
        (9, (7.6281, 4.0417, 0.8701), (9.0763, 4.7698, 0.8454)),
        (12, (8.4555, 4.4332, 0.8559), (9.7846, 5.1504, 0.8333)),
    ],
)
def test_los_loop_under_the_protocol_of_t_gcn(horizon, last, mean):
    measure = functools.partial(scores, "los_loop", "published", horizon=horizon)
    names = "rmse", "mae", "frobenius_accuracy"
    windows = 404 - 12 - horizon
    expected = pytest.approx([windows, *last], abs=6e-5)
    assert measure(floors.last_value, *names) == expected
    assert measure(floors.window_mean, *names, history=12) == pytest.approx(
        [windows, *mean], abs=6e-5
    )


@pytest.mark.parametrize(
    ("name", "horizon", "published", "honest"),
    [
        ("ett", 96, (2784, 1.295, 0.713), (2785, 1.294, 0.713)),
        ("ett", 192, (2688, 1.325, 0.733), (2689, 1.325, 0.733)),
        ("ett", 336, (2528, 1.323, 0.744), (2545, 1.330, 0.746)),
        ("ett", 720, (2144, 1.339, 0.756), (2161, 1.335, 0.755)),
        ("ili", 24, (160, 6.5871, 1.7007), (170, 6.2133, 1.6222)),
        ("ili", 36, (128, 7.1301, 1.8839), (158, 7.7138, 1.9059)),
        ("ili", 48, (128, 6.5754, 1.7984), (146, 7.8513, 1.9521)),
        ("ili", 60, (128, 5.8930, 1.6770), (134, 6.8849, 1.7884)),
    ],
)
def test_the_repeat_row_with_and_without_the_dropped_windows(name, horizon, published, honest):
    for protocol, expected in {"published": published, "honest": honest}.items():
        found = scores(name, protocol, floors.last_value, "mse", "mae", horizon=horizon)
        assert found == pytest.approx(expected, abs=6e-4 if name == "ett" else 6e-5)
    row = dataset(name).protocols["published"].published["Repeat last value"]
    mse = scores(name, "published", floors.last_value, "mse", horizon=horizon)[1]
    assert row[f"mse@1-{horizon}"] == pytest.approx(mse, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "last", "year_ago"),
    [
        ("flu_regions", (545, 713, 843, 957, 1414, 1749), 876),
        ("flu_states", (151, 191, 219, 245, 361, 429), 307),
    ],
)
def test_influenza_panels_at_each_lead(name, last, year_ago):
    names = [f"rmse@{weeks}" for weeks in (2, 3, 4, 5, 10, 15)]
    found = scores(name, "published", floors.last_value, *names)[1:]
    assert [round(value) for value in found] == list(last)
    found = scores(name, "published", floors.seasonal, *names, season=52)[1:]
    assert [round(value) for value in found] == [year_ago] * 6


def test_the_last_day_and_the_last_week_of_the_table_for_england():
    leads = [f"mae@{day}" for day in (1, 2, 3)]
    last = scores("covid_england", "published", floors.last_value, *leads)[1:]
    mean = scores("covid_england", "published", floors.window_mean, *leads, history=7)[1:]
    rows = dataset("covid_england").protocols["published"].published
    for name, found in {"LAST_DAY": last, "AVG_WINDOW": mean}.items():
        row = rows[f"{name} (figure from memory)"]
        assert row["mae@1-3"] == round(np.mean(found), 2)


@pytest.mark.parametrize(
    ("country", "days", "last", "mean"), [("england", 61, 6.61, 6.10), ("france", 64, 6.41, 5.33)]
)
def test_all_regions_whether_their_mobility_is_known_or_not(country, days, last, mean):
    real(f"covid_{country}")
    files = {"england": dataset("covid_england").files, "france": covid_france.FILES}[country]
    values = _pandemic.load(files[0], files[1], mobile=False).values[:days].astype(float)
    forecasts = {"last": [], "mean": []}
    for day in range(13, days - 1):
        truth = values[day + 1 : day + 4]
        forecasts["last"].extend(np.abs(truth - values[day]).mean(axis=1))
        forecasts["mean"].extend(np.abs(truth - values[day - 6 : day + 1].mean(0)).mean(axis=1))
    assert round(np.mean(forecasts["last"]), 2) == last
    assert round(np.mean(forecasts["mean"]), 2) == mean


def test_every_published_row_of_the_chickenpox_task_is_worse_than_its_mean():
    def zero(series):
        return lambda at, leads: np.zeros((len(at), len(leads), series.values.shape[1]), np.float32)

    mean = scores("chickenpox", "published", zero, "mse")[1]
    assert round(mean, 3) == 1.017
    assert round(scores("chickenpox", "published", floors.last_value, "mse")[1], 3) == 3.043
    published = dataset("chickenpox").protocols["published"].published
    assert min(row["mse@1"] for row in published.values()) > mean


# What the files themselves say.


def test_crime_counts_every_report_but_those_off_the_grid_of_train():
    series = real("crime_nyc")
    totals = dict.fromkeys(crime_nyc.CATEGORIES, 0.0)
    for sensor, total in zip(series.sensors, series.values.sum(axis=0), strict=True):
        totals[sensor.rpartition(" ")[0]] += total
    expected = {"GRAND LARCENY": 85899, "FELONY ASSAULT": 40429 - 1, "ROBBERY": 33453}
    assert totals == {**expected, "BURGLARY": 31799}


def test_the_share_of_zeros_of_the_parking_tensor():
    real("parking")
    tensor = matlab(read(parking.FILE), "tensor")
    assert tensor.shape == (30, 77, 18) and round(float((tensor == 0).mean()), 3) == 0.149


def test_the_weeks_of_ili_are_those_of_its_regions():
    national, regions = real("ili"), real("flu_regions")
    total = national.values[:, national.sensors.index("ILITOTAL")]
    np.testing.assert_array_equal(total[:785], regions.values.sum(axis=1))
    np.testing.assert_array_equal(national.time[:785], regions.time)


def test_an_hour_written_twice_is_its_mean_and_a_skipped_one_is_missing():
    series = real("pjm")
    frame = [line.split(",") for line in read(dataset("pjm").files[0]).decode().splitlines()[1:]]
    twice = [float(load) for time, load in frame if time == "2014-11-02 02:00:00"]
    row = np.searchsorted(series.time, np.datetime64("2014-11-02T02:00"))
    assert len(twice) == 2 and series.values[row, 0] == np.mean(twice)
    grid = regular(series)
    spring = np.searchsorted(grid.time, np.datetime64("2014-03-09T03:00"))
    assert np.isnan(grid.values[spring, 0]) and np.isfinite(grid.values[spring - 1, 0])


# Leaks.


def small(seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(size=(200, 3)).cumsum(axis=0)
    values[random.uniform(size=values.shape) < 0.1] = np.nan
    time = np.datetime64("2024-01-01") + np.arange(200) * np.timedelta64(3600, "s")
    rain = random.uniform(size=200)
    return checked(Series(values, time, 3600, ("a", "b", "c"), "km/h", {"rain": rain}))


def test_the_future_is_changed_everywhere_and_the_past_nowhere():
    series = small()
    after = disturbed(series, 120)
    np.testing.assert_array_equal(after.values[:120], series.values[:120])
    np.testing.assert_array_equal(after.observed, series.observed)
    assert (after.values[120:] != series.values[120:])[series.observed[120:]].all()
    assert (after.past["rain"][120:] != series.past["rain"][120:]).all()


def test_leaks_are_found():
    series, protocol = small(), Protocol(history=4, horizon=3)
    rows = bounds(series, protocol)
    start = rows["test"][0]

    def careless(series):
        filled = np.nan_to_num(series.values)
        return {
            "scaler of train": fit_scaler(series.values, series.observed, stop=rows["train"][1]),
            "scaler of all": fit_scaler(series.values, series.observed, stop=len(series.values)),
            "graph of train": np.corrcoef(filled[: rows["train"][1]].T),
            "graph of all": np.corrcoef(filled.T),
            "epoch by validation": int(np.argmin(filled[slice(*rows["validation"]), 0])),
            "epoch by test": int(np.argmax(filled[slice(*rows["test"]), 0] % 0.1)),
            "next value at the end of validation": filled[start],
        }

    assert leaks(careless, series, start) == (
        "scaler of all",
        "graph of all",
        "epoch by test",
        "next value at the end of validation",
    )


def test_a_split_that_looks_ahead_is_found_in_the_batches():
    series, protocol = small(), Protocol(history=4, horizon=3)
    view = functools.partial(
        training_view, protocol=protocol, season=24, history=4, horizon=3, split="validation"
    )
    start = bounds(series, protocol)["test"][0]
    assert leaks(view, series, start) == ()
    # Had the part of validation gone ten steps on, its batches and forecasts would show it.
    found = leaks(view, series, start - 10)
    assert {"history of batch 0 of validation", "targets of batch 0 of validation"} <= set(found)
    assert "last value" in found and "history of batch 0 of train" not in found
    # And had train, what is learnt from it: the scaler and the graph.
    found = leaks(view, series, bounds(series, protocol)["train"][1] - 10)
    assert {"scaler", "graph by correlation"} <= set(found) and "graph" not in found


def brought(name):
    """A user's copy of a set that cannot be fetched, a short one: the bytes of its file."""
    draw = np.random.default_rng(0)
    if name in ("metr_la", "pems_bay"):
        time = np.datetime64("2012-03-01T00:00:00") + np.arange(900) * np.timedelta64(300, "s")
        return hdf5(np.array([773869, 767541, 717447]), time, draw.uniform(20, 70, (900, 3)))
    return npz(data=draw.uniform(1, 300, (900, 3, 3)))


def leaks_of(one, series):
    """Whatever of train or validation depends on test, by protocol."""
    found = []
    for protocol in one.protocols.values():
        steps = arranged(series, protocol)
        start = bounds(steps, protocol)["test"][0]

        def view(series, protocol=protocol, start=start):
            given = training_view(
                series,
                protocol,
                season=one.season,
                history=protocol.history,
                horizon=protocol.horizon,
                split="validation",
            )
            # Every input that an experiment may ask for: the profiles that the series can have.
            problem = make_problem(series, protocol, season=one.season, inputs=INPUTS, lenient=True)
            assert problem.data["profile"].shape[-1]
            given["profiles"] = problem.data["profile"][:start]
            given["graph of the problem"] = np.zeros(0) if problem.graph is None else problem.graph
            return given

        found += leaks(view, steps, start)
        assert set(bounds(steps, protocol)) == set(SPLITS)
    return found


@pytest.mark.parametrize("name", [*HOLDS, *sorted(MADE)])
def test_nothing_of_train_or_validation_depends_on_test(name):
    assert leaks_of(dataset(name), real(name)) == []


@pytest.mark.parametrize("name", sorted(BROUGHT))
def test_nothing_of_train_or_validation_depends_on_test_in_a_copy_of_ones_own(
    name, monkeypatch, tmp_path
):
    monkeypatch.setenv("CITYJAX_DATA", str(tmp_path))
    one = dataset(name)
    path = tmp_path / one.files[0].dataset / one.files[0].name
    path.parent.mkdir()
    path.write_bytes(brought(name))
    assert leaks_of(one, one.read()) == []


def test_a_graph_that_is_made_of_rides_is_that_of_train(monkeypatch):
    real("taxi")
    rides = matlab(taxi.read(taxi.FILE), "tensor")
    start = bounds(real("taxi"), dataset("taxi").protocols["honest"])["train"][1]
    monkeypatch.setattr(taxi, "matlab", lambda *given: rides)
    before = taxi.load().adjacency
    rides[..., start:] += 7
    np.testing.assert_array_equal(taxi.load().adjacency, before)
    rides[..., 0] += 7
    assert (taxi.load().adjacency != before).all()


def test_the_grid_of_crime_is_that_of_train():
    real("crime_nyc")
    head = "Occurrence Date,Offense,Latitude,Longitude"
    train = [
        "01/01/2014 12:00:00 AM,ROBBERY,40.70,-74.00",
        "01/02/2014 01:00:00 PM,BURGLARY,40.80,-73.9",
    ]
    test = [
        "12/30/2015 12:00:00 AM,ROBBERY,40.70,-74.00",
        "12/31/2015 12:00:00 AM,ROBBERY,40.1,-75.0",
    ]
    alone = crime_nyc.counts("\n".join([head, *train]).encode())
    both = crime_nyc.counts("\n".join([head, *train, *test]).encode())
    assert alone.sensors == both.sensors == ("BURGLARY 3,2", "ROBBERY 0,0")
    np.testing.assert_array_equal(alone.values[:608], both.values[:608])
    np.testing.assert_array_equal(alone.coordinates, both.coordinates)
    assert alone.values.sum() == 2 and both.values.sum() == 3  # one report lies off the grid
