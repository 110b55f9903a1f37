"""Times as text, read onto the clock of the place."""

import re
import zoneinfo
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from cityjax.data.cells import failures, shown
from cityjax.data.files import DataError

if TYPE_CHECKING:
    import polars as pl

DAY = 86_400
_REMEDY = "write 2024-12-31 23:00, with +01:00 behind it if the offset is known, or epoch seconds"
_TIME = (
    r"^(?:(?P<year>[0-9]{4})[-/.](?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})"
    r"|(?P<first>[0-9]{1,2})[-/.](?P<second>[0-9]{1,2})[-/.](?P<last>[0-9]{4}))"
    r"(?:[Tt ] *(?P<hour>[0-9]{1,2})"
    r"(?::(?P<minute>[0-9]{2})(?::(?P<seconds>[0-9]{2})(?:[.,]0+)?)?)?"
    r"(?: ?(?P<half>[AaPp])[Mm])?"
    r" ?(?:(?P<utc>[Zz]|UTC)|(?P<sign>[+-])(?P<ahead>[0-9]{2})(?::?(?P<past>[0-9]{2}))?)?)?$"
)
# Ten digits are 2024123123 where all cells can be read so, and else seconds.
_COMPACT = r"^((?:19|20)[0-9]{2})(0[1-9]|1[0-2])([0-2][0-9]|3[01])([01][0-9]|2[0-3])?$"
# January 31, 2024 and 31-Jan-2024, and what follows.
_MONTHS = (
    *("january|jan", "february|feb", "march|mar", "april|apr", "may", "june|jun", "july|jul"),
    *("august|aug", "september|sept|sep", "october|oct", "november|nov", "december|dec"),
)
_NAMED = r"(?i)^(?:(?:MONTH)\.? ([0-9]{1,2}),?|([0-9]{1,2})[ -](?:MONTH)\.?,?)[ -]([0-9]{4})\b"
# What is no time, as a whole or at its begin, and what to do.
_OTHERS = {
    r"[0-9]{4}-?W[0-9]{2}": "of a week write its first day",
    r"[0-9]{4}[-/.][0-9]{1,2}$": "months are no regular step, give values by day or week",
    r"[0-9]{4}$": "write day, month and year into one column",
    r".* (-|–|to) ": "of an interval write its begin",
    r"[0-9]{1,2}[-/. ]([0-9]{1,2}|[A-Za-z]+)[-/. ][0-9]{2}\b": "write a year with four digits",
}
_EPOCH = r"^(?:(?P<seconds>[0-9]{9,10})|(?P<thousand>[0-9]{10})000)(?:\.0*)?$"


class Clock(NamedTuple):
    """Moments. local: int64 [U], the clock of the place in seconds since 1970-01-01 00:00 on it.

    instant: int64 [U], seconds since 1970-01-01 00:00 UTC, or None where the text does not tell.
    """

    local: np.ndarray
    instant: np.ndarray | None


