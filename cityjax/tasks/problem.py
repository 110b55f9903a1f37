"""A forecasting problem: a series of a city under a protocol, its windows and its metrics."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data import forecast, graphs, profiles
from cityjax.data.cells import listed
from cityjax.data.clocks import moment
from cityjax.data.dataset import Protocol, arranged, bounds
from cityjax.data.files import DataError
from cityjax.data.series import Series, covariates
from cityjax.data.windows import fit_scaler
from cityjax.forecast_metrics import averaged, by_name, standardised
from cityjax.metrics import Metric
from cityjax.tasks import intervals
from cityjax.tasks.conformity import LINEAR, Scale

DAY = 86_400
# What a forecaster may read beside the history of the values.
INPUTS = ("day", "week", "year", "typical_day", "season", "year_ago", "past_years", "covariates")
OF_QUANTILES = ("crps", "pinball", "coverage", "width")
PROFILES = "typical_day, season, year_ago or past_years"  # inputs that are profiles
GRAPHS = ("auto", "given", "distance", "correlation", "none")


class Problem(NamedTuple):
    """What is to be forecast: a series under a protocol, its windows and its metrics.

    season: steps. inputs: of INPUTS, those that there are; calendar: "day", "week" and "year" among
    them. rows: [start, stop) of each part; origins: of each part's windows. data: the arrays that
    windows are gathered from, on the device. graph: weights [N, N] or None. metrics: by name,
    `rmse@1-12`; select: the one that names the best checkpoint. quantiles: levels that are
    forecast, or none.
    text: what a result says of inputs and graph. interval_scale: in which intervals measure errors.
    """

    series: Series
    protocol: Protocol
    season: int
    history: int
    horizon: int
    inputs: tuple[str, ...]
    calendar: tuple[str, ...]
    rows: Mapping[str, tuple[int, int]]
    origins: Mapping[str, np.ndarray]
    data: Mapping[str, jax.Array]
    graph: np.ndarray | None
    metrics: Mapping[str, Metric]
    select: str
    quantiles: tuple[float, ...]
    text: Mapping[str, str]
    interval_scale: Scale = LINEAR

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
    lenient: bool = False,
) -> Problem:
    """Lay out the windows of a series under a protocol.

    history, horizon: steps, the protocol's by default. inputs: of INPUTS. graph: of GRAPHS; "auto"
    is the one the series has, else of correlations in train. lenient: inputs that the series cannot
    have are left out, and the text says so; else they are refused.

    Raises DataError where the series is too short, or has not what an input or a graph is made of.
    """
    series = arranged(series, protocol)
    history = protocol.history if history is None else history
    horizon = protocol.horizon if horizon is None else horizon
    rows = bounds(series, protocol)
    stop = rows["train"][1]
    _check_seen(series, stop)
    lacks = _lacks(series, inputs, horizon, stop)
    if lacks and not lenient:
        name, reason = next(iter(lacks.items()))
        raise DataError(f"inputs has {name}, but {reason}: leave it out")
    inputs = [name for name in inputs if name not in lacks]
    beside = [*series.past, *series.known]
    if beside and "covariates" not in inputs:
        lacks[listed(beside)] = "inputs has no covariates"
        series = series._replace(past={}, known={})
    arrays = forecast.arrays(
        series, train_stop=stop, profiles=_profiles(series, inputs, season, horizon, stop)
    )
    found, graph = _graph(series, graph, stop)
    measured = metrics_of(series, protocol, horizon, stop, quantiles)
    whole = f"{protocol.measures[0]}@{lead_name((1, horizon))}"
    select = protocol.select if protocol.select in measured else whole
    return Problem(
        series=series,
        protocol=protocol,
        season=season,
        history=history,
        horizon=horizon,
        inputs=tuple(inputs),
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
        text=_inputs(series, inputs, lacks) | {"graph": graph},
    )


def _inputs(series: Series, inputs: Sequence[str], lacks: Mapping[str, str]) -> dict[str, str]:
    """Say what a forecaster reads, of covariates those that there are, and what was left out."""
    beside = covariates({**series.past, **series.known})
    names = ["history", *(name for name in inputs if name != "covariates" or beside)]
    names += [f"without {name} ({reason})" for name, reason in lacks.items()]
    return {"inputs": ", ".join(names)} | ({"covariates": beside} if beside else {})


def _check_seen(series: Series, stop: int) -> None:
    """Raise DataError where there are sensors of which train, the rows before `stop`, has none."""
    silent = np.flatnonzero(~series.observed[:stop].any(axis=0))
    if len(silent):
        names = listed([series.sensors[place] for place in silent])
        raise DataError(
            f"no value of {names} before {moment(series.time[stop - 1].astype(np.int64))}, where"
            " train ends: remove them, or the rows before they began"
        )


def _lacks(series: Series, inputs: Sequence[str], horizon: int, stop: int) -> dict[str, str]:
    """Return the inputs that this series, whose train is before `stop`, cannot have, and why.

    {name: reason}, the reason to be read after "but".
    """
    found = {}
    days = np.unique(series.time[:stop][series.observed[:stop].any(axis=1)].astype("datetime64[D]"))
    if series.step > DAY:
        found["typical_day"] = "a step of this series is longer than a day"
    elif len(days) < 2:
        found["typical_day"] = "fewer than two days of train hold a value"
    around = _around(series)
    span = int((series.time[stop - 1] - series.time[0]).astype(np.int64)) + series.step
    for name in ("year_ago", "past_years"):
        if (horizon + around) * series.step > profiles.YEAR:
            found[name] = f"horizon={horizon} reaches beyond a year"
        elif span <= profiles.YEAR:  # rows may lack between two of them
            found[name] = f"train, {span // DAY} days, is no year"
    return {name: found[name] for name in inputs if name in found}


def _around(series: Series) -> int:
    """Return how many steps on either side are averaged with one of another year."""
    return 2 if series.step == 7 * DAY else 0


def _profiles(
    series: Series, inputs: Sequence[str], season: int, horizon: int, stop: int
) -> list[np.ndarray]:
    """Return the known-ahead guesses [T, N] that were asked for, the typical day first."""
    found = []
    if "typical_day" in inputs:
        days = "week" if series.step == DAY else "weekday"
        found.append(profiles.typical_day(series, stop=stop, days=days))
    if "season" in inputs:  # as many seasons back as are known at every origin
        found.append(profiles.lag(series, season * -(-horizon // season), stop=stop))
    around = _around(series)
    if "year_ago" in inputs:
        found.append(profiles.year_ago(series, stop=stop))
        if around:
            found.append(profiles.year_ago(series, stop=stop, neighbours=around))
    if "past_years" in inputs:
        found.append(profiles.past_years(series, stop=stop, neighbours=around))
    return found


def _reach(series: Series, inputs: Sequence[str], season: int, horizon: int) -> int:
    """Return the first row from which all the profiles that were asked for look back on others."""
    year = round(profiles.YEAR / series.step)
    back = {"season": season * -(-horizon // season), "year_ago": year, "past_years": year}
    steps = max((back[name] for name in inputs if name in back), default=0)
    seconds = series.time.astype(np.int64)  # where rows are left out, fewer of them are a year
    return int(np.searchsorted(seconds, seconds[0] + steps * series.step))


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
    others = ", ".join(name for name in GRAPHS if name != kind)
    if kind == "given":
        if series.adjacency is None:
            raise DataError(f"graph=given, but this data set has none: {others}")
        return series.adjacency, f"of the data set, {graphs.extent(series.adjacency)}"
    if kind == "distance":
        if series.coordinates is None:
            raise DataError(f"graph=distance, but this data set has no places: {others}")
        found = graphs.gaussian_kernel(graphs.haversine(series.coordinates))
        return found, f"Gaussian kernel of distances, {graphs.extent(found)}"
    k = min(graphs.NEIGHBOURS, len(series.sensors) - 1)
    if k < 1:
        raise DataError("graph=correlation, but this series has one sensor: graph=none")
    found = graphs.correlation(series.values, series.observed, stop=stop, k=k)
    most = "largest correlation" if k == 1 else f"{k} largest correlations"
    return found, f"the {most} in train, {graphs.extent(found)}"


def lead_name(lead: int | tuple[int, int]) -> str:
    """Return how the names of metrics write a lead: `3`, or `1-12` of steps 1 to 12."""
    first, last = (lead, lead) if isinstance(lead, int) else lead
    return str(first) if first == last else f"{first}-{last}"


def metrics_of(
    series: Series, protocol: Protocol, horizon: int, stop: int, quantiles: Sequence[float]
) -> dict[str, Metric]:
    """Return the metrics of a protocol by name, at its leads and over the horizon.

    Over several leads they are pooled; where published rows train anew as time goes, and are of
    fewer windows the farther ahead, they are the mean of each lead's, as those rows have it.
    """
    leads = [lead for lead in protocol.leads if np.max(lead) <= horizon]
    names = {lead_name(lead): lead for lead in [*leads, (1, horizon)]}
    measures = [*protocol.measures, *(OF_QUANTILES if quantiles else ())]
    mean, std = fit_scaler(series.values, series.observed, stop=stop)
    about = 0.0 if protocol.standardised else float(np.mean(mean))
    found = {}
    for measure, (at, lead) in itertools.product(measures, names.items()):
        apart = protocol.refit and isinstance(lead, tuple)
        parts = range(lead[0], lead[1] + 1) if apart else [at]
        each = {part: by_name(f"{measure}@{part}", quantiles, about=about) for part in parts}
        if protocol.standardised:
            each = {part: standardised(metric, mean, std) for part, metric in each.items()}
        found[f"{measure}@{at}"] = averaged(each) if apart else each[at]
    return found


def describe(problem: Problem) -> dict[str, str]:
    """Say how forecasts are made and scored, for a result row."""
    protocol, series = problem.protocol, problem.series
    split = "/".join(f"{part:g}" for part in protocol.split)
    missing = 100 * (1 - series.observed.mean())
    unit = series.unit or "the unit of the values"
    sensors = f"{len(series.sensors):,} sensors" if len(series.sensors) > 1 else "1 sensor"
    within = (
        "all targets of a window in one part"
        if protocol.whole
        else "targets outside their part are masked"
    )
    start, stop = problem.rows["test"]
    silent = np.flatnonzero(~series.observed[start:stop].any(axis=0))
    unscored = listed([series.sensors[place] for place in silent])
    train = series.values[: problem.train_stop]
    still = np.flatnonzero(np.nanmax(train, axis=0) == np.nanmin(train, axis=0))
    constant = listed([series.sensors[place] for place in still])
    words = {
        "series": f"{sensors}, {len(series.values):,} steps of "
        f"{series.step:,} s, {missing:.1f} % missing"
        + (f"; {constant} always the same in train" if len(still) else ""),
        "split": f"{split} in time order; {within}",
        "windows": f"history {problem.history}, horizon {problem.horizon}, one at every step"
        + (", history inside the part" if protocol.inside else ""),
        "mask": "missing values count in no loss and no metric"
        + (f"; nor does {unscored}, without a value in test" if len(silent) else ""),
        "metrics": "of z-scores by train" if protocol.standardised else f"in {unit}",
        "intervals": intervals.PROTOCOL + problem.interval_scale.text,
    }
    zeros = int((series.values[start:stop] == 0).sum())
    if zeros and "mape" in protocol.measures:
        words["mape"] = f"leaves out {zeros:,} values of test that are 0"
    errors = len(problem.origins["validation"]) * len(series.sensors)
    if errors < intervals.NEEDED:
        words["intervals"] += (
            f"; too narrow: of {errors} errors at a lead, where {intervals.NEEDED} are needed"
        )
    lowest = problem.interval_scale.lowest
    missed = int((series.values[start:stop] < lowest).sum())
    if missed:
        words["intervals"] += (
            f"; {missed:,} values of test are below {lowest:g} and count as missed"
        )
    if levels := problem.quantiles:
        words["quantiles"] = (
            f"{', '.join(f'{level:g}' for level in levels)}; coverage and width without a level are"
            f" of the outer two, {100 * (levels[-1] - levels[0]):g} %"
        )
    if protocol.drop_last:
        words["drop_last"] = f"test windows beyond a multiple of {protocol.drop_last} are left out"
    return {**words, **problem.text, **protocol.text}
