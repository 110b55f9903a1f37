"""A forecasting problem: a series of a city under a protocol, its windows, metrics and floors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax import metrics
from cityjax.data import floors, forecast, graphs, profiles
from cityjax.data.dataset import Protocol, arranged, bounds
from cityjax.data.files import DataError
from cityjax.data.series import Series
from cityjax.data.windows import fit_scaler
from cityjax.metrics import Metric
from cityjax.tasks import intervals

DAY = 86_400
# What a forecaster may read beside the history of the values.
INPUTS = ("day", "week", "year", "typical_day", "season", "year_ago", "past_years", "covariates")
GRAPHS = ("auto", "given", "distance", "correlation", "none")
NEIGHBOURS = 8  # of a correlation graph


class Problem(NamedTuple):
    """What is to be forecast: a series under a protocol, its windows and its metrics.

    season: steps. calendar: of "day", "week", "year", what a forecaster knows of time. rows:
    [start, stop) of each part; origins: of each part's windows. data: the arrays that windows are
    gathered from, on the device. graph: weights [N, N] or None. metrics: by name, `rmse@1-12`;
    select: the one that names the best checkpoint. quantiles: levels that are forecast, or none.
    """

    series: Series
    protocol: Protocol
    season: int
    history: int
    horizon: int
    calendar: tuple[str, ...]
    rows: Mapping[str, tuple[int, int]]
    origins: Mapping[str, np.ndarray]
    data: Mapping[str, jax.Array]
    graph: np.ndarray | None
    metrics: Mapping[str, Metric]
    select: str
    quantiles: tuple[float, ...]
    text: Mapping[str, str]

    @property
    def train_stop(self) -> int:
        """The first row that is not of train."""
        return self.rows["train"][1]


def make_problem(
    series: Series,
    protocol: Protocol,
    *,
    season: int,
    history: int | None = None,
    horizon: int | None = None,
    inputs: Sequence[str] = (),
    graph: str = "auto",
    quantiles: Sequence[float] = (),
) -> Problem:
    """Lay out the windows of a series under a protocol.

    history, horizon: steps, the protocol's by default. inputs: of INPUTS. graph: of GRAPHS; "auto"
    is the one the series has, else of correlations in train.

    Raises DataError where the series is too short, or has not what an input or a graph is made of.
    """
    series = arranged(series, protocol)
    history = protocol.history if history is None else history
    horizon = protocol.horizon if horizon is None else horizon
    rows = bounds(series, protocol)
    stop = rows["train"][1]
    if "covariates" not in inputs:
        series = series._replace(past={}, known={})
    arrays = forecast.arrays(
        series, train_stop=stop, profiles=_profiles(series, inputs, season, horizon, stop)
    )
    found, graph = _graph(series, graph, stop)
    measured = _metrics(series, protocol, horizon, stop, quantiles)
    whole = f"{protocol.measures[0]}@{lead_name((1, horizon))}"
    select = protocol.select if protocol.select in measured else whole
    return Problem(
        series=series,
        protocol=protocol,
        season=season,
        history=history,
        horizon=horizon,
        calendar=tuple(name for name in ("day", "week", "year") if name in inputs),
        rows=rows,
        origins=_known(
            forecast.origins(series, protocol, history=history, horizon=horizon),
            _reach(series, inputs, season, horizon),
        ),
        data={name: jnp.asarray(array) for name, array in arrays.items()},
        graph=found,
        metrics=measured,
        select=select,
        quantiles=tuple(quantiles),
        text={"inputs": ", ".join(["history", *inputs]), "graph": graph},
    )


def _profiles(
    series: Series, inputs: Sequence[str], season: int, horizon: int, stop: int
) -> list[np.ndarray]:
    """Return the known-ahead guesses [T, N] that were asked for, the typical day first."""
    found = []
    if "typical_day" in inputs:
        if series.step > DAY:
            raise DataError(
                "inputs has typical_day, but a step of this series is longer than a day"
            )
        days = "week" if series.step == DAY else "weekday"
        found.append(profiles.typical_day(series, stop=stop, days=days))
    if "season" in inputs:  # as many seasons back as are known at every origin
        found.append(profiles.lag(series, season * -(-horizon // season), stop=stop))
    around = 2 if series.step == 7 * DAY else 0
    for name in ("year_ago", "past_years"):
        if name in inputs and (horizon + around) * series.step > profiles.YEAR:
            raise DataError(f"inputs has {name}, which horizon={horizon} reaches beyond")
    if "year_ago" in inputs:
        found.append(profiles.year_ago(series, stop=stop))
        if around:
            found.append(profiles.year_ago(series, stop=stop, neighbours=around))
    if "past_years" in inputs:
        found.append(profiles.past_years(series, stop=stop, neighbours=around))
    return found


def _reach(series: Series, inputs: Sequence[str], season: int, horizon: int) -> int:
    """Return how many steps the profiles that were asked for look back."""
    year = round(profiles.YEAR / series.step)
    back = {"season": season * -(-horizon // season), "year_ago": year, "past_years": year}
    return max((back[name] for name in inputs if name in back), default=0)


def _known(origins: dict[str, np.ndarray], reach: int) -> dict[str, np.ndarray]:
    """Let train begin where its profiles do, unless that would cost more than half of it.

    Before, they are a mean, and what is learnt of it is wrong of all that follows.
    """
    late = origins["train"][origins["train"] + 1 >= reach]
    return {**origins, "train": late} if 2 * len(late) >= len(origins["train"]) else origins


def _graph(series: Series, kind: str, stop: int) -> tuple[np.ndarray | None, str]:
    """Return the weights [N, N] of a kind of graph, and what to say of it."""
    if kind == "auto":
        alone = "none" if len(series.sensors) == 1 else "correlation"
        kind = alone if series.adjacency is None else "given"
    if kind == "none":
        return None, "none"
    if kind == "given":
        if series.adjacency is None:
            raise DataError(f"graph=given, but this data set has none: {', '.join(GRAPHS)}")
        return series.adjacency, "of the data set"
    if kind == "distance":
        if series.coordinates is None:
            raise DataError(f"graph=distance, but this data set has no places: {', '.join(GRAPHS)}")
        distances = graphs.haversine(series.coordinates)
        return graphs.gaussian_kernel(distances), "Gaussian kernel of distances"
    k = min(NEIGHBOURS, len(series.sensors) - 1)
    if k < 1:
        raise DataError("graph=correlation, but this series has one sensor: graph=none")
    found = graphs.correlation(series.values, series.observed, stop=stop, k=k)
    return found, f"the {k} largest correlations in train"


def lead_name(lead: int | tuple[int, int]) -> str:
    """Return how the names of metrics write a lead: `3`, or `1-12` of steps 1 to 12 pooled."""
    first, last = (lead, lead) if isinstance(lead, int) else lead
    return str(first) if first == last else f"{first}-{last}"


def _metrics(
    series: Series, protocol: Protocol, horizon: int, stop: int, quantiles: Sequence[float]
) -> dict[str, Metric]:
    leads = [lead for lead in protocol.leads if np.max(lead) <= horizon]
    names = dict.fromkeys([*map(lead_name, leads), lead_name((1, horizon))])
    measures = [*protocol.measures, *(("crps", "coverage", "width") if quantiles else ())]
    mean, std = fit_scaler(series.values, series.observed, stop=stop)
    found = {}
    for at in names:
        for measure in measures:
            metric = metrics.by_name(f"{measure}@{at}", quantiles)
            if protocol.standardised:
                metric = metrics.standardised(metric, mean, std)
            found[f"{measure}@{at}"] = metric
    return found


def describe(problem: Problem) -> dict[str, str]:
    """Say how forecasts are made and scored, for a result row."""
    protocol, series = problem.protocol, problem.series
    split = "/".join(f"{part:g}" for part in protocol.split)
    missing = 100 * (1 - series.observed.mean())
    within = (
        "all targets of a window in one part"
        if protocol.whole
        else "targets outside their part are masked"
    )
    words = {
        "series": f"{len(series.sensors):,} sensors, {len(series.values):,} steps of "
        f"{series.step:,} s, {missing:.1f} % missing",
        "split": f"{split} in time order; {within}",
        "windows": f"history {problem.history}, horizon {problem.horizon}, one at every step"
        + (", history inside the part" if protocol.inside else ""),
        "mask": "missing values count in no loss and no metric",
        "metrics": "of z-scores by train" if protocol.standardised else f"in {series.unit}",
        "intervals": intervals.PROTOCOL,
    }
    if protocol.drop_last:
        words["drop_last"] = f"test windows beyond a multiple of {protocol.drop_last} are left out"
    return {**words, **problem.text, **protocol.text}


def baselines(problem: Problem) -> dict[str, dict[str, float]]:
    """Return every metric of the naive floors on test, then the published rows that have any."""
    rows = {}
    for name, outputs in floors_of(problem, "test").items():
        rows[name] = {f"test/{key}": value for key, value in measure(problem, outputs).items()}
    for name, values in problem.protocol.published.items():
        known = {f"test/{key}": value for key, value in values.items() if key in problem.metrics}
        if known:
            rows[f"published: {name}"] = known
    return rows


def floors_of(problem: Problem, split: str, part: Any = slice(None)) -> dict[str, np.ndarray]:
    """Return the forecasts [W, H, N] that the floors make of some windows of a split."""
    return floors.floors(
        problem.series,
        problem.origins[split][part],
        problem.horizon,
        season=problem.season,
        history=problem.history,
        stop=problem.train_stop,
    )


def error_scale(problem: Problem) -> np.ndarray:
    """Return what errors are divided by, sensor by sensor [N]."""
    series = problem.series
    if not problem.protocol.standardised:
        return np.ones(len(series.sensors), np.float32)
    return fit_scaler(series.values, series.observed, stop=problem.train_stop).std


def truth(problem: Problem, split: str, part: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Return targets [W, H, N], 0 where masked, and their mask, of some windows of a split."""
    steps = problem.origins[split][part, None] + np.arange(1, problem.horizon + 1)
    start, stop = problem.rows[split]
    values = problem.series.values[np.minimum(steps, len(problem.series.values) - 1)]
    mask = np.isfinite(values) & ((steps >= start) & (steps < stop))[..., None]
    return np.where(mask, values, 0), mask