def read_clock(
    texts: "pl.Series", refuse: Callable[[int, str], DataError], timezone: str | None = None
) -> Clock:
    """Read a column of times, all written in one way.

    ISO 8601 with or without offset; 20241231 and 2024123123; D.M.Y; D/M/Y or M/D/Y where the column
    itself shows which (one of the two must be impossible); with the name of the month in English;
    also with AM and PM; epoch seconds or milliseconds, which are UTC. What has an offset goes onto
    the clock of `timezone`; without `timezone`, and where there is no offset, the clock as it is
    written is that of the place.

    refuse: makes the error of the text at an index.
    """
    import polars as pl

    written = texts  # as errors show them
    if texts.str.contains(_COMPACT).all():
        texts = texts.str.replace(_COMPACT, "$1-$2-$3 $4").str.strip_chars()
    elif texts.str.contains(_NAMED.replace("MONTH", "[a-z]+")).all():
        for place, month in enumerate(_MONTHS, start=1):
            texts = texts.str.replace(_NAMED.replace("MONTH", month), f"${{3}}-{place:02}-$1$2")
    parts = texts.str.extract_groups(_TIME).struct.unnest()
    epochs = texts.str.extract_groups(_EPOCH).struct.unnest()

    def number(column: "pl.Series", missing: int = -1) -> np.ndarray:
        return column.cast(pl.Int64).fill_null(missing).to_numpy()

    epoch = number(epochs["seconds"].fill_null(epochs["thousand"]))
    offset = parts["utc"].is_not_null().to_numpy() | parts["sign"].is_not_null().to_numpy()
    year, last = number(parts["year"]), number(parts["last"])
    style = np.select([epoch >= 0, year >= 0, last >= 0], [4, 2, 1], 0) + 8 * offset
    if not style.all():
        at = int(np.argmin(style))
        if re.search(r":[0-9]{2}[.,][0-9]*[1-9]", written[at]):
            raise refuse(at, f"{shown(written[at])} lies between two seconds: round it to one")
        hints = (hint for form, hint in _OTHERS.items() if re.match(form, written[at]))
        hint = next((f"; {hint}" for hint in hints), "")
        raise refuse(at, f"{shown(written[at])} is no time: {_REMEDY}{hint}")
    if (style != style[0]).any():
        at = int(np.argmax(style != style[0]))
        message = f"{shown(written[at])} is written otherwise than {shown(written[0])}"
        raise refuse(at, f"{message} in the first row: write all times in one way")
    if style[0] == 4:
        clock, east, known = epoch, np.zeros_like(epoch), True
    else:
        clock = _seconds_of_day(parts, number)
        known = bool(offset[0])
        hours, minutes = number(parts["ahead"], 0), number(parts["past"], 0)
        west = parts["sign"].eq_missing("-").to_numpy()
        east = np.where(west, -60, 60) * (60 * hours + minutes)
        bad = (clock < 0) | (hours > 18) | (minutes > 59)
        first, second = number(parts["first"]), number(parts["second"])
        if style[0] & 2:
            days = _days(year, number(parts["month"]), number(parts["day"]))
        else:
            days = _slashed(texts, first, second, last, refuse)
        bad |= days == _NONE
        if bad.any():
            at = int(np.argmax(bad))
            hint = "; 24 o'clock is 00:00 of the next day" if parts["hour"][at] == "24" else ""
            raise refuse(at, f"{shown(written[at])} does not exist: {_REMEDY}{hint}")
        clock = clock + DAY * days
    if not known:
        return Clock(clock, None)
    instant = clock - east
    return Clock(clock if timezone is None else local_clock(instant, timezone), instant)


def _seconds_of_day(parts: "pl.DataFrame", number: Callable[..., np.ndarray]) -> np.ndarray:
    """Seconds since midnight, below 0 where there is no such time."""
    hour, minute, second = (number(parts[name], 0) for name in ("hour", "minute", "seconds"))
    half = parts["half"].str.to_lowercase()
    twelve = half.is_not_null().to_numpy()
    bad = np.where(twelve, (hour < 1) | (hour > 12), hour > 23) | (minute > 59) | (second > 59)
    hour = np.where(twelve, hour % 12 + 12 * half.eq_missing("p").to_numpy(), hour)
    return np.where(bad, -1, 3600 * hour + 60 * minute + second)


_NONE = np.iinfo(np.int64).min  # a day that does not exist


