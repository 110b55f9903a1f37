"""The I-94 series: the shipped file, what was cleaned, the windows and the floors."""

import gzip
import hashlib
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cityjax.data import i94, i94_clean, i94_floors, windows
from cityjax.data.files import DataError
from cityjax.fit import score
from cityjax.losses import absolute_error
from cityjax.optimizers import make_optimizer
from cityjax.tasks import traffic

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "cityjax/data/i94_files/hourly.csv.gz"
RAW = "metro_interstate/hourly_traffic_volume.csv.gz"
HEADER = (
    "holiday,temp,rain_1h,snow_1h,clouds_all,weather_main,weather_description,date_time,"
    "traffic_volume\n"
)


@pytest.fixture(scope="module")
def series():
    return i94.load()


@pytest.fixture(scope="module")
def arrays(series):
    return i94.forecast_arrays(series)


def hour_of(series, text):
    return int(np.datetime64(text, "h").astype(int) - series.hour[0])


def test_shipped_file_is_derived_from_the_original():
    folders = [os.environ.get("CITYJAX_DATA"), ROOT.parent / "shared/data"]
    found = [Path(folder) / RAW for folder in folders if folder and (Path(folder) / RAW).is_file()]
    if not found:
        pytest.skip(f"the original, {RAW}, is neither in CITYJAX_DATA nor in ../shared/data")
    derived = i94_clean.clean(gzip.decompress(found[0].read_bytes()).decode("ascii"))
    shipped = gzip.decompress(SHIPPED.read_bytes()).decode("ascii")
    assert derived == shipped


def test_cleaning_by_hand():
    raw = HEADER + (
        "Labor Day,0.0,0.0,0.0,40,Clouds,few clouds,2016-09-05 00:00:00,500\n"
        "Labor Day,290.5,9831.3,0.0,64,Rain,light rain,2016-09-05 00:00:00,500\n"
        "None,289.1,0.25,0.1,1,Mist,mist,2016-09-05 02:00:00,0\n"
        "None,0.0,9831.3,0.0,1,Clear,sky is clear,2016-09-06 00:00:00,7\n"
    )
    lines = i94_clean.clean(raw).splitlines()
    assert lines[0] == "hour,observed,volume,temperature,rain,snow,clouds,weather,holiday"
    labor = i94_clean.HOLIDAYS.index("Labor Day")
    first = (np.datetime64("2016-09-05", "h") - np.datetime64("1970-01-01", "h")).astype(int)
    assert lines[1] == f"{first},1,500,290.5,0,0,40,3,{labor}"
    assert lines[2] == f"{first + 1},0,nan,nan,nan,nan,nan,nan,{labor}"
    assert lines[3] == f"{first + 2},1,0,289.1,0.25,0.1,1,2,{labor}"
    assert lines[24] == f"{first + 23},0,nan,nan,nan,nan,nan,nan,{labor}"
    assert lines[25] == f"{first + 24},1,7,nan,nan,0,1,0,0"
    assert len(lines) == 26


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("None,280,0,0,1,Clear,x,2016-09-05 01:00:00,8", "differ in traffic_volume"),
        ("Labor Day,280,0,0,1,Clear,x,2016-09-05 00:00:00,7", "differ in holiday"),
        ("None,280,0,0,1,Sandstorm,x,2016-09-05 02:00:00,7", "unknown name 'Sandstorm'"),
        ("Carnival,280,0,0,1,Clear,x,2016-09-06 00:00:00,7", "unknown name 'Carnival'"),
    ],
)
def test_contradictions_in_the_original_are_refused(changed, message):
    rows = [f"None,280,0,0,1,Clear,x,2016-09-05 0{hour}:00:00,7\n" for hour in (0, 1)]
    with pytest.raises(ValueError, match=message):
        i94_clean.clean(HEADER + "".join(rows) + changed + "\n")


def test_compressed_bytes_carry_no_time():
    packed = i94_clean.compress("hour\n1\n")
    assert packed == i94_clean.compress("hour\n1\n")
    assert packed[3:8] == bytes(5)  # no file name, time zero
    assert gzip.decompress(packed) == b"hour\n1\n"


def test_one_entry_per_hour(series):
    assert len(series.hour) == 52_551
    assert set(np.diff(series.hour)) == {1}
    assert series.observed.sum() == 40_575
    assert np.datetime64(int(series.hour[0]), "h") == np.datetime64("2012-10-02T09", "h")
    assert np.datetime64(int(series.hour[-1]), "h") == np.datetime64("2018-09-30T23", "h")


def test_missing_is_a_mask_and_never_a_number(series):
    np.testing.assert_array_equal(np.isnan(series.volume), ~series.observed)
    np.testing.assert_array_equal(series.weather == -1, ~series.observed)
    assert np.nanmin(series.temperature) > 240
    assert np.nanmax(series.rain) < 100
    assert np.isnan(series.temperature[series.observed]).sum() == 10
    assert np.isnan(series.rain[series.observed]).sum() == 1


