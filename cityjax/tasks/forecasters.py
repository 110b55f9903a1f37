"""The forecasters by name: from a problem and a model's own options to what can be trained."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data.files import DataError
from cityjax.learner import Model, from_linen
from cityjax.models.experts import Experts
from cityjax.models.forecasting import Support, values
from cityjax.models.linear import DLinear, NLinear
from cityjax.models.patchtst import PatchTST
from cityjax.models.ridge import autoregression, last_observed, mean_season
from cityjax.models.seq2seq import Seq2Seq
from cityjax.models.stid import STID
from cityjax.models.tgcn import TGCN
from cityjax.models.wavenet import GraphWaveNet
from cityjax.ops.graph import normalized, product
from cityjax.tasks.forecasting import ClosedForm, Forecaster
from cityjax.tasks.problem import Problem
from cityjax.tasks.scales import scaled

# From what ridge takes differences: level is 0 in its scale, profile the first of the inputs.
BASES = ("last", "level", "mean_season", "profile")
_PROFILES = "typical_day, season, year_ago or past_years"


def _matrices(problem: Problem, hops: int) -> list[np.ndarray]:
    """Return the random walks along the edges and against them, of 1 to `hops` steps: [N, N]."""
    if problem.graph is None:
        return []
    found = []
    ways = ["random_walk", "reverse_random_walk"]
    if np.array_equal(problem.graph, problem.graph.T):
        ways = ways[:1]
    for kind in ways:
        walk = np.asarray(normalized(problem.graph, kind))
        step = walk
        for _ in range(hops):
            found.append(step)
            step = step @ walk
    return found


def _supports(problem: Problem, hops: int) -> tuple[Support, ...]:
    return tuple(map(product, _matrices(problem, hops)))


def _floor(forecast: Callable[[Any], jax.Array], problem: Problem) -> Forecaster:
    """A naive floor as a model without parameters, so that it is run and compared like any other.

    forecast: inputs -> [B, 1 or H, N].
    """

    def apply(params: Any, model_state: Any, inputs: Any, **options: Any) -> tuple[Any, Any]:
        del params, options
        shape = (*inputs["observed"].shape[::2], problem.horizon)  # B, N, H
        outputs = jnp.broadcast_to(forecast(inputs), (shape[0], shape[2], shape[1]))
        if problem.quantiles:
            outputs = jnp.repeat(outputs[..., None], len(problem.quantiles), axis=-1)
        return outputs, model_state

    return scaled(Model(lambda key, inputs: ({}, {}), apply), problem, ("standard",))


def last_value(problem: Problem) -> Forecaster:
    """Return the last observed value of the history; the mean of train where there is none."""
    return _floor(last_observed, problem)


def window_mean(problem: Problem) -> Forecaster:
    """Return the mean of the observed history; that of train where there is none."""

    def forecast(inputs: Any) -> jax.Array:
        count = inputs["observed"].sum(axis=1, keepdims=True)
        return values(inputs).sum(axis=1, keepdims=True) / jnp.maximum(count, 1)

    return _floor(forecast, problem)


def first_profile(problem: Problem) -> Forecaster:
    """Return the first profile among the inputs as it is."""
    if not problem.data["profile"].shape[-1]:
        raise DataError(f"this model is a profile: inputs needs {_PROFILES}")
    return _floor(lambda inputs: inputs["profile"][:, -problem.horizon :, :, 0], problem)


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
        supports=_matrices(problem, hops),
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
        raise DataError(f"model.bases has profile: inputs needs {_PROFILES}")
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


def _outputs(problem: Problem) -> dict[str, Any]:
    """What every network is told of its outputs."""
    return {"horizon": problem.horizon, "quantiles": len(problem.quantiles)}


def _timed(problem: Problem) -> dict[str, Any]:
    """The same, and what it may know of time."""
    steps_per_day = problem.series.steps_per_day
    return {**_outputs(problem), "steps_per_day": steps_per_day, "calendar": problem.calendar}


def experts(problem: Problem) -> Model:
    """Return experts weighted online by their past errors."""
    return from_linen(Experts(season=problem.season, **_outputs(problem)))


def nlinear(problem: Problem, *, per_sensor: bool = False) -> Model:
    """Return NLinear."""
    return from_linen(NLinear(per_sensor=per_sensor, **_outputs(problem)))


def dlinear(problem: Problem, *, window: int = 25, per_sensor: bool = False) -> Model:
    """Return DLinear; DataError where the moving average has no middle."""
    if window % 2 == 0:
        raise DataError(f"model.window={window} is even: take {window + 1}")
    return from_linen(DLinear(window=window, per_sensor=per_sensor, **_outputs(problem)))


def stid(
    problem: Problem,
    *,
    hidden_size: int = 32,
    layers: int = 3,
    dropout: float = 0.15,
    hops: int = 2,
    adaptive_size: int = 0,
) -> Model:
    """Return STID, with the histories of neighbours where there is a graph."""
    return from_linen(
        STID(
            hidden_size=hidden_size,
            layers=layers,
            dropout=dropout,
            supports=_supports(problem, hops),
            adaptive_size=adaptive_size,
            **_timed(problem),
        )
    )


def seq2seq(
    problem: Problem,
    *,
    hidden_size: int = 64,
    layers: int = 1,
    cell: str = "gru",
    dropout: float = 0.1,
) -> Model:
    """Return the recurrent encoder-decoder."""
    return from_linen(
        Seq2Seq(
            hidden_size=hidden_size,
            layers=layers,
            cell=cell,
            dropout=dropout,
            **_timed(problem),
        )
    )


def tgcn(problem: Problem, *, hidden_size: int = 64, dropout: float = 0.0) -> Model:
    """Return T-GCN."""
    support = None
    if problem.graph is not None:
        support = product(normalized(problem.graph, "symmetric"))
    return from_linen(
        TGCN(
            support=support,
            hidden_size=hidden_size,
            dropout=dropout,
            **_timed(problem),
        )
    )


def wavenet(
    problem: Problem,
    *,
    hidden_size: int = 32,
    skip_size: int = 256,
    dropout: float = 0.3,
    adaptive_size: int = 10,
    dilations: tuple[int, ...] = (1, 2, 1, 2, 1, 2, 1, 2),
) -> Model:
    """Return Graph WaveNet."""
    return from_linen(
        GraphWaveNet(
            supports=_supports(problem, 1),
            adaptive_size=adaptive_size,
            hidden_size=hidden_size,
            skip_size=skip_size,
            dilations=dilations,
            dropout=dropout,
            **_timed(problem),
        )
    )


def patchtst(
    problem: Problem,
    *,
    patch: int = 16,
    stride: int = 8,
    hidden_size: int = 16,
    heads: int = 4,
    layers: int = 3,
    feedforward_size: int = 128,
    dropout: float = 0.3,
) -> Model:
    """Return PatchTST; DataError where its heads do not divide a token."""
    if hidden_size % heads:
        raise DataError(f"model.heads={heads} does not divide model.hidden_size={hidden_size}")
    return from_linen(
        PatchTST(
            patch=patch,
            stride=stride,
            hidden_size=hidden_size,
            heads=heads,
            layers=layers,
            feedforward_size=feedforward_size,
            dropout=dropout,
            **_outputs(problem),
        )
    )
