"""Where the time of one training step goes, and how far it is from this CPU's matrix products.

Run: python -m benchmarks.profile [NETWORK ...]     (of `benchmarks.peers`, and cnn_mnist)

Each row is an instruction of the compiled step: what it is, its time per step, how many of a step's
products it does and at which rate. The last line divides all products by the rate at which this
process multiplies large matrices: no step that does as many can be faster. What all of them come to
goes into docs/results/performance.md and the JSON file behind it.
"""

import heapq
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.hlo import Operation, operations
from benchmarks.peers import NETWORKS
from benchmarks.results import ROOT, chosen, where_measured
from cityjax import registry
from cityjax.parallel import compiled
from cityjax.process import keep_freed_memory

TITLES = {name: network.title for name, network in NETWORKS.items()}
# What `benchmarks.end_to_end` waits for.
EXPERIMENTS = {"cnn_mnist": "cnn_mnist (24, 48, 96, batch norm, 256, dropout)"}
TITLES |= EXPERIMENTS
ROWS, SMALLEST, SECONDS = 25, 0.005, 2.0
# Steps of a trace, and traces. What a trace writes comes to lie between the blocks of memory that a
# step frees; after some steps the next one asks the system for new memory, and waits for it.
TRACED, TRACES = 3, 10
GEMM_SIZES = (256, 512, 1024, 1536)


class Span(NamedTuple):
    """One execution of an instruction in a run of the program; begin and end in ns."""

    run: int
    name: str
    begin: float
    end: float


class Spent(NamedTuple):
    """What an instruction took: seconds and executions per step."""

    seconds: float
    calls: float


def gemm_rate(seconds: float = SECONDS) -> float:
    """Return the floating-point operations per second of the best of several square products."""
    rates = []
    for size in GEMM_SIZES:
        a = jax.random.normal(jax.random.key(size), (size, size))
        product = jax.jit(jnp.dot)
        took = durations(lambda a=a, product=product: product(a, a), seconds / len(GEMM_SIZES))
        rates.append(2 * size**3 / min(took))
    return max(rates)


def durations(work: Callable[[], Any], seconds: float) -> list[float]:
    """Return how long each call took, the first left out, until `seconds` are over."""
    jax.block_until_ready(work())
    found, end = [], time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(work())
        found.append(time.perf_counter() - start)
    return found


