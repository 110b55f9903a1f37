"""Whole commands rather than steps: until MNIST is learnt, until a run is under way, a dispatch.

Run: python -m benchmarks.end_to_end [PART ...]     (needs `pip install '.[bench]'`)

Parts: digits, the time from a command to 98.5 % of the test digits, beside PyTorch; start, the time
from a command to its first updates; dispatch, what the host adds to an update; memory, the most
that a forecasting run holds. Everything counts from the start of a process, imports included. Sides
take turns; a run that was stopped goes on, and begins anew at another commit. Writes
docs/results/performance.md and the JSON file behind it.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results import ROOT, chosen, commit, where_measured

REPEATS = 5
ACCURACY, EVERY = 0.985, 100  # what is to be reached, and the updates between evaluations
UPDATES = 50  # of the first dispatch of gan_mnist
TARGETS = {"digits": 1.5, "start": 4.0, "dispatch": 15.0, "traffic_los": 1.2, "metr_la_size": 1.5}
METR_LA = (34_272, 207)  # steps and sensors
EXPERIMENT = ROOT / "benchmarks" / "networks" / "digits_on_test.py"
TINY = ROOT / "benchmarks" / "networks" / "tiny.py"
# Runs a command to its end without its output, and prints the most memory it held.
LAUNCHER = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ended.returncode)
"""
BEGUN = r"seed \d+: step \d+ of"  # the line of a run before its first update
Found = Callable[[str], int | None]


def digits(seed: int) -> dict[str, dict[str, float]]:
    """Return the seconds to the accuracy, and the step, of each side; one seed."""
    from cityjax.overrides import resolve

    arguments = [f"experiment={EXPERIMENT}", f"seed={seed}", f"eval_every={EVERY}"]
    settings = resolve(arguments).configs[0].to_dict()
    folder = str(ROOT / "cityjax" / "data" / "mnist_files")
    module = "benchmarks.networks.digits_in_torch"

    def torch(channels_last: bool) -> dict[str, float]:
        given = {**settings, "folder": folder, "channels_last": channels_last}
        return wait_for([module, json.dumps(given)], accurate)

    # Cold and warm: the second run finds the programs that the first compiled.
    sides = dict(zip(("cold", "warm"), twice(arguments, accurate), strict=True))
    return {**sides, "eager": torch(False), "channels_last": torch(True)}


def start(seed: int) -> dict[str, dict[str, float]]:
    """Return the seconds to the first dispatch of gan_mnist, of a first and a second run."""
    arguments = ["experiment=gan_mnist", f"seed={seed}", f"log_every={UPDATES}"]
    return dict(zip(("cold", "warm"), twice(arguments, logged), strict=True))


def dispatch(seed: int) -> dict[str, dict[str, float]]:
    """Return the seconds per update of a tiny MLP, in chunks of 50 and in one dispatch of 10,000.

    Both are whole runs, which write lines of metrics, every 100 updates and every 10,000. The
    difference is the host's: calls, and all that a run does between them.
    """
    from cityjax.run import run

    found = {}
    for name, chunk, log_every in (("chunks", 50, 100), ("whole", 10_000, 10_000)):
        with tempfile.TemporaryDirectory() as folder:
            given = [f"experiment={TINY}", f"seed={seed}", f"workdir={folder}/run", "progress=off"]
            given += [f"chunk={chunk}", f"log_every={log_every}", "steps=30000"]
            run([*given, "eval_every=30000", "checkpoint_every=30000"])
            text = Path(folder, "run", "timing.jsonl").read_text(encoding="utf-8")
        # But for the first: it waits for what is read and compiled.
        lines = [line for line in map(json.loads, text.splitlines()) if line["step"] > 10_000]
        seconds, updates = (sum(line[key] for line in lines) for key in ("seconds", "updates"))
        found[name] = {"seconds": seconds / updates}
    return found


