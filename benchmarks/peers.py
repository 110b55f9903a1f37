"""Training steps of cityjax beside plain Flax and PyTorch, on this machine's CPU or GPU.

Run: python -m benchmarks.peers [--gpu] [NAME ...]     (needs `pip install '.[bench]'`)

Each side is a process of its own, and they take turns, so that what else runs here slows all alike.
All start from the same weights and must find the same loss; then each takes a few updates a turn. A
row is the median over the turns, and the least. PyTorch runs eagerly, with images in channels-last
order, and compiled where there is a C++ compiler; the best of them counts. It keeps freed memory,
as cityjax's command line does; plain Flax is what `jax.jit` makes of it. cityjax trains as its runs
do, with as many updates per dispatch as it chooses itself, and no side is asked for a loss before
the end of its turn. On a GPU all sides round the operands of products to TF32, JAX's default there,
and PyTorch lets cuDNN choose its algorithms. Writes docs/results/performance.md and the JSON file
behind it.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import numpy as np

from benchmarks.networks.shared import CLASSIFIERS, FORECASTERS, GANS
from benchmarks.results import ROOT, chosen, where_measured

TURNS = {"cpu": 15, "gpu": 9}  # a GPU is seldom shared
TURN_SECONDS = {"cpu": 0.4, "gpu": 0.2}
COMPILED = ["compile", "cuda_graphs"]  # PyTorch's, the second on a GPU alone


class Network(NamedTuple):
    """What is timed. targets: how often faster than PyTorch, and than plain Flax, None for none."""

    title: str
    images: bool = False  # whether the order of an image's axes matters
    targets: tuple[float | None, float | None] = (None, None)


NETWORKS = {
    "mlp": Network("MLP 784-128-10", targets=(1.5, None)),
    "article_cnn": Network("article CNN (3x3x32, max-pool, dense)", True, (1.4, 5.5)),
    "lenet": Network("LeNet (32, 64, max-pools, 256)", True, (1.15, 3)),
    "gru": Network("GRU 28 x 28 to 128", targets=(1.5, None)),
    "lstm": Network("LSTM 28 x 28 to 128", targets=(1.3, None)),
    "gan": Network("dense GAN (100-128-784; 784-128-1)", targets=(2.3, None)),
    "dcgan": Network("DCGAN (7x7x128 to 64 to 1; 64, 128)", True, (1.3, 4)),
    "tgcn": Network("T-GCN, 207 sensors, 12 steps, 64 units", targets=(1.5, None)),
    "stid": Network("STID, 207 sensors, 12 steps, 64 units", targets=(1.5, None)),
}
assert set(NETWORKS) == {*CLASSIFIERS, *GANS, *FORECASTERS}


def sides(name: str, device: str) -> list[str]:
    """Name the sides that a network is timed on, cityjax first."""
    network = NETWORKS[name]
    found = ["cityjax", "flax", "eager"]
    found += ["channels_last"] if network.images else []
    if shutil.which("g++"):
        found += COMPILED if device == "gpu" else COMPILED[:1]
    return found


def work(side: str, name: str, device: str) -> None:
    """A side: for each line that is read, take a turn, write [seconds an update, first losses]."""
    if side in ("cityjax", "flax"):
        from benchmarks.networks.in_jax import jax_side

        train, chunk, sent = jax_side(name, side == "flax")
        print(json.dumps(sent), flush=True)
    else:
        from cityjax.process import keep_freed_memory

        keep_freed_memory()  # which is faster for PyTorch, too
        from benchmarks.networks.in_torch import torch_side

        train, chunk = torch_side(name, json.loads(sys.stdin.readline()), side, device), 1
    # The second is of a GAN's own noise, else it shows that updates are the same too.
    losses, updates = [train(1), train(1)][: 1 if name in GANS else 2], chunk
    for _ in sys.stdin:
        start = time.perf_counter()
        train(updates)
        seconds = (time.perf_counter() - start) / updates
        print(json.dumps([seconds, losses]), flush=True)
        updates = chunk * max(1, round(TURN_SECONDS[device] / seconds / chunk))


def compare(name: str, device: str) -> dict[str, dict[str, float]]:
    """Return the median and the least seconds per step of each side that runs.

    What PyTorch fails to compile is left out, and said.
    Raises ValueError where they do not find the same loss, OSError where another side ends early.
    """
    names = sides(name, device)
    with ExitStack() as stack:
        running = {side: stack.enter_context(started(side, name, device)) for side in names}
        sent = answer(running["cityjax"])
        answer(running["flax"])
        for side in names:
            if side not in ("cityjax", "flax"):
                ask(running[side], json.dumps(sent))
        seconds: dict[str, list[float]] = defaultdict(list)
        for turn in range(TURNS[device] + 2):
            losses = {}
            first = turn % len(names)
            for side in names[first:] + names[:first]:
                try:
                    ask(running[side], "turn")
                    took, losses[side] = answer(running[side])
                except OSError:
                    if side not in COMPILED:
                        raise
                    print(f"{name}: PyTorch's {side} fails and is left out", file=sys.stderr)
                    names.remove(side)
                    continue
                if turn > 1:  # the first compile, and say how many updates are a turn
                    seconds[side].append(took)
            if not np.allclose(list(losses.values()), losses["cityjax"], rtol=1e-3):
                raise ValueError(f"{name}: the first losses differ: {losses}")
    return {s: {"median": statistics.median(t), "min": min(t)} for s, t in seconds.items()}


def started(side: str, name: str, device: str) -> subprocess.Popen:
    """Start a side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers", "--side", side, name, device]
    environment = {**os.environ, "JAX_PLATFORMS": {"cpu": "cpu", "gpu": "cuda,cpu"}[device]}
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the sides share a GPU's memory
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def ask(side: subprocess.Popen, line: str) -> None:
    """Send a side one line."""
    try:
        side.stdin.write(line + "\n")
        side.stdin.flush()
    except BrokenPipeError:
        with suppress(BrokenPipeError):
            side.stdin.close()  # else it is sent once more, at the end
        raise


