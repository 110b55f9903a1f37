"""The training loop: chunks of updates between the steps at which hooks are called."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data.sources import Batches, Source, as_tree
from cityjax.learner import Learner, State, Sums, data_key
from cityjax.metrics import Metric, finalize
from cityjax.parallel import Trainer, compiled


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

    learner: a Learner, or a Trainer that says on which devices. Compiled programs are kept with a
    Trainer, and with the last Learner. source: any `(key, step) -> batch`; of a plain function the
    arrays that it closes over are constants of the program. chunk: updates per dispatch. Dispatches
    end at multiples of chunk and, where there are hooks, of every interval, counted from step 0, so
    that a resumed run dispatches the same programs as an unbroken one. sums: those of the interval
    that a resumed run stopped in. The state passed in is donated: use the one returned.

    Raises ValueError where chunk, log_every or an interval is below 1.
    """
    intervals = [chunk, log_every, *(hook.every for hook in hooks if hook.every is not None)]
    if min(intervals) < 1:
        raise ValueError(f"chunk, log_every and intervals {intervals} must be at least 1")
    if not hooks:  # nobody asks for sums
        intervals = [chunk]
    trainer = learner if isinstance(learner, Trainer) else _trainer(learner)
    source = trainer.place(source)
    state = trainer.place(state)
    step, before = int(state.step), None
    while step < steps:
        if sums is None:
            sums = trainer.zero_sums(state, source)
        elif step % log_every == 0:  # without the shapes, which take longer than many an update
            sums = trainer.zeros(sums)
        stop = next_stop(step, steps, intervals)
        state, sums = trainer.train(state, sums, source, stop - step)
        # One dispatch runs while the next one waits. More of them would leave hooks far ahead of
        # what is done: of its progress, of a signal to stop. A state cannot be waited for later, as
        # it is donated; without sums it is waited for now.
        jax.block_until_ready(before if sums else state)
        step, before = stop, sums
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
    """Evaluate one split: sums over all its batches, each divided once.

    metrics: those that the learner was made with, which know how their sums become numbers; of a
    name without one, such as the loss, it is sum / count. Compiled programs are kept as by `fit`.
    """
    trainer = learner if isinstance(learner, Trainer) else _trainer(learner)
    return finalize(trainer.evaluate(state, batches), metrics or {})


def predict(learner: Learner, state: State, batches: Batches) -> Any:
    """Predict every batch of one split, [N, ...]; rows that pad the last batch are part of it.

    Outputs are an array or a tree of them. Raises ValueError where there is no batch.
    """
    if not batches.count:
        raise ValueError("predictions of a split without examples")
    outputs = _compiled(learner)
    # One batch at a time, each into its place: run at once, their scratch memory adds up.
    source = as_tree(batches.source)
    found = None
    for number in range(batches.count):
        rows = jax.device_get(outputs(state, source, jnp.int32(number)))
        if found is None:
            found = jax.tree.map(
                lambda part: np.empty((batches.count * len(part), *part.shape[1:]), part.dtype),
                rows,
            )
        for whole, part in zip(jax.tree.leaves(found), jax.tree.leaves(rows), strict=True):
            whole[number * len(part) :][: len(part)] = part
    return found


@functools.lru_cache(maxsize=1)
def _trainer(learner: Learner) -> Trainer:
    """Return what trains and scores on one device; that of the last learner is kept."""
    return Trainer(learner)


@functools.lru_cache(maxsize=2)
def _compiled(learner: Learner) -> Callable[[State, Source, jax.Array], Any]:
    """Return what predicts one batch; those of two learners are kept, for their other states.

    Two, since a refit has one for its intervals beside its own.
    """

    @jax.jit
    def outputs(state: State, source: Source, number: jax.Array) -> Any:
        return learner.predict(state, source(data_key(state), number)["inputs"])

    programs: dict[Any, Any] = {}

    def run(*arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        kinds = [
            (np.shape(leaf), getattr(leaf, "dtype", type(leaf)), getattr(leaf, "sharding", None))
            for leaf in leaves
        ]
        key = structure, tuple(kinds)
        if key not in programs:
            programs[key] = compiled(outputs.lower(*arguments))
        return programs[key](*arguments)

    return run


def predict_mean(
    learner: Learner, states: Iterable[State], parts: Mapping[str, Batches]
) -> dict[str, Any]:
    """Return the mean of what several states predict of each part, as `predict` has it.

    Each state adds its predictions to a sum before the next is asked for: memory does not grow with
    their number, and an iterator may read them one by one. Raises ValueError where there is none.
    """

    def inexact(values: np.ndarray) -> np.ndarray:  # the mean of whole numbers need not be whole
        return values if jnp.issubdtype(values.dtype, jnp.inexact) else values.astype(np.float64)

    sums: dict[str, Any] = {}
    count = 0
    for count, state in enumerate(states, start=1):
        for name, batches in parts.items():
            outputs = jax.tree.map(inexact, predict(learner, state, batches))
            if count > 1:
                jax.tree.map(
                    lambda total, more: np.add(total, more, out=total), sums[name], outputs
                )
            else:
                sums[name] = outputs
    if not count:
        raise ValueError("the mean of the predictions of no states")
    return jax.tree.map(lambda total: np.divide(total, count, out=total), sums)