def memory(seed: int) -> dict[str, dict[str, float]]:
    """Return the most that whole runs of traffic_los hold, in GB: on its data, and on more.

    The other data are a folder of tables with a synthetic city of METR-LA's size.
    """
    from cityjax.data.synthetic import city
    from cityjax.data.tables import write_series

    with tempfile.TemporaryDirectory() as folder:
        series = city("transport", sensors=METR_LA[1], steps=METR_LA[0], seed=seed).series
        write_series(series._replace(past={}, known={}), f"{folder}/city")
        given = {"traffic_los": [], "metr_la_size": [f"data={folder}/city"]}
        found = {}
        for name, more in given.items():
            arguments = ["experiment=traffic_los", f"seed={seed}", *more, "progress=off"]
            arguments.append(f"workdir={folder}/{name}")
            found[name] = {"gigabytes": most_memory(["cityjax.run", *arguments])}
    return found


PARTS = {"digits": digits, "start": start, "dispatch": dispatch, "memory": memory}


def accurate(line: str) -> int | None:
    """Return the step of an evaluation whose accuracy is high enough.

    >>> accurate("      300 validation  loss 0.05  error 0.0149")
    300
    """
    match = re.match(r"\s+(\d+) validation .*\berror ([\d.e-]+)", line)
    return int(match[1]) if match and float(match[2]) <= 1 - ACCURACY + 1e-9 else None


def logged(line: str) -> int | None:
    """Return the step of a line of training metrics."""
    match = re.match(r"\s+(\d+) train ", line)
    return int(match[1]) if match else None


def twice(arguments: list[str], found: Found) -> list[dict[str, float]]:
    """Wait for a command of cityjax, first with nothing compiled and then again."""
    with tempfile.TemporaryDirectory() as folder:
        both = []
        for run in ("cold", "warm"):
            given = [*arguments, "progress=plain", f"workdir={folder}/{run}"]
            both.append(wait_for(["cityjax.run", *given], found, cache=folder))
        return both


def wait_for(module: list[str], found: Found, *, cache: str = "") -> dict[str, float]:
    """Start `python -m MODULE ...`, wait for a line in which a step is `found`, and end it.

    cache: the folder of compiled programs; that of matplotlib's fonts stays the user's. "before"
    is what passed before a run's first update. Raises OSError where the process ends before it.
    """
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "MPLCONFIGDIR": _fonts()}
    environment.pop("CITYJAX_DATA", None)  # both sides read the files of the package
    if cache:
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        environment["XDG_CACHE_HOME"] = cache
    began = time.perf_counter()
    command = [sys.executable, "-m", *module]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as process:
        before = 0.0
        for line in process.stdout or ():
            seconds = time.perf_counter() - began
            if re.match(BEGUN, line):
                before = seconds
            if (step := found(line)) is not None:
                process.kill()
                return {"seconds": seconds, "step": step} | ({"before": before} if before else {})
    raise OSError(f"{' '.join(module)[:90]} ended before what it was to reach")


