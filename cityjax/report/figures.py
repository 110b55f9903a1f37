"""Figures from plain arrays: each function returns a matplotlib Figure, `save` writes it."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, DayLocator
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cityjax.lettering import every_script
from cityjax.report.record import by_seed, metric_names, seed_mean
from cityjax.report.style import (
    INK,
    PALETTE,
    QUIET,
    legend,
    message,
    new_figure,
    panels,
    step_axis,
    style,
    value_axis,
)
from cityjax.report.tables import metric_label

SPLIT_COLORS = {"train": PALETTE[0], "validation": PALETTE[1]}
GREY: dict[str, Any] = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}
# Without the software version in the file, equal pictures are equal bytes.
PNG: dict[str, Any] = {"format": "png", "metadata": {"Software": None}}
# The model is vermillion in every forecast; floors take the other colours.
OTHERS = (PALETTE[0], *PALETTE[2:])
MISTAKES = 40
STRIP = 8


def png(figure: Figure) -> bytes:
    """A figure as a PNG file's bytes, 150 dots per inch; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with every_script(figure):
        figure.savefig(buffer, dpi=150, **PNG)
    return buffer.getvalue()


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, making its folder; equal figures give bit-equal files."""
    _write(path, png(figure))


def save_image(image: np.ndarray, path: str | Path) -> None:
    """Write an image [H, W] with values in 0..1 as a grey PNG of W x H pixels, bit for bit."""
    buffer = io.BytesIO()
    imsave(buffer, np.asarray(image, np.float64), **PNG, **GREY)
    _write(path, buffer.getvalue())


def _write(path: str | Path, data: bytes) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


PANELS = 6  # of the learning curves: more could not be read


def curves(metrics_lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and metrics over steps, from metric lines {"seed", "step", "split", name: value}.

    One panel for each of the first six names, train and validation in each; with several seeds
    every seed is a thin line and their mean a thick one.
    """
    names = metric_names(metrics_lines, SPLIT_COLORS)[:PANELS]
    if not names:
        return message("No training or validation lines yet")
    figure, grid = panels(len(names))
    splits: set[str] = set()
    several = False
    for axes, name in zip(grid, names, strict=True):
        style(axes, title=metric_label(name), x="step")
        values = []
        for split, color in SPLIT_COLORS.items():
            single = by_seed(metrics_lines, split, name)
            if single:
                splits.add(split)
                several |= len(single) > 1
                values += [points[1] for points in single]
                draw_seeds(axes, single, color)
        value_axis(axes, name, np.concatenate(values))
        step_axis(axes)
    handles = [
        Line2D([], [], color=color, linewidth=2, label=split)
        for split, color in SPLIT_COLORS.items()
        if split in splits
    ]
    if several:
        handles.append(Line2D([], [], color=QUIET, linewidth=0.7, label="each seed (thick: mean)"))
    legend(figure, handles)
    return figure


def draw_seeds(
    axes: Axes, single: Sequence[tuple[np.ndarray, np.ndarray]], color: str, label: str = ""
) -> None:
    """Draw one curve per seed, and their mean over it when there are several."""
    for steps, values in single if len(single) > 1 else ():
        axes.plot(steps, values, color=color, linewidth=0.7, alpha=0.45)
    steps, values = seed_mean(single)
    # A lone point has no line: give it a marker.
    marker = "o" if len(steps) == 1 else ""
    axes.plot(steps, values, color=color, linewidth=1.8, marker=marker, label=label)


def image_grid(
    images: np.ndarray, *, columns: int = 10, labels: Sequence[object] | None = None
) -> Figure:
    """Images [N, H, W] in 0..1, row by row; with labels [N], each under its label."""
    images = np.asarray(images)
    if images.ndim != 3 or not len(images):
        raise ValueError(f"images: expected shape [N, H, W] with N > 0, got {images.shape}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    # One picture with white gaps draws far faster than a hundred axes. A label of 8 points is as
    # wide as an inch and needs a quarter of it above the image.
    above, inches = (0, 0.8) if labels is None else (-(-images.shape[2] // 4), 1.0)
    height, width = above + images.shape[1] + 2, images.shape[2] + 2
    canvas = np.ones((rows * height - 2, columns * width - 2))
    places = [
        (index // columns * height + above, index % columns * width) for index in range(len(images))
    ]
    for image, (top, left) in zip(images, places, strict=True):
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    figure = new_figure(inches * columns, inches * columns * canvas.shape[0] / canvas.shape[1])
    axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest", **GREY)
    axes.set_axis_off()
    if labels is not None:
        for label, (top, left) in zip(labels, places, strict=True):
            middle = left + (images.shape[2] - 1) / 2
            axes.text(middle, top - 1, str(label), ha="center", va="bottom", fontsize=8, color=INK)
    return figure


def misclassified(
    images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, probabilities: np.ndarray
) -> Figure:
    """The forty most confident mistakes, each captioned "7 → 1  98 %": label, prediction, share.

    images [N, H, W] in 0..1, labels [N], predictions [N]; probabilities [N] of the predicted class,
    or [N, classes].
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    probabilities = np.asarray(probabilities)
    if probabilities.ndim == 2:
        probabilities = probabilities[np.arange(len(predictions)), predictions]
    wrong = np.flatnonzero(labels != predictions)
    if not len(wrong):
        return message(f"No mistakes among {len(labels)} images")
    # A stable sort, so that ties keep the order of the data.
    worst = wrong[np.argsort(-probabilities[wrong], kind="stable")][:MISTAKES]
    captions = [f"{labels[i]} → {predictions[i]}  {100 * probabilities[i]:.0f} %" for i in worst]
    figure = image_grid(np.asarray(images)[worst], labels=captions)
    figure.set_figheight(figure.get_figheight() + 0.4)  # for the title
    text = f"{len(wrong)} mistakes in {len(labels)}, most confident first (true → predicted)"
    figure.suptitle(text, x=0.005, ha="left", fontsize=10, fontweight="bold", color=INK)
    return figure


def confusion(labels: np.ndarray, predictions: np.ndarray) -> Figure:
    """Counts of true class (rows) against predicted class (columns), for integers [N].

    Only mistakes are coloured: on a good classifier the diagonal would drown them. The last column
    is the share of each true class that was found.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    classes = int(max(labels.max(), predictions.max())) + 1
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predictions), 1)
    mistakes = np.where(np.eye(classes, dtype=bool), 0, counts)
    figure = new_figure(0.52 * classes + 1.6, 0.46 * classes + 1.1)
    axes = figure.subplots()
    style(axes, title="Confusion", x="predicted class", y="true class")
    peak = max(1, mistakes.max())
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=1.3 * peak, aspect="auto")
    for row in range(classes):
        for column in range(classes):
            count = counts[row, column]
            weight = "bold" if row == column else "normal"
            color = INK if count else "#c3cad1"
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=color,
                      fontweight=weight)  # fmt: skip
        total = counts[row].sum()
        found = f"{100 * counts[row, row] / total:.1f} %" if total else "–"
        axes.text(classes - 0.3, row, found, ha="left", va="center", fontsize=8, color=QUIET)
    axes.text(classes - 0.3, -0.75, "found", ha="left", va="center", fontsize=8, color=QUIET)
    axes.set_xticks(range(classes))
    axes.set_yticks(range(classes))
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    return figure


