"""The command line, `python -m cityjax.run experiment=NAME key=value ...`, and its Python form."""

import contextlib
import dataclasses
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cityjax.errors import UserError
from cityjax.signals import Interrupted, Signals
from cityjax.terminal import standard_output

if TYPE_CHECKING:
    from cityjax.config import RunConfig
    from cityjax.learner import Experiment, State
    from cityjax.overrides import Request
    from cityjax.progress import Progress
    from cityjax.train import Run


class Result(NamedTuple):
    """What a run ended with: its folder and the content of result.json."""

    workdir: Path
    result: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """The mean over seeds of each metric, by key: {"test/error": 0.0131}."""
        return {key: entry["mean"] for key, entry in self.result["metrics"].items()}


class Loaded(NamedTuple):
    """A run ready to predict: `experiment.learner.predict(state, inputs)`."""

    experiment: "Experiment"
    state: "State"
    config: Any


def run(arguments: Sequence[str]) -> "Result | list[Result]":
    """Run what the command line would: `run(["experiment=gan_mnist", "steps=100"])`.

    Returns the Result, or for a sweep (`-m`) the list of them. Installs no signal handler, ends no
    process, changes no setting of JAX. Raises UserError where the command line prints its line.
    """
    from cityjax.overrides import resolve

    request = resolve(arguments)
    if request.experiment is None or request.help:
        raise UserError('nothing to run: give ["experiment=NAME", "key=value", ...]')
    results = _run(request, None)
    return results if len(request.configs) > 1 else results[0]


def load(workdir: str | Path, *, seed: int | None = None) -> Loaded:
    """Return the experiment and the selected state of a run, of its first seed by default.

    Raises UserError where the folder holds no run, or no checkpoint of that seed.
    """
    from cityjax import folder, overrides, train

    path = Path(workdir)
    saved = overrides.load_config(path / folder.CONFIG)
    name, place = Path(str(saved.module.__file__)).stem, saved.resolved.get("folder")
    request = overrides.Request(name, module=saved.module, folder=place)
    ready = _prepare(request, saved.config, path, saved.resolved, "jit")
    seed = saved.config.seed if seed is None else seed
    return Loaded(ready.experiment, train.selected_state(ready, seed), saved.config)


def _run(request: "Request", signals: Signals | None) -> list[Result]:
    """Score, train, or train every point of a sweep."""
    from cityjax.progress import make_progress

    config = request.configs[0]
    if request.evaluate_only:
        return [_evaluate(request, config)]
    progress = make_progress(config.progress)
    try:
        if len(request.configs) > 1:
            return _sweep(request, progress, signals)
        return [_train(request, config, progress, signals)]
    finally:
        progress.close()


def _sweep(request: "Request", progress: "Progress", signals: Signals | None) -> list[Result]:
    """Train every point in a folder of its own, 000, 001, ...; all are checked before the first."""
    from cityjax import folder

    first, count = request.configs[0], len(request.configs)
    base = None if first.workdir is None else Path(first.workdir)
    try:
        progress.note(f"checking {count} runs")
        if base is not None:
            folder.find_sweep(first, count)
        for config in _points(request, base):
            _check(request, config)
        base = folder.make(first.workdir, str(request.experiment), "-m")
        results = []
        for number, config in enumerate(_points(request, base)):
            progress.note(f"run {number + 1} of {count}: {' '.join(request.overrides[number])}")
            results.append(_train(request, config, progress, signals))
        return results
    except Interrupted as stop:
        stop.workdir = base
        raise


def _points(request: "Request", base: Path | None) -> "list[RunConfig]":
    """Place each configuration of a sweep in the folder of the sweep, where that has a name."""
    from cityjax import folder

    if base is None:
        return list(request.configs)
    return [
        # `resume` was about the sweep: of its runs some may have begun and some not.
        dataclasses.replace(config, workdir=str(base / folder.point(number)), resume="auto")
        for number, config in enumerate(request.configs)
    ]


def _check(request: "Request", config: "RunConfig") -> None:
    """Raise UserError for whatever would keep a run from beginning; nothing is written."""
    from cityjax import folder

    path, resolved = folder.find(config, str(request.experiment))
    if _finished(request, config, path, resolved) is None:
        _ready(request, config, path, resolved)


def _finished(
    request: "Request", config: "RunConfig", path: Path | None, resolved: Mapping[str, Any]
) -> "Result | None":
    """Return what a run ended with, None where it did not; its data is what it began with."""
    from cityjax import folder, registry

    if path is None or (result := folder.read_result(path)) is None:
        return None
    if resolved.get("data") and request.module is not None:
        experiment = registry.build(request.module, config, request.folder)
        folder.check_data(path, resolved["data"], experiment.data)
    return Result(path, result)


def _ready(
    request: "Request", config: "RunConfig", path: Path | None, resolved: Mapping[str, Any]
) -> "Run":
    """Make a run ready to train on the devices there are."""
    from cityjax import parallel
    from cityjax.train import batch_size

    # The choice of devices is checked first: it needs no data. One device is always there again.
    kept = resolved.get("parallel") == "jit"
    form = "jit" if kept else parallel.choose(config.parallel, config.batch_size)
    ready = _prepare(request, config, path, resolved, form)
    if form == "pmap" and parallel.choose(config.parallel, batch_size(ready.experiment)) == "jit":
        ready = ready._replace(trainer=parallel.Trainer(ready.experiment.learner, parallel="jit"))
    return ready