def most_memory(module: list[str]) -> float:
    """Run `python -m MODULE ...` to its end: the most memory it held, in GB (10^9 bytes).

    Raises OSError where it fails.
    """
    # Linux counts what a process held before it became another: a small one starts it, not this.
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", *module]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    if ended.returncode:
        raise OSError(f"{' '.join(module)[:90]} failed")
    return int(ended.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e9


def _fonts() -> str:
    import matplotlib

    return matplotlib.get_cachedir()


def medians(runs: list[dict[str, dict[str, float]]], key: str = "seconds") -> dict[str, float]:
    """Return the median over repeats of each side."""
    return {side: statistics.median(run[side][key] for run in runs) for side in runs[0]}


def section(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return what docs/results/performance.md says of whole commands."""
    lines = [
        "## Whole commands",
        "",
        "Seconds from the start of a process, imports included: `python -m benchmarks.end_to_end`.",
        "Medians over repeats, each of a seed of its own, in which the sides take turns.",
        "Cold: the first run ever, which compiles its programs; warm: the next one, which reads",
        "them (not on CPUs of Intel, where every run is cold).",
        "",
    ]
    if "digits" in found:
        lines += _digits(found["digits"]["runs"])
    if "start" in found:
        times = medians(found["start"]["runs"])
        second = _beside(times["warm"], "start", " s")
        lines.append(
            f"- `experiment=gan_mnist`, to the end of its first {UPDATES} updates: second start "
            f"{second}, first start {times['cold']:.2f} s."
        )
    if "dispatch" in found:
        times = medians(found["dispatch"]["runs"])
        host = _beside(1e6 * (times["chunks"] - times["whole"]), "dispatch", " µs")
        lines.append(
            f"- What a run's host adds to an update, in chunks of 50 with a line of metrics every"
            f" 100: {host}; an MLP of 17 parameters takes {1e6 * times['chunks']:.1f} µs so,"
            f" {1e6 * times['whole']:.1f} µs in dispatches of 10,000."
        )
    if "memory" in found:
        most = medians(found["memory"]["runs"], "gigabytes")
        own = _beside(most["traffic_los"], "traffic_los", " GB")
        large = _beside(most["metr_la_size"], "metr_la_size", " GB")
        lines.append(
            f"- The most memory a whole run of `experiment=traffic_los` holds: {own}; on tables"
            f" of METR-LA's size, {METR_LA[0]:,} steps of {METR_LA[1]} sensors: {large}."
        )
    return lines + where_measured(found)


def _digits(runs: list[dict[str, dict[str, float]]]) -> list[str]:
    """Return the table of the times to an accuracy."""
    seconds, steps = medians(runs), medians(runs, "step")
    best = min(("eager", "channels_last"), key=lambda side: seconds[side])
    names = {"cold": "cityjax, cold", "warm": "cityjax, warm", "eager": "PyTorch, eager"}
    names["channels_last"] = "PyTorch, channels-last"
    lines = [
        f"Until {ACCURACY:.1%} of the test digits are right: the network and settings of cnn_mnist",
        f"(batch norm, dropout, Adam, cosine), the test part every {EVERY} updates. cityjax is its",
        "command line with all that a run writes; PyTorch is a bare loop with data in memory. Both",
        "keep freed memory. `torch.compile` takes longer than the whole training and is left out.",
        "",
        "| side | seconds | the least | updates | PyTorch / cityjax |",
        "| --- | --- | --- | --- | --- |",
    ]
    for side, name in names.items():
        least = min(run[side]["seconds"] for run in runs)
        ratio = seconds[best] / seconds[side]
        cell = {"cold": f"{ratio:.2f}", "warm": _beside(ratio, "digits")}.get(side, "")
        times = f"{seconds[side]:.1f} | {least:.1f} | {steps[side]:.0f}"
        lines.append(f"| {name} | {times} | {cell} |")
    if all("before" in run["warm"] for run in runs):
        before, updates = statistics.median(run["warm"]["before"] for run in runs), steps["warm"]
        each = 1e3 * (seconds["warm"] - before) / updates
        room = 1e3 * max(0.0, seconds[best] / TARGETS["digits"] - before) / updates
        lines += [
            "",
            f"Of the warm run's seconds {before:.1f} pass before its first update (imports, data);",
            f"then an update takes {each:.0f} ms, its share of evaluations and of programs that",
            f"are read included. A run of {TARGETS['digits']:g} times PyTorch's speed has room for"
            f" {room:.0f} ms.",
        ]
    return [*lines, ""]


def _beside(value: float, part: str, unit: str = "") -> str:
    """Write a number beside its target: of ratios the least, of times the most there may be."""
    target = TARGETS[part]
    met = value <= target if unit else value >= target
    sign = "≤" if unit else "≥"
    return f"**{value:.2f}{unit}** ({sign} {target:g} {'met' if met else 'missed'})"


def main(parts: list[str]) -> None:
    """Measure the named parts, all of them by default, and write the page after each repeat."""
    from benchmarks import performance

    parts = chosen("parts", parts, PARTS)
    if "digits" in parts:
        performance.need_torch()
    os.chdir(ROOT)
    found = performance.read("end_to_end")
    for part in parts:
        kept = found.get(part)
        if kept is None or kept["commit"] != commit() or len(kept["runs"]) == REPEATS:
            kept = {"commit": commit(), "measured": performance.measured(), "runs": []}
        for seed in range(len(kept["runs"]), REPEATS):
            kept["runs"].append(PARTS[part](seed))
            print(f"{part}, seed {seed}: {json.dumps(kept['runs'][-1])}", flush=True)
            performance.keep("end_to_end", found | {part: kept})
        found[part] = kept


if __name__ == "__main__":
    main(sys.argv[1:])
