"""The mean of several learners, as one learner."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from cityjax.learner import Batch, Learner, State, Sums
from cityjax.learners.supervised import measures, sum_over
from cityjax.metrics import Metric


def average(
    learners: Sequence[Learner],
    loss: Callable[[Any, Batch], tuple[jax.Array, jax.Array]],
    metrics: Mapping[str, Metric] | None = None,
) -> Learner:
    """Train learners side by side; `evaluate` and `predict` use the mean of their outputs.

    All learn from the same batches, each as it would alone: with weights, an optimiser and noise of
    its own. Of quantiles the mean is level by level, which keeps them in order (Ratcliff 1979).
    What `step` sums up is of the members' own outputs, so that it logs their mean loss. loss,
    metrics: of the mean, as `supervised` has them of a model.

    Members differ in anything but the form of their outputs and sums: the same learner several
    times is an ensemble over initial weights (Lakshminarayanan et al. 2017). In the state, params,
    model_state and opt_state are lists of theirs.
    """
    if not learners:
        raise ValueError("the mean of no learners: at least one is expected")
    measure = measures(loss, metrics)

    def joined(key: jax.Array, states: Sequence[State]) -> State:
        extra = {"keys": [s.key for s in states], "members": [s.extra for s in states]}
        parts = ([s.params for s in states], [s.model_state for s in states])
        return State(states[0].step, key, *parts, [s.opt_state for s in states], extra)

    def apart(state: State) -> list[State]:
        keys, extras = state.extra["keys"], state.extra["members"]
        parts = zip(keys, state.params, state.model_state, state.opt_state, extras, strict=True)
        return [State(state.step, *part) for part in parts]

    def init(key: jax.Array, batch: Batch) -> State:
        members_key, run_key = jax.random.split(key)
        keys = (jax.random.fold_in(members_key, number) for number in range(len(learners)))
        states = [each.init(k, batch) for each, k in zip(learners, keys, strict=True)]
        return joined(run_key, states)

    def step(state: State, batch: Batch, *, axis_name: str | None = None) -> tuple[State, Sums]:
        pairs = [
            each.step(own, batch, axis_name=axis_name)
            for each, own in zip(learners, apart(state), strict=True)
        ]
        states, sums = zip(*pairs, strict=True)
        return joined(state.key, states), jax.tree.map(lambda *parts: sum(parts), *sums)

    def predict(state: State, inputs: Any, *, key: jax.Array | None = None) -> Any:
        outputs = [
            each.predict(own, inputs, key=None if key is None else jax.random.fold_in(key, number))
            for number, (each, own) in enumerate(zip(learners, apart(state), strict=True))
        ]
        return jax.tree.map(lambda *parts: sum(parts) / len(parts), *outputs)

    def evaluate(state: State, batch: Batch, *, axis_name: str | None = None) -> Sums:
        return sum_over(axis_name, measure(predict(state, batch["inputs"]), batch))

    return Learner(init, step, evaluate, predict)
