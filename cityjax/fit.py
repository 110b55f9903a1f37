"""The training loop: chunks of updates between the steps at which hooks are called."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data.sources import Batches, Source
from cityjax.learner import Learner, State, Sums
from cityjax.metrics import Metric, finalize
from cityjax.parallel import Trainer


class Hook(NamedTuple):
    """`call(step, state, sums)` at every multiple of `every` steps, and after the last step.

    every: None for after every dispatch, wherever it ends. sums: of the updates since the last
    multiple of `log_every`. The state is donated to the next update: a hook that keeps it copies.
    """

    every: int | None
    call: Callable[[int, State, Sums], None]


def fit(
    learner: Learner | Trainer,
    source: Source,
    state: State,
    steps: int,
    *,
    chunk: int = 1,
    hooks: Sequence[Hook] = (),
    log_every: int = 100,
    sums: Sums | None = None,
) -> State:
    """Train until `state.step` is `steps`, and return the state.

    learner: a Learner, or a Trainer that holds its compiled programs. chunk: updates per dispatch.
    Dispatches end at multiples of chunk and of every interval, counted from step 0, so that a
    resumed run dispatches the same programs as an unbroken one. sums: those of the interval that a
    resumed run stopped in. The state passed in is donated: use the one returned.

    Raises ValueError where chunk, log_every or an interval is below 1.
    """
    intervals = [chunk, log_every, *(hook.every for hook in hooks if hook.every is not None)]
    if min(intervals) < 1:
        raise ValueError(f"chunk, log_every and intervals {intervals} must be at least 1")
    trainer = learner if isinstance(learner, Trainer) else Trainer(learner)
    source = trainer.place(source)
    state = trainer.place(state)
    step = int(state.step)
    while step < steps:
        if sums is None:
            sums = trainer.zero_sums(state, source)
        elif step % log_every == 0:  # without the shapes, which take longer than many an update
            sums = trainer.zeros(sums)
        stop = next_stop(step, steps, intervals)
        state, sums = trainer.train(state, sums, source, stop - step)
        step = stop
        for hook in hooks:
            if hook.every is None or step % hook.every == 0 or step == steps:
                hook.call(step, state, sums)
    return state


def next_stop(step: int, steps: int, intervals: Sequence[int]) -> int:
    """Return the first step after `step` that is a multiple of any interval, at most `steps`.

    >>> next_stop(130, 1000, (50, 200))
    150
    """
    return min(steps, *(step - step % interval + interval for interval in intervals))


def score(
    learner: Learner | Trainer,
    state: State,
    batches: Batches,
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, float]:
    """Evaluate one split: sums over all its batches, each divided once."""
    trainer = learner if isinstance(learner, Trainer) else Trainer(learner)
    return finalize(trainer.evaluate(state, batches), metrics or {})


def predict(learner: Learner, state: State, batches: Batches) -> np.ndarray:
    """Predict every batch of one split, [N, ...]; where the last is padded, its last rows are.

    Raises ValueError where there is no batch.
    """
    if not batches.count:
        raise ValueError("predictions of a split without examples")
    outputs = _compiled(learner)
    # One batch at a time, each into its place: run at once, their scratch memory adds up.
    found = np.zeros(0)
    for number in range(batches.count):
        rows = jax.device_get(outputs(state, batches.source, jnp.int32(number)))
        if not number:
            found = np.empty((batches.count * len(rows), *rows.shape[1:]), rows.dtype)
        found[number * len(rows) :][: len(rows)] = rows
    return found


@functools.lru_cache(maxsize=1)
def _compiled(learner: Learner) -> Callable[[State, Source, jax.Array], jax.Array]:
    """Return what predicts one batch; that of the last learner is kept, for its other states."""

    @jax.jit
    def outputs(state: State, source: Source, number: jax.Array) -> jax.Array:
        return learner.predict(state, source(state.key, number)["inputs"])

    return outputs


def predict_mean(
    learner: Learner, states: Iterable[State], parts: Mapping[str, Batches]
) -> dict[str, np.ndarray]:
    """Return the mean of what several states predict of each part, [N, ...], as `predict` has it.

    Each state adds its predictions to a sum before the next is asked for: memory does not grow with
    their number, and an iterator may read them one by one. Raises ValueError where there is none.
    """
    sums: dict[str, np.ndarray] = {}
    count = 0
    for count, state in enumerate(states, start=1):
        for name, batches in parts.items():
            outputs = predict(learner, state, batches)
            if not jnp.issubdtype(outputs.dtype, jnp.inexact):  # their mean need not be whole
                outputs = outputs.astype(np.float64)
            sums[name] = np.add(sums[name], outputs, out=sums[name]) if count > 1 else outputs
    if not count:
        raise ValueError("the mean of the predictions of no states")
    return {name: np.divide(total, count, out=total) for name, total in sums.items()}
