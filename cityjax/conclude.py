"""The end of a run: statistics over its seeds, baselines, figures, result.json and the report."""

import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import jax

from cityjax import __version__, folder
from cityjax.errors import UserError
from cityjax.parallel import memory_errors
from cityjax.report import figures
from cityjax.report.html import write_report
from cityjax.seeds import statistics
from cityjax.train import Run, judge, selected_state

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


@memory_errors()
def conclude(run: Run, summary: str, began: float) -> dict[str, Any]:
    """Write figures, result.json and report.html of a run whose seeds are finished.

    began: by `time.perf_counter`, before that by what earlier processes took (`folder.spent`).
    """
    lines = folder.read_lines(run.path / folder.METRICS)
    seeds = range(run.config.seed, run.config.seed + run.config.seeds)
    tests = [line for line in lines if line["split"] == "test" and line["seed"] in seeds]
    result = make_result(run, tests)
    result["summary"] = run.experiment.summary or summary
    result["defaults"] = type(run.config)().to_dict()
    draw(run)
    result["timing"] = _timing(run) | {"total_seconds": time.perf_counter() - began}
    folder.write_result(run.path, result)
    write_report(run.path)
    return result


@memory_errors()
def evaluate(run: Run) -> dict[str, Any]:
    """Score the selected state of every seed that has a checkpoint; nothing is written.

    The result of an unfinished run says so: {"unfinished": "seed 0 is at step 120 of 500"}. Raises
    UserError where no seed has a checkpoint.
    """
    steps = run.steps
    tests, unfinished = [], []
    for seed in range(run.config.seed, run.config.seed + run.config.seeds):
        reached = folder.reached(run.path, seed)
        if reached is None:
            unfinished.append(f"seed {seed} has no checkpoint")
            continue
        if reached < steps:
            unfinished.append(f"seed {seed} is at step {reached:,} of {steps:,}")
        step, values = judge(run, seed)
        tests.append({"seed": seed, "step": step, "split": "test", **values})
    if not tests:
        raise UserError(f"{run.path} has no checkpoint yet: train it first, without evaluate_only")
    result = make_result(run, tests)
    return result | {"unfinished": ", ".join(unfinished)} if unfinished else result


def draw(run: Run) -> None:
    """Draw the experiment's figures, of the first seed's selected state."""
    if run.experiment.figures is None:
        return
    drawn = run.experiment.figures(selected_state(run, run.config.seed))
    for name, figure in drawn.items():
        figures.save(figure, run.path / "figures" / f"{name}.png")


def make_result(run: Run, tests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the result of the seeds' test lines beside the baselines, timing apart."""
    experiment = run.experiment
    names = [name for name in tests[0] if name not in ("seed", "step", "split")]
    metrics = {}
    for name in names:
        values = [line.get(name) for line in tests]
        known = [value for value in values if value is not None]
        # A seed that diverged has no number; a mean over the others would flatter.
        whole = len(known) == len(values)
        mean, ci95 = statistics(known) if whole else (None, None)
        metrics[f"test/{name}"] = {"mean": mean, "ci95": ci95, "per_seed": values}
    better = {f"test/{name}": experiment.metrics[name].better for name in experiment.metrics}
    baselines = experiment.baselines() if experiment.baselines is not None else {}
    baselines = {name: folder.or_null(values) for name, values in baselines.items()}
    devices = run.trainer.devices or jax.local_devices()[:1]
    result = {
        "experiment": run.name,
        "config_hash": run.config.hash(),
        "data": dict(experiment.data),
        "protocol": {"selection": _selection(run), **experiment.protocol},
        "seeds": [line["seed"] for line in tests],
        "selected_step": [line["step"] for line in tests],
        "metrics": metrics,
        "better": {**better, **{f"test/{k}": v for k, v in experiment.better.items()}},
        "baselines": baselines,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(run.like.params)),
        "versions": {"cityjax": __version__, "python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "device": f"{len(devices)} x {devices[0].device_kind} ({run.trainer.parallel})",
    }
    return result | _ensemble(run, result)


def _ensemble(run: Run, result: Mapping[str, Any]) -> dict[str, Any]:
    """Score the mean of what the seeds of a result predict, where there are two or more."""
    ensemble, seeds = run.experiment.ensemble, result["seeds"]
    if ensemble is None or len(seeds) < 2:
        return {}
    scores = ensemble(selected_state(run, seed) for seed in seeds)  # none if a seed diverged
    words = f"mean of the predictions of {len(seeds)} seeds, of quantiles level by level"
    return {
        "ensemble": {
            "protocol": words if scores else "none, as not every seed has numbers",
            "metrics": folder.or_null({f"test/{name}": value for name, value in scores.items()}),
        }
    }


def _selection(run: Run) -> str:
    """The rule alone: `steps` and `eval_every` are the configuration's, not the protocol's."""
    select = run.experiment.select
    return "last step" if select is None else f"best {select}"


def _timing(run: Run) -> dict[str, float]:
    lines = folder.read_lines(run.path / folder.TIMING)
    return {
        "train_seconds": sum(line["seconds"] for line in lines),
        "compile_seconds": sum(line["compile_seconds"] for line in lines),
    }