def _days(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Days since 1970-01-01, `_NONE` where there is no such day."""
    months = ((year - 1970) * 12 + np.clip(month, 1, 12) - 1).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    length = (months + np.timedelta64(1, "M")).astype("datetime64[D]").astype(np.int64) - first
    exists = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= length)
    return np.where(exists, first + day - 1, _NONE)


def _slashed(
    texts: "pl.Series",
    first: np.ndarray,
    second: np.ndarray,
    year: np.ndarray,
    refuse: Callable[[int, str], DataError],
) -> np.ndarray:
    """Days of dates like 3/4/2024, in the one order in which all of them exist; 3.4. is April."""
    day_first, month_first = _days(year, second, first), _days(year, first, second)
    if texts.str.contains(r"^[0-9]+\.").all():
        return day_first
    no_day, no_month = day_first == _NONE, month_first == _NONE
    if no_day.any() and no_month.any():
        at, other = int(np.argmax(no_day)), int(np.argmax(no_month))
        message = f"{shown(texts[at])} is no date with the day first"
        raise refuse(at, f"{message}, {shown(texts[other])} none with the month first: {_REMEDY}")
    if not no_day.any() and not no_month.any() and (day_first != month_first).any():
        at = int(np.argmax(day_first != month_first))
        message = f"{shown(texts[at])} may be day or month first, and no other row tells"
        raise refuse(at, f"{message}: {_REMEDY}")
    return month_first if no_day.any() else day_first


def regular_times(start: str, step: int, count: int) -> "pl.Series":
    """Return `count` times as text, `step` seconds apart, with the offset of `start` if it has one.

    An epoch is in UTC. Raises DataError where `start` is no time, or the last is after 9999.
    """
    import polars as pl

    clock = read_clock(pl.Series([start]), lambda _, message: DataError(message))
    offset = ""
    if clock.instant is not None:
        east = int(clock.local[0] - clock.instant[0]) // 60
        offset = f"{'-' if east < 0 else '+'}{abs(east) // 60:02}:{abs(east) % 60:02}"
    times = (clock.local + step * np.arange(count)).astype("datetime64[s]")
    if times[-1] >= np.datetime64("10000"):
        message = f"{count} rows, {step} s apart, from {shown(start)} on go beyond the year 9999"
        raise DataError(f"{message}: correct start or step of city.yaml")
    return pl.Series(np.char.add(np.datetime_as_string(times), offset))


def local_clock(instant: np.ndarray, timezone: str) -> np.ndarray:
    """Return the clock of a time zone at instants, int64 seconds; DataError for an unknown zone."""
    import polars as pl

    try:
        moments = pl.Series(instant * 1000).cast(pl.Datetime("ms", "UTC"))
        local = moments.dt.convert_time_zone(timezone).dt.replace_time_zone(None)
    except failures() as error:
        raise unknown_zone(timezone) from error
    return local.to_physical().to_numpy() // 1000


def unknown_zone(timezone: str) -> DataError:
    """Return the error of a time zone that there is not."""
    return DataError(
        f"timezone {shown(timezone)} is unknown: name one such as Europe/Berlin or UTC"
    )


def goes_back(local: np.ndarray, timezone: str | None = None) -> np.ndarray:
    """Return whether a clock goes through times twice: bool [U] of local int64 [U], seconds.

    The clock is that of `timezone`, or without it that of any place there is.
    """
    clock, found = _clock(local), np.zeros(len(local), bool)
    for zone in [timezone] if timezone else sorted(zoneinfo.available_timezones()):
        try:
            first, second = (_moments(clock, zone, which) for which in ("earliest", "latest"))
        except failures() as error:
            if timezone:
                raise unknown_zone(timezone) from error
            continue  # a name that polars does not keep, such as Factory
        found |= (first != second).fill_null(False).to_numpy()
    return found


def skipped(local: np.ndarray, timezone: str) -> np.ndarray:
    """Return whether the clock of a time zone goes over times: bool [U] of local int64 [U]."""
    try:
        return _moments(_clock(local), timezone, "earliest").is_null().to_numpy()
    except failures() as error:
        raise unknown_zone(timezone) from error


def _clock(local: np.ndarray) -> "pl.Series":
    import polars as pl

    return pl.Series(local * 1000).cast(pl.Datetime("ms"))


def _moments(
    clock: "pl.Series", timezone: str, which: Literal["earliest", "latest"]
) -> "pl.Series":
    """Return the moments of a clock's times, the first or last of two, null where it goes over."""
    return clock.dt.replace_time_zone(timezone, ambiguous=which, non_existent="null")


def moment(seconds: int | np.integer) -> str:
    """Return a time of the local clock as errors show it."""
    return str(np.datetime64(int(seconds), "s")).replace("T", " ")
