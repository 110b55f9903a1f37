"""The look shared by all figures: colours, axes, panels, legends.

Only matplotlib's object interface is used: no pyplot, no global style, no backend. The palette is
that of Okabe and Ito (2008, Color Universal Design), told apart by colour-blind readers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator

from cityjax.lettering import every_script
from cityjax.report.tables import is_fraction

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK, QUIET, GRID = "#1f2933", "#66727f", "#e3e7eb"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of width x height inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def literal(text: str) -> str:
    """Text shown as it is: "$" makes no formula, a leading "_" hides no legend entry."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def message(text: str) -> Figure:
    """A figure that only says something, for when there is nothing to draw."""
    figure = new_figure(6.0, 1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=11, color=QUIET)
    return figure


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with `count` equal axes, row by row: three to a row, four as two by two."""
    columns = 2 if count == 4 else min(3, count)
    rows = -(-count // columns)
    figure = new_figure(10.5 if count > 1 else 6.0, 2.8 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, list(grid[:count])


def style(axes: Axes, *, title: str = "", x: str = "", y: str = "", grid: str = "y") -> None:
    """Give axes the report's look: light grid along one direction, no box, quiet ticks, labels."""
    axes.set_title(literal(title), loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_xlabel(x, fontsize=9, color=QUIET)
    axes.set_ylabel(y, fontsize=9, color=QUIET)
    axes.tick_params(which="both", labelsize=8, colors=QUIET, length=0)
    axes.grid(axis="x" if grid == "x" else "y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(GRID)


def step_axis(axes: Axes) -> None:
    """Few, whole step numbers from zero, with engineering prefixes: 0, 500, 1k."""
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def number_format(key: str) -> FuncFormatter:
    """Tick labels of a metric: percent for shares, as few digits as needed otherwise."""

    def percent(value: float, _: object) -> str:
        return f"{100 * value:.6g} %"

    def plain(value: float, _: object) -> str:
        return f"{value:.6g}"

    return FuncFormatter(percent if is_fraction(key) else plain)


def value_axis(axes: Axes, key: str, values: np.ndarray, *, spread: float = 30.0) -> None:
    """Metric ticks; logarithmic when positive values differ by more than a factor of `spread`."""
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > spread * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.yaxis.set_minor_locator(LogLocator(subs=()))
    axes.yaxis.set_major_formatter(number_format(key))


def legend(figure: Figure, handles: Sequence[Any], *, beside: bool = False) -> None:
    """A frameless legend: rows above the panels, as many as it takes, or a column beside them."""
    for columns in range(1 if beside else len(handles), 0, -1):
        made = figure.legend(
            handles=handles,
            labels=[literal(handle.get_label()) for handle in handles],
            loc="outside right center" if beside else "outside upper left",
            ncols=columns,
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )
        with every_script(figure):
            width = made.get_window_extent().width
        if columns == 1 or width < figure.bbox.width:
            return
        made.remove()
