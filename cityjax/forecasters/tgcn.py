"""T-GCN: a gated recurrent unit whose products are graph convolutions (Zhao et al. 2019)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.choices import RATE, SIZE, Choice
from cityjax.forecasters._arguments import DROPOUT, HIDDEN, timed
from cityjax.learner import Model, from_linen
from cityjax.models.forecasting import Head, Inputs, Support, clock_features, past
from cityjax.models.layers import Dropout
from cityjax.ops.graph import normalized, product
from cityjax.tasks.problem import Problem


class TGCN(nn.Module):
    """h_t = u h_{t-1} + (1 - u) c of every sensor over the history, then a linear head.

    r, u = sigmoid(A [x_t, h_{t-1}] W + b), c = tanh(A [x_t, r h_{t-1}] W_c + b_c). This is the cell
    of the authors' program (github.com/lehaifeng/T-GCN), in which the graph A carries the hidden
    state at every step and b starts at 1. The paper's equations 2 to 6 differ: there A acts on x_t
    alone, twice. support: A, the symmetric normalisation of the graph with self-loops; None for
    every sensor by itself. calendar: what is known of time, as in `forecasting.clock_features`.
    quantiles: how many; 0 for a point.
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
        when = clock_features(self, inputs["clock"], self.steps_per_day, self.calendar)
        x = past(inputs, when)
        batch, steps, sensors, width = x.shape
        gates = self._weights("gates", width, 2 * self.hidden_size, bias=1.0)
        candidate = self._weights("candidate", width, self.hidden_size, bias=0.0)
        support = self.support or (lambda x: x)

        # Sensors come first: the graph product of a batch is one product, of [N, N] and
        # [N, B H], and that of the inputs of all steps is another, before the scan.
        x = support(jnp.moveaxis(x, 2, 0).reshape(sensors, -1))
        x = jnp.moveaxis(x.reshape(sensors, batch, steps, width), 2, 0)
        x = x.reshape(steps, sensors * batch, width)

        def convolution(x: jax.Array, h: jax.Array, weights: tuple[jax.Array, jax.Array]):
            moved = support(h.reshape(sensors, -1)).reshape(h.shape)
            return jnp.concatenate([x, moved], axis=-1) @ weights[0] + weights[1][None]

        def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            reset, update = jnp.split(nn.sigmoid(convolution(x, h, gates)), 2, axis=-1)
            new = jnp.tanh(convolution(x, reset * h, candidate))
            return update * h + (1 - update) * new, None

        # Only matrix products are kept for the gradient, which nearly halves what the scan writes.
        policy = jax.checkpoint_policies.dots_saveable
        h = jnp.zeros((sensors * batch, self.hidden_size), x.dtype)
        h, _ = jax.lax.scan(jax.checkpoint(step, policy=policy, prevent_cse=False), h, x)
        h = jnp.swapaxes(h.reshape(sensors, batch, self.hidden_size), 0, 1)
        h = Dropout(self.dropout)(h, train=train, axis_name=axis_name)
        return Head(self.horizon, self.quantiles, name="head")(h)

    def _weights(
        self, name: str, width: int, outputs: int, *, bias: float
    ) -> tuple[jax.Array, jax.Array]:
        """Kernel and bias of a convolution of [x, h]."""
        shape = (width + self.hidden_size, outputs)
        kernel = self.param(f"{name}_kernel", nn.initializers.xavier_uniform(), shape)
        return kernel, self.param(f"{name}_bias", nn.initializers.constant(bias), (outputs,))


def tgcn(problem: Problem, *, hidden_size: int = 64, dropout: float = 0.0) -> Model:
    """Return T-GCN."""
    support = None
    if problem.graph is not None:
        support = product(normalized(problem.graph, "symmetric"))
    return from_linen(
        TGCN(
            support=support,
            hidden_size=hidden_size,
            dropout=dropout,
            **timed(problem),
        )
    )


MODELS = {
    "tgcn": Choice(tgcn, {**HIDDEN, **DROPOUT}, allowed={"hidden_size": SIZE, "dropout": RATE})
}
