"""Windows of a series for forecasting: arrays on the device, batches gathered by index.

A forecast has an origin t, the last step whose values are known: history is t - T + 1 .. t,
targets are t + 1 .. t + H. The windowed data set is never stored: the series is, once.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data import windows
from cityjax.data.dataset import Protocol, bounds
from cityjax.data.files import DataError
from cityjax.data.moments import moments
from cityjax.data.series import Series
from cityjax.data.sources import Batch, Batches, Source, in_order, shuffled


def clock(time: np.ndarray, step: int) -> np.ndarray:
    """Return the step of the day, the day of the week (Monday 0) and of the year: int32 [T, 3]."""
    seconds = time.astype("datetime64[s]").astype(np.int64)
    days = seconds // 86_400
    year = (time.astype("datetime64[D]") - time.astype("datetime64[Y]")).astype(np.int64)
    return np.stack([seconds % 86_400 // step, (days + 3) % 7, year], axis=1).astype(np.int32)


def arrays(
    series: Series, *, train_stop: int, profiles: Sequence[np.ndarray] = ()
) -> dict[str, np.ndarray]:
    """Return what windows are gathered from, one row a step [T, ...].

    values [T, N] in the series' unit, 0 where missing; observed [T, N]; clock [T, 3]; past
    [T, N, P] and known [T, N, K], covariates as z-scores of the steps before `train_stop`, 0 where
    missing; profile [T, N, R], what `data.profiles` forecasts of each step, in the series' unit,
    without its own value: a typical day of train, the value at least a horizon ago.
    """
    observed = series.observed
    shape = series.values.shape
    return {
        "values": np.where(observed, series.values, 0).astype(np.float32),
        "observed": observed,
        "clock": clock(series.time, series.step),
        "past": _stack([_z_scores(a, train_stop) for a in series.past.values()], shape),
        "known": _stack([_z_scores(a, train_stop) for a in series.known.values()], shape),
        "profile": _stack(profiles, shape),
    }


def _z_scores(array: np.ndarray, stop: int) -> np.ndarray:
    """Scale a covariate by its training part; one never observed there says nothing: all zero."""
    part = array[:stop][np.isfinite(array[:stop])]
    if not len(part):
        return np.zeros_like(array)
    mean, std = moments(part, np.ones(len(part), bool))
    scores = (array - mean) / (std if std > 0 else 1)
    return np.nan_to_num(scores.astype(array.dtype))


def _stack(columns: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    if not len(columns):
        return np.zeros((*shape, 0), np.float32)
    wide = [np.broadcast_to(c[:, None] if c.ndim == 1 else c, shape) for c in columns]
    return np.stack(wide, axis=2).astype(np.float32)


def origins(
    series: Series, protocol: Protocol, *, history: int, horizon: int
) -> dict[str, np.ndarray]:
    """Return the origins of each part's windows, those without any observed target left out.

    Where windows need not be whole, a history longer than the protocol's may begin before the
    series, where nothing is observed: the windows are the same for every history.

    Raises DataError where a part has no window.
    """
    rows = bounds(series, protocol)
    # Of the steps before each, in how many anything is observed.
    seen = np.zeros(len(series.values) + 1, np.int64)
    seen[1:] = np.cumsum(series.observed.any(axis=1))

    def of(split: str, history: int) -> np.ndarray:
        return _windows(protocol, split, rows[split], seen, history=history, horizon=horizon)

    found = {split: of(split, history) for split in rows}
    for split, at in found.items():
        if not len(at):
            start, stop = rows[split]
            raise DataError(
                f"the {split} part, steps {start} to {stop}, has no window of history={history} "
                f"and horizon={horizon} with a target: {_remedy(split, rows, history, of)}"
            )
    return found


def _windows(
    protocol: Protocol,
    split: str,
    part: tuple[int, int],
    seen: np.ndarray,
    *,
    history: int,
    horizon: int,
) -> np.ndarray:
    """Return the origins of a part's windows."""
    start, stop = part
    ahead = 1 if protocol.whole or protocol.refit else horizon
    first = start + history - 1 if protocol.inside else start - ahead
    last = stop - horizon if protocol.whole else stop - 1
    least = history if protocol.whole else min(history, protocol.history)
    at = np.arange(max(first, least - 1), last)
    low, high = np.maximum(at + 1, start), np.minimum(at + 1 + horizon, stop)
    at = at[seen[high] > seen[low]]
    if split == "test" and protocol.drop_last:
        at = at[: len(at) // protocol.drop_last * protocol.drop_last]
    return at


def _remedy(
    split: str, rows: Iterable[str], history: int, windows: Callable[[str, int], np.ndarray]
) -> str:
    """Propose the longest history that leaves every part half of the windows it can have."""
    least = {part: max(1, -(-len(windows(part, 1)) // 2)) for part in rows}

    def fits(history: int) -> bool:
        return all(len(windows(part, history)) >= least[part] for part in rows)

    if not fits(1):
        return "take a shorter horizon, and with it a shorter history, or a longer series"
    # The longer the history, the fewer windows; and this one has too few.
    shorter, longer = 1, history
    while longer - shorter > 1:
        middle = (shorter + longer) // 2
        shorter, longer = (middle, longer) if fits(middle) else (shorter, middle)
    return f"history={shorter} leaves {len(windows(split, shorter))} windows"


def window_batch(
    data: Mapping[str, Any], at: jax.Array, part: Any, *, history: int, horizon: int
) -> Batch:
    """Gather the windows of some origins; traceable.

    at: origins [B]; part: (start, stop), the rows whose values may be targets, or each [B, 1] where
    every window has its own. The batch:
      inputs: history [B, T, N, 1 + P] (channel 0 in the series' unit, 0 where missing), observed
        [B, T, N], and over history and horizon: clock [B, T + H, 3], known [B, T + H, N, K],
        profile [B, T + H, N, R]; where data has it, solution [B], that of the origin's row;
      targets [B, H, N] in the series' unit; mask [B, H, N].
    """
    past, ahead = range(1 - history, 1), range(1, horizon + 1)
    both = range(1 - history, horizon + 1)

    def rows(name: str, offsets: range) -> jax.Array:
        return windows.gather(data[name], at, offsets)

    began = at[:, None] + jnp.asarray(past)[None] >= 0
    values = jnp.where(began[..., None], rows("values", past), 0)[..., None]
    steps = at[:, None] + jnp.arange(1, horizon + 1)[None]
    inside = (steps >= part[0]) & (steps < part[1])
    inputs = {
        "history": jnp.concatenate([values, rows("past", past)], axis=-1),
        "observed": rows("observed", past) & began[..., None],
        **{name: rows(name, both) for name in ("clock", "known", "profile")},
    }
    if "solution" in data:
        inputs["solution"] = data["solution"][at]
    mask = rows("observed", ahead) & inside[..., None]
    return {"inputs": inputs, "targets": rows("values", ahead), "mask": mask}


def train_source(
    data: Mapping[str, Any],
    origins: np.ndarray,
    rows: tuple[int, int],
    *,
    history: int,
    horizon: int,
    batch_size: int,
) -> Source:
    """Return the shuffled batches of some windows, whose targets lie in `rows`.

    data: of `arrays`. Raises DataError where a batch is larger than there are windows.
    """
    gather = functools.partial(_gather, history=history, horizon=horizon)
    return shuffled(_held(data, origins, rows), batch_size, size=len(origins), gather=gather)


def evaluation(
    data: Mapping[str, Any],
    parts: Mapping[str, np.ndarray],
    rows: Mapping[str, tuple[int, int]],
    *,
    history: int,
    horizon: int,
    batch_size: int,
) -> dict[str, Batches]:
    """Return the windows of validation and test in order.

    data: of `arrays`, on the device once for both parts; parts: of `origins`; rows: of
    `dataset.bounds`.
    """
    data = {name: jnp.asarray(array) for name, array in data.items()}
    gather = functools.partial(_gather, history=history, horizon=horizon)
    return {
        part: in_order(
            _held(data, parts[part], rows[part]), batch_size, size=len(parts[part]), gather=gather
        )
        for part in ("validation", "test")
    }


def _held(data: Mapping[str, Any], origins: np.ndarray, rows: tuple[int, int]) -> dict[str, Any]:
    return {**data, "origins": origins.astype(np.int32), "part": np.asarray(rows, np.int32)}


def _gather(
    key: jax.Array, held: Mapping[str, Any], indices: jax.Array, *, history: int, horizon: int
) -> Batch:
    del key
    return window_batch(
        held, held["origins"][indices], held["part"], history=history, horizon=horizon
    )
