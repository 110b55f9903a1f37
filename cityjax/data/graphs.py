"""Graphs of sensors: weights [N, N] from distances, places, edges or the values themselves.

Everywhere the row's sensor is where an edge begins, the column's where it ends, and 0 is no edge.
What is learnt from values reads the training part only.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from cityjax.data.files import DataError
from cityjax.data.moments import moments
from cityjax.errors import spell

EARTH_RADIUS = 6371.0088  # km, the mean radius
NEIGHBOURS = 8  # of a correlation graph, where nothing else is said
FEWEST_STEPS = 10  # steps that two sensors must share for a correlation to mean something


def haversine(coordinates: np.ndarray) -> np.ndarray:
    """Return the great-circle distances in km [N, N] between places [N, 2], degrees lat and lon."""
    latitude, longitude = np.radians(np.asarray(coordinates, np.float64)).T
    north = np.sin((latitude[:, None] - latitude[None]) / 2) ** 2
    east = np.sin((longitude[:, None] - longitude[None]) / 2) ** 2
    chord = north + np.cos(latitude)[:, None] * np.cos(latitude)[None] * east
    return 2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))


def gaussian_kernel(distances: np.ndarray, *, threshold: float = 0.1) -> np.ndarray:
    """Return the weights exp(-d^2 / sigma^2), those below the threshold 0 (Li et al. 2018, 4.1).

    distances: [N, N], inf where unknown or unreachable; sigma is the standard deviation of the
    finite ones, in any unit. Where all of them are equal, all weights are 1. A sensor is its own
    neighbour where its distance to itself is given. Returns float32 [N, N].
    """
    distances = _square(distances, "distances")
    finite = np.isfinite(distances)
    if not finite.any():
        return np.zeros(distances.shape, np.float32)
    known = distances[finite]
    sigma = known.std() if np.ptp(known) > 0 else np.inf
    weights = np.zeros(distances.shape)
    weights[finite] = np.exp(-((known / sigma) ** 2))
    weights[weights < threshold] = 0
    return weights.astype(np.float32)


def nearest(distances: np.ndarray, k: int) -> np.ndarray:
    """Return weight 1 from each sensor to the k nearest others, 0 elsewhere: float32 [N, N].

    distances: [N, N]; to those at infinity there is no edge. Of equally near ones the first count.
    """
    return _strongest(-_square(distances, "distances"), k).astype(np.float32)


def correlation(
    values: np.ndarray,
    observed: np.ndarray,
    *,
    stop: int,
    k: int | None = None,
    threshold: float | None = None,
) -> np.ndarray:
    """Return Pearson correlations of the steps before `stop` as weights: float32 [N, N].

    values: [T, N]; observed: bool [T, N]. A pair is compared over the steps at which both were
    observed. Edges are those of at least the threshold, or from each sensor the k largest; none to
    itself, none by a correlation of 0 or less, none where a sensor does not vary or where fewer
    than 10 steps are shared.

    Raises:
        DataError: neither or both of k and threshold are given.
    """
    if (k is None) == (threshold is None):
        raise DataError("a correlation graph takes one of k and threshold")
    seen = np.asarray(observed[:stop], bool)
    scores = _correlations(np.asarray(values[:stop], np.float64), seen)
    np.fill_diagonal(scores, 0)
    kept = scores > 0
    if k is not None:
        kept &= _strongest(np.where(kept, scores, -np.inf), k)
    else:
        kept &= scores >= threshold
    return np.where(kept, scores, 0).astype(np.float32)


def from_edges(
    sensors: Sequence[str],
    edges: Iterable[tuple[str, str, float]],
    *,
    absent: float = 0.0,
    directed: bool = True,
) -> np.ndarray:
    """Return the matrix [N, N] of a list of edges (from, to, value), float64.

    absent: what the pairs without an edge hold: 0 for weights, inf for distances. directed: whether
    an edge leads one way only. Edges of sensors that are not of the series are left out: published
    lists cover whole road networks.

    Raises:
        DataError: no edge joins two of the sensors, a value is no number, or an edge has two.
    """
    place = {str(sensor): index for index, sensor in enumerate(sensors)}
    found: dict[tuple[int, int], float] = {}
    other = ""
    for start, end, value in edges:
        unknown = [str(name) for name in (start, end) if str(name) not in place]
        if unknown:
            other = unknown[0]
            continue
        if not np.isfinite(value):
            raise DataError(f"the edge from {start} to {end} has value {value}")
        ends = place[str(start)], place[str(end)]
        for pair in {ends, ends if directed else ends[::-1]}:
            if found.setdefault(pair, float(value)) != value:
                raise DataError(
                    f"the edge from {start} to {end} has two values, {found[pair]:g} and {value:g}:"
                    " keep one"
                )
    if not found:
        names = f": compare their names, {spell(other)} there and {spell(str(sensors[0]))} here"
        raise DataError(f"no edge of the list joins two of the sensors{names if other else ''}")
    matrix = np.full((len(place), len(place)), absent)
    rows, columns = np.array(list(found)).T
    matrix[rows, columns] = list(found.values())
    return matrix


def extent(weights: np.ndarray) -> str:
    """Say how many edges join two sensors, and how many sensors none does."""
    joined = (weights != 0) & ~np.eye(len(weights), dtype=bool)
    edges, alone = np.count_nonzero(joined), np.count_nonzero(~(joined | joined.T).any(axis=1))
    text = f"{edges:,} edges" if edges != 1 else "1 edge"
    return text + (f", {alone:,} of {len(weights):,} sensors without neighbours" if alone else "")


def _square(matrix: np.ndarray, what: str) -> np.ndarray:
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or np.isnan(matrix).any():
        raise DataError(f"{what} of shape {matrix.shape} are no [N, N] without NaN")
    return matrix


def _strongest(scores: np.ndarray, k: int) -> np.ndarray:
    """Return where a score is among the k largest of its row, itself and -inf left out: bool."""
    if k < 1:
        raise DataError(f"k={k} neighbours are too few: take 1 or more")
    scores = np.where(np.eye(len(scores), dtype=bool), -np.inf, scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen & (scores > -np.inf)


def _correlations(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the correlations [N, N] over shared steps, 0 where there is none to speak of."""
    # Centred and scaled first: sums of squares of large values would lose the small differences.
    mean, spread = moments(values, seen)
    values = np.where(seen & (spread > 0), values - mean, 0) / np.where(spread > 0, spread, 1)
    weight = seen.astype(np.float64)
    shared = weight.T @ weight
    total = np.maximum(shared, 1)
    # Moments of the row's sensor over the steps that it shares with the column's.
    mean, square = values.T @ weight / total, (values**2).T @ weight / total
    variance = square - mean**2
    covariance = values.T @ values / total - mean * mean.T
    known = (shared >= FEWEST_STEPS) & (np.minimum(variance, variance.T) > 1e-9)
    scale = np.sqrt(np.where(known, variance * variance.T, 1))
    return np.where(known, covariance / scale, 0).clip(-1, 1)
