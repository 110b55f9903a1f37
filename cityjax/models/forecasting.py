"""What forecasters share: how they read a window of `data.forecast`, and their last layer.

Inputs, of B windows of N sensors, T steps back and H ahead: history [B, T, N, 1 + P], the target in
channel 0 and P covariates; observed [B, T, N]; and over all T + H steps clock [B, T + H, 3], known
[B, T + H, N, K] and profile [B, T + H, N, R]. P, K and R may be 0.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.names import CALENDAR
from cityjax.ops.graph import dense_matmul

WEEKDAY_SIZE = 4  # of a weekday's vector: Saturday, Sunday and the rest differ in a few ways

Inputs = Mapping[str, jax.Array]

# Neighbours' features, weighted and added up: [..., N, C] -> [..., N, C], such as
# `ops.graph.product(matrix)`. A function has a hash, which the field of a module needs; and whether
# the matrix is sparse is its own affair.
Support = Callable[[jax.Array], jax.Array]


def values(inputs: Inputs) -> jax.Array:
    """Return the history of the target [B, T, N], 0 where it is missing."""
    return jnp.where(inputs["observed"], inputs["history"][..., 0], 0)


def carried(inputs: Inputs) -> jax.Array:
    """Return the history with the last observed value carried over gaps, 0 before it: [B, T, N]."""
    observed = inputs["observed"]
    steps = jnp.arange(observed.shape[1])[None, :, None]
    latest = jax.lax.cummax(jnp.where(observed, steps, -1), axis=1)
    found = jnp.take_along_axis(inputs["history"][..., 0], jnp.maximum(latest, 0), axis=1)
    return jnp.where(latest >= 0, found, 0)


def age(observed: jax.Array) -> jax.Array:
    """Return how old the last value is, as a share of the history: [B, N] of [B, T, N].

    What a forecaster is told of gaps, and not more: a mark for each step would learn by heart what
    happened to follow the few gaps of training. 1 where nothing is observed.
    """
    steps = observed.shape[1]
    since = jnp.argmax(observed[:, ::-1], axis=1)
    return jnp.where(observed.any(axis=1), since, steps) / steps


def check_calendar(periods: Sequence[str]) -> None:
    """Raise ValueError for a period that is none of day, week and year."""
    if unknown := [period for period in periods if period not in CALENDAR]:
        raise ValueError(f"calendar has {unknown}, and may have {', '.join(CALENDAR)}")


def clock_features(
    module: nn.Module, clock: jax.Array, steps_per_day: int, periods: Sequence[str]
) -> jax.Array:
    """Return what a clock [B, S, 3] says of its steps: [B, S, D].

    periods: of "day" and "year", angles as sine and cosine, and "week", a learnt vector for each
    weekday; () for none, D = 0. A day of one step has no angle. The vectors start at zero: a
    weekday that is never trained says nothing, where its weights in a one-hot code would be noise.
    module: the one that keeps them.
    """
    check_calendar(periods)
    turns = {"year": clock[..., 2] / 365.25}
    if steps_per_day > 1:
        turns["day"] = clock[..., 0] / steps_per_day
    features = [jnp.zeros((*clock.shape[:2], 0))]
    for period, turn in turns.items():
        if period in periods:
            angle = 2 * jnp.pi * turn
            features.append(jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1))
    if "week" in periods:
        table = module.param("weekday", nn.initializers.zeros, (7, WEEKDAY_SIZE))
        features.append(table[clock[..., 1]])
    return jnp.concatenate(features, axis=-1)


def past(inputs: Inputs, when: jax.Array) -> jax.Array:
    """Return all that is known of each step of the history: [B, T, N, C], the target first.

    when: `clock_features` of all T + H steps.
    """
    steps = slice(0, inputs["history"].shape[1])
    target = values(inputs)[..., None]
    observed = inputs["observed"][..., None].astype(target.dtype)
    given = _given(inputs, when, steps)
    return jnp.concatenate([target, observed, inputs["history"][..., 1:], given], axis=-1)


def future(inputs: Inputs, when: jax.Array) -> jax.Array:
    """Return all that is known ahead of each step of the horizon: [B, H, N, D].

    when: `clock_features` of all T + H steps.
    """
    return _given(inputs, when, slice(inputs["history"].shape[1], None))


def _given(inputs: Inputs, when: jax.Array, steps: slice) -> jax.Array:
    known, profile = inputs["known"][:, steps], inputs["profile"][:, steps]
    when = jnp.broadcast_to(when[:, steps, None], (*known.shape[:3], when.shape[-1]))
    return jnp.concatenate([known, profile, when], axis=-1)


def neighbours(support: Support, x: jax.Array, observed: jax.Array) -> jax.Array:
    """Return the mean of the neighbours that are observed, 0 where none is: [B, N, T].

    x, observed: [B, N, T], x 0 where it is missing. Of a support of weights that are not negative.
    """
    sums = support(jnp.concatenate([x, observed.astype(x.dtype)], axis=-1))
    total, weight = jnp.split(sums, 2, axis=-1)
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0)


def by_sensor(x: jax.Array) -> jax.Array:
    """[B, S, N, C] as [B, N, S C]: every step of a sensor side by side."""
    return jnp.moveaxis(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


def by_step(x: jax.Array, horizon: int, quantiles: int) -> jax.Array:
    """[B, N, H Q] as forecasts [B, H, N], or of Q `quantiles` above 0 as rising [B, H, N, Q]."""
    x = x.reshape(*x.shape[:2], horizon, *((quantiles,) if quantiles else ()))
    x = jnp.moveaxis(x, 2, 1)
    return rising(x) if quantiles else x


def rising(x: jax.Array) -> jax.Array:
    """Return quantiles that never cross: the middle of x [..., Q], and steps up and down from it.

    The steps are softplus of the others, so each quantile moves those beyond it.
    """
    middle = x.shape[-1] // 2
    steps = jnp.moveaxis(jax.nn.softplus(x), -1, 0)
    # Sums from the middle outwards, one after the other: rounding cannot make them cross.
    up = [x[..., middle]]
    for step in steps[middle + 1 :]:
        up.append(up[-1] + step)
    down = [x[..., middle]]
    for step in steps[:middle][::-1]:
        down.append(down[-1] - step)
    return jnp.stack(down[:0:-1] + up, axis=-1)


class Head(nn.Module):
    """The last layer: what is known of each sensor, to a forecast of each step."""

    horizon: int
    quantiles: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, N, D] to [B, H, N], or with quantiles to [B, H, N, Q]."""
        x = nn.Dense(self.horizon * max(1, self.quantiles))(x)
        return by_step(x, self.horizon, self.quantiles)


def adaptive_support(module: nn.Module, sensors: int, size: int) -> Support:
    """Return a learnt graph: softmax(relu(E1 E2^T)) by row (Wu et al. 2019, eq. 5).

    module: the one that keeps the vectors E1, E2 [N, size] of every sensor.
    """
    normal = nn.initializers.normal(1.0)
    source = module.param("sensor_source", normal, (sensors, size))
    target = module.param("sensor_target", normal, (sensors, size))
    matrix = jax.nn.softmax(nn.relu(source @ target.T), axis=-1)
    return lambda x: dense_matmul(matrix, x)