def traced(work: Callable[[], Any], steps: int, module: str) -> list[Span]:
    """Return what the instructions of a program named `module` did while `work` ran `steps` times.

    Raises ValueError where the trace has none.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(steps):
                jax.block_until_ready(work())
        (path,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
        spans = list(_spans(data, module))
    if not spans:
        raise ValueError(f"the trace has no instruction of {module}: is this a CPU?")
    return spans


def _spans(data: Any, module: str) -> Iterable[Span]:
    """Join the event that begins an instruction to the one, on whichever thread, that ends it."""
    begun, ended = {}, {}
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                values = dict(event.stats)
                if values.get("hlo_module") == module and "hlo_op" in values:
                    begun[values.get("_p", len(begun))] = values["run_id"], values["hlo_op"], event
                elif event.name.startswith("end: "):
                    ended[values.get("_c")] = event.end_ns
    for number, (run, name, event) in begun.items():
        yield Span(run, name, event.start_ns, max(event.end_ns, ended.get(number, 0)))


def spent_per_step(spans: Iterable[Span]) -> dict[str, Spent]:
    """Return what each instruction took, by name: medians over runs, since others use the CPU."""
    runs: dict[int, list[Span]] = {}
    for span in spans:
        runs.setdefault(span.run, []).append(span)
    times = [self_times(held) for held in runs.values()]
    names = [span.name for held in runs.values() for span in held]
    return {
        name: Spent(statistics.median(each.get(name, 0.0) for each in times), count / len(runs))
        for name, count in Counter(names).items()
    }


def self_times(spans: Iterable[Span]) -> dict[str, float]:
    """Return the seconds of each instruction, by name, in one run.

    Every instant belongs to the instruction that began last among those running: to what a loop
    holds rather than to the loop, and to one of two that run side by side.
    """
    seconds: dict[str, float] = {}
    running: list[tuple[float, float, str]] = []  # (-begin, end, name): the last begun comes first
    now = 0.0

    def until(limit: float) -> None:
        nonlocal now
        while running and now < limit:
            _, end, name = running[0]
            stop = max(now, min(end, limit))
            seconds[name] = seconds.get(name, 0.0) + (stop - now) / 1e9
            now = stop
            if end <= now:
                heapq.heappop(running)

    for span in sorted(spans, key=lambda span: (span.begin, -span.end)):
        until(span.begin)
        now = span.begin
        heapq.heappush(running, (-span.begin, span.end, span.name))
    until(float("inf"))
    return seconds


def table(title: str, known: dict[str, Operation], spent: dict[str, Spent], gemm: float) -> Table:
    """Return the table of the slowest instructions."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, show_footer=True)
    made.add_column("instruction", "sum", max_width=26, overflow="fold")
    made.add_column("what it is, and where", overflow="fold")
    total = sum(each.seconds for each in spent.values())
    done = sum(known[name].flops * each.calls for name, each in spent.items() if name in known)
    cells = _numbers(total, total, done, gemm)
    for head, foot in zip(("ms/step", "share", "GFLOP/s", "of GEMM"), cells, strict=True):
        made.add_column(head, foot, justify="right", no_wrap=True)
    order = sorted(spent, key=lambda name: -spent[name].seconds)
    shown = [name for name in order[:ROWS] if spent[name].seconds >= SMALLEST * total]
    for name in shown:
        seconds, calls = spent[name]
        operation = known.get(name, Operation("unknown", "", 0))
        times = f"{calls:g} x " if calls != 1 else ""
        where = f"\n{operation.where}" if operation.where else ""
        words = Text.assemble(times, operation.what, (where, "dim"))
        made.add_row(name, words, *_numbers(seconds, total, operation.flops * calls, gemm))
    if rest := order[len(shown) :]:
        seconds = sum(spent[name].seconds for name in rest)
        work = sum(known[name].flops * spent[name].calls for name in rest if name in known)
        made.add_row(f"{len(rest)} others", "", *_numbers(seconds, total, work, gemm))
    return made


def _numbers(seconds: float, total: float, flops: float, gemm: float) -> tuple[str, ...]:
    rate = flops / seconds if seconds else 0.0
    speed = (f"{rate / 1e9:.1f}", f"{rate / gemm:.0%}") if flops else ("", "")
    return (f"{1e3 * seconds:.3f}", f"{seconds / total:.1%}", *speed)


def verdict(flops: float, steps: list[float], gemm: float) -> str:
    """Return the last lines: the least time of a step's products, and how far the step is."""
    least, step = flops / gemm, min(steps)
    return (
        f"{flops / 1e6:,.0f} MFLOP at this CPU's GEMM rate, {gemm / 1e9:.0f} GFLOP/s: "
        f"{1e3 * least:.3f} ms at least\n"
        f"step, untraced: {1e3 * step:.3f} ms (the best; median "
        f"{1e3 * statistics.median(steps):.3f}), {step / least:.2f} times that"
    )


def profile(name: str) -> tuple[Table, str, dict[str, float]]:
    """Trace the step of a network; return its table, the verdict, and what `section` tells."""
    if name in EXPERIMENTS:
        module = registry.load(name)
        learner, source = registry.build(module, module.Config())[:2]
        batch = source(jax.random.key(0), jnp.int32(0))
        state = jax.jit(learner.init)(jax.random.key(0), batch)
    else:
        from benchmarks.networks.in_jax import start

        learner, state, batch, _ = start(name, plain=False)
    program = compiled(jax.jit(learner.step, donate_argnums=0).lower(state, batch))
    text = program.as_text()

    def step() -> Any:
        nonlocal state
        state, sums = program(state, batch)
        return sums

    gemm = gemm_rate()
    untraced = durations(step, SECONDS)
    traced_as = text.split(",", 1)[0].removeprefix("HloModule ")
    spans = [span for _ in range(TRACES) for span in traced(step, TRACED, traced_as)]
    spent, known = spent_per_step(spans), operations(text)
    found = {"step": min(untraced), "gemm": gemm} | summed(known, spent)
    title = f"{TITLES[name]}: medians of {TRACED * TRACES} traced steps"
    return table(title, known, spent, gemm), verdict(found["flops"], untraced, gemm), found