def _train(
    request: "Request", config: "RunConfig", progress: "Progress", signals: Signals | None
) -> Result:
    """Train, judge and report; whatever a user can mend is raised before anything is written."""
    from cityjax import folder, train
    from cityjax.conclude import conclude

    began = time.perf_counter()
    name, module = str(request.experiment), request.module
    path, resolved = folder.find(config, name)
    if (finished := _finished(request, config, path, resolved)) is not None:
        progress.note(f"{path} holds this run, finished: its result follows")
        return finished
    earlier = 0.0 if path is None else folder.spent(path)
    ready = _ready(request, config, path, resolved)
    choices = {
        "parallel": ready.trainer.parallel,
        "devices": len(ready.trainer.devices or [0]),
        "chunk": ready.chunk,
    }
    before = {name: resolved[name] for name in choices if name in resolved}
    if path is None:
        begun = {**choices, "data": dict(ready.experiment.data)}
        if config.within(place := request.folder or os.getcwd()) != config:
            begun["folder"] = place
        path = folder.create(config, name, str(request.source), begun)
        ready = ready._replace(path=path)
    elif before != choices:
        progress.note(f"this run began with {before}: its last digits will differ from here on")
    try:
        with folder.alone(path):
            for line in train.describe(ready):
                progress.note(line)
            for seed in range(config.seed, config.seed + config.seeds):
                with signals or contextlib.nullcontext():
                    train.train_seed(ready, seed, progress, signals)
                progress.close()
            summary = (module.__doc__ or "").strip().partition("\n")[0]
            return Result(path, conclude(ready, summary, began - earlier))
    except Interrupted as stop:
        stop.workdir = path
        raise
    except Exception:
        folder.check_there(path)  # without it everything fails, each thing in its own way
        raise


def _evaluate(request: "Request", config: "RunConfig") -> Result:
    """Score a run's selected checkpoints again; its folder stays as it is."""
    from cityjax import folder, overrides
    from cityjax.conclude import evaluate

    path = Path(str(config.workdir))
    saved = overrides.load_config(path / folder.CONFIG)
    # Evaluation batches are padded: any number of devices will do.
    form = saved.resolved.get("parallel", "jit")
    ready = _prepare(request, saved.config, path, saved.resolved, form)
    return Result(path, evaluate(ready))


def _prepare(
    request: "Request",
    config: "RunConfig",
    path: Path | None,
    resolved: Mapping[str, Any],
    form: str,
) -> "Run":
    """Build the experiment and its Trainer of that form; nothing is written or compiled."""
    from cityjax import dispatch, folder, parallel, registry, train

    assert request.module is not None
    experiment = registry.build(request.module, config, request.folder)
    if path is not None:
        folder.check_data(path, resolved.get("data"), experiment.data)
    like = train.abstract_state(experiment)
    parallel.check_memory(like)
    trainer = parallel.Trainer(experiment.learner, parallel=form)
    chunk = resolved.get("chunk", config.chunk)
    if chunk == "auto":
        # A learner with steps of its own has few, long ones: a signal then waits for one only.
        few = experiment.steps is not None
        chunk = 1 if few else dispatch.choose_chunk(experiment.learner, experiment.train, like)
    name = str(request.experiment)
    return train.Run(name, config, experiment, trainer, like, chunk, path or Path())


@standard_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    from cityjax.overrides import resolve

    arguments = sys.argv[1:] if arguments is None else arguments
    signals = Signals()
    signals.install()
    try:
        request = resolve(arguments)
        if request.experiment is None:
            from cityjax.help import list_text
            from cityjax.registry import available

            print(list_text(available().values()))
            return 0
        if request.help:
            from cityjax.help import help_text

            assert request.module is not None and request.shown is not None
            print(help_text(request.module, request.shown, request.experiment))
            return 0

        from cityjax.data.files import cache_folder
        from cityjax.process import keep_compiled_programs, keep_freed_memory

        keep_freed_memory()
        keep_compiled_programs(cache_folder() / "compiled")
        _print_results(request, _run(request, signals))
        return 0
    except UserError as error:
        print(f"cityjax: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"\ncityjax: stopped by {signal.Signals(stop.number).name}", file=sys.stderr)
        if stop.workdir is not None:
            places = ("workdir", "resume")
            same = [part for part in arguments if part.partition("=")[0] not in places]
            command = shlex.join([*same, f"workdir={stop.workdir}"])
            print(f"continue with: python -m cityjax.run {command}", file=sys.stderr)
        return 128 + stop.number


def _print_results(request: "Request", results: list[Result]) -> None:
    from rich.console import Console

    from cityjax.report.tables import result_table, sweep_table

    console = Console()
    if len(results) > 1:
        rows = list(zip(request.overrides, (result.result for result in results), strict=True))
        console.print(sweep_table(rows))
        return
    console.print(result_table(results[0].result))
    if not request.evaluate_only:
        print(f"report: {results[0].workdir / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
