"""What a closed form learns from: windows in blocks of time, added up one block after the other."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cityjax.data import forecast
from cityjax.data.files import DataError
from cityjax.data.sources import Batches, in_order
from cityjax.learners.closed_form import Plan
from cityjax.tasks.problem import Problem

MOST_REFITS = 1000  # each solves once and keeps its weights


def joined(origins: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the origins of train and validation, and of the windows that reach across."""
    return np.arange(origins["train"][0], origins["validation"][-1] + 1)


class Block(NamedTuple):
    """Windows that a closed form adds up together: origins [W], and (start, stop) of targets."""

    origins: np.ndarray
    rows: tuple[int, int]


def rolled(problem: Problem, every: int) -> tuple[list[Block], np.ndarray]:
    """Return what is learnt after every so many steps of test, and what a forecast knows of it.

    Blocks: of each time that a closed form is fitted again, the windows with targets that came
    since the time before; where windows are whole, those whose last target did. Then, at each row
    of the series, how many of them a forecast from there may use [T].

    Raises DataError where that is too many times.
    """
    origins, steps = problem.origins["test"], np.arange(len(problem.series.values))
    reach = origins[-1] - origins[0]
    if reach // every > MOST_REFITS:
        raise DataError(
            f"refit_every={every} makes {reach // every:,} fits on test, more than {MOST_REFITS:,}:"
            f" take {reach // MOST_REFITS + 1} or more"
        )
    solution = np.clip(steps - origins[0], 0, reach) // every
    horizon = problem.horizon
    whole = joined(problem.origins)[-1] + 1  # origins before it are learnt from already
    seen = problem.rows["validation"][1]  # and targets before this
    blocks = []
    for number in range(1, solution[-1] + 1):
        now = origins[0] + number * every
        if problem.protocol.whole:
            stop = max(whole, now - horizon + 1)
            blocks.append(Block(np.arange(whole, stop), (0, now + 1)))
            whole = stop
        else:
            stop = max(seen, now + 1)
            blocks.append(Block(np.arange(seen - horizon, stop - 1), (seen, stop)))
            seen = stop
    return blocks, solution.astype(np.int32)


def one_pass(problem: Problem, *, refit: bool) -> tuple[list[Block], Plan]:
    """Return train and then validation, each window once, and what is done with them.

    Validation chooses the penalties of what is fitted on train. In a refit the solution is of both,
    and of the windows that reach across.
    """
    parts = ("train", "validation")
    train, validation = (Block(problem.origins[part], problem.rows[part]) for part in parts)
    across = np.arange(train.origins[-1] + 1, validation.origins[0])
    found = [train, validation]
    if refit and len(across):
        found.insert(1, Block(across, (train.rows[0], validation.rows[1])))
    first = np.arange(len(found)) == 0
    solution = np.full(len(found), True) if refit else first
    return found, Plan(first[None], first[None, ::-1], solution, first if refit else None)


def folded(problem: Problem, folds: int, *, refit: bool) -> tuple[list[Block], Plan]:
    """Return train, with refit also validation, in order as blocks of a horizon or more.

    And what is done with them: at most `folds` of them choose the penalties by the errors on each,
    of a fit without it and its neighbours, whose windows may overlap with its own. The solution is
    of all, the early one of a refit of those without a target in validation, where there are such.

    Raises DataError where there would be less than four: a block and its neighbours would leave
    nothing.
    """
    last = "validation" if refit else "train"
    origins = joined(problem.origins) if refit else problem.origins["train"]
    count = min(folds, len(origins) // problem.horizon)
    if count < 4:
        raise DataError(
            f"model.folds={folds}: at least 4 blocks as long as horizon={problem.horizon} are"
            f" needed, of {len(origins):,} windows: model.folds=0 goes by validation"
        )
    block = np.arange(len(origins)) * count // len(origins)
    rows = problem.rows["train"][0], problem.rows[last][1]
    found = [Block(origins[block == number], rows) for number in range(count)]
    late = np.unique(block[origins + problem.horizon >= problem.rows["validation"][0]])
    early = ~np.isin(np.arange(count), late)
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    return found, Plan(
        fits=apart > 1,
        judges=apart == 0,
        solution=np.full(count, True),
        early=early if refit and early.any() else None,
    )


def in_blocks(problem: Problem, blocks: Sequence[Block], batch_size: int) -> Batches:
    """Return the windows of blocks in order, with each the number of its block, and where it ends.

    A batch is of one block, and no longer than the longest: what fills it up are windows at the end
    of the series, which have no targets.
    """
    beyond = len(problem.series.values) - 1
    batch_size = min(batch_size, max(len(block.origins) for block in blocks))
    counts = [max(1, -(-len(block.origins) // batch_size)) for block in blocks]  # of batches
    origins = [
        np.pad(block.origins, (0, batch_size * count - len(block.origins)), constant_values=beyond)
        for block, count in zip(blocks, counts, strict=True)
    ]
    arrays = {
        **problem.data,
        "origins": np.concatenate(origins).astype(np.int32),
        "block": np.repeat(np.arange(len(blocks), dtype=np.int32), counts),
        "ends": np.isin(np.arange(sum(counts)), np.cumsum(counts) - 1),
        "rows": np.array([block.rows for block in blocks], np.int32),
    }

    def gather(key: jax.Array, held: Mapping[str, Any], indices: jax.Array) -> Mapping[str, Any]:
        del key
        batch = indices // batch_size
        block = held["block"][batch]
        rows = held["rows"][block]
        windows = forecast.window_batch(
            held,
            held["origins"][indices],
            (rows[:, :1], rows[:, 1:]),
            history=problem.history,
            horizon=problem.horizon,
        )
        return {**windows, "block": block, "ends": held["ends"][batch]}

    return in_order(arrays, batch_size, size=len(arrays["origins"]), gather=gather)
