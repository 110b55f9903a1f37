"""The scales that forecasters work in, by name, and what they make of the intervals around them."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data.files import DataError
from cityjax.data.moments import moments
from cityjax.data.windows import fit_scaler
from cityjax.errors import spell
from cityjax.models import transforms
from cityjax.tasks.conformity import LINEAR, Scale
from cityjax.tasks.forecasting import ClosedForm, Forecaster
from cityjax.tasks.problem import Problem

COUNTS = ("root", "logarithm")
RELATIVE = ("typical_day", "instance", "last")  # to what a window says of itself
SCALES = ("standard", *COUNTS, *RELATIVE)


def scaled(forecaster: Forecaster, problem: Problem, scale: tuple[str, ...]) -> Forecaster:
    """Return the forecaster in another scale: names of SCALES, applied in this order.

    "root" and "logarithm" are for counts; "standard" is the z-score by sensor in train, of what
    comes before it; "typical_day" is the difference from that input, "last" from the last value,
    "instance" the z-score of each window by itself. Counts are not forecast below 0. Raises
    DataError where the problem has not the input, or where one of the first three comes after one
    of the others.
    """
    for before, after in itertools.pairwise(scale):
        if before in RELATIVE and after not in RELATIVE:
            raise DataError(
                f"scale={spell(scale)}: {after} is of the values themselves and comes before"
                f" {before}, which leaves differences"
            )
    lowest = interval_scale(problem, scale).lowest
    values = problem.series.values[: problem.train_stop]
    seen = np.isfinite(values)
    made = []
    for name in scale:
        if name == "standard":
            made.append(transforms.standardise(*fit_scaler(values, seen, stop=len(values))))
        elif name in COUNTS:
            change = _of_counts(name, values)
            values = _by_value(change.forward)(values)
            made.append(change)
        elif name == "typical_day":
            if "typical_day" not in problem.inputs:
                raise DataError(
                    "scale has typical_day, which is not among the inputs: add it to them, or leave"
                    " it out of the scale"
                )
            made.append(transforms.profile_residual())
        else:
            made.append({"instance": transforms.instance, "last": transforms.last}[name]())
    if isinstance(forecaster, ClosedForm):
        importance = forecaster.importance
        if "standard" in scale and not problem.protocol.standardised:
            # Errors then add up over sensors about as they do in the unit of the metric.
            train = problem.series.values[: problem.train_stop]
            spread = moments(train, np.isfinite(train))[1]
            importance = jnp.asarray(np.square(spread / (np.sqrt(np.mean(spread**2)) or 1)))
        regression = transforms.rescaled(forecaster.regression, *made)
        decode = regression.decode
        regression = regression._replace(
            decode=lambda inputs, outputs: jnp.maximum(decode(inputs, outputs), lowest)
        )
        return forecaster._replace(regression=regression, importance=importance)
    return transforms.at_least(transforms.transformed(forecaster, *made), lowest)


def _of_counts(name: str, values: np.ndarray) -> transforms.Transform:
    """Return the transform of a name, "root" or "logarithm", for values some of which are NaN."""
    if name == "root":
        return transforms.square_root()
    return transforms.logarithm(float(np.nanmedian(np.abs(values))) or 1.0)


def interval_scale(problem: Problem, scale: tuple[str, ...]) -> Scale:
    """Return the scale for the intervals of forecasts in a scale: its root or logarithm if first.

    Neither forecast nor end lies below 0 where no value of train and validation does.
    """
    if not scale or scale[0] not in COUNTS:
        return LINEAR
    values = problem.series.values[: problem.rows["validation"][1]]
    change = _of_counts(scale[0], values[: problem.train_stop])
    counts = not (values < 0).any()
    return Scale(
        _by_value(change.forward),
        _by_value(change.backward),
        lowest=0.0 if counts else -math.inf,
        text=f"; errors are measured in the scale of the {scale[0]}"
        + (", no forecast and no end is below 0" if counts else ""),
    )


def _by_value(way: Callable[[Any, jax.Array, slice], jax.Array]) -> Callable[[Any], np.ndarray]:
    """Return one way of a transform that no window, sensor or step has a say in."""
    return lambda values: np.asarray(way((), values, slice(None)))
