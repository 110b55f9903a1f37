"""STID: a multi-layer perceptron that knows where and when it is (Shao et al. 2022)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.models.forecasting import (
    Head,
    Inputs,
    Support,
    adaptive_support,
    by_sensor,
    neighbours,
    values,
)
from cityjax.models.layers import Dropout


class STID(nn.Module):
    """The history of a sensor beside identities: of the sensor, the step of the day, the weekday.

    z = [history W + b, sensor, step, weekday], then `layers` residual layers
    z + W_2 drop(relu(W_1 z)), then a linear head (eq. 1 to 4). hidden_size is the width of each of
    the parts of z; there is no step of the day where a day is one step, as steps_per_day says.
    Beside the values the history has what is observed and past covariates, and what is known of the
    horizon: covariates, and profiles of all steps.

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
        parts.append(self._identity("sensor_identity", sensors)[None])
        now = inputs["clock"][:, steps - 1]  # the last step that is known
        if self.steps_per_day > 1:
            table = self._identity("step_identity", self.steps_per_day)
            parts.append(table[now[:, 0] % self.steps_per_day][:, None])
        parts.append(self._identity("weekday_identity", 7)[now[:, 1]][:, None])
        z = jnp.concatenate([jnp.broadcast_to(part, shape) for part in parts], axis=-1)
        for _ in range(self.layers):
            x = nn.relu(nn.Dense(z.shape[-1])(z))
            x = Dropout(self.dropout)(x, train=train, axis_name=axis_name)
            z = z + nn.Dense(z.shape[-1])(x)
        return Head(self.horizon, self.quantiles, name="head")(z)

    def _identity(self, name: str, size: int) -> jax.Array:
        return self.param(name, nn.initializers.xavier_uniform(), (size, self.hidden_size))
