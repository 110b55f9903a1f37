"""A city's series, its split into parts, and windows over all its sensors."""

import re

import jax
import numpy as np
import pytest

from cityjax.data import forecast
from cityjax.data.dataset import Protocol, bounds
from cityjax.data.files import DataError
from cityjax.data.series import Series, checked, regular

NOON, SECOND = np.datetime64("2024-02-28T12:00:00"), np.timedelta64(1, "s")


def series(values, *, step=3600, **more):
    values = np.asarray(values, np.float32)
    time = NOON + np.arange(len(values)) * np.timedelta64(step, "s")
    names = tuple(f"s{number}" for number in range(values.shape[1]))
    return Series(values, time, step, names, "mph", **more)


def test_a_checked_series_has_its_types_and_keeps_its_holes():
    found = checked(
        series([[1, np.nan], [2, 3]], past={"rain": [0, np.nan]}, known={"off": [0, 1]})
    )
    assert found.values.dtype == np.float32 and found.past["rain"].dtype == np.float32
    np.testing.assert_array_equal(found.observed, [[True, False], [True, True]])
    assert found.steps_per_day == 24


@pytest.mark.parametrize(
    ("step", "steps"),
    [(300, 288), (25_200, 4), (50_000, 2), (86_400, 1), (604_800, 1)],
)
def test_a_day_has_a_place_for_each_of_its_steps(step, steps):
    city = series(np.ones((2_000, 1)), step=step)
    assert city.steps_per_day == steps == forecast.clock(city.time, step)[:, 0].max() + 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": np.zeros((3, 0), np.float32)}, r"shape \(3, 0\)"),
        ({"time": np.array([NOON, NOON + SECOND])}, "beside 3 steps"),
        (
            {"time": np.array([NOON, NOON + 2 * SECOND, NOON + SECOND])},
            "does not increase at row 2",
        ),
        ({"sensors": ("a", "a")}, "1 names for 2 sensors"),
        ({"values": np.array([[1, 2], [3, np.inf], [5, 6]])}, "s1 at 2024-02-28T13.* infinite"),
        ({"values": np.array([[1, np.nan]] * 3)}, "s1 has no value"),
        ({"known": {"off": np.array([0, np.nan, 1])}}, "off is said to be known"),
        ({"past": {"rain": np.zeros(2)}}, r"rain has shape \(2,\)"),
        ({"adjacency": np.eye(3)}, r"\(3, 3\) for 2 sensors"),
        ({"adjacency": -np.eye(2)}, "negative"),
        ({"coordinates": np.zeros((2, 3))}, "coordinates have shape"),
    ],
)
def test_parts_that_do_not_fit_are_named(change, words):
    good = series([[1, 2], [3, 4], [5, 6]])
    with pytest.raises(DataError, match=words):
        checked(good._replace(**change))


def test_a_gap_becomes_missing_rows():
    whole = series(np.arange(6)[:, None], past={"rain": np.arange(6)}, known={"day": np.arange(6)})
    keep = [0, 1, 4, 5]
    holes = checked(
        whole._replace(
            values=whole.values[keep],
            time=whole.time[keep],
            past={"rain": whole.past["rain"][keep]},
            known={"day": whole.known["day"][keep]},
        )
    )
    found = regular(holes)
    np.testing.assert_array_equal(found.values[:, 0], [0, 1, np.nan, np.nan, 4, 5])
    np.testing.assert_array_equal(found.past["rain"], [0, 1, np.nan, np.nan, 4, 5])
    np.testing.assert_array_equal(found.known["day"], [0, 1, 1, 1, 4, 5])
    np.testing.assert_array_equal(found.time, whole.time)
    assert regular(found) is found
    crowded = holes._replace(time=NOON + np.array([0, 60, 7200, 10800]).astype("timedelta64[s]"))
    with pytest.raises(DataError, match="two rows fall into one step"):
        regular(crowded)


def test_parts_are_shares_of_the_observed_rows_or_numbers_of_rows():
    values = np.arange(20.0)[:, None]
    values[2:12] = np.nan
    shares = bounds(series(values), Protocol(split=(0.5, 0.2, 0.3)))
    assert shares == {"train": (0, 15), "validation": (15, 17), "test": (17, 20)}
    rows = bounds(series(values), Protocol(split=(8, 4, 4)))
    assert rows == {"train": (0, 8), "validation": (8, 12), "test": (12, 16)}  # four belong nowhere
    short = bounds(series(np.ones((10, 1))), Protocol(split=(12, 4, 4)))
    assert short == {"train": (0, 6), "validation": (6, 8), "test": (8, 10)}
    with pytest.raises(DataError, match="2 observed .* too few .* 0.7/0.1/0.2: take at least 10"):
        bounds(series(np.ones((2, 1))), Protocol())


