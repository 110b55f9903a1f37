"""I-94 hourly traffic volume (UCI data set 492, CC BY 4.0): the cleaned series and its forecasts.

Westbound vehicles per hour past one station between Minneapolis and St Paul, 2012-10 to 2018-09.
A forecast is made at every hour, from the hours up to it, for the next 1 to 6 hours.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data import windows
from cityjax.data.files import DataFile, read
from cityjax.data.i94_clean import COLUMNS, HOLIDAYS, WEATHER_GROUPS
from cityjax.data.sources import Batch, Batches, Source, in_order, shuffled

HISTORY = 24
HORIZON = 6
DAY, WEEK = 24, windows.HOURS_PER_WEEK
SPREAD = 500.0  # vehicles per hour: the unit of departures from the profile
FILE = DataFile(
    "i94",
    "hourly.csv",
    "7b3086313e1c31d1197bf34ec01bba51c30cdc167d7705ad3a7ae8e1aba7c7e4",
    packaged=Path(__file__).parent / "i94_files",
    source="https://archive.ics.uci.edu/dataset/492/metro+interstate+traffic+volume",
)
PROTOCOL = {
    "data": "I-94 westbound, hourly, 52,551 hours of which 40,575 observed",
    "split": "70/10/20 of the observed hours in time order; all targets of a forecast in one split",
    "mask": "a target hour that was not observed counts in no loss and no metric",
    "horizon": "mae@h is exactly h hours ahead, a forecast at every hour",
    "scaler": "the typical week (medians) is of train hours only",
}
_TYPICAL_KELVIN, _TYPICAL_VOLUME = 280.0, 3000.0  # centres, so that channels are about 0 +- 1


class Series(NamedTuple):
    """One entry per hour [T], without gaps; measured values are NaN (weather: -1) where missing.

    hour: int64, hours since 1970-01-01 00:00 on the local clock. observed: bool. volume: vehicles
    per hour. temperature: K. rain, snow: mm. clouds: percent. weather: index in `WEATHER_GROUPS`.
    holiday: index in `HOLIDAYS`, 0 for none, all day long.
    """

    hour: np.ndarray
    observed: np.ndarray
    volume: np.ndarray
    temperature: np.ndarray
    rain: np.ndarray
    snow: np.ndarray
    clouds: np.ndarray
    weather: np.ndarray
    holiday: np.ndarray


def load() -> Series:
    """Read the shipped series; raises DataError if the file is not the one it should be."""
    table = np.loadtxt(io.BytesIO(read(FILE)), delimiter=",", skiprows=1)
    columns = dict(zip(COLUMNS, table.T, strict=True))
    columns["weather"] = np.nan_to_num(columns["weather"], nan=-1)
    types = {"hour": np.int64, "observed": bool, "weather": np.int8, "holiday": np.int8}
    return Series(**{k: v.astype(types.get(k, np.float32)) for k, v in columns.items()})


def hashes() -> dict[str, str]:
    """Return the sha256 of the file's content, for the result."""
    return {f"{FILE.dataset}/{FILE.name}": FILE.sha256}


def splits(series: Series) -> dict[str, tuple[int, int]]:
    """Return [start, stop) of train, validation and test: 70/10/20 of the observed hours."""
    names = ("train", "validation", "test")
    return dict(zip(names, windows.split_bounds(series.observed), strict=True))


def forecast_origins(series: Series, split: str) -> np.ndarray:
    """Return the origins t whose targets t + 1 .. t + 6 lie in the split and are not all missing.

    For training the origin itself must be observed too: forecasts from the first hours after a
    gap of months say little about those of a station that reports.
    """
    found = windows.origins(splits(series)[split], history=HISTORY, horizon=HORIZON)
    targets = found[:, None] + np.arange(1, HORIZON + 1)
    useful = series.observed[targets].any(axis=1)
    return found[useful & (series.observed[found] | (split != "train"))]


def typical_week(series: Series) -> np.ndarray:
    """Return the median volume of each hour of the week in train, at every hour: [T]."""
    phase = windows.hour_of_week(series.hour)
    stop = splits(series)["train"][1]
    return windows.phase_median(series.volume, series.observed, phase, stop=stop)[phase]


