"""Imputation: what the missing values of [T, N] may have been, by rule or learnt.

Every function takes values [T, N], read only where observed bool [T, N] holds, and returns float32
[T, N] in which observed values stand as they are. `last_value` and `seasonal` read the past alone
and may feed a forecast; `linear` and `low_rank` look ahead: they are for analysis, or for the rows
of train. Models get the mask beside the values in any case.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from cityjax.data.files import DataError
from cityjax.data.moments import moments
from cityjax.data.windows import last_observed


def last_value(
    values: np.ndarray, observed: np.ndarray, *, default: float | np.ndarray
) -> np.ndarray:
    """Fill with the sensor's last observed value; before the first one with `default`.

    default: a number or one for each sensor [N], such as the mean of train. Reads no later row.
    """
    return _filled(values, observed, last_observed(_known(values, observed), observed, 1), default)


def seasonal(
    values: np.ndarray, observed: np.ndarray, *, period: int, default: float | np.ndarray
) -> np.ndarray:
    """Fill with the last value observed a whole number of periods of `period` steps before.

    Where there is none: the sensor's last observed value, then `default`, as for `last_value`.
    Reads no later row.

    Raises:
        DataError: the period is not at least 1.
    """
    if period < 1:
        raise DataError(f"period={period} steps: take 1 or more")
    seen = last_observed(_known(values, observed), observed, period)
    return _filled(values, observed, seen, last_value(values, observed, default=default))


def linear(values: np.ndarray, observed: np.ndarray, *, default: float | np.ndarray) -> np.ndarray:
    """Fill on the straight line between the observed values before and after; the nearest at ends.

    Looks ahead: for analysis only, never for what a forecast reads. A sensor without any value gets
    `default`, as for `last_value`.
    """
    steps = np.arange(len(values))
    line = np.full(values.shape, np.nan, np.float32)
    for sensor, seen in enumerate(np.asarray(observed).T):
        if seen.any():
            line[:, sensor] = np.interp(steps, steps[seen], values[seen, sensor])
    return _filled(values, observed, line, default)


def low_rank(
    values: np.ndarray,
    observed: np.ndarray,
    *,
    default: float | np.ndarray,
    rank: int = 10,
    penalty: float = 1.0,
    smoothness: float = 1.0,
    lags: Sequence[int] = (1,),
    iterations: int = 30,
    seed: int = 0,
) -> np.ndarray:
    """Fill by a matrix of low rank that varies smoothly in time, learnt from all observed values.

    z [T, N], the z-scores of each sensor, are approached by U V', U [T, rank] and V [N, rank], at
    the minimum over both of
      sum of observed (z - U V')^2 + penalty (|U|^2 + |V|^2) + smoothness sum_lags |U_t - U_t-lag|^2
    by alternating least squares (Yu, Rao, Dhillon 2016, whose weights of the lags are 1 here). The
    lags are in steps: 1, and those of a day or a week where these repeat. Looks ahead: for
    analysis, or for the rows of train. A sensor without any value gets `default`, as for
    `last_value`.

    Raises:
        DataError: a size is below 1, a penalty is not positive, the smoothness is negative.
    """
    if min(rank, iterations, *lags) < 1 or penalty <= 0 or smoothness < 0:
        raise DataError(
            f"rank={rank}, iterations={iterations} and lags={tuple(lags)} must be at least 1, "
            f"penalty={penalty:g} positive, smoothness={smoothness:g} at least 0"
        )
    seen = np.asarray(observed, bool)
    mean, std = moments(values, seen)
    std = np.where(std > 0, std, 1)
    known = np.where(seen, values - mean, 0)
    with jax.default_matmul_precision("highest"):
        scores = _factorise(
            jnp.asarray(known / std, jnp.float32),
            jnp.asarray(seen, jnp.float32),
            jax.random.key(seed),
            penalty,
            smoothness,
            rank=rank,
            lags=tuple(lag for lag in lags if lag < len(seen)),
            iterations=iterations,
        )
    learnt = np.asarray(scores) * std + mean
    learnt[:, ~seen.any(axis=0)] = np.nan
    return _filled(values, observed, learnt, default)


@functools.partial(jax.jit, static_argnames=("rank", "lags", "iterations"))
def _factorise(
    scores: jax.Array,
    mask: jax.Array,
    key: jax.Array,
    penalty: jax.typing.ArrayLike,
    smoothness: jax.typing.ArrayLike,
    *,
    rank: int,
    lags: tuple[int, ...],
    iterations: int,
) -> jax.Array:
    """Return U V' [T, N] of `low_rank` for scores [T, N], 0 where the mask [T, N] is."""
    steps, sensors = scores.shape
    u_key, v_key = jax.random.split(key)
    times = 0.1 * jax.random.normal(u_key, (steps, rank))
    places = jax.random.normal(v_key, (sensors, rank)) / rank**0.5
    identity = penalty * jnp.eye(rank)

    def roughness(times: jax.Array) -> jax.Array:
        """The gradient of half of sum_lags |U_t - U_t-lag|^2."""
        total = jnp.zeros_like(times)
        for lag in lags:
            change = times[lag:] - times[:-lag]
            total = total.at[lag:].add(change).at[:-lag].add(-change)
        return total

    def iteration(_, factors):
        times, places = factors
        # One system over all steps, solved without forming it; the last solution is near.
        times, _ = cg(
            lambda u: (mask * (u @ places.T)) @ places + penalty * u + smoothness * roughness(u),
            scores @ places,
            x0=times,
            tol=1e-5,
            maxiter=30,
        )
        # One small system for each sensor.
        squares = (times[:, :, None] * times[:, None, :]).reshape(steps, -1)
        gram = (mask.T @ squares).reshape(sensors, rank, rank) + identity[None]
        places = jnp.linalg.solve(gram, (scores.T @ times)[..., None])[..., 0]
        return times, places

    times, places = jax.lax.fori_loop(0, iterations, iteration, (times, places))
    return times @ places.T


def _known(values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the values float32, NaN where nothing was observed, whatever stands there."""
    return np.where(observed, values, np.nan).astype(np.float32)


def _filled(
    values: np.ndarray, observed: np.ndarray, guess: np.ndarray, default: float | np.ndarray
) -> np.ndarray:
    """Return the values, the guess where they are missing, the default where that is NaN."""
    guess = np.where(np.isnan(guess), np.asarray(default, np.float32), guess)
    return np.where(observed, values, guess).astype(np.float32)