def _week(times: np.ndarray, complete: np.ndarray) -> slice:
    """The seven days, from a midnight, with the most complete points (the earliest of equals)."""
    if not np.issubdtype(times.dtype, np.datetime64) or not len(times):
        return slice(None)
    last = times[-1].astype("datetime64[D]") + np.timedelta64(1, "D")
    days = np.arange(times[0].astype("datetime64[D]"), last)
    starts = np.searchsorted(times, days)
    stops = np.searchsorted(times, days + np.timedelta64(7, "D"))
    before = np.concatenate([[0], np.cumsum(complete)])
    best = int(np.argmax(before[stops] - before[starts]))
    return slice(int(starts[best]), int(stops[best]))


def _gaps(values: np.ndarray) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)


def forecast(
    times: np.ndarray,
    truth: np.ndarray,
    forecast: np.ndarray,
    *,
    floors: Mapping[str, np.ndarray] | None = None,
    unit: str,
    horizon_text: str,
) -> Figure:
    """One week of forecast against truth, and the error under it.

    times [T] ascending datetime64 (the most complete week is cut out) or numbers (all are drawn);
    truth, forecast and every floor [T] in `unit`, masked or NaN where missing, drawn as gaps.
    """
    times, truth, forecast = np.asarray(times), _gaps(truth), _gaps(forecast)
    named = {name: _gaps(values) for name, values in (floors or {}).items()}
    complete = np.all(np.isfinite([truth, forecast, *named.values()]), axis=0)
    part = _week(times, complete)
    figure = new_figure(10.0, 4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    style(top, title=f"Forecast against truth, {horizon_text}", y=unit)
    style(bottom, y="error")
    top.plot(times[part], truth[part], color=INK, linewidth=1.6, label="truth")
    for index, (name, values) in enumerate(named.items()):
        color = OTHERS[index % len(OTHERS)]
        top.plot(times[part], values[part], color=color, linewidth=1.0, linestyle="--", label=name)
    top.plot(times[part], forecast[part], color=PALETTE[1], linewidth=1.6, label="forecast")
    error = (forecast - truth)[part]
    bottom.plot(times[part], error, color=PALETTE[1], linewidth=1.0)
    bottom.axhline(0.0, color=QUIET, linewidth=0.8)
    if np.issubdtype(times.dtype, np.datetime64):
        bottom.xaxis.set_major_locator(DayLocator())
        bottom.xaxis.set_major_formatter(DateFormatter("%a %d %b"))
    legend(figure, top.get_lines())
    return figure


def error_by_horizon(errors: Mapping[str, Sequence[float]], unit: str) -> Figure:
    """Errors {name: [at step 1, 2, ...]} in `unit` over steps ahead; the first is the model."""
    figure = new_figure(9.0, 3.8)
    axes = figure.subplots()
    style(axes, title="Error by horizon", x="steps ahead", y=unit)
    for index, (name, values) in enumerate(errors.items()):
        color = OTHERS[(index - 1) % len(OTHERS)] if index else PALETTE[1]
        steps = np.arange(1, len(values) + 1)
        width = 2.4 if index == 0 else 1.2
        axes.plot(steps, values, color=color, linewidth=width, marker="o", markersize=4, label=name)
    everything = np.concatenate([np.asarray(values, np.float64) for values in errors.values()])
    value_axis(axes, "", everything, spread=6.0)
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axes.get_lines(), beside=True)
    return figure


def evenly(count: int, limit: int) -> list[int]:
    """At most `limit` indices below `count`, evenly spread with both ends: (5, 3) is [0, 2, 4]."""
    return sorted(set(np.linspace(0, count - 1, min(count, limit)).round().astype(int).tolist()))
