"""One seed of a run: begun or resumed, trained with its hooks, judged."""

import contextlib
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cityjax import checkpoint, folder
from cityjax.config import RunConfig
from cityjax.data.sources import Source
from cityjax.errors import UserError
from cityjax.fit import Hook, fit, score
from cityjax.learner import Experiment, Learner, State, Sums, judge_key
from cityjax.metrics import finalize
from cityjax.parallel import Trainer, memory_errors
from cityjax.progress import Progress
from cityjax.report import figures
from cityjax.signals import Signals


class Run(NamedTuple):
    """A configuration made ready: its experiment, programs and folder.

    like: the shapes of the state. chunk: updates per dispatch, `auto` resolved.
    """

    name: str
    config: RunConfig
    experiment: Experiment
    trainer: Trainer
    like: State
    chunk: int
    path: Path

    @property
    def steps(self) -> int:
        """Updates of a seed."""
        return self.experiment.steps or self.config.steps


def abstract_state(experiment: Experiment) -> State:
    """Return the shapes of an experiment's state, computing nothing."""
    return jax.eval_shape(_first_state(experiment.learner), jax.random.key(0), experiment.train)


def batch_size(experiment: Experiment) -> int:
    """Return how many examples a batch has: fewer than were asked for, where a learner says so."""
    batch = jax.eval_shape(experiment.train, jax.random.key(0), jnp.int32(0))
    return jax.tree.leaves(batch)[0].shape[0]


def describe(run: Run) -> list[str]:
    """Say what is about to run and the memory it takes."""

    def megabytes(tree: Any) -> str:
        # Once each, though the sources of several parts hold it.
        arrays = {id(leaf): leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")}
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in arrays.values())
        return f"{size / 2**20:,.1f} MB"

    parameters = sum(leaf.size for leaf in jax.tree.leaves(run.like.params))
    devices = run.trainer.devices or jax.local_devices()[:1]
    experiment = run.experiment
    data = [experiment.train, *(batches.source for batches in experiment.evaluation.values())]
    return [
        f"{run.name} -> {run.path}",
        f"  {parameters:,} parameters; state {megabytes(run.like)}, data {megabytes(data)}",
        f"  {len(devices)} x {devices[0].device_kind} ({run.trainer.parallel}), "
        f"{run.steps:,} steps of {batch_size(experiment):,}, {run.chunk} per dispatch",
    ]


@functools.lru_cache(maxsize=1)
def _first_state(learner: Learner) -> Callable[[jax.Array, Source], State]:
    """Return what makes the state of step 0; one program serves every seed."""

    @jax.jit
    def first(key: jax.Array, train: Source) -> State:
        return learner.init(key, train(key, jnp.int32(0)))

    return first


@memory_errors()
def train_seed(run: Run, seed: int, progress: Progress, signals: Signals | None = None) -> None:
    """Train one seed from its last checkpoint, or from the start, and write its test line.

    A seed whose test line is there is finished. Lines after the checkpoint are cut first: they are
    written again, bit for bit.
    """
    config, experiment, trainer, path = run.config, run.experiment, run.trainer, run.path
    metrics_file, timing_file = path / folder.METRICS, path / folder.TIMING
    if any(_of(line, seed, "test") for line in folder.read_lines(metrics_file)):
        return
    state, sums, first = _begin(run, seed)
    lines = folder.cut(path, seed, first)
    best_value = min(
        (ranking(run, line) for line in lines if _of(line, seed, "validation")), default=None
    )
    last, best = (folder.checkpoints(path, seed, kind) for kind in ("last", "best"))
    board = _tensorboard(path, seed, first)
    progress.start(seed, first, run.steps)
    clock = {"time": time.perf_counter(), "step": first, "compile": trainer.compile_seconds}
    clock["other"] = 0.0  # seconds of evaluations, checkpoints and pictures since the last line

    @contextlib.contextmanager
    def paused(state: State) -> Iterator[None]:
        """Push the clock forward by what is no part of the updates' time.

        The updates that it would have to wait for are, so they are waited for before.
        """
        jax.block_until_ready(state)
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        clock["time"] += took
        clock["other"] += took

    def record(step: int, split: str, values: Mapping[str, float]) -> None:
        folder.append(metrics_file, {"seed": seed, "step": step, "split": split, **values})
        for name, value in values.items():
            if math.isfinite(value):  # tensorboardX warns of others at the terminal
                board.add_scalar(f"{split}/{name}", value, step)
        progress.line(step, split, values)

    def check(step: int, state: State, sums: Sums) -> None:
        del step, state, sums
        folder.check_there(path)

    def log(step: int, state: State, sums: Sums) -> None:
        del state
        record(step, "train", finalize(sums, experiment.metrics))
        now, compiled = time.perf_counter(), trainer.compile_seconds - clock["compile"]
        line = {
            "seed": seed,
            "step": step,
            "updates": step - clock["step"],
            "seconds": now - clock["time"] - compiled,
            "compile_seconds": compiled,
            "other_seconds": clock["other"],
        }
        folder.append(timing_file, line)
        clock.update(time=now, step=step, compile=trainer.compile_seconds, other=0.0)

    def evaluate(step: int, state: State, sums: Sums) -> None:
        nonlocal best_value
        del sums
        with paused(state):
            if "validation" in experiment.evaluation:
                batches = experiment.evaluation["validation"]
                values = score(trainer, state, batches, experiment.metrics)
                record(step, "validation", values)
                value = ranking(run, values)
                # Equal values go to the later step, which has learnt more. A checkpoint of this
                # step is one whose line was cut, and other devices may give it other last digits.
                best_yet = best_value is None or value <= best_value
                if experiment.select and (best_yet or checkpoint.latest(best) == step):
                    best_value = value
                    checkpoint.save(best, step, {"state": state})
            for name, draw in experiment.snapshots.items():
                image = jax.device_get(draw(state))
                place = path / "figures" / "snapshots" / name / f"seed={seed}"
                figures.save_image(image, place / f"step={step:06d}.png")

    def save(step: int, state: State, sums: Sums) -> None:
        with paused(state):
            if checkpoint.latest(last) != step:
                board.flush()  # a resumed run writes what comes after the checkpoint alone
                checkpoint.save(last, step, {"state": state, "sums": sums})

    def watch(step: int, state: State, sums: Sums) -> None:
        progress.advance(step)
        if signals is not None and signals.requested is not None:
            save(step, state, sums)
            raise signals.now()

    hooks = [
        Hook(None, check),
        Hook(config.log_every, log),
        Hook(config.eval_every, evaluate),
        Hook(config.checkpoint_every, save),
        Hook(None, watch),
    ]
    options = {"chunk": run.chunk, "hooks": hooks, "log_every": config.log_every, "sums": sums}
    with contextlib.closing(board):
        fit(trainer, experiment.train, state, run.steps, **options)
        step, values = judge(run, seed)
        record(step, "test", values)