def answer(side: subprocess.Popen) -> Any:
    """Read a side's answer."""
    line = side.stdout.readline()
    if not line:
        raise OSError(f"{side.args[-2:]} ended early: its message stands above")
    return json.loads(line)


def row(name: str, times: dict[str, dict[str, float]], device: str) -> list[str]:
    """Return one line of the table: milliseconds, ratios and, on a CPU, targets."""
    network, torch = NETWORKS[name], [s for s in times if s not in ("cityjax", "flax")]
    best = min(torch, key=lambda side: times[side]["median"])

    def milliseconds(side: str) -> str:
        return "{median:.3g} ({min:.3g})".format(**{k: 1e3 * v for k, v in times[side].items()})

    def ratio(side: str, target: float | None) -> str:
        found = times[side]["median"] / times["cityjax"]["median"]
        if target is None or device == "gpu":
            return f"{found:.2f}"
        return f"**{found:.2f}** (≥ {target:g} {'met' if found >= target else 'missed'})"

    plain = ("", "")
    if "flax" in times:  # else measured before all networks had it
        plain = (milliseconds("flax"), ratio("flax", network.targets[1]))
    other = (f"{milliseconds(best)}, {best}", ratio(best, network.targets[0]))
    return [network.title, milliseconds("cityjax"), *plain, *other]


def section(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return what docs/results/performance.md says of the networks that were timed on a CPU."""
    lines = [
        "## A training step beside PyTorch and plain Flax",
        "",
        "One training step (Adam, float32, 128 images or 64 windows) of cityjax beside the same",
        "network in plain Flax and in PyTorch, on a CPU: `python -m benchmarks.peers`. Times are",
        "medians over turns that the sides take one after the other in one run (the least in",
        "brackets), in ms; all start from the same weights and find the same losses. PyTorch is",
        "the best of eager, channels-last and, with a C++ compiler, compiled; its networks are",
        "written the plain way. Both keep freed memory, as cityjax's command line does, which",
        "dispatches up to 50 updates at once, one where XLA convolves, and compiles convolutions",
        "and recurrences without YNNPACK; plain Flax is as `jax.jit` makes it. No side is asked",
        "for a loss before the end of a turn. Above 1, cityjax is faster.",
    ]
    return lines + table(found, "cpu")


def gpu_section(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return what docs/results/performance.md says of the networks that were timed on a GPU."""
    lines = [
        "## The same on a GPU",
        "",
        "The same on a GPU: `python -m benchmarks.peers --gpu`. cityjax dispatches 50 updates at",
        "once, plain Flax and PyTorch one. All sides round the operands of products to TF32, as",
        "JAX does by default; PyTorch lets cuDNN choose its algorithms, and is the best of eager,",
        "channels-last, compiled, and compiled with CUDA graphs, where these can be had. Each row",
        "is of the commit named below, which may be older than that of the same row on a CPU.",
    ]
    return lines + table(found, "gpu")


def table(found: dict[str, dict[str, Any]], device: str) -> list[str]:
    """Return the table of what was timed on a device, and where each line was."""
    lines = [
        "",
        "| network | cityjax | plain Flax | Flax / cityjax | PyTorch | PyTorch / cityjax |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    found = {name: found[name] for name in NETWORKS if name in found}
    for name, one in found.items():
        lines.append("| " + " | ".join(row(name, one["times"], device)) + " |")
    return lines + where_measured(found)


def main(names: list[str]) -> None:
    """Time the named networks, all of them by default, and write the page after each."""
    from benchmarks import performance

    device, kept = ("gpu", "peers_gpu") if "--gpu" in names else ("cpu", "peers")
    names = chosen("networks", [name for name in names if name != "--gpu"], NETWORKS)
    performance.need_torch()
    os.chdir(ROOT)
    found, here = performance.read(kept), performance.measured(device)
    for name in names:
        times = compare(name, device)
        found[name] = {"times": times, "measured": here}
        print(" | ".join(row(name, times, device)), flush=True)
        performance.keep(kept, found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        work(*sys.argv[2:5])
    else:
        main(sys.argv[1:])
