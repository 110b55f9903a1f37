"""How the time and the memory of a training step grow: with batch, width, depth, length, sensors.

Run: python -m benchmarks.scaling

Every point is a process of its own, so that its peak memory is its own, and its steps are timed
once compiled; all take turns, so that what else runs here is not one point's alone. A run that was
stopped goes on, and begins anew at another commit. Writes docs/results/scaling.md, the figure
beside it and the JSON file behind both.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.results import DOCS, ROOT, commit

FOUND, PAGE, FIGURE = DOCS / "scaling" / "points.json", DOCS / "scaling.md", DOCS / "scaling.png"
TURNS, SECONDS = 3, 0.5  # how often each point is measured, and for how long
LARGE = 3  # so many of the largest points say how a quantity grows
CLASSES, HIDDEN, WINDOWS = 10, 128, 16


class Sweep(NamedTuple):
    """What grows, over which values, in which models: title -> make(value) -> (learner, batch)."""

    axis: str
    values: tuple[int, ...]
    models: dict[str, Callable[[int], tuple[Any, Any]]]


class Point(NamedTuple):
    """A step: seconds, bytes that its program holds, and the peak of its process: the least of all.

    turns: how often it was measured.
    """

    seconds: float
    program: int
    process: int
    turns: int = 1


def mlp(batch: int = 128, width: int = 256, depth: int = 2) -> tuple[Any, Any]:
    """Return a perceptron of `depth` hidden layers and a batch of digits."""
    from cityjax.models.mlp import MLP

    return _classifier(MLP((width,) * depth, CLASSES)), _digits(batch)


def cnn(batch: int = 128, width: int = 16) -> tuple[Any, Any]:
    """Return a network of two convolutions, of `width` channels and twice as many."""
    from cityjax.models.cnn import CNN

    return _classifier(CNN((width, 2 * width), (HIDDEN,), CLASSES)), _digits(batch)


def gru(length: int) -> tuple[Any, Any]:
    """Return a GRU that reads `length` rows of 28 pixels."""
    from cityjax.models.rnn import RNN

    return _classifier(RNN(HIDDEN, CLASSES, "gru")), _digits(128, length)


def forecaster(name: str) -> Callable[[int], tuple[Any, Any]]:
    """Return what makes a T-GCN or a STID of so many sensors, and a batch of 16 windows."""

    def make(sensors: int) -> tuple[Any, Any]:
        from benchmarks.networks.in_jax import forecaster as built
        from benchmarks.networks.shared import city

        batch, graph = city(WINDOWS, sensors)
        return built(name, graph), batch

    return make


SWEEPS = (
    Sweep(
        "batch size",
        (16, 32, 64, 128, 256, 512),
        {"MLP 784-256-256-10": lambda n: mlp(batch=n), "CNN 16, 32": lambda n: cnn(batch=n)},
    ),
    Sweep(
        "width",
        (8, 16, 32, 64, 128),
        {
            "MLP 784-8n-8n-10, 128 images": lambda n: mlp(width=8 * n),
            "CNN n, 2n, 32 images": lambda n: cnn(32, n),
        },
    ),
    Sweep(
        "depth", (1, 2, 4, 8, 16), {"MLP of n layers of 256, 128 images": lambda n: mlp(depth=n)}
    ),
    Sweep("series length", (16, 32, 64, 128, 256), {"GRU 28 to 128, 128 sequences": gru}),
    Sweep(
        "sensors",
        (32, 64, 128, 256, 512),
        {
            "T-GCN, 12 steps, 16 windows": forecaster("tgcn"),
            "STID, 12 steps, 16 windows": forecaster("stid"),
        },
    ),
)
POINTS = {
    f"{sweep.axis} {value}, {model}": (sweep, model, value)
    for sweep in SWEEPS
    for model in sweep.models
    for value in sweep.values
}


def _classifier(module: Any) -> Any:
    import optax

    from cityjax.learner import from_linen
    from cityjax.learners import supervised
    from cityjax.losses import softmax_cross_entropy

    return supervised(from_linen(module), softmax_cross_entropy, optax.adam(1e-3))


def _digits(batch: int, rows: int = 28) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "inputs": random.random((batch, rows, 28, 1), np.float32),
        "targets": random.integers(0, CLASSES, batch).astype(np.int32),
        "mask": np.ones(batch, bool),
    }


def measure(key: str) -> Point:
    """Measure one point, in this process: it should be a fresh one."""
    import jax

    from benchmarks.profile import durations
    from cityjax.parallel import compiled
    from cityjax.process import keep_freed_memory

    keep_freed_memory()  # as the command line does
    sweep, model, value = POINTS[key]
    learner, batch = sweep.models[model](value)
    batch = jax.device_put(batch)
    state = jax.jit(learner.init)(jax.random.key(0), batch)
    program = compiled(jax.jit(learner.step, donate_argnums=0).lower(state, batch))

    def step() -> Any:
        nonlocal state
        state, sums = program(state, batch)
        return sums

    seconds = min(durations(step, SECONDS))
    plan = program.memory_analysis()
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return Point(seconds, held - plan.alias_size_in_bytes, peak())


def peak() -> int:
    """Return the most bytes that this process held in memory so far; 0 where no one counts."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def exponent(values: tuple[int, ...], found: list[float]) -> float:
    """Return the p of a power law n^p through the largest points, by least squares in logarithms.

    >>> round(exponent((1, 2, 4, 8), [9.0, 4.0, 16.0, 64.0]), 3)
    2.0
    """
    x, y = np.log(values[-LARGE:]), np.log(found[-LARGE:])
    return float(np.polyfit(x, y, 1)[0])


