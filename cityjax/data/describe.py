"""What a data set holds, in words and in one figure."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cityjax.data import graphs
from cityjax.data.dataset import Dataset, Protocol, arranged, bounds
from cityjax.data.files import DataError
from cityjax.data.moments import moments
from cityjax.data.series import Series, covariates, regular
from cityjax.lettering import every_script, short_names

# Of Okabe and Ito (2008), told apart by colour-blind readers; the parts are shades of grey.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442", "#000000")
_SHADES = {"train": "#ffffff", "validation": "#e3e7eb", "test": "#c4ccd4"}
_BINS = 800


def summary(dataset: Dataset, series: Series) -> str:
    """Return what a series holds: span, step, sensors, missing values, covariates, protocols."""
    grid = regular(series)
    low, middle, high = np.nanpercentile(series.values, (0, 50, 100))
    gaps = len(grid.values) - len(series.values)
    silent = int((~series.observed.any(axis=1)).sum())
    lines = [
        ("domain", dataset.domain),
        ("licence", dataset.licence),
        ("home", dataset.home),
        ("cite", dataset.cite or "-"),
        ("span", f"{_minute(series.time[0])} to {_minute(series.time[-1])}"),
        ("step", f"{_duration(series.step)}, {len(series.values):,} rows"),
        ("sensors", f"{len(series.sensors)}: {_few(series.sensors)}"),
        ("unit", series.unit or "-"),
        ("values", f"{low:g} to {high:g}, median {middle:g}"),
        (
            "missing",
            f"{100 * (1 - series.observed.mean()):.2f} % in the rows; "
            f"{gaps + silent:,} steps without any value",
        ),
        ("season", _duration(dataset.season * series.step)),
        ("past", covariates(series.past) or "-"),
        ("known ahead", covariates(series.known) or "-"),
        ("graph", "-" if series.adjacency is None else graphs.extent(series.adjacency)),
        ("map", "-" if series.coordinates is None else "latitude and longitude"),
    ]
    text = [f"{dataset.name}: {dataset.title}"]
    text += [f"  {name:<12} {value}" for name, value in lines]
    for name, protocol in dataset.protocols.items():
        text += [f"  protocol {name}", *(f"    {line}" for line in _protocol(series, protocol))]
    return "\n".join(text)


def _protocol(series: Series, protocol: Protocol) -> Iterator[str]:
    steps = arranged(series, protocol)
    try:
        parts = bounds(steps, protocol)
    except DataError as error:
        parts = {}
        yield f"{'refused':<10} {error}"
    for split, (start, stop) in parts.items():
        span = f"{_minute(steps.time[start])} to {_minute(steps.time[stop - 1])}"
        yield f"{split:<10} {span}, {stop - start:,} steps"
    leads = [str(h) if isinstance(h, int) else f"{h[0]}-{h[1]}" for h in protocol.leads]
    yield f"{'windows':<10} {protocol.history} steps in, {protocol.horizon} out"
    yield f"{'metrics':<10} {', '.join(protocol.measures)} at {', '.join(leads) or 'all steps'}"
    notes = {
        "rows as they come": not protocol.gaps,
        "history inside its part": protocol.inside,
        "targets outside the part masked": not protocol.whole,
        "z-scores by train": protocol.standardised,
        f"last incomplete batch of {protocol.drop_last} left out": bool(protocol.drop_last),
        "a new model before every step"
        if protocol.refit == 1
        else f"a new model before every {protocol.refit} steps": bool(protocol.refit),
        f"{len(protocol.published)} published rows": bool(protocol.published),
    }
    if any(notes.values()):
        yield f"{'notes':<10} {'; '.join(note for note, holds in notes.items() if holds)}"
    for name, text in protocol.text.items():
        yield f"{name:<10} {text}"


def figure(dataset: Dataset, series: Series) -> Figure:
    """Draw the values over time, the honest split behind them, and the share missing below.

    Up to eight sensors are drawn one by one (as z-scores where the protocol takes those), more of
    them as their mean and the band between the tenth and the ninetieth percentile; each point
    is a mean over one of at most 800 equal spans of time.
    """
    protocol = dataset.protocols["honest"]
    grid = regular(series)
    width = -(-len(grid.values) // _BINS)
    time = grid.time[::width]
    values = grid.values
    if protocol.standardised:
        mean, deviation = moments(values, grid.observed)
        values = (values - mean) / np.where(deviation > 0, deviation, 1)
    binned = _binned(values, width)
    result = Figure(figsize=(10, 5.2), layout="constrained", facecolor="white")
    above, below = result.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    if len(series.sensors) <= len(_COLORS):
        names = short_names(series.sensors)
        for name, column, color in zip(names, binned.T, _COLORS, strict=False):
            above.plot(time, column, color=color, linewidth=0.9, label=name)
    else:
        low, middle, high = _spread(binned)
        above.fill_between(
            time,
            low,
            high,
            color=_COLORS[0],
            alpha=0.25,
            linewidth=0,
            label="10 to 90 % of the sensors",
        )
        above.plot(time, middle, color=_COLORS[0], linewidth=0.9, label="their mean")
    below.fill_between(
        time,
        100 * (1 - _binned(grid.observed.astype(float), width).mean(axis=1)),
        step="post",
        color=_COLORS[1],
        linewidth=0,
    )
    below.set_ylim(0, 100)
    steps = arranged(series, protocol)
    for split, (start, stop) in bounds(steps, protocol).items():
        for axes in (above, below):
            axes.axvspan(steps.time[start], steps.time[stop - 1], color=_SHADES[split], zorder=-1)
        # The last one ends with its part: a short part before it leaves no room for two names.
        at, side = (stop - 1, "right") if split == "test" else (start, "left")
        above.annotate(
            split,
            (steps.time[at], 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            horizontalalignment=side,
            fontsize=8,
            color="#66727f",
        )
    unit = "z-score" if protocol.standardised else series.unit
    for axes, label in ((above, unit), (below, "missing, %")):
        _style(axes, label)
    above.set_title(
        dataset.title.replace("$", r"\$"), loc="left", fontsize=10, pad=18, fontweight="bold"
    )
    result.legend(
        *above.get_legend_handles_labels(),
        loc="outside lower left",
        ncols=4,
        frameon=False,
        fontsize=8,
    )
    return result


def save(drawn: Figure, path: str | Path) -> Path:
    """Write a figure as PNG; raises DataError for another suffix or a folder that is not there."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise DataError(f"--figure {path} is no picture: a name that ends in .png is expected")
    try:
        with every_script(drawn):
            drawn.savefig(path, format="png", dpi=150, metadata={"Software": None})
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _binned(values: np.ndarray, width: int) -> np.ndarray:
    """Means of `width` rows at a time [bins, N], NaN where nothing was observed."""
    starts = np.arange(0, len(values), width)
    seen = np.isfinite(values)
    total = np.add.reduceat(np.where(seen, values, 0).astype(float), starts, axis=0)
    count = np.add.reduceat(seen.astype(int), starts, axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _spread(values: np.ndarray) -> np.ndarray:
    """Tenth percentile, mean and ninetieth over the sensors [3, bins], NaN where none was seen."""
    result = np.full((3, len(values)), np.nan)
    some = np.isfinite(values).any(axis=1)
    result[::2, some] = np.nanpercentile(values[some], (10, 90), axis=1)
    result[1, some] = np.nanmean(values[some], axis=1)
    return result


def _style(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, fontsize=9)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0)


def _minute(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]")).replace("T", " ")


def _duration(seconds: int) -> str:
    for size, name in ((604_800, "week"), (86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return f"{seconds // size} {name}{'s' if seconds > size else ''}"
    return f"{seconds} seconds"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
