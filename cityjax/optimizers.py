"""Optimisers and schedules by name, as Optax chains: clipping, update rule, decay, rate."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cityjax.names import OPTIMIZERS, SCHEDULES

# name -> momentum -> update rule. Rules without a first moment have no use for it.
_RULES: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "sgd": lambda momentum: optax.identity(),
    "momentum": lambda momentum: optax.trace(decay=momentum),
    "nesterov": lambda momentum: optax.trace(decay=momentum, nesterov=True),
    "adam": lambda momentum: optax.scale_by_adam(b1=momentum),
    "adamw": lambda momentum: optax.scale_by_adam(b1=momentum),
    "rmsprop": lambda momentum: optax.scale_by_rms(decay=0.9),
    "lion": lambda momentum: optax.scale_by_lion(b1=momentum),
    "adagrad": lambda momentum: optax.scale_by_rss(),
    "lamb": lambda momentum: optax.scale_by_adam(b1=momentum),
}


def make_schedule(
    name: str, learning_rate: float, steps: int, *, warmup_steps: int = 0
) -> optax.Schedule:
    """Return step -> learning rate: "constant", or "cosine" or "linear" down to 0 at `steps`.

    warmup_steps: a linear rise from 0 before it, counted in `steps`. Raises ValueError for an
    unknown name or a warm-up longer than the run.
    """
    if not 0 <= warmup_steps <= steps:
        raise ValueError(f"warmup_steps={warmup_steps} is out of range: 0 to steps={steps}")
    rest = max(steps - warmup_steps, 1)
    if name == "constant":
        schedule = optax.constant_schedule(learning_rate)
    elif name == "cosine":
        schedule = optax.cosine_decay_schedule(learning_rate, rest)
    elif name == "linear":
        schedule = optax.linear_schedule(learning_rate, 0.0, rest)
    else:
        raise ValueError(f"schedule={name!r} is unknown: {', '.join(SCHEDULES)}")
    if not warmup_steps:
        return schedule
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, schedule], [warmup_steps])


def make_optimizer(
    name: str,
    learning_rate: float | optax.Schedule,
    *,
    weight_decay: float = 0.0,
    gradient_clip: float | None = None,
    momentum: float = 0.9,
) -> optax.GradientTransformation:
    """Return an optimiser by name, to be called with the parameters at every update.

    weight_decay: decoupled from the gradient for every rule (Loshchilov and Hutter 2019) and
    times the learning rate; biases and scales (rank below 2) are not decayed. gradient_clip: the
    largest global norm of the gradient. momentum: of the rules that have a first moment (b1 of
    adam, adamw, lamb, lion; the decay of momentum, nesterov). Raises ValueError for an unknown
    name.
    """
    if name not in _RULES:
        raise ValueError(f"optimizer={name!r} is unknown: {', '.join(OPTIMIZERS)}")
    parts = []
    if gradient_clip is not None:
        parts.append(optax.clip_by_global_norm(gradient_clip))
    parts.append(_RULES[name](momentum))
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=_matrices))
    if name == "lamb":
        parts.append(optax.scale_by_trust_ratio())
    parts.append(optax.scale_by_learning_rate(learning_rate))
    return optax.chain(*parts)


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)