def test_known_hours(series):
    first, christmas = 0, hour_of(series, "2017-12-25T00")
    assert series.volume[first] == 5545 and series.temperature[first] == np.float32(288.28)
    code = i94_clean.HOLIDAYS.index("Christmas Day")
    assert (series.holiday[christmas : christmas + 24] == code).all()
    assert series.holiday[christmas - 1] == series.holiday[christmas + 24] == 0


def test_an_altered_file_is_refused_with_both_checksums(tmp_path, monkeypatch):
    content = gzip.decompress(SHIPPED.read_bytes()).replace(b",5545,", b",5546,")
    (tmp_path / "i94").mkdir()
    (tmp_path / "i94/hourly.csv").write_bytes(content)
    monkeypatch.setenv("CITYJAX_DATA", str(tmp_path))
    with pytest.raises(DataError, match="hourly.csv") as caught:
        i94.load()
    assert i94.FILE.sha256 in str(caught.value)
    assert hashlib.sha256(content).hexdigest() in str(caught.value)


def test_splits_follow_each_other(series):
    parts = i94.splits(series)
    assert list(parts) == ["train", "validation", "test"]
    assert parts["train"][0] == 0 and parts["test"][1] == len(series.hour)
    assert parts["train"][1] == parts["validation"][0]
    assert parts["validation"][1] == parts["test"][0]
    shares = [series.observed[start:stop].mean() * (stop - start) for start, stop in parts.values()]
    np.testing.assert_allclose(shares, [0.7 * 40_575, 0.1 * 40_575, 0.2 * 40_575], atol=1)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_targets_lie_in_their_split(series, split):
    start, stop = i94.splits(series)[split]
    at = i94.forecast_origins(series, split)
    assert start <= at.min() + 1 and at.max() + i94.HORIZON < stop
    targets = at[:, None] + np.arange(1, i94.HORIZON + 1)
    assert series.observed[targets].any(axis=1).all()
    # Every observed hour of the test part is a target at every horizon, but for the edges.
    if split == "test":
        for ahead in (1, i94.HORIZON):
            counted = series.observed[at + ahead].sum()
            assert counted >= series.observed[start:stop].sum() - i94.HORIZON


def test_window_batch_against_numpy(series, arrays):
    at = np.array([30_000, 45_678])
    batch = jax.jit(i94.window_batch)(arrays, jnp.asarray(at))
    ahead = at[:, None] + np.arange(1, 7)
    shapes = {name: array.shape for name, array in batch["inputs"].items()}
    assert shapes == {"history": (2, 24, 59), "future": (2, 6, 62), "profile": (2, 6)}
    np.testing.assert_array_equal(batch["targets"], np.nan_to_num(series.volume[ahead]))
    np.testing.assert_array_equal(batch["mask"], series.observed[ahead])
    week = i94.typical_week(series)
    np.testing.assert_allclose(batch["inputs"]["profile"], week[ahead])
    past = at[:, None] + np.arange(-23, 1)
    departure = np.nan_to_num(series.volume - week) / i94.SPREAD
    np.testing.assert_allclose(batch["inputs"]["history"][..., 0], departure[past], rtol=1e-5)
    # Future columns: 48 of the calendar, then per lag: day off, and three departures with masks.
    week_ago = batch["inputs"]["future"][..., 48 + 3]
    np.testing.assert_allclose(week_ago, departure[ahead - 168], rtol=1e-5)
    hour_after = batch["inputs"]["future"][..., 48 + 7 + 5]
    np.testing.assert_allclose(hour_after, departure[ahead - 335], rtol=1e-5)


def test_no_input_knows_what_comes_after_the_origin(series):
    at = jnp.array([45_000, 50_001])
    before = i94.window_batch(i94.forecast_arrays(series), at)
    for origin, row in zip(at.tolist(), range(2), strict=True):
        measured = {}
        for name in ("volume", "temperature", "rain", "snow", "clouds"):
            changed = getattr(series, name).copy()
            changed[origin + 1 :] = 1234.0
            measured[name] = changed
        weather = series.weather.copy()
        weather[origin + 1 :] = 5
        later = series._replace(weather=weather, **measured)
        after = i94.window_batch(i94.forecast_arrays(later), at)
        for name, array in before["inputs"].items():
            np.testing.assert_array_equal(array[row], after["inputs"][name][row], err_msg=name)
        assert (after["targets"][row] != before["targets"][row]).any()


def test_the_test_part_changes_no_training_batch(series):
    test_start = i94.splits(series)["test"][0]
    volume = series.volume.copy()
    volume[test_start:] = 9999.0
    batches = [
        jax.jit(i94.train_source(source, 64))(jax.random.key(0), jnp.int32(3))
        for source in (series, series._replace(volume=volume))
    ]
    for before, after in zip(*map(jax.tree.leaves, batches), strict=True):
        np.testing.assert_array_equal(before, after)


def test_evaluation_covers_the_test_part_once(series):
    batches = i94.evaluation(series)["test"]
    source = jax.jit(batches.source)
    key, total, count = jax.random.key(0), 0.0, 0
    for step in range(batches.count):
        batch = source(key, jnp.int32(step))
        total += float(jnp.sum(jnp.where(batch["mask"], batch["targets"], 0)))
        count += int(jnp.sum(batch["mask"]))
    at = i94.forecast_origins(series, "test")
    targets = at[:, None] + np.arange(1, 7)
    assert count == series.observed[targets].sum()
    np.testing.assert_allclose(total, np.nansum(series.volume[targets]), rtol=1e-6)


