"""Linear forecasters: NLinear and DLinear (Zeng et al. 2023, "Are Transformers Effective ...?")."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cityjax.choices import SIZE, Choice
from cityjax.data.files import DataError
from cityjax.forecasters._arguments import BESIDE, PER_SENSOR, SAME, outputs
from cityjax.learner import Model, from_linen
from cityjax.models.forecasting import Inputs, by_step, carried
from cityjax.tasks.problem import Problem


class _OverTime(nn.Module):
    """y_h = sum_t w_ht x_t + b_h, from zero: the problem is convex, so any start will do."""

    outputs: int
    per_sensor: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, N, T] to [B, N, outputs]."""
        if not self.per_sensor:
            return nn.Dense(self.outputs, kernel_init=nn.initializers.zeros)(x)
        _, sensors, steps = x.shape
        zeros = nn.initializers.zeros
        kernel = self.param("sensor_kernel", zeros, (sensors, steps, self.outputs))
        bias = self.param("sensor_bias", zeros, (sensors, self.outputs))
        return jnp.einsum("bnt,nth->bnh", x, kernel) + bias[None]


def _history(inputs: Inputs) -> jax.Array:
    """The history by sensor [B, N, T]; a missing value is the one before it."""
    return jnp.swapaxes(carried(inputs), 1, 2)


class NLinear(nn.Module):
    """y = last + W (x - last): linear in the history's differences from its last value.

    per_sensor: weights for each sensor, else one set for all. quantiles: how many; 0 for a point.
    """

    horizon: int
    per_sensor: bool = False
    quantiles: int = 0

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map windows to forecasts [B, H, N] or [B, H, N, Q]."""
        x = _history(inputs)
        last = x[..., -1:]
        outputs = self.horizon * max(1, self.quantiles)
        change = _OverTime(outputs, self.per_sensor)(x - last)
        change = by_step(change, self.horizon, self.quantiles)
        last = jnp.swapaxes(last, 1, 2)
        return change + (last[..., None] if self.quantiles else last)


class DLinear(nn.Module):
    """y = W_t trend + W_s (x - trend), the trend a moving average of x.

    window: steps of the moving average, odd; the ends of the history are repeated for it.
    per_sensor, quantiles: as in NLinear.
    """

    horizon: int
    window: int = 25
    per_sensor: bool = False
    quantiles: int = 0

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map windows to forecasts [B, H, N] or [B, H, N, Q]."""
        x = _history(inputs)
        trend = x @ moving_average(x.shape[-1], self.window)
        outputs = self.horizon * max(1, self.quantiles)
        y = _OverTime(outputs, self.per_sensor, name="trend")(trend)
        y += _OverTime(outputs, self.per_sensor, name="rest")(x - trend)
        return by_step(y, self.horizon, self.quantiles)


def moving_average(steps: int, window: int) -> np.ndarray:
    """Return the matrix [T, T] of a centred average, its ends repeated: x [..., T] @ matrix.

    Raises ValueError for a window that is no odd number.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window={window} of a moving average is no odd number")
    around = np.arange(steps)[:, None] + np.arange(-(window // 2), window // 2 + 1)[None]
    matrix = np.zeros((steps, steps), np.float32)
    np.add.at(
        matrix, (np.clip(around, 0, steps - 1), np.arange(steps)[:, None]), np.float32(1 / window)
    )
    return matrix


def nlinear(problem: Problem, *, per_sensor: bool = False) -> Model:
    """Return NLinear."""
    return from_linen(NLinear(per_sensor=per_sensor, **outputs(problem)))


def dlinear(problem: Problem, *, window: int = 25, per_sensor: bool = False) -> Model:
    """Return DLinear; DataError where the moving average has no middle."""
    if window % 2 == 0:
        raise DataError(f"model.window={window} is even: take {window + 1}")
    return from_linen(DLinear(window=window, per_sensor=per_sensor, **outputs(problem)))


MODELS = {
    "nlinear": Choice(nlinear, PER_SENSOR, {}, (*SAME, *BESIDE)),
    "dlinear": Choice(
        dlinear,
        {"window": "steps of the moving average, odd", **PER_SENSOR},
        {},
        (*SAME, *BESIDE),
        {"window": SIZE},
    ),
}
