"""How far hindsight errs: which part of a forecast's error is noise.

Run: python -m benchmarks.hindsight [SET ...]     (by default those with a target)

Two rows for a set, of the windows and metrics of its table. "Both sides": each value is regressed
on what lies before and after it, learnt from the other nine tenths of the test part. What that
misses is neither smooth in time nor shared with other sensors: noise to any forecaster, who sees
one side alone. "Its own mean season": where a window is several seasons long, the mean of its own
targets at each phase; what that misses changes from season to season. Neither is a forecast.
Writes docs/results/hindsight/forecasting.json, and the tables' page, which shows it.
"""

import json
import sys
import time
from typing import Any

import numpy as np

from benchmarks.results import DOCS, chosen, commit
from cityjax.data import impute

FOUND = DOCS / "hindsight" / "forecasting.json"
SIDE, ALIKE, BLOCKS = 3, 8, 10  # steps on each side, sensors, blocks in time of the test part
RIDGE = 1e-3  # of the features' own second moments: against features that coincide
SEASONS = 4  # at least so many in a window, for a mean of its own
BOTH_SIDES, OWN_SEASON = "both sides", "its own mean season"


def both_sides(values: np.ndarray, start: int, stop: int, season: int) -> np.ndarray:
    """Regress values [T, N] of rows start to stop on their surroundings: [T, N], else NaN.

    Read are the values up to SIDE steps before and after, those one season before and after, and
    the mean of the ALIKE sensors whose steps correlate most, at the step itself and beside it.
    Missing ones are interpolated. One regression serves all sensors, in units of their deviations
    and weighted by them, so that its squared errors are those of the values. Each of BLOCKS blocks
    in time is found from the others, the sensors alike too.
    """
    steps, sensors = values.shape
    rows = np.arange(start, stop)
    x = impute.linear(values, np.isfinite(values), default=np.nan).astype(np.float64)
    level, deviation = x[rows].mean(axis=0), np.maximum(x[rows].std(axis=0), 1e-9)
    z = (x - level) / deviation
    offsets = [*range(-SIDE, 0), *range(1, SIDE + 1)]
    if season > SIDE:
        offsets += [-season, season]

    def at(series: np.ndarray, offset: int) -> np.ndarray:
        return series[np.clip(rows + offset, 0, steps - 1)]

    own = [np.ones((len(rows), sensors)), *(at(z, offset) for offset in offsets)]
    target = (values[rows] - level) / deviation
    weight = np.where(np.isfinite(target), deviation**2, 0)[..., None]
    target = np.nan_to_num(target)
    found = np.full(values.shape, np.nan)
    for block in np.array_split(np.arange(len(rows)), BLOCKS):
        others = np.delete(np.arange(len(rows)), block)
        around = [at(z @ _alike(z[rows[others]]), n) for n in (-1, 0, 1)] if sensors > 1 else []
        features = np.stack([*own, *around], axis=-1)  # [R, N, F]
        gram = np.einsum("rnf,rng->fg", features[others] * weight[others], features[others])
        moment = np.einsum("rnf,rn->f", features[others] * weight[others], target[others])
        solved = np.linalg.solve(gram + RIDGE * np.diag(np.diag(gram)), moment)
        found[rows[block]] = features[block] @ solved * deviation + level
    return found


def _alike(z: np.ndarray) -> np.ndarray:
    """Return [N, N] whose column n averages the sensors whose steps are most like those of n."""
    steps = np.diff(z, axis=0)
    steps = (steps - steps.mean(axis=0)) / np.maximum(steps.std(axis=0), 1e-9)
    alike = steps.T @ steps
    np.fill_diagonal(alike, -np.inf)
    count = min(ALIKE, len(alike) - 1)
    chosen_rows = np.argsort(-alike, axis=0)[:count]
    weights = np.zeros_like(alike)
    np.put_along_axis(weights, chosen_rows, 1 / count, axis=0)
    return weights


def own_season(targets: np.ndarray, mask: np.ndarray, season: int) -> np.ndarray:
    """Return the mean of the targets [W, H, N] of each window at each phase of the season."""
    windows, horizon, sensors = targets.shape
    phase = np.arange(horizon) % season
    total = np.zeros((windows, season, sensors))
    count = np.zeros_like(total)
    np.add.at(total, (slice(None), phase), np.where(mask, targets, 0))
    np.add.at(count, (slice(None), phase), mask)
    return (total / np.maximum(count, 1))[:, phase]


def rows(experiment: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return the metrics of both rows for the problem of an experiment's arguments."""
    from cityjax.forecasting import problem_of
    from cityjax.overrides import resolve
    from cityjax.tasks.scores import measure, truth

    problem, _ = problem_of(resolve(list(experiment)).configs[0])
    start, stop = problem.rows["test"]
    origins = problem.origins["test"][:, None]
    targets = np.minimum(origins + np.arange(1, problem.horizon + 1), stop - 1)
    values = problem.series.values.astype(np.float64)
    season = problem.season
    found = {BOTH_SIDES: measure(problem, both_sides(values, start, stop, season)[targets])}
    if problem.horizon >= SEASONS * season > SEASONS:
        found[OWN_SEASON] = measure(problem, own_season(*truth(problem, "test"), season))
    return {
        name: {f"test/{metric}": float(value) for metric, value in each.items()}
        for name, each in found.items()
    }


def read() -> dict[str, Any]:
    """Return what is kept: by set, its rows, and the commit and date that they are of."""
    return json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {}


def main(names: list[str]) -> None:
    """Measure the named sets, those with a target by default, and write the tables' page."""
    from benchmarks.forecasting import TABLES
    from benchmarks.tables import text

    aimed = [name for name, table in TABLES.items() if any(line.targets for line in table.lines)]
    kept = read()
    FOUND.parent.mkdir(exist_ok=True)
    for name in chosen("sets", names or aimed, TABLES):
        merged: dict[str, dict[str, float]] = {}
        for arguments in TABLES[name].lines[0].runs.values():
            for row, values in rows(arguments).items():
                merged.setdefault(row, {}).update(values)
        kept[name] = {"rows": merged, "commit": commit(), "date": time.strftime("%Y-%m-%d")}
        FOUND.write_text(json.dumps(kept, indent=1) + "\n")
        (DOCS / "forecasting.md").write_text(text("forecasting", TABLES))
        print(name, json.dumps(merged), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
