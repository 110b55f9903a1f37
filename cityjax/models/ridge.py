"""Ridge autoregression: the change from a base, linear in the history and its company.

What it is linear in is written here; `learners.closed_form` finds the weights.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.models.forecasting import age, by_sensor, carried


class Regression(NamedTuple):
    """A linear forecast: y_h = decode(features . weights_h), for every sensor.

    features: inputs -> [B, N, F], of order 1; the first is the constant 1. encode, decode:
    `(inputs, values [B, H, N]) -> [B, H, N]`, to what is regressed and back, such as the
    difference from the last value. Encoded may be K things beside each other, [B, K H, N], each
    with weights and penalties of its own; decode then makes one forecast of theirs.
    """

    features: Callable[[Any], jax.Array]
    encode: Callable[[Any, jax.Array], jax.Array]
    decode: Callable[[Any, jax.Array], jax.Array]


def last_observed(inputs: Any) -> jax.Array:
    """Return the last observed value of the history: [B, 1, N]."""
    return carried(inputs)[:, -1:]


def mean_season(inputs: Any, *, season: int, horizon: int) -> jax.Array:
    """Return the mean of the observed history at the phase of each step ahead: [B, H, N].

    season: steps. A phase that was never observed has the mean of the others; a sensor without any
    value has 0.
    """
    values = jnp.where(inputs["observed"], inputs["history"][..., 0], jnp.nan)
    batch, steps, sensors = values.shape
    # Rows before the window, so that it has whole seasons.
    early = ((0, 0), (-steps % season, 0), (0, 0))
    whole = jnp.pad(values, early, constant_values=jnp.nan)
    mean = jnp.nanmean(whole.reshape(batch, -1, season, sensors), axis=1)
    others = jnp.nan_to_num(jnp.nanmean(mean, axis=1, keepdims=True))
    return jnp.where(jnp.isnan(mean), others, mean)[:, np.arange(horizon) % season]


def autoregression(
    *,
    horizon: int,
    bases: Sequence[Callable[[Any], jax.Array]] = (last_observed,),
    supports: Sequence[np.ndarray] = (),
    neighbour_lags: int = 3,
    gaps: bool = False,
    calendar: Sequence[str] = (),
    steps_per_day: int = 1,
) -> Regression:
    """Return the features of a window, in the scale that it comes in (`transforms.rescaled`).

    bases: inputs -> [B, 1 or H, N], from which differences are regressed: what a strong penalty
    leaves. Of several the forecast is the mean of a regression from each. supports: row-normalised
    adjacencies [N, N]; each adds the last `neighbour_lags` values of the neighbours, a missing one
    replaced by the one before it. gaps: whether history has missing values; then the age of the
    last one is a feature. calendar: of "day", "week", "year", what the origin's clock adds: each
    lead has its own weights, to which that is the target's clock. Every value enters as its
    difference from the sensor's last one, which is what makes one set of weights fit all sensors.
    """
    matrices = [jnp.asarray(support, jnp.float32) for support in supports]
    ahead = np.arange(1, horizon + 1)

    def features(inputs: Any) -> jax.Array:
        values = carried(inputs)
        steps, last = values.shape[1], values[:, -1]
        columns = [jnp.ones_like(last)[..., None], last[..., None]]
        columns.append(jnp.moveaxis(values[:, :-1] - last[:, None], 1, -1))
        if gaps:
            columns.append(age(inputs["observed"])[..., None])
        for matrix in matrices:
            recent = values[:, -neighbour_lags:]
            around = jnp.einsum("nm,btm->btn", matrix, recent, precision="highest")
            columns.append(jnp.moveaxis(around - last[:, None], 1, -1))
        at = np.concatenate([[steps - 1], steps - 1 + ahead])
        columns.append(by_sensor(inputs["profile"][:, at] - last[:, None, :, None]))
        columns.append(inputs["history"][:, -1, :, 1:])
        columns.append(by_sensor(inputs["known"][:, steps - 1 + ahead]))
        when = clock_waves(inputs["clock"][:, steps - 1], steps_per_day, calendar)
        columns.append(jnp.broadcast_to(when[:, None], (*last.shape, when.shape[-1])))
        return jnp.concatenate(columns, axis=-1)

    def encode(inputs: Any, values: jax.Array) -> jax.Array:
        return jnp.concatenate([values - base(inputs) for base in bases], axis=1)

    def decode(inputs: Any, outputs: jax.Array) -> jax.Array:
        parts = jnp.split(outputs, len(bases), axis=1)
        found = [part + base(inputs) for part, base in zip(parts, bases, strict=True)]
        return sum(found[1:], found[0]) / len(found)

    return Regression(features, encode, decode)


def clock_waves(clock: jax.Array, steps_per_day: int, calendar: Sequence[str]) -> jax.Array:
    """Return smooth functions of a clock [B, 3], step of day, weekday and day of year: [B, D].

    "day": 4 waves of a day; "week": a day of 3 waves for each weekday; "year": 2 waves of a year.
    """
    columns = [jnp.zeros((len(clock), 0))]
    day = _waves(clock[:, 0] / steps_per_day, 4) if steps_per_day > 1 else columns[0]
    if "day" in calendar:
        columns.append(day)
    if "week" in calendar:
        weekday = jax.nn.one_hot(clock[:, 1], 7)
        shape = jnp.concatenate([jnp.ones((len(clock), 1)), day[:, :6]], axis=1)
        columns.append((weekday[:, :, None] * shape[:, None]).reshape(len(clock), -1))
    if "year" in calendar:
        columns.append(_waves(clock[:, 2] / 365.25, 2))
    return jnp.concatenate(columns, axis=1)


def _waves(turns: jax.Array, number: int) -> jax.Array:
    """Sine and cosine of 1, 2, ... times some turns [B]: [B, 2 number], the slow ones first."""
    angles = 2 * jnp.pi * turns[:, None] * jnp.arange(1, number + 1)[None]
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(len(turns), -1)
