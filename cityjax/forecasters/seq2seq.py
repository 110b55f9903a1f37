"""An encoder-decoder of each sensor, all by one set of weights (Sutskever et al. 2014)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.choices import RATE, SIZE, Choice
from cityjax.forecasters._arguments import DROPOUT, HIDDEN, timed
from cityjax.learner import Model, from_linen
from cityjax.models.forecasting import Inputs, by_step, clock_features, future, past
from cityjax.models.layers import Dropout
from cityjax.models.rnn import Recurrent
from cityjax.names import CELLS
from cityjax.tasks.problem import Problem


class Seq2Seq(nn.Module):
    """Recurrent layers read the history of a sensor, others what is known of its horizon.

    Layer l of the decoder starts from the last carry of layer l of the encoder. A decoder step
    reads the covariates, profiles and calendar of its step, where there are any, never a forecast:
    training and forecasting see the same. cell: as in `rnn.Recurrent`; dropout: between layers and
    before the head, in training. calendar: what is known of time, as in
    `forecasting.clock_features`. quantiles: how many; 0 for a point.
    """

    horizon: int
    steps_per_day: int
    hidden_size: int = 64
    layers: int = 1
    cell: str = "gru"
    dropout: float = 0.0
    calendar: Sequence[str] = ("day", "week")
    quantiles: int = 0

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map windows to forecasts [B, H, N] or [B, H, N, Q]; H as the clock has it."""
        batch, _, sensors, _ = inputs["history"].shape

        def rows(x: jax.Array) -> jax.Array:  # [B, S, N, C] to [B N, S, C]
            return jnp.moveaxis(x, 2, 1).reshape(batch * sensors, x.shape[1], x.shape[3])

        def drop(x: jax.Array) -> jax.Array:
            kept = Dropout(self.dropout)(
                x.reshape(batch, sensors, *x.shape[1:]), train=train, axis_name=axis_name
            )
            return kept.reshape(x.shape)

        when = clock_features(self, inputs["clock"], self.steps_per_day, self.calendar)
        read, ahead = rows(past(inputs, when)), rows(future(inputs, when))
        if not ahead.shape[-1]:  # nothing is known of a step but that it is one
            ahead = jnp.ones((*ahead.shape[:2], 1), ahead.dtype)
        for layer in range(self.layers):
            if layer:
                read, ahead = drop(read), drop(ahead)
            encoder = Recurrent(self.hidden_size, self.cell, name=f"encoder_{layer}")
            decoder = Recurrent(self.hidden_size, self.cell, name=f"decoder_{layer}")
            read, carry = encoder(read)
            ahead, _ = decoder(ahead, carry)
        y = nn.Dense(max(1, self.quantiles), name="head")(drop(ahead))
        return by_step(y.reshape(batch, sensors, -1), self.horizon, self.quantiles)


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
            **timed(problem),
        )
    )


MODELS = {
    "seq2seq": Choice(
        seq2seq,
        {**HIDDEN, "layers": "recurrent layers", "cell": "simple, gru, lstm", **DROPOUT},
        unused=("graph",),
        allowed={"hidden_size": SIZE, "cell": CELLS, "dropout": RATE},
    )
}
