"""STID: a multi-layer perceptron that knows where and when it is (Shao et al. 2022)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.choices import RATE, SIZE, Choice
from cityjax.forecasters._arguments import ADAPTIVE, DROPOUT, HIDDEN, supports, timed
from cityjax.learner import Model, from_linen
from cityjax.models.forecasting import (
    Inputs,
    Support,
    adaptive_support,
    age,
    by_sensor,
    by_step,
    carried,
    check_calendar,
    neighbours,
    values,
)
from cityjax.models.layers import Dropout, repeated
from cityjax.tasks.problem import Problem


class STID(nn.Module):
    """The history of a sensor beside identities: of the sensor, the step of the day, the weekday.

    z = [history W + b, sensor, step, weekday], then `layers` residual layers
    z + W_2 drop(relu(W_1 z)), then a linear head (eq. 1 to 4). hidden_size is the width of each of
    the parts of z. A missing value of the history is the one before it; beside the values it has
    how old the last one is, past covariates, and what is known of the horizon: covariates, and
    profiles of all steps.

    As z is read by products alone, W_1 z is taken as the sum over what z is made of: of L layers,
    L (L - 1) / 2 products have the whole width on both sides, where one by one 2 L would; less work
    for up to four.

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
        columns = [jnp.swapaxes(carried(inputs), 1, 2), by_sensor(inputs["history"][..., 1:])]
        columns.append(by_sensor(inputs["known"][:, steps:]))
        columns.append(by_sensor(inputs["profile"]))
        supports = list(self.supports)
        if self.adaptive_size:
            supports.append(adaptive_support(self, sensors, self.adaptive_size))
        columns += [neighbours(support, target, observed) for support in supports]
        # Biases that differ let the layers behind bend at different values from the start.
        spread, zeros = nn.initializers.normal(0.5), nn.initializers.zeros
        history = nn.Dense(self.hidden_size, bias_init=spread, name="history")
        stale = nn.Dense(self.hidden_size, use_bias=False, kernel_init=zeros, name="age")
        old = age(inputs["observed"])[..., None]
        parts = [history(jnp.concatenate(columns, axis=-1)) + stale(old)]
        if self.sensor_identity:
            noise = nn.initializers.xavier_uniform()
            table = self.param("sensor_identities", noise, (sensors, self.hidden_size))
            parts.append(table[None])
        check_calendar(self.calendar)
        step, weekday, day = jnp.moveaxis(inputs["clock"][:, steps - 1], -1, 0)
        rows = {"day": (self.steps_per_day, step), "week": (7, weekday), "year": (53, day // 7)}
        for period, (size, row) in rows.items():
            if period in self.calendar and size > 1:
                table = self.param(f"{period}_identities", zeros, (size, self.hidden_size))
                parts.append(table[row][:, None])

        width = self.hidden_size * len(parts)
        hidden: list[jax.Array] = []
        written: list[tuple[jax.Array, jax.Array]] = []

        def read(kernel: jax.Array, bias: jax.Array) -> jax.Array:
            """Return z W + b, of the z that is written so far: [B N, F].

            z is read by products alone, so each thing that was added to it is multiplied where it
            is smallest: an identity before it is repeated, a layer's rows once, by W_2 W.
            """
            total = jnp.zeros((batch, sensors, kernel.shape[-1]))
            for part, block in zip(parts, jnp.split(kernel, len(parts)), strict=True):
                # As rows: the gradient of a kernel is then one matrix product.
                product = part.reshape(-1, part.shape[-1]) @ block
                product = product.reshape(*part.shape[:-1], -1)
                total += repeated(product, batch) if product.shape[0] == 1 else product
            total = total.reshape(batch * sensors, -1) + bias[None]
            for x, (kernel_2, bias_2) in zip(hidden, written, strict=True):
                total += x @ (kernel_2 @ kernel) + (bias_2 @ kernel)[None]
            return total

        for number in range(self.layers):
            x = nn.relu(read(*Affine(width, name=f"Dense_{2 * number}")(width)))
            x = x.reshape(batch, sensors, width)
            x = Dropout(self.dropout)(x, train=train, axis_name=axis_name)
            hidden.append(x.reshape(-1, width))
            written.append(Affine(width, name=f"Dense_{2 * number + 1}")(width))
        outputs = self.horizon * max(1, self.quantiles)
        y = read(*Affine(outputs, name="head")(width)).reshape(batch, sensors, outputs)
        return by_step(y, self.horizon, self.quantiles)


class Affine(nn.Module):
    """The weights of a dense layer, for a product that is taken in parts."""

    features: int

    @nn.compact
    def __call__(self, size: int) -> tuple[jax.Array, jax.Array]:
        """Return the kernel [size, features] and the bias [features]."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (size, self.features))
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,))


def stid(
    problem: Problem,
    *,
    hidden_size: int = 32,
    layers: int = 3,
    dropout: float = 0.15,
    hops: int = 2,
    adaptive_size: int = 0,
) -> Model:
    """Return STID, with the histories of neighbours where there is a graph."""
    return from_linen(
        STID(
            hidden_size=hidden_size,
            layers=layers,
            dropout=dropout,
            supports=supports(problem, hops),
            adaptive_size=adaptive_size,
            **timed(problem),
        )
    )


MODELS = {
    "stid": Choice(
        stid,
        {
            **HIDDEN,
            "layers": "residual layers",
            **DROPOUT,
            "hops": "steps along the graph to neighbours that are read, 0 for none",
            **ADAPTIVE,
        },
        allowed={"hidden_size": SIZE, "dropout": RATE},
    )
}
