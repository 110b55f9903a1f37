"""Figures of forecasts at many sensors, from plain arrays; NaN is a gap, never a zero."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cityjax.report.figures import OTHERS
from cityjax.report.style import (
    INK,
    PALETTE,
    QUIET,
    legend,
    literal,
    new_figure,
    style,
    value_axis,
)

MODEL, TRUTH = PALETTE[1], INK
BAND = {"color": MODEL, "alpha": 0.22, "linewidth": 0}
# Ticks of years, months, days, hours, minutes, seconds, and of the first of each.
DATES = ["%Y", "%b", "%a %d %b", "%H:%M", "%H:%M", "%H:%M:%S"]
ZEROS = ["", "%Y", "%a %d %b", "%a %d %b", "%H:%M", "%H:%M"]
SHAPES = "sD^v<>pPX*hd"  # of published rows
MARKED = 40  # points of a line up to which each has a marker
FAR = 2  # times the range of truth, forecast and interval, beyond which floors are not followed


class Stretch(NamedTuple):
    """Forecasts of one sensor at S steps in a row: each [S], in the series' unit.

    floors: by name, the same in every stretch. low, high: the interval; None where there is none.
    """

    title: str
    truth: np.ndarray
    floors: Mapping[str, np.ndarray]
    forecast: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def floor_colors(names: Sequence[str]) -> dict[str, str]:
    """Give every floor its colour, the same in all figures of a run."""
    return {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(names)}


def stretches(times: np.ndarray, shown: Sequence[Stretch], *, unit: str, interval: str) -> Figure:
    """Forecast against truth, one sensor under the other, over the same times [S], datetime64.

    interval: what the band is.
    """
    floors = {
        name: {"color": color, "linewidth": 0.9, "linestyle": "--", "alpha": 0.8}
        for name, color in floor_colors(list(shown[0].floors)).items()
    }
    figure = new_figure(10.5, 1.75 * len(shown) + 1.2 if len(shown) > 1 else 3.4)
    rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False).ravel()
    for axes, each in zip(rows, shown, strict=True):
        style(axes, title=each.title, y=literal(unit))
        if each.low is not None and each.high is not None:
            axes.fill_between(times, *map(_float, (each.low, each.high)), **BAND)
        for values, line in (
            *((each.floors[name], look) for name, look in floors.items()),
            (each.truth, {"color": TRUTH, "linewidth": 1.5}),
            (each.forecast, {"color": MODEL, "linewidth": 1.5}),
        ):
            axes.plot(*_broken(times, _float(values)), **line)
        for values, color in ((each.truth, TRUTH), (each.forecast, MODEL)):
            x, y = _broken(times, _float(values))
            alone = _alone(y)  # no line leads to them
            axes.plot(x[alone], y[alone], ".", color=color, markersize=4)
        axes.margins(x=0.01)
        _onto(axes, each)
        axes.ticklabel_format(axis="y", scilimits=(-4, 6), useOffset=False)
    locator = AutoDateLocator(minticks=5, maxticks=11)
    below = rows[-1].xaxis
    below.set_major_locator(locator)
    below.set_major_formatter(
        ConciseDateFormatter(locator, formats=DATES, zero_formats=ZEROS, show_offset=False)
    )
    first, last = (str(time.astype("datetime64[D]")) for time in (times[0], times[-1]))
    below.set_label_text(first if first == last else f"{first} to {last}", fontsize=9, color=QUIET)
    handles = [
        Line2D([], [], color=TRUTH, linewidth=1.5, label="truth"),
        Line2D([], [], color=MODEL, linewidth=1.5, label="forecast"),
        Patch(**BAND, label=interval),
        *(Line2D([], [], **look, label=name) for name, look in floors.items()),
    ]
    known = any(each.low is not None for each in shown)
    legend(figure, [h for h in handles if known or not isinstance(h, Patch)])
    return figure


def _onto(axes: Axes, shown: Stretch) -> None:
    """Let floors that lie far off leave the axes: the rest would be one flat line on them."""
    parts = (shown.truth, shown.forecast, shown.low, shown.high)
    own = np.concatenate([_float(part) for part in parts if part is not None])
    own = own[np.isfinite(own)]
    bottom, top = axes.get_ylim()
    if len(own) and top - bottom > FAR * np.ptp(own) > 0:
        room = 0.05 * np.ptp(own)
        axes.set_ylim(own.min() - room, own.max() + room)


def _float(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)


def _broken(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put a NaN where the time jumps, so that no line is drawn across."""
    gaps = np.diff(times)
    after = np.flatnonzero(gaps > 1.5 * np.median(gaps)) + 1 if len(gaps) else []
    return np.insert(times, after, times[after]), np.insert(values, after, np.nan)