def page(found: dict[str, Any]) -> str:
    """Return docs/results/scaling.md, from the points that are there."""
    lines = [
        "# Scaling",
        "",
        "A training step (Adam, float32) of cityjax on a CPU as one thing grows:",
        "`python -m benchmarks.scaling`. Times are the least of many steps; the program's memory",
        "is what XLA plans for the step (state, batch and scratch), the process's its peak, with",
        "Python, JAX and the compiler. p is the exponent of n^p, fitted to the",
        f"{LARGE} largest points.",
        "",
        f"![Time and memory of a step, logarithmic axes]({FIGURE.name})",
        "",
    ]
    for sweep in SWEEPS:
        head = [sweep.axis, *map(str, sweep.values), "p"]
        lines += [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
        for model in sweep.models:
            points = series(found, sweep, model)
            for name, field, unit, fitted in (
                ("ms", "seconds", 1e-3, True),
                ("MB, program", "program", 2**20, True),
                ("MB, process", "process", 2**20, False),
            ):
                raw = [getattr(point, field) if point else None for point in points]
                cells = ["" if value is None else _short(value / unit) for value in raw]
                numbers = [value for value in raw if value is not None]
                full = fitted and len(numbers) == len(raw)
                cells.append(f"{exponent(sweep.values, numbers):.2f}" if full else "")
                lines.append(f"| {model}: {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, f"Measured: {found['measured']}", ""])


def _short(number: float) -> str:
    return f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"


def series(found: dict[str, Any], sweep: Sweep, model: str) -> list[Point | None]:
    """Return the points of a model along a sweep, None where one is not measured yet."""
    kept = [found["points"].get(f"{sweep.axis} {value}, {model}") for value in sweep.values]
    return [Point(*values) if values else None for values in kept]


def draw(found: dict[str, Any]) -> Any:
    """Return the figure: a row for each thing that grows; time on the left, memory on the right."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from cityjax.report.style import INK, PALETTE, new_figure, style

    figure = new_figure(8.0, 2.1 * len(SWEEPS))
    grid = figure.subplots(len(SWEEPS), 2, squeeze=False)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for row, sweep in zip(grid, SWEEPS, strict=True):
        columns = (("ms per step", "seconds", 1e-3), ("MB of the program", "program", 2**20))
        for axes, (label, field, unit) in zip(row, columns, strict=True):
            for model, colour in zip(sweep.models, PALETTE, strict=False):
                points = zip(sweep.values, series(found, sweep, model), strict=True)
                there = [(n, getattr(point, field) / unit) for n, point in points if point]
                if there:
                    axes.plot(*zip(*there, strict=True), "o-", color=colour, ms=4, label=model)
            style(axes, title=sweep.axis if field == "seconds" else "", y=label)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(sweep.values)
            axes.xaxis.set_major_formatter(plain)
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
            axes.yaxis.set_major_formatter(plain)
            axes.yaxis.set_minor_formatter(NullFormatter())
        if row[1].get_lines():
            row[1].legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def missing(points: dict[str, Any]) -> list[str]:
    """Return the points that are still to be measured, in turns."""
    turns = {key: Point(*points[key]).turns if key in points else 0 for key in POINTS}
    return [key for turn in range(TURNS) for key in POINTS if turns[key] <= turn]


def merged(new: Point, old: Sequence[float] | None) -> Point:
    """Return the least of what was measured of a point."""
    if old is None:
        return new
    seconds, program, process, turns = Point(*old)
    least = min(seconds, new.seconds), min(program, new.program), min(process, new.process)
    return Point(*least, turns=turns + new.turns)


def main() -> None:
    """Measure the points that are missing, and write the page after each."""
    from benchmarks import performance

    os.chdir(ROOT)
    found = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {}
    if found.get("commit") != commit() or not missing(found["points"]):
        found = {"commit": commit(), "measured": performance.measured(), "points": {}}
    try:
        for key in missing(found["points"]):
            command = [sys.executable, "-m", "benchmarks.scaling", "--point", key]
            environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
            answer = json.loads(subprocess.check_output(command, text=True, env=environment))
            found["points"][key] = merged(Point(*answer), found["points"].get(key))
            print(f"{key}: {1e3 * found['points'][key][0]:.3g} ms", flush=True)
            FOUND.parent.mkdir(exist_ok=True)
            FOUND.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            PAGE.write_text(page(found), encoding="utf-8")
    finally:  # the figure shows what the page does, also of a run that is stopped
        draw(found).savefig(FIGURE, dpi=120)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--point"]:
        print(json.dumps(measure(sys.argv[2])))
    elif {"-h", "--help"} & set(sys.argv):
        print(__doc__)
    elif sys.argv[1:]:
        sys.exit(f"unknown {' '.join(sys.argv[1:])}: python -m benchmarks.scaling takes nothing")
    else:
        main()
