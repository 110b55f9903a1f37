"""What a folder tells of its city beside the values: city.yaml, and days off."""

import difflib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from cityjax.data.cells import listed, open_table, refusal, shown
from cityjax.data.clocks import local_clock, read_clock, regular_times
from cityjax.data.files import DataError
from cityjax.data.panels import texts_of, time_columns


class City(NamedTuple):
    """What city.yaml says; None where it does not.

    unit: of the values. timezone: of the place, such as Europe/Berlin. step: seconds between rows.
    start: time of the first row, where the values have no column of times.
    country, subdivision: whose public holidays are days off, such as US and CA.
    """

    unit: str = ""
    timezone: str | None = None
    step: int | None = None
    start: str | None = None
    country: str | None = None
    subdivision: str | None = None


def read_city(path: Path) -> City:
    """Read city.yaml; DataError for a key or a value that it cannot have."""
    try:
        text = path.read_text("utf-8-sig")
        # The base loader takes every value for text: Norway, NO, is not false.
        said = yaml.load(text, Loader=yaml.BaseLoader) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise refusal(path, "is no YAML text", mark and mark.line + 1) from error
    if not isinstance(said, dict) or not all(isinstance(v, str) for v in said.values()):
        raise refusal(path, "holds lines of `key: value`, such as `unit: km/h`")
    for key in said:
        if key not in City._fields:
            near = difflib.get_close_matches(str(key), City._fields, 1, 0)
            raise refusal(path, f"{shown(key)} is no key ({near[0]}?): {', '.join(City._fields)}")
        if len(re.findall(rf"^{key}\s*:", text, re.MULTILINE)) > 1:
            raise refusal(path, f"{key} is given twice: keep one")
    said = {key: value for key, value in said.items() if value}
    step = said.pop("step", None)
    if step and not re.fullmatch("[1-9][0-9]{0,9}", step):
        raise refusal(path, f"step: {shown(step)} is no number of seconds, such as 3600")
    if "start" in said:
        if not step:
            raise refusal(path, "start needs the step between rows: add step, in seconds")
        try:
            regular_times(said["start"], int(step), 1)
        except DataError as error:
            raise refusal(path, f"start: {error}") from error
    if "subdivision" in said and "country" not in said:
        raise refusal(path, "subdivision needs its country: name it")
    city = City(**said, step=int(step) if step else None)
    if city.timezone:
        try:
            local_clock(np.zeros(1, np.int64), city.timezone)
        except DataError as error:
            raise refusal(path, str(error)) from error
    return city


def holiday_table(path: Path) -> np.ndarray:
    """Return the days of a table of dates, with or without names: datetime64[D]."""
    table = open_table(path)
    batch = table.whole()
    columns = time_columns(table)[:1]
    name = table.header[columns[0]]
    if not len(batch.rows):
        raise refusal(path, "the table has no rows")
    dates = texts_of(table, batch, columns)
    clock = read_clock(dates, lambda at, text: refusal(path, text, batch.rows[at], name))
    return clock.local.astype("datetime64[s]").astype("datetime64[D]")


def public_holidays(path: Path, city: City, time: np.ndarray) -> np.ndarray:
    """Return the public holidays of the city's country in the years of `time` and the one after.

    They are datetime64[D]. path: of city.yaml, for errors.
    """
    import holidays

    known = holidays.list_supported_countries()
    if city.country not in known:
        message = f"country {shown(city.country)} is unknown: give its ISO code, such as DE"
        raise refusal(path, message)
    if city.subdivision not in (None, *known[city.country]):
        choice = listed(sorted(known[city.country]), 60) or "none"
        raise refusal(path, f"subdivision {shown(city.subdivision)} is unknown: {choice}")
    first, last = time[[0, -1]].astype("datetime64[Y]").astype(int) + 1970
    years = range(first, last + 2)  # the last step may end in the next year
    days = holidays.country_holidays(city.country, subdiv=city.subdivision, years=years)
    return np.array(list(days), "datetime64[D]")
