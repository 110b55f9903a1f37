"""The look shared by all figures: colours, axes, panels, legends.

Only matplotlib's object interface is used: no pyplot, no global style, no backend. The palette is
that of Okabe and Ito (2008, Color Universal Design), told apart by colour-blind readers.
"""

import logging
import os
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator

from cityjax.report.tables import is_fraction

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK, QUIET, GRID = "#1f2933", "#66727f", "#e3e7eb"
NAME = 24  # characters of a sensor's name that a figure has room for


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of width x height inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def literal(text: str) -> str:
    """Text shown as it is: "$" makes no formula, a leading "_" hides no legend entry."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def short_names(names: Sequence[str]) -> list[str]:
    """Names of at most 24 characters: of a longer one the middle is left out.

    Where two would then be alike, what all begin with is left out first.
    """
    short = [_shortened(name) for name in names]
    if len(set(short)) == len(set(names)):
        return short
    # A number that is cut off within would be another number.
    alike = len(re.sub(r"\w+$", "", os.path.commonprefix(list(names))))
    return [_shortened(f"…{name[alike:]}" if alike else name) for name in names]


def _shortened(name: str) -> str:
    if len(name) <= NAME:
        return name
    end = (NAME - 1) // 2
    return f"{name[: NAME - 1 - end].rstrip()}…{name[-end:].lstrip()}"


@contextmanager
def every_script(figure: Figure) -> Iterator[None]:
    """Within, a figure is drawn in fonts that have its characters, where any that is installed has.

    What none has is drawn as boxes, which one line for each script says.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        strange = frozenset(c for c in text.get_text() if c > "\u02af" and c.isprintable())
        if strange and (more := _families(findfont(text.get_fontproperties()), strange)):
            known = text.get_fontfamily()
            text.set_fontfamily([*known, *(name for name in more if name not in known)])
    finder = logging.getLogger("matplotlib.font_manager")
    level = finder.level
    finder.setLevel(logging.ERROR)  # else it says which of these fonts has no bold letters
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
            yield
    finally:
        finder.setLevel(level)


@cache
def _families(font: str, characters: frozenset[str]) -> tuple[str, ...]:
    """Installed families that have the characters that a font, a path, lacks."""
    lacking, found = _lacking(font, characters), []
    if not lacking:
        return ()
    # The font of last resort has a box for everything. Of a family the upright one is looked at.
    entries = [entry for entry in fontManager.ttflist if not entry.name.startswith("Last Resort")]
    entries.sort(key=lambda entry: (entry.style == "normal", entry.weight == 400))
    paths = {entry.name: entry.fname for entry in entries}
    for name in sorted(paths, key=lambda name: ("Sans" not in name, "Mono" in name, name)):
        left = _lacking(paths[name], lacking)
        if len(left) < len(lacking):
            found.append(name)
            lacking = left
        if not lacking:
            return tuple(found)
    for kind in sorted({_kind(character) for character in lacking}):
        _say(kind)
    return tuple(found)


def _lacking(path: str, characters: frozenset[str]) -> frozenset[str]:
    """Which characters a font lacks; all, where it cannot be drawn with."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError):  # damaged, or of coloured pixels
        return characters
    if not font.scalable:
        return characters
    return frozenset(c for c in characters if not font.get_char_index(ord(c)))


def _kind(character: str) -> str:
    """In words: "CJK characters", "Arabic characters", or "some symbols"."""
    script = unicodedata.name(character, "").partition(" ")[0]
    if not script or not character.isalpha():
        return "some symbols"
    return f"{script if script == 'CJK' else script.capitalize()} characters"


@cache
def _say(kind: str) -> None:
    """Say on standard error, once, that figures have boxes."""
    text = f"cityjax: no installed font has {kind}: figures show boxes in their place"
    print(f"{text}; a font of the Noto family that has them would be used", file=sys.stderr)


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
