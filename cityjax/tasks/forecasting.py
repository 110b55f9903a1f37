"""The experiment of a forecaster on a problem: how it learns, is selected and scored."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cityjax import losses
from cityjax.data import forecast
from cityjax.data.files import DataError
from cityjax.data.moments import moments
from cityjax.fit import predict_mean
from cityjax.learner import Experiment, Model, State
from cityjax.learners import average, closed_form, early_solution, supervised
from cityjax.models.ridge import Regression
from cityjax.tasks import blocks, forecast_figures, intervals
from cityjax.tasks.problem import Problem, describe, lead_name
from cityjax.tasks.scores import baselines, error_scale, measure, truth

EVALUATION_BATCH = 32
LOSSES = ("auto", "squared", "absolute")


class ClosedForm(NamedTuple):
    """A forecaster that one pass of the data determines.

    importance: what the squared error of a sensor counts [N], in the scale of the regression.
    folds: blocks in time, at most, whose errors choose the penalties; 0: those of validation do.
    """

    regression: Regression
    penalties: tuple[float, ...]
    per_sensor: bool = False
    importance: jax.Array | None = None
    folds: int = 0


Forecaster = Model | ClosedForm


def forecast_experiment(
    problem: Problem,
    forecaster: Forecaster,
    *,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    loss: str = "auto",
    members: int = 1,
    refit: bool = False,
    refit_every: int | None = None,
    data: Mapping[str, str] = {},
) -> Experiment:
    """Return the experiment that trains a forecaster and scores it beside its floors.

    loss: of LOSSES; "auto" is squared where the metric that selects is, else absolute. members: how
    many models are trained whose mean is the forecast. refit: train on validation too, everything
    having been settled before: no checkpoint is selected, and intervals, which a closed form alone
    has, are of the errors on validation of its solution without it. refit_every: steps of test
    after which a closed form learns from what has come by then, and again. data: name -> sha256.

    Raises DataError for refit_every without refit, of a network, or for too many fits.
    """
    if refit_every is not None and not (refit and isinstance(forecaster, ClosedForm)):
        raise DataError(
            f"refit_every={refit_every} is for refit=true and model=ridge, which learns on by sums"
        )
    rolled = None if refit_every is None else blocks.rolled(problem, refit_every)
    if rolled is not None:
        problem = problem._replace(data={**problem.data, "solution": rolled.solution})
    lengths = {"history": problem.history, "horizon": problem.horizon}
    parts = forecast.evaluation(
        problem.data, problem.origins, problem.rows, batch_size=EVALUATION_BATCH, **lengths
    )
    validation, text = parts["validation"], describe(problem)
    steps, selected, earlier = None, not refit, None
    if refit:
        text["refit"] = "on train and validation"
        del parts["validation"]
    if isinstance(forecaster, ClosedForm):
        if forecaster.folds:
            learnt, plan = blocks.folded(problem, forecaster.folds, refit=refit)
            text["penalties"] = f"by the errors on {len(plan.fits)} blocks of what is learnt from"
        else:
            learnt, plan = blocks.one_pass(problem, refit=refit)
        if rolled is not None:
            learnt, plan = [*learnt, *rolled.blocks], blocks.followed(plan, len(rolled.blocks))
            often = "step" if refit_every == 1 else f"{refit_every:,} steps"
            text["refit"] += f", and every {often} on what has come by then"
        batches = blocks.in_blocks(problem, learnt, batch_size)
        train, steps, selected = batches.source, batches.count, False
        learner = closed_form(
            forecaster.regression,
            steps=batches.count,
            penalties=forecaster.penalties,
            plan=plan,
            per_sensor=forecaster.per_sensor,
            complete=bool(problem.series.observed.all()) and problem.protocol.whole,
            importance=forecaster.importance,
            metrics=problem.metrics,
        )
        if plan.early is not None:
            earlier = early_solution(learner)
    else:
        origins, rows = problem.origins["train"], problem.rows["train"]
        if refit:
            origins, rows = blocks.joined(problem.origins), (0, problem.rows["validation"][1])
        train = forecast.train_source(problem.data, origins, rows, batch_size=batch_size, **lengths)
        error = _loss(problem, loss)
        learner = supervised(forecaster, error, optimizer, problem.metrics)
        if members > 1:
            learner = average([learner] * members, error, problem.metrics)
            text["members"] = f"the mean of {members} models, of quantiles level by level"
    if earlier is not None:
        text["intervals"] += "; validation errors of the solution before the refit"
    elif refit:
        del text["intervals"]
    whole = lead_name((1, problem.horizon))

    def forecasts(states: Iterable[State]) -> dict[str, np.ndarray]:
        """Return the mean of some states' forecasts of each part's windows, padded rows left out.

        Of validation where their errors there are to give intervals.
        """
        if earlier is None:
            means = predict_mean(learner, states, parts)
        else:
            states = list(states)
            means = predict_mean(earlier, states, {"validation": validation})
            means |= predict_mean(learner, states, parts)
        return {part: values[: len(problem.origins[part])] for part, values in means.items()}

    def final(state: State, key: jax.Array) -> dict[str, float]:
        del key
        return _intervals(problem, forecasts([state]))

    return Experiment(
        learner,
        train=train,
        evaluation=parts,
        metrics=problem.metrics,
        baselines=functools.partial(baselines, problem),
        figures=lambda state: forecast_figures.figures(problem, forecasts([state])),
        final=None if refit and earlier is None else final,
        ensemble=lambda states: ensemble_scores(problem, forecasts(states)),
        better=intervals.better(whole),
        select=f"validation/{problem.select}" if selected else None,
        steps=steps,
        protocol=text,
        data=data,
    )


def _loss(problem: Problem, name: str) -> Callable[[Any, Any], tuple[jax.Array, jax.Array]]:
    """Return the loss in units of the spread of train, so that learning rates carry over."""
    if problem.quantiles:
        inner = losses.pinball(problem.quantiles)
    else:
        if name == "auto":
            of_squares = problem.select.split("@")[0] in ("mse", "rmse", "pcc")
            name = "squared" if of_squares else "absolute"
        inner = {"squared": losses.squared_error, "absolute": losses.absolute_error}[name]
    std = error_scale(problem)
    if not problem.protocol.standardised:
        train = problem.series.values[: problem.train_stop].ravel()
        std = np.full(len(std), moments(train, np.isfinite(train))[1] or 1.0)
    scale = jnp.asarray(std, jnp.float32)[None, None]

    def loss(outputs: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        by = scale[..., None] if outputs.ndim == 4 else scale
        return inner(outputs / by, {**batch, "targets": batch["targets"] / scale})

    return loss


def ensemble_scores(problem: Problem, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the metrics of the mean of several states' forecasts on test, and of its intervals.

    The mean is of points in the data's unit, or of quantiles level by level (Vincent averaging:
    Ratcliff 1979; Lichtendahl et al. 2013), which keeps them in order. outputs: it, of "test", and
    of "validation" where its errors there are to give intervals. Nothing is returned where a
    forecast of any state is no number.
    """
    for part, values in outputs.items():
        if not np.isfinite(values[truth(problem, part)[1]]).all():
            return {}
    around = _intervals(problem, outputs) if "validation" in outputs else {}
    return measure(problem, outputs["test"]) | around


def _intervals(problem: Problem, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Score the intervals that the errors on validation give the forecasts of test."""
    scores = intervals.interval_scores(
        outputs,
        {part: truth(problem, part) for part in outputs},
        problem.origins,
        scale=problem.interval_scale,
        unit=error_scale(problem),
    )
    return {f"{name}@{lead_name((1, problem.horizon))}": value for name, value in scores.items()}
