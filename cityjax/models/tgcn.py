"""T-GCN: graph convolutions of every step, a GRU over the steps (Zhao et al. 2019)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.models.forecasting import Head, Inputs, Support, clock_features, past
from cityjax.models.layers import Dropout
from cityjax.models.rnn import Recurrent


class TGCN(nn.Module):
    """f_t = sigmoid(A relu(A x_t W_0) W_1), a GRU of every sensor over f_t, a linear head.

    Eq. 2 to 6, with the reset gate after the product with the hidden state, so that a step has one
    product. In these equations the graph never meets the hidden state: all convolutions, of all
    steps, are a few matrix products outside the scan. support: A, the symmetric normalisation of
    the graph with self-loops; None for every sensor by itself. calendar: what is known of time, as
    in `forecasting.clock_features`. quantiles: how many; 0 for a point.
    """

    horizon: int
    steps_per_day: int
    support: Support | None = None
    hidden_size: int = 64
    dropout: float = 0.0
    calendar: Sequence[str] = ("day", "week")
    quantiles: int = 0

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map windows to forecasts [B, H, N] or [B, H, N, Q]."""
        support = self.support or (lambda x: x)
        when = clock_features(self, inputs["clock"], self.steps_per_day, self.calendar)
        x = past(inputs, when)  # [B, T, N, C]
        # A (x W) = (A x) W: the graph goes where there are fewer features, inputs before W_0.
        x = nn.relu(nn.Dense(self.hidden_size, name="first")(support(x)))
        x = nn.sigmoid(support(nn.Dense(self.hidden_size, name="second")(x)))
        batch, steps, sensors, _ = x.shape
        x = jnp.moveaxis(x, 2, 1).reshape(batch * sensors, steps, self.hidden_size)
        hidden = Recurrent(self.hidden_size, name="gru")(x)[0][:, -1]
        hidden = hidden.reshape(batch, sensors, self.hidden_size)
        hidden = Dropout(self.dropout)(hidden, train=train, axis_name=axis_name)
        return Head(self.horizon, self.quantiles, name="head")(hidden)
