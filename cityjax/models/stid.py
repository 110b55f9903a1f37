"""STID: a multi-layer perceptron that knows where and when it is (Shao et al. 2022)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.models.forecasting import (
    Head,
    Inputs,
    Support,
    adaptive_support,
    by_sensor,
    check_calendar,
    neighbours,
    values,
)
from cityjax.models.layers import Dropout


class STID(nn.Module):
    """The history of a sensor beside identities: of the sensor, the step of the day, the weekday.

    z = [history W + b, sensor, step, weekday], then `layers` residual layers
    z + W_2 drop(relu(W_1 z)), then a linear head (eq. 1 to 4). hidden_size is the width of each of
    the parts of z. Beside the values the history has what is observed and past covariates, and what
    is known of the horizon: covariates, and profiles of all steps.

    calendar: which identities of time z has, of the last step that is known: "day", the step of the
    day, unless a day is one step, as steps_per_day says; "week", the weekday; "year", its week; ()
    for none. They start at zero, so that a time that is never trained says nothing.
    sensor_identity: whether z has that of the sensor.

    supports: graphs whose neighbours' histories are appended, the mean of those observed, such as
    A, A^2 and A^T; adaptive_size: of the vectors of a learnt graph that is one more of them, 0 for
    none.
    quantiles: how many; 0 for a point.
    """

    horizon: int
    steps_per_day: int
    hidden_size: int = 32
    layers: int = 3
    dropout: float = 0.15
    supports: tuple[Support, ...] = ()
    adaptive_size: int = 0
    calendar: Sequence[str] = ("day", "week")
    sensor_identity: bool = True
    quantiles: int = 0

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map windows to forecasts [B, H, N] or [B, H, N, Q]."""
        batch, steps, sensors, _ = inputs["history"].shape
        target = jnp.swapaxes(values(inputs), 1, 2)  # [B, N, T]
        observed = jnp.swapaxes(inputs["observed"], 1, 2)
        columns = [target, observed.astype(target.dtype)]
        columns.append(by_sensor(inputs["history"][..., 1:]))
        columns.append(by_sensor(inputs["known"][:, steps:]))
        columns.append(by_sensor(inputs["profile"]))
        supports = list(self.supports)
        if self.adaptive_size:
            supports.append(adaptive_support(self, sensors, self.adaptive_size))
        columns += [neighbours(support, target, observed) for support in supports]
        shape = (batch, sensors, self.hidden_size)
        parts = [nn.Dense(self.hidden_size, name="history")(jnp.concatenate(columns, axis=-1))]
        if self.sensor_identity:
            noise = nn.initializers.xavier_uniform()
            table = self.param("sensor_identities", noise, (sensors, self.hidden_size))
            parts.append(table[None])
        check_calendar(self.calendar)
        zeros = nn.initializers.zeros
        step, weekday, day = jnp.moveaxis(inputs["clock"][:, steps - 1], -1, 0)
        rows = {"day": (self.steps_per_day, step), "week": (7, weekday), "year": (53, day // 7)}
        for period, (size, row) in rows.items():
            if period in self.calendar and size > 1:
                table = self.param(f"{period}_identities", zeros, (size, self.hidden_size))
                parts.append(table[row][:, None])
        z = jnp.concatenate([jnp.broadcast_to(part, shape) for part in parts], axis=-1)
        width = z.shape[-1]
        # As rows of all windows and sensors: the gradient of a kernel is then one matrix product,
        # which it is not where a product has two batch axes.
        z = z.reshape(-1, width)
        for _ in range(self.layers):
            x = nn.relu(nn.Dense(width)(z)).reshape(batch, sensors, width)
            x = Dropout(self.dropout)(x, train=train, axis_name=axis_name)
            z = z + nn.Dense(width)(x.reshape(-1, width))
        return Head(self.horizon, self.quantiles, name="head")(z.reshape(batch, sensors, width))