def _alone(values: np.ndarray) -> np.ndarray:
    """Return where a number has none beside it."""
    known = np.isfinite(np.pad(values, 1, constant_values=np.nan))
    return known[1:-1] & ~known[:-2] & ~known[2:]


def error_lines(
    positions: np.ndarray,
    errors: Mapping[str, np.ndarray],
    *,
    title: str,
    x: str,
    y: str,
    ticks: Mapping[float, str],
    published: Mapping[str, Mapping[float, float]] = {},
) -> Figure:
    """Errors {name: [P]} over positions [P]; the first name is the model, the others its floors.

    published: name -> position -> error, points without a line. ticks: position -> label.
    """
    figure = new_figure(10.5, 3.9)
    axes = figure.subplots()
    style(axes, title=title, x=x, y=literal(y))
    model, *rest = errors
    colors = {model: MODEL, **floor_colors(rest)}
    marker = "o" if len(positions) <= MARKED else ""
    for order, (name, values) in enumerate(errors.items()):
        width = 1.3 if order else 2.4
        axes.plot(positions, values, color=colors[name], linewidth=width, marker=marker,
                  markersize=4, label=name, zorder=2 if order else 4)  # fmt: skip
    for order, (name, points) in enumerate(published.items()):
        axes.plot(list(points), list(points.values()), SHAPES[order % len(SHAPES)], color=QUIET,
                  fillstyle="none", label=fill(f"published: {name}", 32), zorder=3)  # fmt: skip
    drawn = [_float(line.get_ydata()) for line in axes.get_lines()]  # pyright: ignore
    value_axis(axes, "", np.concatenate(drawn))
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0.0)
    axes.set_xticks(list(ticks), list(ticks.values()))
    legend(figure, axes.get_lines(), beside=True)
    return figure


def error_bars(
    errors: Mapping[str, float], *, title: str, x: str, published: Mapping[str, float] = {}
) -> Figure:
    """Errors {name: error} where there is one lead alone; the first name is the model.

    published: name -> error, in grey.
    """
    rows = {**errors, **{f"published: {name}": value for name, value in published.items()}}
    figure = new_figure(10.5, 0.34 * len(rows) + 1.0)
    axes = figure.subplots()
    style(axes, title=title, x=literal(x), grid="x")
    model, *rest = errors
    known = {model: MODEL, **floor_colors(rest)}
    colors = [known.get(name, "#b4bdc6") for name in rows]
    bars = axes.barh([literal(name) for name in rows], list(rows.values()), 0.6, color=colors)
    axes.bar_label(bars, fmt=" %.4g", fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    return figure


def reliability(
    nominal: Sequence[float],
    coverage: Mapping[str, Sequence[float]],
    width: Mapping[str, Sequence[float]],
    *,
    sensors: np.ndarray | None,
    unit: str,
) -> Figure:
    """Coverage of intervals {name: [Q]} against nominal [Q], both shares, and their mean widths.

    The names are the model's interval, its online one, and those of the floors. sensors: [2, Q],
    between which the coverage of 80 % of the sensors lies, of the first name.
    """
    figure = new_figure(10.5, 4.2)
    left, right = figure.subplots(1, 2)
    percent = 100 * np.asarray(nominal)
    style(left, title="Reliability of the intervals", x="nominal coverage, %",
          y="targets inside, %")  # fmt: skip
    style(right, title="Width of the intervals", x="nominal coverage, %",
          y=literal(f"mean width, {unit}" if unit else "mean width"))  # fmt: skip
    left.plot(percent, percent, color=QUIET, linewidth=1.0, linestyle=":", label="nominal")
    handles = [left.get_lines()[0]]
    looks = [(MODEL, "-", 2.2), (MODEL, "--", 1.4)]
    looks += [(color, "-", 1.3) for color in floor_colors(list(coverage)[2:]).values()]
    for (name, values), (hue, dash, thick) in zip(coverage.items(), looks, strict=True):
        look = {"color": hue, "linestyle": dash, "linewidth": thick, "marker": "o"}
        handles += left.plot(percent, 100 * _float(values), label=name, markersize=4, **look)
        right.plot(percent, width[name], label=name, markersize=4, **look)
    if sensors is not None:
        left.fill_between(percent, *(100 * _float(sensors)), **BAND)
        handles.append(Patch(**BAND, label="80 % of the sensors (split-conformal)"))
    value_axis(right, "", np.concatenate([_float(widths) for widths in width.values()]))
    if right.get_yscale() == "linear":
        right.set_ylim(bottom=0.0)
    for axes in (left, right):
        axes.set_xticks(percent)
    legend(figure, handles)
    return figure
