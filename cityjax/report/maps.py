"""Maps of sensors: where they lie, or as their graph is laid out, coloured by a number each."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cityjax.report.style import GRID, INK, PALETTE, QUIET, literal, new_figure, style

EDGE = "#b4bdc6"
WORSE_BETTER = LinearSegmentedColormap.from_list(
    "worse_better", (PALETTE[1], "#f2d9c9", "#f4f5f6", "#c9dcea", PALETTE[0])
)
ITERATIONS = 200  # of a layout
HALO = [withStroke(linewidth=2.5, foreground="white")]


class Places(NamedTuple):
    """Where the sensors lie: at [N, 2], NaN where unknown; the edges between them: pairs [E, 2].

    geographic: `at` is longitude and latitude in degrees; else places that mean nothing.
    """

    at: np.ndarray
    edges: np.ndarray
    geographic: bool


def sensor_map(
    places: Places,
    errors: np.ndarray,
    gains: np.ndarray,
    *,
    names: Mapping[int, str],
    error: str,
    floor: str,
) -> Figure:
    """Two maps of the sensors: their errors [N], and how far these are below the floor's, percent.

    Where sensors share a place, it shows their mean. names: what to call some sensors, by number;
    they have a ring and lie on top. error: what the error is and its unit.
    """
    figure = new_figure(10.5, _map_height(places) + 1.0)
    left, right = figure.subplots(1, 2)
    known = errors[np.isfinite(errors)]
    low, high = np.percentile(known, (2, 98)) if len(known) else (0, 1)
    _map(left, places, errors, names, cmap="viridis_r", vmin=low, vmax=high, label=error)
    style(left, title="Error by sensor")
    finite = np.abs(gains[np.isfinite(gains)])
    reach = float(np.clip(np.percentile(finite, 98), 5, 100)) if len(finite) else 100.0
    label = f"error below that of {floor}, % (blue: better)"
    _map(
        right,
        places,
        gains,
        dict.fromkeys(names, ""),
        cmap=WORSE_BETTER,
        vmin=-reach,
        vmax=reach,
        label=label,
    )
    style(right, title="Beside the best floor")
    for axes in (left, right):
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        if not places.geographic:
            axes.set_xticks([])
            axes.set_yticks([])
    left.set_xlabel("" if places.geographic else "places by the graph: neighbours lie together")
    left.xaxis.label.set(fontsize=9, color=QUIET)
    return figure


def _map_height(places: Places) -> float:
    """Inches of a map 4 inches wide, by how the places spread."""
    wide, high = np.nanmax(places.at, axis=0) - np.nanmin(places.at, axis=0)
    return float(np.clip(4.2 * _aspect(places) * high / max(wide, 1e-9), 2.2, 4.6))


def _aspect(places: Places) -> float:
    """How long a degree north is beside one east (equirectangular), at the middle of the map."""
    return 1 / np.cos(np.radians(np.nanmean(places.at[:, 1]))) if places.geographic else 1.0


def _map(
    axes: Axes,
    places: Places,
    values: np.ndarray,
    names: Mapping[int, str],
    *,
    label: str,
    **look,
) -> None:
    at = places.at
    lines = at[places.edges]
    lines = lines[np.isfinite(lines).all(axis=(1, 2))]
    axes.add_collection(LineCollection(list(lines), colors=EDGE, linewidths=0.5, alpha=0.5))
    known = np.isfinite(values) & np.isfinite(at).all(axis=1)
    spots, index = np.unique(at[known], axis=0, return_inverse=True)
    mean = np.bincount(index, values[known]) / np.bincount(index)
    size = float(np.clip(6000 / max(len(spots), 1), 14, 110))
    axes.scatter(*at[~known].T, s=size, color=GRID, edgecolors="white", linewidths=0.4)
    points = axes.scatter(*spots.T, s=size, c=mean, edgecolors="white", linewidths=0.4, zorder=3,
                          **look)  # fmt: skip
    ringed = list(names)
    axes.scatter(*at[ringed].T, s=size, c=values[ringed], edgecolors=INK, linewidths=1.2, zorder=4,
                 **look)  # fmt: skip
    axes.set_aspect(_aspect(places))
    axes.margins(0.08)
    middle = np.nanmean([np.nanmin(at[:, 0]), np.nanmax(at[:, 0])])
    for (x, y), name in zip(at[ringed], names.values(), strict=True):
        if name and np.isfinite(x):
            side, offset = ("left", 6) if x < middle else ("right", -6)
            axes.annotate(literal(name), (x, y), xytext=(offset, 6), textcoords="offset points",
                          ha=side, fontsize=8, color=INK, zorder=5, path_effects=HALO)  # fmt: skip
    if places.geographic:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4))
            axis.set_major_formatter(FuncFormatter(lambda degrees, _: f"{degrees:.6g}°"))
    bar = axes.figure.colorbar(points, ax=axes, location="bottom", shrink=0.8, aspect=30, pad=0.03)
    bar.set_label(literal(label), fontsize=9, color=QUIET)
    bar.ax.tick_params(labelsize=8, colors=QUIET, length=0)
    bar.outline.set_visible(False)  # pyright: ignore


def graph_layout(weights: np.ndarray) -> np.ndarray:
    """Return places [N, 2] in the unit square's middle for the nodes of a graph, always the same.

    weights: [N, N], at least 0, either direction counts. Nodes begin at the first eigenvectors of
    the normalised Laplacian and settle by springs along edges, a push between all, and a pull to
    the middle that holds apart graphs together (Fruchterman and Reingold 1991).
    """
    weights = np.maximum(weights, np.asarray(weights).T).astype(np.float64)
    np.fill_diagonal(weights, 0)
    count = len(weights)
    if count < 3:
        return np.stack([np.arange(count), np.zeros(count)], axis=1)
    weights /= weights.max() or 1.0
    places = _spectral(weights)
    ideal = 1 / np.sqrt(count)
    for heat in np.linspace(0.1, 0.002, ITERATIONS):
        apart = places[:, None] - places[None]
        distance = np.maximum(np.hypot(apart[..., 0], apart[..., 1]), 1e-3 * ideal)
        force = ideal**2 / distance**2 - weights * distance / ideal
        push = np.einsum("ijk,ij->ik", apart, force) - places
        length = np.maximum(np.hypot(*push.T), 1e-12)
        places = places + push * (np.minimum(length, heat) / length)[:, None]
    places -= places.min(axis=0)
    return places / max(float(places.max()), 1e-12)


def _spectral(weights: np.ndarray) -> np.ndarray:
    """Return where the springs begin [N, 2], within -0.5 .. 0.5, no two nodes at one place."""
    count = len(weights)
    joined = weights + 1e-3 / count  # one component
    root = 1 / np.sqrt(joined.sum(axis=1))
    vectors = np.linalg.eigh(joined * root[:, None] * root)[1][:, -3:-1]
    # An eigenvector may point either way.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), [0, 1]])
    angle = np.arange(count) * (np.pi * (3 - np.sqrt(5)))  # nodes alike would lie on one another
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return 0.5 * vectors / np.abs(vectors).max(axis=0) + 0.05 * circle