def measure(problem: Problem, outputs: np.ndarray, split: str = "test") -> dict[str, float]:
    """Take every metric of forecasts of a part's windows; those that are NaN are left out.

    outputs: points [W, H, N], or where the problem has quantiles those [W, H, N, Q].
    """
    return metrics.finalize(_sums(problem, problem.metrics, outputs, split), problem.metrics)


def measure_leads(
    problem: Problem, outputs: np.ndarray, split: str = "test"
) -> dict[str, np.ndarray]:
    """Take every measure of the protocol at every lead [H], of forecasts as in `measure`."""
    alone = problem.protocol._replace(leads=())  # each lead is the only one of a horizon of one
    single = _metrics(problem.series, alone, 1, problem.train_stop, problem.quantiles)

    def apart(accumulate: Callable) -> Callable:
        def leads(*given: Any) -> Any:
            return jax.vmap(accumulate, 1)(*jax.tree.map(lambda array: array[:, :, None], given))

        return leads

    each = {n: metric._replace(accumulate=apart(metric.accumulate)) for n, metric in single.items()}
    sums = _sums(problem, each, outputs, split)
    return {n.partition("@")[0]: np.asarray(each[n].finalize(sums[n])) for n in each}


def _sums(
    problem: Problem, measured: Mapping[str, Metric], outputs: np.ndarray, split: str
) -> dict[str, Any]:
    """Add up metrics over a part's windows, some at a time."""
    sums: dict[str, Any] = {}
    for start in range(0, len(outputs), 256):
        part = slice(start, start + 256)
        shown = outputs[part]
        if problem.quantiles and shown.ndim == 3:  # a point is every quantile of itself
            shown = np.repeat(shown[..., None], len(problem.quantiles), axis=-1)
        known = np.isfinite(shown)
        targets, mask = truth(problem, split, part)
        mask = mask & (known.all(axis=-1) if problem.quantiles else known)
        batch = {"targets": targets, "mask": mask}
        shown = np.where(known, shown, 0).astype(np.float32)
        new = {name: metric.accumulate(shown, batch) for name, metric in measured.items()}
        sums = jax.tree.map(jnp.add, sums, new) if sums else new
    return sums
