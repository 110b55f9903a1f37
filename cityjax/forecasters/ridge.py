"""Ridge autoregression: in closed form, from one pass over the data."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from cityjax.choices import NEVER, Choice
from cityjax.data.files import DataError
from cityjax.forecasters._arguments import PER_SENSOR, SAME, TRAINED, walks
from cityjax.models.ridge import autoregression, last_observed, mean_season
from cityjax.tasks.forecasting import ClosedForm
from cityjax.tasks.problem import PROFILES, Problem

# From what ridge takes differences: level is 0 in its scale, profile the first of the inputs.
BASES = ("last", "level", "mean_season", "profile")


def ridge(
    problem: Problem,
    *,
    penalties: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
    per_sensor: bool = False,
    hops: int = 1,
    neighbour_lags: int = 3,
    folds: int = 0,
    bases: tuple[str, ...] = ("last",),
) -> ClosedForm:
    """Return ridge autoregression on the window, neighbours, profiles and covariates.

    bases: of BASES; of several the forecast is the mean of a regression from each. Raises DataError
    where the problem has not what a base is made of.
    """
    regression = autoregression(
        horizon=problem.horizon,
        bases=_bases(bases, problem),
        supports=walks(problem, hops),
        neighbour_lags=min(neighbour_lags, problem.history),
        gaps=not problem.series.observed.all(),
        calendar=problem.calendar,
        steps_per_day=problem.series.steps_per_day,
    )
    return ClosedForm(regression, penalties, per_sensor, folds=folds)


def _bases(names: Sequence[str], problem: Problem) -> list[Callable[[Any], jax.Array]]:
    """Return what forecasts are differences from, in the scale that the regression reads."""
    unknown = [name for name in names if name not in BASES]
    if unknown or not names:
        raise DataError(f"model.bases={list(names)}: one or more of {', '.join(BASES)}")
    if "profile" in names and not problem.data["profile"].shape[-1]:
        raise DataError(f"model.bases has profile: inputs needs {PROFILES}")
    if "mean_season" in names and problem.history < problem.season:
        raise DataError(
            f"model.bases has mean_season, which needs a history of at least a season: history="
            f"{problem.history} is below {problem.season}: take more, or leave it out"
        )
    made = {
        "last": last_observed,
        "level": lambda inputs: jnp.zeros_like(inputs["history"][:, :1, :, 0]),
        "mean_season": partial(mean_season, season=problem.season, horizon=problem.horizon),
        "profile": lambda inputs: inputs["profile"][:, -problem.horizon :, :, 0],
    }
    return [made[name] for name in names]


MODELS = {
    "ridge": Choice(
        ridge,
        {
            "penalties": "candidates, shares of the number of rows",
            "bases": "differences from which are averaged, of: " + ", ".join(BASES),
            "folds": "blocks in time, 4 or more, to choose among them; 0: validation does",
            **PER_SENSOR,
            "hops": "steps along the graph to neighbours whose values are read, 0 for none",
            "neighbour_lags": "how many of their last values",
        },
        {"batch_size": 64, "eval_every": NEVER, "log_every": NEVER},
        (*TRAINED, *SAME, "quantiles"),
    )
}
