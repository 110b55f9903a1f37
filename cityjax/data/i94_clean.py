"""Derive the shipped I-94 series: `python -m cityjax.data.i94_clean RAW OUT`.

RAW is `Metro_Interstate_Traffic_Volume.csv.gz` of the UCI repository (data set 492, CC BY 4.0).
"""

import csv
import gzip
import io
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

COLUMNS = (
    "hour", "observed", "volume", "temperature", "rain", "snow", "clouds", "weather", "holiday"
)  # fmt: skip
WEATHER_GROUPS = ("clear", "clouds", "mist", "rain", "thunderstorm", "snow")
HOLIDAYS = (
    "None", "Christmas Day", "Columbus Day", "Independence Day", "Labor Day",
    "Martin Luther King Jr Day", "Memorial Day", "New Years Day", "State Fair",
    "Thanksgiving Day", "Veterans Day", "Washingtons Birthday",
)  # fmt: skip
_GROUP_OF = {
    "Clear": 0, "Clouds": 1, "Mist": 2, "Haze": 2, "Fog": 2, "Smoke": 2, "Drizzle": 3, "Rain": 3,
    "Thunderstorm": 4, "Squall": 4, "Snow": 5,
}  # fmt: skip
# The raw file's largest rain is 9831.3 mm in an hour, the next 55.63 mm: the first is a fault.
_MOST_RAIN = 200.0


def clean(raw: str) -> str:
    """One csv row per hour from the raw file's first hour to its last.

    An hour that the raw file lacks is a row with `observed` 0 and `nan` in every measured column;
    nothing is imputed. The raw file repeats an hour once per weather code: its volume is the same
    in all of them, temperature, rain, snow and clouds are those of the first repeat whose value is
    no fault, and weather is the group furthest down `WEATHER_GROUPS`. Faults are temperatures of
    0 K and the rain of 9831 mm. The raw file names a holiday in hour 0 only; here every hour of
    that local day carries its index in `HOLIDAYS`.

    Raises:
        ValueError: repeats of an hour disagree in volume or holiday, or a name is unknown.
    """
    rows: dict[int, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(raw)):
        rows.setdefault(_hour_number(row["date_time"]), []).append(row)
    holidays = {hour // 24: _holiday(repeats) for hour, repeats in rows.items() if hour % 24 == 0}

    lines = [",".join(COLUMNS)]
    for hour in range(min(rows), max(rows) + 1):
        measured = _measured(rows[hour]) if hour in rows else ["0"] + ["nan"] * 6
        lines.append(",".join([str(hour), *measured, str(holidays.get(hour // 24, 0))]))
    return "\n".join(lines) + "\n"


def compress(text: str) -> bytes:
    """Gzip bytes that depend on the text (and the zlib library) only: no name, no time."""
    return gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0)


def _hour_number(date_time: str) -> int:
    """Hours from 1970-01-01 00:00 on the local clock to `YYYY-mm-dd HH:MM:SS`."""
    # Reading local time as if it were UTC keeps hour % 24 the hour that drivers live by; the hour
    # that a change to summer time skips is simply missing.
    seconds = datetime.fromisoformat(date_time).replace(tzinfo=UTC).timestamp()
    return int(seconds) // 3600


def _measured(repeats: list[dict[str, str]]) -> list[str]:
    if len({row["traffic_volume"] for row in repeats}) > 1:
        raise ValueError(f"{repeats[0]['date_time']}: repeats of the hour differ in traffic_volume")
    rain = (row["rain_1h"] for row in repeats if float(row["rain_1h"]) < _MOST_RAIN)
    temperature = (row["temp"] for row in repeats if float(row["temp"]) > 0)
    weather = max(_lookup(_GROUP_OF, row["weather_main"]) for row in repeats)
    first = repeats[0]
    return [
        "1", first["traffic_volume"], _first(temperature), _first(rain),
        f"{float(first['snow_1h']):g}", f"{float(first['clouds_all']):g}", str(weather),
    ]  # fmt: skip


def _first(values: Iterable[str]) -> str:
    return next((f"{float(value):g}" for value in values), "nan")


def _holiday(repeats: list[dict[str, str]]) -> int:
    names = {row["holiday"] for row in repeats}
    if len(names) > 1:
        raise ValueError(f"{repeats[0]['date_time']}: repeats of the hour differ in holiday")
    return _lookup({name: code for code, name in enumerate(HOLIDAYS)}, names.pop())


def _lookup(codes: dict[str, int], name: str) -> int:
    if name not in codes:
        raise ValueError(f"unknown name {name!r}; known are {', '.join(codes)}")
    return codes[name]


if __name__ == "__main__":
    with gzip.open(sys.argv[1], "rt", encoding="ascii") as raw_file:
        Path(sys.argv[2]).write_bytes(compress(clean(raw_file.read())))
