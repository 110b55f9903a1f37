"""What goes wrong with sensors, drawn from a key: anomalies and missing cells of any [T, N]."""

import functools

import jax
import numpy as np


@functools.partial(jax.jit, static_argnames="shapes")
def uniform(key: jax.Array, shapes: tuple[tuple[int, ...], ...]) -> list[jax.Array]:
    """Draw arrays of numbers in [0, 1), all in one program."""
    keys = jax.random.split(key, len(shapes))
    return [jax.random.uniform(one, shape) for one, shape in zip(keys, shapes, strict=True)]


def with_anomalies(key: jax.Array, values: np.ndarray, *, share: float, lasting: int) -> np.ndarray:
    """Return values [T, N] of which about this share are anomalies.

    By turns: one step multiplied by 2 to 4, or `lasting` steps that keep the value before them, or
    that are divided by 2 to 4.
    """
    steps, sensors = values.shape
    count = round(share * values.size * 3 / (1 + 2 * lasting))
    found = values.copy()
    draws = np.asarray(uniform(key, ((3, count),))[0], np.float64)
    for index, (when, where, much) in enumerate(draws.T):
        first, one = 1 + int(when * (steps - 1)), int(where * sensors)
        span = slice(first, first + lasting)
        if index % 3 == 0:
            found[first, one] = values[first, one] * (2 + 2 * much)
        elif index % 3 == 1:
            found[span, one] = values[first - 1, one]
        else:
            found[span, one] = values[span, one] / (2 + 2 * much)
    return found


def missing(key: jax.Array, shape: tuple[int, int], *, share: float, lasting: int) -> np.ndarray:
    """Return which cells are missing, bool [T, N]: this share of them, to a cell.

    Half in outages of `lasting` steps of a sensor, half in single cells: those of the lowest score,
    which is the lower one of a cell's own and of its block's. Every sensor keeps one value.
    """
    steps, sensors = shape
    blocks = (-(-steps // lasting), sensors)
    cells, outages, kept = map(np.asarray, uniform(key, (shape, blocks, (sensors,))))
    score = np.minimum(cells, np.repeat(outages, lasting, axis=0)[:steps])
    score[(kept.astype(np.float64) * steps).astype(int), np.arange(sensors)] = np.inf
    count = min(round(share * score.size), score.size - sensors)
    gone = np.zeros(score.size, bool)
    gone[np.argpartition(score, max(count - 1, 0), axis=None)[:count]] = True
    return gone.reshape(shape)
