"""How far a target lies from its forecast, in which scale, and the interval that reaches so far."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ROUNDING = 1e-6  # of a target, below which its distance is none
LEAST = 1e-25  # side of an interval of quantiles that are all the same


class Scale(NamedTuple):
    """The scale in which errors are alike: of counts that of their roots, say.

    forward, backward: to the scale and back from it, value by value, rising. lowest: what targets
    are not below, in the data's unit, so that no interval needs to be. text: what to say of it.
    """

    forward: Callable[[np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray], np.ndarray]
    lowest: float = -math.inf
    text: str = ""


LINEAR = Scale(lambda values: values, lambda values: values)


def conformity(
    outputs: np.ndarray, targets: np.ndarray, mask: np.ndarray, scale: Scale = LINEAR
) -> np.ndarray:
    """Return how far each target lies from its forecast in a scale: [W, H, N], NaN where masked.

    Of a point, |y - p|; of quantiles, the distance from the middle one in units of that of the
    outer one on the same side (Romano et al. 2019 in its scaled form): 1 lies on the outer one.
    A target below the scale's lowest is infinitely far, a forecast that is no number has none.
    """
    below = targets < scale.lowest
    targets, outputs = _in_scale(targets, scale), _in_scale(outputs, scale)
    middle = outputs if outputs.ndim == 3 else outputs[..., outputs.shape[-1] // 2]
    distance = targets - middle
    above = distance > 0
    np.abs(distance, out=distance)
    for lead in range(distance.shape[1]):  # what is rounding of the target's own size is none
        part = distance[:, lead]
        part[part <= ROUNDING * np.abs(targets[:, lead])] = 0
    if outputs.ndim == 4:
        distance /= np.where(above, *reversed(_sides(outputs)))
    known = np.isfinite(distance) & mask
    distance[below] = np.inf
    distance[~known] = np.nan
    return distance


def bounds(
    outputs: np.ndarray, half: np.ndarray, scale: Scale = LINEAR
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of intervals [..., N] that reach `half` in units of `conformity`.

    outputs: points [..., N], or rising quantiles [..., N, Q]; half: of as many axes as points.
    """
    outputs = _in_scale(outputs, scale)
    if outputs.ndim == half.ndim:
        ends = outputs - half, outputs + half
    else:
        middle, (below, above) = outputs[..., outputs.shape[-1] // 2], _sides(outputs)
        ends = middle - half * below, middle + half * above
    low, high = (np.maximum(scale.backward(end), scale.lowest) for end in ends)
    return low, high


def _in_scale(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return values in a scale, none below its lowest."""
    if scale.lowest > -math.inf:
        values = np.maximum(values, scale.lowest)
    return scale.forward(values)


def _sides(quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the outer of quantiles [..., Q] lie below and above the middle one.

    Neither as less than a quarter of both: beside one that has collapsed every error is huge, and
    so would be the other side that the same half-width is for.
    """
    middle = quantiles[..., quantiles.shape[-1] // 2]
    below, above = middle - quantiles[..., 0], quantiles[..., -1] - middle
    least = np.maximum((below + above) / 4, LEAST)
    return np.maximum(below, least), np.maximum(above, least)
