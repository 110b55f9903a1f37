"""A moving average of the parameters, as a transformation of learners."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cityjax.learner import Batch, Learner, State, Sums


def moving_average(
    learner: Learner, decay: float, *, of: Callable[[Any], Any] = lambda tree: tree
) -> Learner:
    """Average parameters exponentially; `evaluate` and `predict` use the average.

    Batch statistics are averaged with the parameters they belong to. of: which part of a dict of
    parameters (and of model states) is averaged, `lambda tree: {"generator": tree["generator"]}`
    for a GAN. After t steps the weight of the newest is 1 - min(decay, (1 + t) / (10 + t)), so that
    the average forgets its start early on (the rule of TensorFlow's ExponentialMovingAverage).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay} is out of range: a number from 0 to below 1")

    def newest(state: State) -> dict[str, Any]:
        return {"params": of(state.params), "model_state": of(state.model_state)}

    def init(key: jax.Array, batch: Batch) -> State:
        state = learner.init(key, batch)
        average = jax.tree.map(jnp.copy, newest(state))  # donated apart from the state's own
        return state.replace(extra={**state.extra, "average": average})

    def step(state: State, batch: Batch, *, axis_name: str | None = None) -> tuple[State, Sums]:
        average = state.extra["average"]
        state, sums = learner.step(state, batch, axis_name=axis_name)
        rate = 1 - jnp.minimum(decay, (1 + state.step) / (10 + state.step))

        def mix(old: jax.Array, new: jax.Array) -> jax.Array:
            if not jnp.issubdtype(old.dtype, jnp.inexact):
                return new  # counters and keys have no mean
            return old + rate.astype(old.dtype) * (new - old)

        average = jax.tree.map(mix, average, newest(state))
        return state.replace(extra={**state.extra, "average": average}), sums

    def averaged(state: State) -> State:
        average = state.extra["average"]
        whole = {"params": state.params, "model_state": state.model_state}
        merged = {
            name: {**tree, **average[name]} if isinstance(tree, dict) else average[name]
            for name, tree in whole.items()
        }
        return state.replace(**merged)

    def evaluate(state: State, batch: Batch, *, axis_name: str | None = None) -> Sums:
        return learner.evaluate(averaged(state), batch, axis_name=axis_name)

    def predict(state: State, inputs: Any, *, key: jax.Array | None = None) -> Any:
        return learner.predict(averaged(state), inputs, key=key)

    return Learner(init, step, evaluate, predict)
