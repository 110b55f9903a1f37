"""Ridge autoregression: the change from the last value, linear in the history and its company.

What it is linear in is written here; `learners.closed_form` finds the weights.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Regression(NamedTuple):
    """A linear forecast: y_h = decode(features . weights_h), for every sensor.

    features: inputs -> [B, N, F], of order 1; the first is the constant 1. encode, decode:
    `(inputs, values [B, H, N]) -> [B, H, N]`, to what is regressed and back, such as the
    difference from the last value.
    """

    features: Callable[[Any], jax.Array]
    encode: Callable[[Any, jax.Array], jax.Array]
    decode: Callable[[Any, jax.Array], jax.Array]


def filled(values: jax.Array, observed: jax.Array) -> jax.Array:
    """Carry the last observed value forward over missing ones; 0 before the first. [B, T, N]."""
    steps = jnp.arange(values.shape[1])[None, :, None]
    latest = jax.lax.cummax(jnp.where(observed, steps, -1), axis=1)
    carried = jnp.take_along_axis(values, jnp.maximum(latest, 0), axis=1)
    return jnp.where(latest >= 0, carried, 0)


def autoregression(
    mean: np.ndarray,
    std: np.ndarray,
    *,
    horizon: int,
    supports: Sequence[np.ndarray] = (),
    neighbour_lags: int = 3,
    flags: bool = False,
    leads: Sequence[int] | None = None,
) -> Regression:
    """Return the features of a window and the scale that they and the targets are in.

    mean, std: [N], of train. supports: row-normalised adjacencies [N, N]; each adds the neighbours'
    last `neighbour_lags` values. flags: whether history has missing values, which then are marked.
    leads: steps ahead at which profiles and known covariates are features, all by default. Every
    value enters as its difference from the sensor's last one, which is what makes one set of
    weights fit all sensors.
    """
    centre, width = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    matrices = [jnp.asarray(support, jnp.float32) for support in supports]
    ahead = np.asarray(leads if leads is not None else range(1, horizon + 1))

    def scaled(inputs: Any) -> jax.Array:
        values = (inputs["history"][..., 0] - centre[None, None]) / width[None, None]
        return filled(values, inputs["observed"])

    def features(inputs: Any) -> jax.Array:
        values = scaled(inputs)
        steps, last = values.shape[1], values[:, -1]
        columns = [jnp.ones_like(last)[..., None], last[..., None]]
        columns.append(jnp.moveaxis(values[:, :-1] - last[:, None], 1, -1))
        if flags:
            columns.append(jnp.moveaxis(inputs["observed"].astype(last.dtype), 1, -1))
        for matrix in matrices:
            around = jnp.einsum("nm,btm->btn", matrix, values[:, -neighbour_lags:])
            columns.append(jnp.moveaxis(around - last[:, None], 1, -1))
        at = np.concatenate([[steps - 1], steps - 1 + ahead])
        profile = (inputs["profile"][:, at] - centre[None, None, :, None]) / width[
            None, None, :, None
        ]
        profile = profile - last[:, None, :, None]
        columns.append(_flat(profile))
        columns.append(inputs["history"][:, -1, :, 1:])
        columns.append(_flat(inputs["known"][:, steps - 1 + ahead]))
        return jnp.concatenate(columns, axis=-1)

    def encode(inputs: Any, values: jax.Array) -> jax.Array:
        return (values - centre[None, None]) / width[None, None] - scaled(inputs)[:, -1:]

    def decode(inputs: Any, outputs: jax.Array) -> jax.Array:
        return (outputs + scaled(inputs)[:, -1:]) * width[None, None] + centre[None, None]

    return Regression(features, encode, decode)


def _flat(x: jax.Array) -> jax.Array:
    """[B, S, N, R] as [B, N, S R]."""
    return jnp.moveaxis(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)
