"""The scale a network works in, as transformations of models: Model -> Model.

A forecaster reads and returns values in the unit of its target. `transformed(model, a, b)` scales
what `model` reads by a, then b, and takes its outputs back by b, then a. Every transform grows with
the value, so quantiles stay quantiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.models.ridge import Regression, last_observed

if TYPE_CHECKING:
    from cityjax.learner import Model


class Transform(NamedTuple):
    """An invertible change of scale, which may depend on the window, the sensor and the step.

    fit: inputs -> context, what a window says of its own scale. forward, backward: `(context,
    values [B, S, N, C], rows) -> values`, to the scale and back from it. rows: which of the
    window's T + H steps the S steps of values are, as a slice.
    """

    fit: Callable[[Any], Any]
    forward: Callable[[Any, jax.Array, slice], jax.Array]
    backward: Callable[[Any, jax.Array, slice], jax.Array]


def transformed(model: Model, *transforms: Transform) -> Model:
    """Return the model behind transforms, applied left to right and undone right to left.

    They scale channel 0 of history and every profile, each fitted to what those before it made.
    Missing history is 0 in the last scale. Outputs are [B, H, N] or quantiles [B, H, N, Q].
    """

    def init(key: jax.Array, inputs: Any) -> tuple[Any, Any]:
        return model.init(key, _encode(transforms, inputs)[0])

    def apply(params: Any, model_state: Any, inputs: Any, **options: Any) -> tuple[Any, Any]:
        scaled, contexts = _encode(transforms, inputs)
        outputs, model_state = model.apply(params, model_state, scaled, **options)
        return _decode(transforms, contexts, inputs, outputs), model_state

    return model._replace(init=init, apply=apply)


def rescaled(regression: Regression, *transforms: Transform) -> Regression:
    """Return the regression behind transforms, as `transformed` does for models."""

    def features(inputs: Any) -> jax.Array:
        return regression.features(_encode(transforms, inputs)[0])

    def encode(inputs: Any, values: jax.Array) -> jax.Array:
        scaled, contexts = _encode(transforms, inputs)
        values = values[..., None]
        for transform, context in zip(transforms, contexts, strict=True):
            values = transform.forward(context, values, _ahead(inputs))
        return regression.encode(scaled, values[..., 0])

    def decode(inputs: Any, outputs: jax.Array) -> jax.Array:
        scaled, contexts = _encode(transforms, inputs)
        return _decode(transforms, contexts, inputs, regression.decode(scaled, outputs))

    return Regression(features, encode, decode)


def at_least(model: Model, lowest: float) -> Model:
    """Return the model without outputs below a value, such as counts below 0.

    In training they stay as they are: there a bound would have no slope to learn from.
    """

    def apply(
        params: Any, model_state: Any, inputs: Any, *, train: bool = False, **options: Any
    ) -> tuple[Any, Any]:
        outputs, model_state = model.apply(params, model_state, inputs, train=train, **options)
        return outputs if train else jnp.maximum(outputs, lowest), model_state

    return model._replace(apply=apply)


def _encode(transforms: Sequence[Transform], inputs: Any) -> tuple[Any, list[Any]]:
    contexts = []
    for transform in transforms:
        context = transform.fit(inputs)
        inputs = _scaled(transform, context, inputs)
        contexts.append(context)
    return inputs, contexts


def _decode(
    transforms: Sequence[Transform], contexts: Sequence[Any], inputs: Any, outputs: jax.Array
) -> jax.Array:
    wide = outputs if outputs.ndim == 4 else outputs[..., None]
    for transform, context in zip(reversed(transforms), reversed(contexts), strict=True):
        wide = transform.backward(context, wide, _ahead(inputs))
    return wide.reshape(outputs.shape)


def _ahead(inputs: Any) -> slice:
    """The steps of the horizon among those of the window."""
    return slice(inputs["history"].shape[1], inputs["profile"].shape[1])


def _scaled(transform: Transform, context: Any, inputs: Any) -> Any:
    history, profile = inputs["history"], inputs["profile"]
    values = transform.forward(context, history[..., :1], slice(0, history.shape[1]))
    values = jnp.where(inputs["observed"][..., None], values, 0)
    return {
        **inputs,
        "history": jnp.concatenate([values, history[..., 1:]], axis=-1),
        "profile": transform.forward(context, profile, slice(0, profile.shape[1])),
    }


def standardise(mean: np.ndarray, std: np.ndarray) -> Transform:
    """(x - mean) / std by sensor; a std of 0 counts as 1. mean, std: [N], of the training part."""
    centre = jnp.asarray(mean, jnp.float32)[None, None, :, None]
    width = jnp.asarray(np.where(np.asarray(std) > 0, std, 1), jnp.float32)[None, None, :, None]
    return Transform(
        lambda inputs: (),
        lambda context, values, rows: (values - centre) / width,
        lambda context, values, rows: values * width + centre,
    )


def square_root() -> Transform:
    """sign(x) (sqrt(1 + |x|) - 1), for counts: their noise then hardly depends on their size.

    Odd and smooth: a forecast below zero still has a gradient, and comes back as a number.
    """
    # The difference of root and 1 would lose the digits of small values; the quotient does not.
    return Transform(
        lambda inputs: (),
        lambda context, values, rows: values / (1 + jnp.sqrt(1 + _size(values))),
        lambda context, values, rows: values * (2 + _size(values)),
    )


def logarithm(offset: float) -> Transform:
    """sign(x) log(1 + |x| / offset): log(x + offset) from its value at 0 on, odd below it.

    offset: above 0, in the unit of x, about the size below which differences are noise.
    """
    if not offset > 0:
        raise ValueError(f"offset={offset} is out of range: above 0")
    return Transform(
        lambda inputs: (),
        lambda context, values, rows: _sign(values) * jnp.log1p(_size(values) / offset),
        lambda context, values, rows: _sign(values) * offset * jnp.expm1(_size(values)),
    )


def _sign(x: jax.Array) -> jax.Array:
    return jnp.where(x < 0, -1.0, 1.0)


def _size(x: jax.Array) -> jax.Array:
    """|x| with slope 1 at 0, where `jnp.abs` has slope 0 and would lose the gradient."""
    return jnp.where(x < 0, -x, x)


def instance(epsilon: float = 1e-5) -> Transform:
    """(x - mean) / std of each window's observed history, by sensor (RevIN, Kim et al. 2022).

    Without the affine part. A history whose variance is at most `epsilon`, in the squared unit
    that x comes in, is only centred; one without any value stays as it is.
    """

    def fit(inputs: Any) -> tuple[jax.Array, jax.Array]:
        observed = inputs["observed"]
        values = jnp.where(observed, inputs["history"][..., 0], 0)
        count = jnp.maximum(observed.sum(axis=1, keepdims=True), 1)
        mean = values.sum(axis=1, keepdims=True) / count
        square = jnp.where(observed, jnp.square(values - mean), 0)
        variance = square.sum(axis=1, keepdims=True) / count
        std = jnp.sqrt(jnp.where(variance > epsilon, variance, 1))
        return mean[..., None], std[..., None]

    return Transform(
        fit,
        lambda context, values, rows: (values - context[0]) / context[1],
        lambda context, values, rows: values * context[1] + context[0],
    )


def last() -> Transform:
    """x less the last observed value of the window's history, by sensor; 0 where there is none."""

    def fit(inputs: Any) -> jax.Array:
        return last_observed(inputs)[..., None]

    return Transform(
        fit,
        lambda context, values, rows: values - context,
        lambda context, values, rows: values + context,
    )


def profile_residual() -> Transform:
    """x less the first profile of its step, such as a typical day.

    Raises ValueError where the batch has no profile.
    """

    def fit(inputs: Any) -> jax.Array:
        profile = inputs["profile"]
        if not profile.shape[-1]:
            raise ValueError("profile_residual needs a profile, and these windows have none")
        return profile[..., :1]

    return Transform(
        fit,
        lambda context, values, rows: values - context[:, rows],
        lambda context, values, rows: values + context[:, rows],
    )