@pytest.mark.parametrize(
    ("protocol", "test"),
    [
        (Protocol(), range(15, 18)),  # targets in 16 .. 19, history may reach back
        (Protocol(inside=True), range(18, 18)),
        (Protocol(whole=False), range(14, 19)),
        (Protocol(drop_last=2), range(15, 17)),
    ],
)
def test_origins_of_a_part(protocol, test):
    protocol = protocol._replace(split=(10, 6, 4), history=3, horizon=2)
    arguments = {"history": 3, "horizon": 2}
    if not test:
        with pytest.raises(DataError, match="the test part, steps 16 to 20, has no window"):
            forecast.origins(series(np.ones((20, 1))), protocol, **arguments)
        return
    parts = forecast.origins(series(np.ones((20, 1))), protocol, **arguments)
    np.testing.assert_array_equal(parts["test"], test)
    assert parts["train"][0] == 2


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(),
        Protocol(inside=True),
        Protocol(whole=False, history=500),
        Protocol(refit=5),
        Protocol(drop_last=30),
        Protocol(inside=True, drop_last=7, split=(0.8, 0.1, 0.1)),
        Protocol(inside=True, drop_last=10, split=(0.6, 0.2, 0.2)),
    ],
)
def test_a_history_that_is_too_long_comes_with_one_that_fits(protocol):
    values = np.ones((200, 1))
    values[::3] = np.nan
    city = series(values)
    given = 30 if protocol.inside and protocol.drop_last else 500
    with pytest.raises(DataError, match=rf"no window of history={given} .* history=\d+") as caught:
        forecast.origins(city, protocol, history=given, horizon=4)
    history, windows = map(int, re.findall(r"history=(\d+) leaves (\d+)", str(caught.value))[0])
    parts = forecast.origins(city, protocol, history=history, horizon=4)
    split = re.findall("the ([a-z]+) part", str(caught.value))[0]
    assert len(parts[split]) == windows
    most = forecast.origins(city, protocol, history=1, horizon=4)
    assert all(len(parts[part]) >= len(most[part]) / 2 for part in parts)


def test_a_part_without_a_target_is_helped_by_no_history():
    values = np.ones((200, 1))
    values[120:160] = np.nan
    protocol = Protocol(split=(120, 40, 40))
    with pytest.raises(DataError, match="validation part.* with a target: take a shorter horizon"):
        forecast.origins(series(values), protocol, history=12, horizon=4)
    with pytest.raises(DataError, match="train part.* history=10000000000 .* history=59 leaves 58"):
        forecast.origins(series(np.ones((200, 1))), protocol, history=10**10, horizon=4)


def test_a_window_holds_what_was_known_and_masks_the_rest():
    values = np.stack([np.arange(12.0), 100 + np.arange(12.0)], axis=1)
    values[[4, 6], 0] = np.nan
    city = checked(series(values, known={"off": np.arange(12) % 2}))
    data = forecast.arrays(city, train_stop=8, profiles=[values[::-1].copy()])
    batch = forecast.window_batch(data, np.array([5, 2]), np.array([0, 8]), history=3, horizon=3)
    inputs = batch["inputs"]
    assert {k: v.shape for k, v in inputs.items()} == {
        "history": (2, 3, 2, 1),
        "observed": (2, 3, 2),
        "clock": (2, 6, 3),
        "known": (2, 6, 2, 1),
        "profile": (2, 6, 2, 1),
    }
    np.testing.assert_array_equal(inputs["history"][0, :, 0, 0], [3, 0, 5])
    np.testing.assert_array_equal(inputs["observed"][0, :, 0], [True, False, True])
    np.testing.assert_array_equal(batch["targets"][0, :, 1], [106, 107, 108])
    # Step 6 is missing at the first sensor, step 8 lies outside the part.
    np.testing.assert_array_equal(batch["mask"][0, :, 0], [False, True, False])
    np.testing.assert_array_equal(batch["mask"][0, :, 1], [True, True, False])
    # 15:00 to 20:00 on Wednesday 28 February, the 59th day.
    np.testing.assert_array_equal(inputs["clock"][0, 0], [15, 2, 58])
    np.testing.assert_array_equal(inputs["clock"][0, -1], [20, 2, 58])


def test_what_lies_beyond_train_does_not_touch_its_arrays():
    city = checked(series(np.arange(30.0)[:, None], past={"rain": np.arange(30.0)}))
    later = city._replace(
        values=np.where(np.arange(30)[:, None] < 21, city.values, -7).astype(np.float32),
        past={"rain": np.where(np.arange(30) < 21, city.past["rain"], 1e6)},
    )
    one, other = (forecast.arrays(part, train_stop=21) for part in (city, later))
    for name, array in one.items():
        np.testing.assert_array_equal(array[:21], other[name][:21], err_msg=name)


def test_a_covariate_that_changes_after_train_only_is_no_large_number():
    steps = np.arange(30_000)
    dial = np.where(steps < 24_000, 7.3, 8.3)
    pressure = 101_325 + 20 * np.random.default_rng(0).normal(size=len(steps))
    city = checked(
        series(
            np.ones((len(steps), 3)),
            past={"dial": dial, "all": np.stack([dial] * 3, axis=1)},
            known={"pressure": pressure},
        )
    )
    data = forecast.arrays(city, train_stop=24_000)
    np.testing.assert_array_equal(data["past"][:24_000], 0)
    np.testing.assert_allclose(data["past"][24_000:], 1, rtol=1e-5)
    part = city.known["pressure"].astype(np.float64)
    scores = (part - part[:24_000].mean()) / part[:24_000].std()
    np.testing.assert_allclose(data["known"][:, 0, 0], scores, atol=1e-6)


def test_sources_cover_every_window_once_and_pad_with_a_mask():
    city = checked(series(np.random.default_rng(0).normal(size=(60, 2))))
    protocol = Protocol(history=4, horizon=2)
    rows = bounds(city, protocol)
    parts = forecast.origins(city, protocol, history=4, horizon=2)
    data = forecast.arrays(city, train_stop=rows["train"][1])
    train = forecast.train_source(
        data, parts["train"], rows["train"], history=4, horizon=2, batch_size=8
    )
    evaluation = forecast.evaluation(data, parts, rows, history=4, horizon=2, batch_size=4)
    assert train(jax.random.key(0), 0)["targets"].shape == (8, 2, 2)
    seen = [
        evaluation["test"].source(jax.random.key(0), number)
        for number in range(evaluation["test"].count)
    ]
    targets = np.concatenate([batch["targets"][batch["mask"]].reshape(-1, 2, 2) for batch in seen])
    steps = parts["test"][:, None] + np.arange(1, 3)
    np.testing.assert_array_equal(targets, city.values[steps])