def test_floors_are_the_published_ones(series):
    found = i94_floors.floors(series)
    expected = {
        "last value": (586, 2388),
        "same hour last week": (352, 351),
        "hour-of-week median": (268, 267),
    }
    for row, (one, six) in expected.items():
        assert found[row]["test/mae@1"] == pytest.approx(one, rel=0.003)
        assert found[row]["test/mae@6"] == pytest.approx(six, rel=0.003)
    # Published: 155 and 222; ours also knows holidays.
    ridge = found["ridge per hour of day"]
    assert ridge["test/mae@1"] == pytest.approx(149.5, abs=1)
    assert ridge["test/mae@6"] == pytest.approx(220.3, abs=1)
    known = np.flatnonzero(series.observed)
    error = [  # pooled over the hours ahead: every observed target counts once
        abs(series.volume[known[known <= origin][-1]] - series.volume[origin + ahead])
        for origin in i94.forecast_origins(series, "test")
        for ahead in range(1, 7)
        if series.observed[origin + ahead]
    ]
    assert found["last value"]["test/mae@1-6"] == pytest.approx(np.mean(error), rel=1e-4)


def test_ridge_against_the_normal_equations(series):
    """One hour of day, one horizon and one penalty, solved with augmented least squares."""
    train, test = (i94.forecast_origins(series, split) for split in ("train", "test"))
    found = i94_floors.ridge_forecasts(series, test, penalties=(10.0,))[:, 0]
    week = i94.typical_week(series)
    volume = np.where(series.observed, series.volume, week).astype(float)
    off = (series.holiday > 0) & (series.holiday != i94_clean.HOLIDAYS.index("State Fair"))

    def rows(at):
        day = windows.hour_of_week(series.hour[at + 1]) // 24
        return np.array(
            [
                [*volume[t - 23 : t + 1], volume[t - 167] if t >= 167 else 0.0, off[t + 1]]
                + [float(d == k) for k in range(7)]
                for t, d in zip(at, day, strict=True)
            ]
        )

    at = train[series.observed[train + 1] & (series.hour[train + 1] % 24 == 8)]
    wanted = series.hour[test + 1] % 24 == 8
    inputs, targets = rows(at), series.volume[at + 1].astype(float)
    mean, std = inputs.mean(axis=0), inputs.std(axis=0)
    scaled = (inputs - mean) / np.where(std > 0, std, 1)
    tall = np.concatenate([scaled, np.sqrt(10.0) * np.eye(scaled.shape[1])])
    right = np.concatenate([targets - targets.mean(), np.zeros(scaled.shape[1])])
    weights = np.linalg.lstsq(tall, right, rcond=None)[0]
    expected = (rows(test[wanted]) - mean) / np.where(std > 0, std, 1) @ weights + targets.mean()
    np.testing.assert_allclose(found[wanted], expected, rtol=1e-6)


def test_an_ensemble_and_its_intervals_by_hand(series):
    """Networks that forecast the typical week and more: the mean is right, and so is its width."""

    class More(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train=False, axis_name=None):
            return inputs["profile"] + self.param("more", nn.initializers.zeros, ())

    experiment = traffic.forecast_traffic(
        More(), absolute_error, make_optimizer("sgd", 0.1), batch_size=8
    )
    learner, key = experiment.learner, jax.random.key(0)
    state = learner.init(key, experiment.train(key, 0))
    low, high = (state.replace(params={"more": jnp.float32(m)}) for m in (-300, 500))
    middle = state.replace(params={"more": jnp.float32(100)})
    found = experiment.ensemble([low, high])
    alone = score(learner, middle, experiment.evaluation["test"], experiment.metrics)
    around = experiment.final(middle, key)
    assert set(found) == (set(alone) | set(around)) - {"loss"}
    for name, value in (alone | around).items():
        if name != "loss":
            assert found[name] == pytest.approx(value, rel=1e-5)

    week = i94.typical_week(series)
    errors = {}
    for part in ("validation", "test"):
        at = i94.forecast_origins(series, part)[:, None] + np.arange(1, 7)
        miss = np.where(series.observed, np.abs(series.volume - week - 100), np.nan)[at]
        errors[part] = miss
    assert alone["mae@1-6"] == pytest.approx(np.nanmean(errors["test"]), rel=1e-4)
    half = []
    for lead in range(6):
        known = np.sort(errors["validation"][:, lead][np.isfinite(errors["validation"][:, lead])])
        half.append(known[int(np.ceil((len(known) + 1) * 0.9)) - 1])
    seen = np.isfinite(errors["test"])
    inside = (errors["test"] <= half)[seen].mean()
    assert around["coverage_90@1-6"] == pytest.approx(inside, abs=1e-3)
    width = (2 * np.broadcast_to(half, seen.shape))[seen].mean()
    assert around["width_90@1-6"] == pytest.approx(width, rel=1e-4)