def ranking(run: Run, values: Mapping[str, float]) -> float:
    """Return the number by which a validation line is selected: smaller is better, NaN the worst.

    Without `select` every line is as good as any. Raises UserError where the line lacks it.
    """
    if run.experiment.select is None:
        return 0.0
    name = run.experiment.select.removeprefix("validation/")
    if name not in values:
        known = ", ".join(key for key in values if key not in ("seed", "step", "split"))
        select = run.experiment.select
        raise UserError(f"{select!r} is to select, but the validation part has only {known or '-'}")
    value = values[name]
    if value is None or value != value:
        return float("inf")
    metric = run.experiment.metrics.get(name)
    return -value if metric is not None and metric.better == "higher" else value


def selected_state(run: Run, seed: int) -> State:
    """Return the state a seed is judged by: of its best checkpoint, else of its last."""
    best = folder.checkpoints(run.path, seed, "best")
    if checkpoint.latest(best) is not None:
        return checkpoint.restore(best, {"state": run.like})["state"]
    return _restore_last(run, seed)[0]


def judge(run: Run, seed: int) -> tuple[int, dict[str, float]]:
    """Score the selected state of a seed: its step, and the test metrics by name."""
    state = selected_state(run, seed)
    values: dict[str, float] = {}
    if "test" in run.experiment.evaluation:
        batches = run.experiment.evaluation["test"]
        values |= score(run.trainer, run.trainer.place(state), batches, run.experiment.metrics)
    if run.experiment.final is not None:
        values |= run.experiment.final(state, judge_key(state))
    return int(state.step), values


def _of(line: Mapping[str, Any], seed: int, split: str) -> bool:
    return line["seed"] == seed and line["split"] == split


def _begin(run: Run, seed: int) -> tuple[State, Sums | None, int]:
    if checkpoint.latest(folder.checkpoints(run.path, seed, "last")) is None:
        first = _first_state(run.experiment.learner)
        return first(jax.random.key(seed), run.experiment.train), None, 0
    state, sums = _restore_last(run, seed)
    return state, run.trainer.place(sums), int(state.step)


def _restore_last(run: Run, seed: int) -> tuple[State, Sums]:
    batch = jax.eval_shape(run.experiment.train, run.like.key, run.like.step)
    _, sums = jax.eval_shape(run.experiment.learner.step, run.like, batch)
    last = folder.checkpoints(run.path, seed, "last")
    tree = checkpoint.restore(last, {"state": run.like, "sums": sums})
    return tree["state"], tree["sums"]


def _tensorboard(path: Path, seed: int, step: int) -> Any:
    # Where PyTorch is installed, tensorboardX imports it for the name of a type: two seconds.
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter(str(path / "tensorboard" / f"seed={seed}"), purge_step=step + 1)
