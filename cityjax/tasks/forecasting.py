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
from cityjax.data.sources import Source
from cityjax.fit import predict_mean
from cityjax.learner import Experiment, Learner, Model, State
from cityjax.learners import average, closed_form, early_solution, supervised
from cityjax.models.ridge import Regression
from cityjax.tasks import blocks, forecast_figures, intervals
from cityjax.tasks.problem import Problem, describe, lead_name
from cityjax.tasks.scores import baselines, error_scale, measure, truth

# Windows that are evaluated at a time: the more the fewer sensors, so many series in all.
FEWEST_WINDOWS, MOST_WINDOWS, SERIES = 32, 512, 4096
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


class Training(NamedTuple):
    """How a forecaster learns.

    learner, train: what learns, and what from. text: what a result says of it. steps: updates, of
    a closed form. early: the learner whose errors on validation give intervals, where that is not
    the one of the forecasts. solution: of a closed form that is fitted again, which one a forecast
    is by, at each row of the series [T].
    """

    learner: Learner
    train: Source
    text: Mapping[str, str]
    steps: int | None = None
    early: Learner | None = None
    solution: np.ndarray | None = None


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
    if isinstance(forecaster, ClosedForm):
        training = _by_sums(problem, forecaster, batch_size, refit=refit, every=refit_every)
    else:
        error = _loss(problem, loss)
        training = _by_gradients(
            problem, forecaster, error, optimizer, batch_size, members=members, refit=refit
        )
    solution = {} if training.solution is None else {"solution": training.solution}
    windows = SERIES // len(problem.series.sensors)
    parts = forecast.evaluation(
        {**problem.data, **solution},
        problem.origins,
        problem.rows,
        history=problem.history,
        horizon=problem.horizon,
        batch_size=min(max(windows, FEWEST_WINDOWS), MOST_WINDOWS),
    )
    learner, text = training.learner, {**describe(problem), **training.text}
    validation = parts["validation"]
    if refit:
        del parts["validation"]
        if training.early is None:
            text["intervals"] = "none: there is no error of what has not learnt from validation"
        else:
            text["intervals"] += "; validation errors of the solution before the refit"

    def forecasts(states: Iterable[State]) -> dict[str, np.ndarray]:
        """Return the mean of some states' forecasts of each part's windows, padded rows left out.

        Of validation where their errors there are to give intervals.
        """
        if training.early is None:
            means = predict_mean(learner, states, parts)
        else:
            states = list(states)
            means = predict_mean(training.early, states, {"validation": validation})
            means |= predict_mean(learner, states, parts)
        return {part: values[: len(problem.origins[part])] for part, values in means.items()}

    def final(state: State, key: jax.Array) -> dict[str, float]:
        del key
        return _intervals(problem, forecasts([state]))

    selected = not refit and training.steps is None
    return Experiment(
        learner,
        train=training.train,
        evaluation=parts,
        metrics=problem.metrics,
        baselines=functools.partial(baselines, problem),
        figures=lambda state: forecast_figures.figures(problem, forecasts([state])),
        final=None if refit and training.early is None else final,
        ensemble=lambda states: ensemble_scores(problem, forecasts(states)),
        better=intervals.better(lead_name((1, problem.horizon))),
        select=f"validation/{problem.select}" if selected else None,
        steps=training.steps,
        protocol=text,
        data=data,
    )


def _by_sums(
    problem: Problem, forecaster: ClosedForm, batch_size: int, *, refit: bool, every: int | None
) -> Training:
    """Return one pass over the blocks that a closed form learns from."""
    text = {"refit": "on train and validation"} if refit else {}
    if forecaster.folds:
        learnt, plan = blocks.folded(problem, forecaster.folds, refit=refit)
        text["penalties"] = f"by the errors on {len(plan.fits)} blocks of what is learnt from"
    else:
        learnt, plan = blocks.one_pass(problem, refit=refit)
    solution = None
    if every is not None:
        later, solution = blocks.rolled(problem, every)
        learnt, plan = [*learnt, *later], plan._replace(later=len(later))
        often = "step" if every == 1 else f"{every:,} steps"
        text["refit"] += f", and every {often} on what has come by then"
    batches = blocks.in_blocks(problem, learnt, batch_size)
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
    early = None if plan.early is None else early_solution(learner)
    return Training(learner, batches.source, text, batches.count, early, solution)


def _by_gradients(
    problem: Problem,
    model: Model,
    loss: Callable[[Any, Any], tuple[jax.Array, jax.Array]],
    optimizer: optax.GradientTransformation,
    batch_size: int,
    *,
    members: int,
    refit: bool,
) -> Training:
    """Return supervised training on shuffled windows, of several models side by side."""
    origins, rows = problem.origins["train"], problem.rows["train"]
    text = {}
    if refit:
        origins, rows = blocks.joined(problem.origins), (0, problem.rows["validation"][1])
        text["refit"] = "on train and validation"
    train = forecast.train_source(
        problem.data,
        origins,
        rows,
        history=problem.history,
        horizon=problem.horizon,
        batch_size=batch_size,
    )
    learner = supervised(model, loss, optimizer, problem.metrics)
    if members > 1:
        learner = average([learner] * members, loss, problem.metrics)
        text["members"] = f"the mean of {members} models, of quantiles level by level"
    return Training(learner, train, text)


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
