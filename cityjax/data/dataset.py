"""What a data set is: where its files live, how they are read, how forecasts of it are judged.

A data set is one small module in `cityjax/data/sets` that defines `DATASET = Dataset(...)`.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from cityjax.data.files import DataError, DataFile, digest, locate
from cityjax.data.series import Series, regular

SPLITS = ("train", "validation", "test")


class Protocol(NamedTuple):
    """How forecasts are made and scored, in terms that fit every series of the kind.

    split: shares of train, validation and test in time order (sum 1), or their numbers of rows.
    history, horizon: steps read and steps forecast, by default. measures: "mae", "rmse", "mse",
    "mape", "pcc", ...: each is taken at every one of `leads`, a number of steps ahead or a pair
    (1, h) over steps 1 to h, and over the whole horizon: pooled, or with refit each lead's mean
    alike. select: the metric on validation that names the best checkpoint; by default the first
    measure over the horizon.

    gaps: rows that are far apart in time have missing values between them; else rows count as they
    come, one step from each to the next. inside: the history of a window lies in its part too; else
    only its targets do. whole: all targets of a window lie in its part; else those outside are
    masked, so that at every lead each step of the part is a target once. standardised: metrics are
    of z-scores by the training part, sensor by sensor. drop_last: where a published loader dropped
    the last incomplete batch of the test windows, its batch size; 0 keeps every window. refit:
    where the published rows are of models trained anew before every so many steps of the test part
    on all before it, that number: forecasts then begin at the step before a part, not earlier.
    text: what else a result row says. published: row -> metric -> value, as printed under this
    protocol; its metrics are named as in `forecast_metrics.by_name`: `rmse@3`, `rmse@1-12`.
    """

    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    history: int = 12
    horizon: int = 12
    measures: tuple[str, ...] = ("mae", "rmse")
    leads: tuple[int | tuple[int, int], ...] = ()
    select: str | None = None
    gaps: bool = True
    inside: bool = False
    whole: bool = True
    standardised: bool = False
    drop_last: int = 0
    refit: int = 0
    text: Mapping[str, str] = {}
    published: Mapping[str, Mapping[str, float]] = {}


class Dataset(NamedTuple):
    """One data set.

    title: one line, what was measured where and when. domain: "transport", "energy", "health",
    "safety" or "environment". home: the page to name to a reader. files: checked by sha256 when
    read. read: `() -> Series`, checked. season: steps of the seasonal floors, such as those of a
    week. protocols: "honest", and "published" where a table was published. steps: how to get the
    files where they cannot be fetched.
    """

    name: str
    title: str
    domain: str
    licence: str
    home: str
    files: tuple[DataFile, ...]
    read: Callable[[], Series]
    season: int
    protocols: Mapping[str, Protocol]
    cite: str = ""
    steps: str = ""

    def hashes(self) -> dict[str, str]:
        """Sha256 of each file's content, for the result; an optional file may be absent."""
        present = [file for file in self.files if not file.optional or locate(file)]
        return {f"{file.dataset}/{file.name}": file.sha256 or digest(file) for file in present}


def arranged(series: Series, protocol: Protocol) -> Series:
    """Return the series in the steps that the protocol counts: with its gaps, or rows as they come.

    Call it before `bounds`, windows and floors.
    """
    return regular(series) if protocol.gaps else series


def printed(metrics: str, rows: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return a published table as `Protocol.published` wants it, from rows as they are printed.

    metrics: names apart by spaces, in the order of the columns.
    rows: name -> values apart by spaces or slashes, `-` where there is none.
    """
    names = metrics.split()
    table = {}
    for row, text in rows.items():
        values = text.replace("/", " ").split()
        table[row] = {
            name: float(value) for name, value in zip(names, values, strict=True) if value != "-"
        }
    return table


def bounds(series: Series, protocol: Protocol) -> dict[str, tuple[int, int]]:
    """Return rows [start, stop) of train, validation and test.

    Shares are of the rows at which any sensor was observed, so that a long gap does not starve
    the part it falls into. Rows beyond numbers given as such belong to no part. A series that is
    shorter than these numbers is split in their proportions.

    Raises DataError where a part would be empty.
    """
    split = protocol.split
    rows = np.flatnonzero(series.observed.any(axis=1))
    total = sum(split)
    if all(isinstance(part, int) for part in split) and total <= len(series.values):
        cuts = [0, *np.cumsum(split).tolist()]
    else:
        # The rounding takes 0.7 + 0.1 = 0.7999... for the 0.8 that was meant.
        counts = [int(round(share / total * len(rows), 6)) for share in np.cumsum(split)[:-1]]
        counts = [min(count, len(rows) - 1) for count in counts]
        cuts = [0, *(int(rows[count]) for count in counts), len(series.values)]
    if any(stop <= start for start, stop in zip(cuts[:-1], cuts[1:], strict=True)):
        shares = "/".join(f"{part:g}" for part in split)
        least = math.ceil(round(total / min(split), 6))  # whatever is rounded, each part has one
        raise DataError(
            f"{len(rows)} observed steps are too few for the split {shares}: take at least {least}"
        )
    return dict(zip(SPLITS, zip(cuts[:-1], cuts[1:], strict=True), strict=True))