def forecast_arrays(series: Series) -> dict[str, np.ndarray]:
    """Return what `window_batch` gathers from, float32 [T, ...], about 20 MB in all.

    measured [T, 11], known up to the origin: departure of the volume from the typical week in units
    of `SPREAD` (0 where missing), observed, temperature, rain, clouds, weather one-hot.
    calendar [T, 48], known for any hour: typical week, hour of day and day of week one-hot, time of
    year (sin, cos), day off today, tomorrow, yesterday, and which holiday.
    lags [T, 14], known for targets too: for one and for two weeks before the hour, whether that day
    was off, and the departures of the hour before, itself and the hour after, each with its mask.
    profile, volume [T]: vehicles per hour, the typical week and the truth (0 where missing).
    observed: bool [T].
    """
    profile = typical_week(series)
    departure = np.where(series.observed, series.volume - profile, 0) / SPREAD
    arrays = {
        "measured": _measured(series, departure),
        "calendar": _calendar(series, profile),
        "lags": _lags(series, departure),
        "profile": profile,
        "volume": np.where(series.observed, series.volume, 0),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return {**arrays, "observed": series.observed}


def window_batch(arrays: Mapping[str, Any], origins: jax.Array) -> dict[str, Any]:
    """Gather the windows of forecasts made at `origins` [B] from `forecast_arrays`; traceable.

    inputs: history [B, 24, 59] (measured and calendar up to the origin), future [B, 6, 62]
    (calendar and lags of the target hours) and profile [B, 6] (vehicles per hour). targets [B, 6]:
    vehicles per hour. mask: bool [B, 6]. No input holds anything measured after the origin.
    """
    past, ahead = range(1 - HISTORY, 1), range(1, HORIZON + 1)

    def columns(names: tuple[str, str], offsets: range) -> jax.Array:
        parts = [windows.gather(arrays[name], origins, offsets) for name in names]
        return jnp.concatenate(parts, axis=-1)

    inputs = {
        "history": columns(("measured", "calendar"), past),
        "future": columns(("calendar", "lags"), ahead),
        "profile": windows.gather(arrays["profile"], origins, ahead),
    }
    targets = windows.gather(arrays["volume"], origins, ahead)
    return {
        "inputs": inputs,
        "targets": targets,
        "mask": windows.gather(arrays["observed"], origins, ahead),
    }


def train_source(series: Series, batch_size: int) -> Source:
    """Return the shuffled training batches."""
    arrays = {**forecast_arrays(series), "origins": forecast_origins(series, "train")}
    return shuffled(arrays, batch_size, size=len(arrays["origins"]), gather=to_batch)


def evaluation(series: Series, batch_size: int = 512) -> dict[str, Batches]:
    """Return the validation and the test part in order."""
    arrays, parts = forecast_arrays(series), {}
    for split in ("validation", "test"):
        at = forecast_origins(series, split)
        chosen = {**arrays, "origins": at}
        parts[split] = in_order(chosen, batch_size, size=len(at), gather=to_batch)
    return parts


def to_batch(key: jax.Array, arrays: Mapping[str, Any], indices: jax.Array) -> Batch:
    """Gather the windows of the origins at `indices` of `arrays["origins"]`."""
    del key
    return window_batch(arrays, arrays["origins"][indices])


def _measured(series: Series, departure: np.ndarray) -> np.ndarray:
    groups = np.eye(len(WEATHER_GROUPS) + 1)[series.weather][:, :-1]  # -1, missing: the last row
    kelvin = np.nan_to_num((series.temperature - _TYPICAL_KELVIN) / 15)
    wet, grey = np.log1p(np.nan_to_num(series.rain)), np.nan_to_num(series.clouds) / 100
    columns = np.stack([departure, series.observed, kelvin, wet, grey], axis=1)
    return np.concatenate([columns, groups], axis=1)


def _calendar(series: Series, profile: np.ndarray) -> np.ndarray:
    year = 2 * np.pi * (series.hour // DAY / 365.2425)
    off = days_off(series)
    columns = [profile / _TYPICAL_VOLUME - 1, np.sin(year), np.cos(year)]
    columns += [off, windows.lagged(off, -DAY), windows.lagged(off, DAY)]
    holidays = np.eye(len(HOLIDAYS))[series.holiday][:, 1:]
    one_hot = windows.calendar_one_hot(series.hour)
    return np.concatenate([np.stack(columns, axis=1), one_hot, holidays], axis=1)


def _lags(series: Series, departure: np.ndarray) -> np.ndarray:
    off, columns = days_off(series), []
    for lag in (WEEK, 2 * WEEK):
        columns.append(windows.lagged(off, lag))
        for neighbour in (1, 0, -1):
            columns.append(windows.lagged(departure, lag + neighbour))
            columns.append(windows.lagged(series.observed, lag + neighbour))
    return np.stack(columns, axis=1)


def days_off(series: Series) -> np.ndarray:
    """Return whether the hour's day is a holiday, bool [T]; the State Fair's first is none."""
    return (series.holiday > 0) & (series.holiday != HOLIDAYS.index("State Fair"))
