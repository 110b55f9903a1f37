"""Naive floors as models without parameters, so that they are run and compared like any other.

`seasonal` and `historical_average` are profiles, one value a step whatever the lead: so many
seasons ago that the longest lead knows it, and the typical day of working days or the weekend. The
floors of `data.floors`, which every result has beside it, are a little nearer: they go back as far
as each lead needs, and average each weekday by itself.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cityjax.choices import Choice
from cityjax.data.files import DataError
from cityjax.forecasters._arguments import SAME, TRAINED
from cityjax.learner import Model
from cityjax.models.forecasting import values
from cityjax.models.ridge import last_observed
from cityjax.tasks.forecasting import Forecaster
from cityjax.tasks.problem import PROFILES, Problem
from cityjax.tasks.scales import scaled


def _floor(forecast: Callable[[Any], jax.Array], problem: Problem) -> Forecaster:
    """Return a forecaster of what is read alone.

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
        raise DataError(f"this model is a profile: inputs needs {PROFILES}")
    return _floor(lambda inputs: inputs["profile"][:, -problem.horizon :, :, 0], problem)


_ONCE = {"steps": 1, "eval_every": 1, "log_every": 1}
_FIXED = (*TRAINED, *SAME, "scale", "graph")
MODELS = {
    "last_value": Choice(last_value, {}, _ONCE, (*_FIXED, "inputs")),
    "window_mean": Choice(window_mean, {}, _ONCE, (*_FIXED, "inputs")),
    "seasonal": Choice(first_profile, {}, _ONCE | {"inputs": ("season",)}, _FIXED),
    "historical_average": Choice(first_profile, {}, _ONCE | {"inputs": ("typical_day",)}, _FIXED),
}
