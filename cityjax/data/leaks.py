"""Whether the future leaks: change the rows from some step on, and see what else changes.

A test part that is changed may change nothing that was known before it: neither the arrays that
training reads nor scalers, profiles, graphs or the chosen epoch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data import graphs
from cityjax.data.dataset import Protocol, bounds
from cityjax.data.floors import floors
from cityjax.data.forecast import arrays, evaluation, origins, train_source
from cityjax.data.series import Series
from cityjax.data.windows import fit_scaler


def leaks(
    build: Callable[[Series], Mapping[str, Any]], series: Series, start: int
) -> tuple[str, ...]:
    """Return the names of what `build(series)` gives that depends on rows from `start` on.

    build: what is to be known before `start`, arrays or numbers by name; called twice.
    """
    before, after = build(series), build(disturbed(series, start))
    return tuple(name for name in before if not _same(before[name], after[name]))


def disturbed(series: Series, start: int) -> Series:
    """Return the series with every number from row `start` on changed, none before it.

    What is missing stays missing: the shares of a split are of the rows that were observed.
    """

    def change(array: np.ndarray) -> np.ndarray:
        rows = array[start:]
        shift = np.random.default_rng(0).uniform(1, 2, rows.shape) * (1 + np.abs(rows))
        return np.concatenate([array[:start], rows + shift.astype(array.dtype)])

    return series._replace(
        values=change(series.values),
        past={name: change(array) for name, array in series.past.items()},
        known={name: change(array) for name, array in series.known.items()},
    )


def training_view(
    series: Series,
    protocol: Protocol,
    *,
    season: int,
    history: int,
    horizon: int,
    split: str,
    batches: int = 2,
) -> dict[str, np.ndarray]:
    """Return all that training and forecasts up to the end of a part read: for `leaks`, by name.

    series: as `dataset.arranged` gives it. split: "train" or "validation". The parts and their
    origins, the scaler, the graph that is given and that of correlations, the floors' forecasts of
    the part's windows, and of train (and of validation) the first and the last of the batches that
    a learner is fed. Whatever is fitted or chosen by these alone, such as an epoch, cannot know
    more.
    """
    rows = bounds(series, protocol)
    stop = rows["train"][1]
    found = origins(series, protocol, history=history, horizon=horizon)
    view = {f"rows of {name}": np.array(part) for name, part in rows.items()}
    view |= {f"origins of {name}": at for name, at in found.items()}
    view["scaler"] = np.stack(fit_scaler(series.values, series.observed, stop=stop))
    view["graph"] = np.zeros(0) if series.adjacency is None else series.adjacency
    neighbours = min(graphs.NEIGHBOURS, len(series.sensors) - 1)
    if neighbours:
        view["graph by correlation"] = graphs.correlation(
            series.values, series.observed, stop=stop, k=neighbours
        )
    at = found[split][:: max(1, len(found[split]) // 50)]
    for name, floor in floors(series, season=season, history=history, stop=stop).items():
        view[name] = floor(at, np.arange(1, horizon + 1))
    data, lengths = arrays(series, train_stop=stop), {"history": history, "horizon": horizon}
    size = min(16, len(found["train"]))
    train = train_source(data, found["train"], rows["train"], batch_size=size, **lengths)
    fed = [("train", train, step) for step in range(batches)]
    if split == "validation":
        count, source = evaluation(data, found, rows, batch_size=16, **lengths)[split]
        fed += [(split, source, step) for step in sorted({0, count - 1})]
    key = jax.random.key(0)
    for part, source, step in fed:
        for name, array in _shown(source(key, jnp.asarray(step))).items():
            view[f"{name} of batch {step} of {part}"] = array
    return view


def _shown(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a batch; targets that do not count are 0, since nobody may look at them."""
    targets = jnp.where(batch["mask"], batch["targets"], 0)
    flat = {**batch["inputs"], "targets": targets, "mask": batch["mask"]}
    return {name: np.asarray(array) for name, array in flat.items()}


def _same(first: Any, second: Any) -> bool:
    """Whether two arrays are the same bit by bit."""
    first, second = np.asarray(first), np.asarray(second)
    kind = (first.dtype, first.shape) == (second.dtype, second.shape)
    return kind and first.tobytes() == second.tobytes()