def summed(known: dict[str, Operation], spent: dict[str, Spent]) -> dict[str, float]:
    """Return the products of a step, "flops", and which "share" of its time they take."""
    work = {n: known[n].flops * each.calls for n, each in spent.items() if n in known}
    products = sum(spent[name].seconds for name, flops in work.items() if flops)
    total = sum(each.seconds for each in spent.values())
    return {"flops": sum(work.values()), "share": products / total}


def section(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return what docs/results/performance.md says of where a step's time goes."""
    lines = [
        "## What a step's time is made of",
        "",
        "A step of cityjax alone, the best in two seconds: `python -m benchmarks.profile`. The",
        "least is what its matrix products and convolutions would take at the rate at which this",
        "CPU multiplies large matrices in XLA. They take longer, as they are small or narrow: the",
        "share of a traced step's time that they take, and their rate in it. The rest is what lies",
        "between them: activations, pooling, columns of convolutions, copies, Adam.",
        "",
        "| network | step, ms | the least, ms | step / least | in products | at, of the best |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, title in TITLES.items():
        if name in found:
            one = found[name]
            least = one["flops"] / one["gemm"]
            cells = (title, f"{1e3 * one['step']:.3g}", f"{1e3 * least:.3g}",
                     f"{one['step'] / least:.1f}", f"{one['share']:.0%}",
                     f"{least / (one['step'] * one['share']):.0%}")  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    rates = [f"{name} {one['gemm'] / 1e9:.0f}" for name, one in found.items()]
    lines += ["", f"The best rate, GFLOP/s, measured beside each: {', '.join(rates)}."]
    return [*lines, *where_measured(found), "", *_limits(found)]


def _limits(found: dict[str, dict[str, Any]]) -> list[str]:
    """Say of each target that a network misses what a step that met it would have room for."""
    from benchmarks import performance

    lines = []
    for name, one in performance.read("peers").items():
        times = {side: values["median"] for side, values in one["times"].items()}
        ours, plain = times.pop("cityjax"), times.pop("flax", 0.0)
        peers = ("PyTorch", min(times.values())), ("plain Flax", plain)
        for (peer, other), target in zip(peers, NETWORKS[name].targets, strict=True):
            if target is None or name not in found or other / ours >= target:
                continue
            least = found[name]["flops"] / found[name]["gemm"]
            lines.append(
                f"- {TITLES[name]}: {target:g} times {peer}'s speed is a step of"
                f" {1e3 * other / target:.3g} ms, of which the products alone would take"
                f" {1e3 * least:.3g} at the best rate; it takes {1e3 * ours:.3g}."
            )
    said = "PyTorch gets more of this CPU for small and narrow products than XLA does:"
    return ["Where a target is missed, what a step that met it would have room for.",
            said, "", *lines] if lines else []  # fmt: skip


def main(names: list[str]) -> None:
    """Profile the named networks, all of them by default, and write the page after each."""
    from benchmarks import performance

    names = chosen("networks", names, TITLES)
    os.chdir(ROOT)
    keep_freed_memory()  # as the command line does
    found, here = performance.read("profile"), performance.measured()
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    for name in names:
        made, last, kept = profile(name)
        console.print(made)
        console.print(f"{last}\n")
        found[name] = {**kept, "measured": here}
        performance.keep("profile", found)


if __name__ == "__main__":
    main(sys.argv[1:])
