"""Graph WaveNet: dilated convolutions in time, diffusion on graphs in space (Wu et al. 2019)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.choices import RATE, SIZE, Choice
from cityjax.forecasters._arguments import ADAPTIVE, DROPOUT, HIDDEN, supports, timed
from cityjax.learner import Model, from_linen
from cityjax.models.forecasting import (
    Head,
    Inputs,
    Support,
    adaptive_support,
    clock_features,
    past,
)
from cityjax.models.layers import Dropout, batch_norm
from cityjax.tasks.problem import Problem


class GraphWaveNet(nn.Module):
    """Layers of a gated convolution over time and a diffusion over graphs, with skips to the head.

    A layer: g = tanh(x * Theta_1) sigmoid(x * Theta_2), convolutions over t and t - dilation
    (eq. 2, 6); z = sum_s sum_{k <= diffusion} P_s^k g W_sk (eq. 7); x + z, batch-normalised, goes
    on. Only the newest step of each g is wanted by the skips, since the head forecasts from there.
    The layers see 1 + sum(dilations) steps; a shorter history is padded by zeros before it, of a
    longer one the rest is not seen.

    supports: transitions P_s, forward and backward; adaptive_size: of the vectors of a learnt graph
    that is one more, 0 for none. skip_size: width of the skips and half that of the head. calendar:
    what is known of time, as in `forecasting.clock_features`. quantiles: how many; 0 for a point.
    """

    horizon: int
    steps_per_day: int
    supports: tuple[Support, ...] = ()
    adaptive_size: int = 10
    hidden_size: int = 32
    skip_size: int = 256
    dilations: Sequence[int] = (1, 2, 1, 2, 1, 2, 1, 2)
    diffusion: int = 2
    dropout: float = 0.3
    calendar: Sequence[str] = ("day", "week")
    quantiles: int = 0

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map windows to forecasts [B, H, N] or [B, H, N, Q]."""
        supports = list(self.supports)
        if self.adaptive_size:
            sensors = inputs["history"].shape[2]
            supports.append(adaptive_support(self, sensors, self.adaptive_size))
        field = 1 + sum(self.dilations)
        when = clock_features(self, inputs["clock"], self.steps_per_day, self.calendar)
        x = past(inputs, when)[:, -field:]
        x = jnp.pad(x, ((0, 0), (field - x.shape[1], 0), (0, 0), (0, 0)))
        x = nn.Dense(self.hidden_size, name="start")(x)
        skips = []
        for layer, dilation in enumerate(self.dilations):
            # A convolution of two taps is one product of two shifted slices side by side.
            taps = jnp.concatenate([x[:, :-dilation], x[:, dilation:]], axis=-1)
            both = nn.Dense(2 * self.hidden_size, name=f"convolution_{layer}")(taps)
            signal, gate = jnp.split(both, 2, axis=-1)
            gated = jnp.tanh(signal) * nn.sigmoid(gate)
            skips.append(gated[:, -1])
            if layer + 1 == len(self.dilations):
                break
            orders = [gated]
            for support in supports:
                moved = gated
                for _ in range(self.diffusion):
                    moved = support(moved)
                    orders.append(moved)
            z = nn.Dense(self.hidden_size, name=f"diffusion_{layer}")(
                jnp.concatenate(orders, axis=-1)
            )
            z = Dropout(self.dropout)(z, train=train, axis_name=axis_name)
            x = batch_norm(train, axis_name)(x[:, dilation:] + z)
        # The sum of the layers' skip products is one product of all of them side by side.
        y = nn.relu(nn.Dense(self.skip_size, name="skip")(jnp.concatenate(skips, axis=-1)))
        y = nn.relu(nn.Dense(2 * self.skip_size, name="end")(y))
        return Head(self.horizon, self.quantiles, name="head")(y)


def wavenet(
    problem: Problem,
    *,
    hidden_size: int = 32,
    skip_size: int = 256,
    dropout: float = 0.3,
    adaptive_size: int = 10,
    dilations: tuple[int, ...] = (1, 2, 1, 2, 1, 2, 1, 2),
) -> Model:
    """Return Graph WaveNet."""
    return from_linen(
        GraphWaveNet(
            supports=supports(problem, 1),
            adaptive_size=adaptive_size,
            hidden_size=hidden_size,
            skip_size=skip_size,
            dilations=dilations,
            dropout=dropout,
            **timed(problem),
        )
    )


MODELS = {
    "wavenet": Choice(
        wavenet,
        {
            **HIDDEN,
            "skip_size": "width of the skips",
            **DROPOUT,
            **ADAPTIVE,
            "dilations": "of each layer, steps",
        },
        allowed={"hidden_size": SIZE, "skip_size": SIZE, "dilations": SIZE, "dropout": RATE},
    )
}
