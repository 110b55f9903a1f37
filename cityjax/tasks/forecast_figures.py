"""The figures of a forecasting run: lines, errors, a map and intervals, on its test part."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from cityjax.data import graphs
from cityjax.data.floors import Floor
from cityjax.lettering import short_names
from cityjax.report import forecasts
from cityjax.report.maps import Places, graph_layout, sensor_map
from cityjax.report.style import message
from cityjax.report.tables import format_value, metric_label
from cityjax.tasks.conformity import bounds
from cityjax.tasks.forecast_errors import (
    DAY,
    HOUR,
    LEVELS,
    WEEK,
    Calibration,
    Errors,
    calibrated,
    covered,
    measure_of,
    measured,
    phases,
    points_of,
    unit_of,
)
from cityjax.tasks.intervals import NOMINAL
from cityjax.tasks.problem import Problem
from cityjax.tasks.scores import floors_of

UNITS = (("week", WEEK), ("day", DAY), ("h", HOUR), ("min", 60), ("s", 1))
LONGEST = 300  # steps of a stretch whose lines can be told apart
TICKS = 12  # of an axis, about
EDGES = 4  # drawn for each sensor, the strongest
NAMED = 12  # sensors up to which each has its name on the map
SPREAD = 10  # sensors from which on the spread of their coverage says something
MODEL = "model"
WEEKDAYS = "Mon Tue Wed Thu Fri Sat Sun".split()


def figures(problem: Problem, forecast: Mapping[str, np.ndarray]) -> dict[str, Figure]:
    """Draw forecasts of the test part, their errors beside the floors', and their intervals.

    forecast: of the windows of "test" and, where intervals are to be drawn, of "validation".
    """
    outputs = forecast["test"]
    points, floors = points_of(problem, outputs), floors_of(problem)
    at, leads = problem.origins["test"], np.arange(1, problem.horizon + 1)
    errors = measured(
        problem,
        lambda part: {
            MODEL: points[part],
            **{name: floor(at[part], leads) for name, floor in floors.items()},
        },
    )
    ranked = np.argsort(errors[MODEL].sensor, kind="stable")  # NaN last
    ranked = ranked[np.isfinite(errors[MODEL].sensor[ranked])]
    if not len(ranked):
        return {"forecast": message("No forecast of the test part is a number")}
    # Of a floor that forecasts nothing there is nothing to draw, in a legend neither.
    floors = {name: floor for name, floor in floors.items() if np.isfinite(errors[name].overall)}
    errors = {name: errors[name] for name in (MODEL, *floors)}
    before = None
    if "validation" in forecast:
        before = calibrated(problem, forecast["validation"])
    shown = shown_sensors(ranked)
    drawn = _forecasts(problem, outputs, floors, errors, shown, before)
    drawn |= _error_figures(problem, errors)
    if len(problem.series.sensors) > 1:
        drawn["map_of_errors"] = _map(problem, errors, shown)
    if before is not None:
        drawn["reliability"] = _reliability(problem, outputs, floors, before)
    return drawn


def _best_floor(errors: Mapping[str, Errors], lead: int | None = None) -> str:
    """The floor with the least error, over all or at a lead (an index)."""
    values = {
        name: found.overall if lead is None else found.lead[lead]
        for name, found in errors.items()
        if name != MODEL
    }
    return min(values, key=lambda name: np.nan_to_num(values[name], nan=np.inf))


# Lines


def duration(seconds: int) -> str:
    """Return a time in the largest unit it is a whole number of: "5 min", "1 day", "3 weeks"."""
    unit, size = next((unit, size) for unit, size in UNITS if seconds % size == 0)
    count = seconds // size
    return f"{count} {unit}" + ("s" if unit in ("day", "week") and count > 1 else "")


def shown_sensors(ranked: np.ndarray) -> dict[str, int]:
    """Return the best, median and worst of sensors ranked by error; those there are of fewer."""
    middle = {"median": int(ranked[(len(ranked) - 1) // 2])} if len(ranked) > 2 else {}
    worst = {"worst": int(ranked[-1])} if len(ranked) > 1 else {}
    return {"best": int(ranked[0]), **middle, **worst}


def stretch(time: np.ndarray, complete: np.ndarray, step: int, season: int) -> slice:
    """Return which steps in a row to draw: of all with the most `complete` ones, the earliest.

    time: datetime64[s] [R]; complete: numbers [R]. Ten seasons, at most 300 steps, in whole weeks
    or days from a midnight on where that is longer.
    """
    points = min(LONGEST, max(10 * season, 60))
    for whole in (WEEK, DAY):
        if points * step >= whole:
            points = points * step // whole * whole // step
            break
    points = min(points, len(time))
    starts = np.arange(len(time) - points + 1)
    midnights = starts[time[starts].astype(np.int64) % DAY < step] if step < DAY else starts
    starts = midnights if len(midnights) else starts
    before = np.concatenate([[0], np.cumsum(complete)])
    start = int(starts[np.argmax(before[starts + points] - before[starts])])
    return slice(start, start + points)


def _forecasts(
    problem: Problem,
    outputs: np.ndarray,
    floors: Mapping[str, Floor],
    errors: Mapping[str, Errors],
    shown: Mapping[str, int],
    before: Calibration | None,
) -> dict[str, Figure]:
    """Draw the lines of some sensors at the first and at the last lead, over the same steps."""
    series, origins = problem.series, problem.origins["test"]
    start, stop = problem.rows["test"]
    rows = np.arange(start, stop)
    leads = {"first": 1, "last": problem.horizon} if problem.horizon > 1 else {"only": 1}
    made = np.array([np.isin(rows - lead, origins) for lead in leads.values()])
    made = made.all(axis=0) if made.all(axis=0).any() else made.any(axis=0)
    seen = series.observed[start:stop, list(shown.values())].sum(axis=1)
    rows = rows[stretch(series.time[start:stop], seen * made, series.step, problem.season)]
    measure, sensors = measure_of(problem), short_names(series.sensors)
    found = {}
    for name, lead in leads.items():
        windows = np.minimum(np.searchsorted(origins, rows - lead), len(origins) - 1)
        known = (origins[windows] == rows - lead)[:, None]
        made = outputs[windows, lead - 1]
        best = _best_floor(errors, lead - 1)
        beside = {
            f"{floor}, the best floor here" if floor == best else floor: forecast(
                origins[windows], np.asarray([lead])
            )[:, 0]
            for floor, forecast in floors.items()
        }
        beside = {floor: np.where(known, line, np.nan) for floor, line in beside.items()}
        lines = [points_of(problem, made)]
        if before is not None:
            half = before.half[NOMINAL][lead - 1, None]
            lines += bounds(made, half, problem.interval_scale)
        lines = [np.where(known, line, np.nan) for line in lines]
        panels = []
        for rank, sensor in shown.items():
            error = format_value(measure, float(errors[MODEL].sensor[sensor]))
            who = f"{rank} sensor" if len(shown) > 1 else "sensor"
            panels.append(
                forecasts.Stretch(
                    f"{duration(lead * series.step)} ahead, {who} {sensors[sensor]} "
                    f"({metric_label(measure)} {error} over all leads)",
                    series.values[rows, sensor],
                    {floor: line[:, sensor] for floor, line in beside.items()},
                    *(line[:, sensor] for line in lines),
                )
            )
        found[f"forecast_at_the_{name}_lead"] = forecasts.stretches(
            series.time[rows],
            panels,
            unit=series.unit,
            interval=f"{100 * NOMINAL:.0f} % interval (split-conformal)",
        )
    return found


# Errors


def _error_label(problem: Problem) -> str:
    name, unit = metric_label(measure_of(problem)), problem.series.unit
    if problem.protocol.standardised:
        return f"{name} of z-scores"
    if not unit:  # as of a table of one's own that does not say
        return name
    return f"{name}, ({unit})²" if measure_of(problem) == "mse" else f"{name}, {unit}"


def _error_figures(problem: Problem, errors: Mapping[str, Errors]) -> dict[str, Figure]:
    unit, size = next((u, s) for u, s in UNITS if problem.series.step % s == 0)
    ahead = np.arange(1, problem.horizon + 1) * problem.series.step / size
    every = -(-problem.horizon // TICKS)
    measure = measure_of(problem)
    published: dict[str, dict[float, float]] = {}
    for name, values in problem.protocol.published.items():
        for lead, place in enumerate(ahead.tolist(), 1):
            if f"{measure}@{lead}" in values:
                published.setdefault(name, {})[place] = values[f"{measure}@{lead}"]
    title = f"{metric_label(measure)} on the test part"
    if len(ahead) == 1:
        by_lead = forecasts.error_bars(
            {name: float(found.lead[0]) for name, found in errors.items()},
            title=f"{title}, {duration(problem.series.step)} ahead",
            x=_error_label(problem),
            published={name: values[ahead[0]] for name, values in published.items()},
        )
    else:
        by_lead = forecasts.error_lines(
            ahead,
            {name: found.lead for name, found in errors.items()},
            title=f"{title}, by lead",
            x=f"{unit}s ahead" if unit in ("day", "week") else f"{unit} ahead",
            y=_error_label(problem),
            ticks={place: f"{place:g}" for place in ahead[every - 1 :: every].tolist()},
            published=published,
        )
    _, places, kind = phases(problem.series)
    words = WEEKDAYS if kind == "weekday" else [f"{place:g}" for place in places]
    every = -(-len(places) // TICKS)
    by_phase = forecasts.error_lines(
        places,
        {name: found.phase for name, found in errors.items()},
        title=f"{title}, by the target's {kind}, over all leads",
        x=kind,
        y=_error_label(problem),
        ticks=dict(zip(places[::every].tolist(), words[::every], strict=True)),
    )
    return {"error_by_horizon": by_lead, f"error_by_{kind.replace(' ', '_')}": by_phase}


# Maps


def _map(problem: Problem, errors: Mapping[str, Errors], shown: Mapping[str, int]) -> Figure:
    sensors, floor = short_names(problem.series.sensors), _best_floor(errors)
    own, other = errors[MODEL].sensor, errors[floor].sensor
    names = {sensor: rank for rank, sensor in shown.items()}
    if len(sensors) <= NAMED:
        ranks = {sensor: f"{rank}: {sensors[sensor]}" for sensor, rank in names.items()}
        names = dict(enumerate(sensors)) | ranks
    return sensor_map(
        places(problem),
        own,
        100 * (1 - own / np.where(other > 0, other, np.nan)),
        names=names,
        error=_error_label(problem),
        floor=floor,
    )


def places(problem: Problem) -> Places:
    """Return where the sensors lie: their coordinates, else a layout of their graph.

    Where there is no graph, it is one of correlations in train.
    """
    series = problem.series
    weights = series.adjacency if problem.graph is None else problem.graph
    if weights is None:
        k = min(graphs.NEIGHBOURS, len(series.sensors) - 1)
        stop = problem.train_stop
        weights = graphs.correlation(series.values, series.observed, stop=stop, k=k)
    weights = np.triu(np.maximum(weights, weights.T), 1)
    edges = np.argwhere(weights > 0)
    strongest = np.argsort(-weights[tuple(edges.T)], kind="stable")
    edges = edges[strongest[: EDGES * len(weights)]]
    at = series.coordinates
    if at is not None and np.isfinite(at).all(axis=1).sum() > len(at) / 2:
        return Places(at[:, ::-1], edges, True)
    return Places(graph_layout(weights), edges, False)


# Intervals


def _reliability(
    problem: Problem, outputs: np.ndarray, floors: Mapping[str, Floor], before: Calibration
) -> Figure:
    own = covered(problem, outputs, before)
    found = {name: (own.share[name], own.width[name]) for name in own.share}
    leads = np.arange(1, problem.horizon + 1)
    for name, floor in floors.items():  # one at a time: each is as large as the forecasts
        beside = {part: floor(problem.origins[part], leads) for part in ("validation", "test")}
        calibration = calibrated(problem, beside["validation"])
        other = covered(problem, beside["test"], calibration, online=False)
        found[name] = other.share["split-conformal"], other.width["split-conformal"]
    return forecasts.reliability(
        LEVELS,
        {name: share for name, (share, _) in found.items()},
        {name: width for name, (_, width) in found.items()},
        sensors=own.sensors if len(problem.series.sensors) >= SPREAD else None,
        unit=unit_of(problem),
    )
