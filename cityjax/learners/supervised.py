"""The learner of labelled batches."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from cityjax.learner import Batch, Learner, Model, State, Sums, new_state, step_key
from cityjax.metrics import Metric, mean


def sum_over(axis_name: str | None, sums: Any) -> Any:
    """Add sums up over the devices of a named axis; without one they are whole already."""
    return sums if axis_name is None else jax.lax.psum(sums, axis_name)


def gradients(
    objective: Callable, params: Any, axis_name: str | None
) -> tuple[tuple[jax.Array, Any], Any]:
    """Return `objective(params)` and its gradient: (loss, aux), of a loss summed over the axis.

    Every device differentiates the whole loss, so the mean over the axis is its gradient. This
    holds under pmap, where the transpose of psum is psum, and under shard_map's checked axes,
    where the gradient of replicated parameters arrives summed and the mean leaves it alone.
    Averaging gradients of per-device losses would be right only under the first.
    """
    outputs, grads = jax.value_and_grad(objective, has_aux=True)(params)
    return outputs, grads if axis_name is None else jax.lax.pmean(grads, axis_name)


def measures(
    loss: Callable[[Any, Batch], tuple[jax.Array, jax.Array]],
    metrics: Mapping[str, Metric] | None,
) -> Callable[[Any, Batch], Sums]:
    """Return what sums up outputs: `(outputs, batch) -> sums`, the loss and every metric."""

    def measure(outputs: Any, batch: Batch) -> Sums:
        named = (metrics or {}).items()
        return {
            "loss": loss(outputs, batch),
            **{name: metric.accumulate(outputs, batch) for name, metric in named},
        }

    return measure


def supervised(
    model: Model,
    loss: Callable[[Any, Batch], tuple[jax.Array, jax.Array]],
    optimizer: optax.GradientTransformation,
    metrics: Mapping[str, Metric] | None = None,
) -> Learner:
    """Make a learner that fits `model(batch["inputs"])` to `batch["targets"]`.

    loss: `(outputs, batch) -> (sum, count)`, masked; it is divided once, over the whole axis.
    optimizer: one that wants the loss too (optax.contrib.reduce_on_plateau) is given it as `value`.
    metrics: accumulated by `step` and `evaluate` beside the loss, under their names.
    """
    measure = measures(loss, metrics)
    optimizer = optax.with_extra_args_support(optimizer)

    def init(key: jax.Array, batch: Batch) -> State:
        model_key, run_key = jax.random.split(key)
        params, model_state = model.init(model_key, batch["inputs"])
        return new_state(run_key, params, model_state, optimizer.init(params))

    def step(state: State, batch: Batch, *, axis_name: str | None = None) -> tuple[State, Sums]:
        def objective(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
            outputs, model_state = model.apply(
                params,
                state.model_state,
                batch["inputs"],
                key=step_key(state),
                train=True,
                axis_name=axis_name,
            )
            return mean(*sum_over(axis_name, loss(outputs, batch))), (outputs, model_state)

        (value, (outputs, model_state)), grads = gradients(objective, state.params, axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, value=value)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            model_state=model_state,
            opt_state=opt_state,
        )
        return state, sum_over(axis_name, measure(outputs, batch))

    def evaluate(state: State, batch: Batch, *, axis_name: str | None = None) -> Sums:
        return sum_over(axis_name, measure(predict(state, batch["inputs"]), batch))

    def predict(state: State, inputs: Any, *, key: jax.Array | None = None) -> Any:
        return model.apply(state.params, state.model_state, inputs, key=key)[0]

    return Learner(init, step, evaluate, predict)
