"""A training step of cityjax beside the same network in plain PyTorch, on this machine's CPU.

Run: python -m benchmarks.peers [NAME ...]     (needs `pip install torch`)

Each side is a process of its own, and they take turns, so that what else runs here slows both. Both
start from the same weights and must report the same losses; a row is the median over the turns.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

BATCH, STEPS, HORIZON, SENSORS, HIDDEN = 64, 12, 12, 207, 64  # of Los-loop
STEPS_PER_DAY = 288
LEARNING_RATE = 0.001
TURNS, STEPS_PER_TURN = 9, 3
TARGET = 1.5  # PyTorch's time over ours


def drawn(seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Inputs of a batch as `data.forecast` gathers them, its targets, and a graph's matrix."""
    random = np.random.default_rng(seed)
    both = STEPS + HORIZON
    shape = (BATCH, both, SENSORS, 0)
    inputs = {
        "history": random.normal(size=(BATCH, STEPS, SENSORS, 1)).astype(np.float32),
        "observed": np.ones((BATCH, STEPS, SENSORS), bool),
        "clock": random.integers(0, (STEPS_PER_DAY, 7, 365), (BATCH, both, 3)).astype(np.int32),
        "known": np.zeros(shape, np.float32),
        "profile": np.zeros(shape, np.float32),
    }
    targets = random.normal(size=(BATCH, HORIZON, SENSORS)).astype(np.float32)
    graph = (random.random((SENSORS, SENSORS)) < 0.05) + np.eye(SENSORS)
    return inputs, targets, (graph / graph.sum(axis=1, keepdims=True)).astype(np.float32)


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights of both sides: parameter path -> array."""
    random = np.random.default_rng(1)
    return {
        path: (random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        for path, shape in sorted(shapes.items())
    }


def ours(name: str) -> tuple[Callable[[], float], dict[str, tuple[int, ...]]]:
    """cityjax's step, as an experiment trains it, and the shapes of its parameters."""
    from cityjax.process import keep_freed_memory

    keep_freed_memory()  # as the command line does
    import jax
    import optax
    from flax.traverse_util import flatten_dict, unflatten_dict

    from cityjax.learner import from_linen
    from cityjax.learners import supervised
    from cityjax.losses import squared_error
    from cityjax.models.stid import STID
    from cityjax.models.tgcn import TGCN
    from cityjax.ops.graph import dense_matmul

    inputs, targets, graph = drawn()
    support = partial(dense_matmul, graph)
    module = {
        "tgcn": lambda: TGCN(HORIZON, STEPS_PER_DAY, support, HIDDEN),
        "stid": lambda: STID(HORIZON, STEPS_PER_DAY, HIDDEN, dropout=0.0),
    }[name]()
    learner = supervised(from_linen(module), squared_error, optax.adam(LEARNING_RATE))
    state = learner.init(jax.random.key(0), {"inputs": inputs, "targets": targets})
    shapes = {"/".join(k): v.shape for k, v in flatten_dict(state.params).items()}
    params = {tuple(k.split("/")): jax.numpy.asarray(v) for k, v in weights(shapes).items()}
    state = state.replace(params=unflatten_dict(params))
    mask = np.ones(targets.shape, bool)
    batch = jax.device_put({"inputs": inputs, "targets": targets, "mask": mask})
    compiled = jax.jit(learner.step, donate_argnums=0)

    def step() -> float:
        nonlocal state
        state, sums = compiled(state, batch)
        total, count = sums["loss"]
        return float(total) / float(count)

    return step, shapes


def theirs(name: str, shapes: dict[str, tuple[int, ...]]) -> Callable[[], float]:
    """The step of the same network, written the plain way in PyTorch."""
    import torch
    from torch import nn
    from torch.nn.functional import linear, mse_loss

    inputs, targets, graph = drawn()
    held = nn.ParameterDict(
        {path.replace("/", "_"): torch.tensor(array) for path, array in weights(shapes).items()}
    )
    history, observed, goal = map(
        torch.tensor, (inputs["history"], inputs["observed"][..., None], targets)
    )
    clock = torch.tensor(inputs["clock"]).long()
    adjacency = torch.tensor(graph)

    def dense(path: str, x: Any) -> Any:
        return linear(x, held[f"{path}_kernel"].T, held[f"{path}_bias"])

    def tgcn() -> Any:
        seen = clock[:, :STEPS]
        angle = 2 * torch.pi * seen[..., :1] / STEPS_PER_DAY
        when = torch.cat([angle.sin(), angle.cos(), held["weekday"][seen[..., 1]]], dim=-1)
        when = when[:, :, None].expand(-1, -1, SENSORS, -1)
        x = torch.cat([history, observed.float(), when], dim=-1)
        h = torch.zeros(BATCH, SENSORS, HIDDEN)
        for t in range(STEPS):
            both = adjacency @ torch.cat([x[:, t], h], dim=-1)
            reset, update = torch.sigmoid(dense("gates", both)).chunk(2, dim=-1)
            both = adjacency @ torch.cat([x[:, t], reset * h], dim=-1)
            h = update * h + (1 - update) * torch.tanh(dense("candidate", both))
        return dense("head_Dense_0", h).transpose(1, 2)

    def stid() -> Any:
        age = observed.flip(1).int().argmax(dim=1) / STEPS  # of the last value, [B, N, 1]
        x = dense("history", history[..., 0].transpose(1, 2)) + age @ held["age_kernel"]
        now = clock[:, STEPS - 1]
        parts = [x, held["sensor_identities"][None].expand(BATCH, -1, -1)]
        for i, period in enumerate(("day", "week")):
            rows = held[f"{period}_identities"][now[:, i]]
            parts.append(rows[:, None].expand(-1, SENSORS, -1))
        z = torch.cat(parts, dim=-1)
        for layer in (0, 2, 4):
            z = z + dense(f"Dense_{layer + 1}", torch.relu(dense(f"Dense_{layer}", z)))
        return dense("head", z).transpose(1, 2)

    forward = {"tgcn": tgcn, "stid": stid}[name]
    optimizer = torch.optim.Adam(held.parameters(), LEARNING_RATE)

    def step() -> float:
        optimizer.zero_grad()
        loss = mse_loss(forward(), goal)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


NAMES = ("tgcn", "stid")


def work(side: str, name: str) -> None:
    """A side: for each line that is read, take a turn and write [seconds per step, losses]."""
    if side == "cityjax":
        step, shapes = ours(name)
        print(json.dumps(shapes), flush=True)
    else:
        step = theirs(name, json.loads(sys.stdin.readline()))
    for _ in sys.stdin:
        start = time.perf_counter()
        losses = [step() for _ in range(STEPS_PER_TURN)]
        print(json.dumps([(time.perf_counter() - start) / STEPS_PER_TURN, losses]), flush=True)


def compare(name: str) -> tuple[float, float]:
    """Return the median seconds per step of cityjax and of PyTorch.

    Raises ValueError where the two do not report the same losses, OSError where one ends early.
    """
    with ExitStack() as stack:
        mine, other = (stack.enter_context(started(side, name)) for side in ("cityjax", "torch"))
        ask(other, json.dumps(answer(mine)))  # the shapes of the weights
        seconds = ([], [])
        for turn in range(TURNS + 1):
            losses = []
            for side, times in zip((mine, other), seconds, strict=True):
                ask(side, "turn")
                took, found = answer(side)
                losses.append(found)
                times.append(took)
            if not np.allclose(*losses, rtol=1e-3):
                raise ValueError(f"{name}: the losses of turn {turn} differ: {losses}")
        # The first turn compiles. Leaving closes what the sides read, which ends them.
        return float(np.median(seconds[0][1:])), float(np.median(seconds[1][1:]))


def started(side: str, name: str) -> subprocess.Popen:
    """Start a side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers", "--side", side, name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(side: subprocess.Popen, line: str) -> None:
    """Send a side one line."""
    side.stdin.write(line + "\n")
    side.stdin.flush()


def answer(side: subprocess.Popen) -> Any:
    """Read a side's answer."""
    line = side.stdout.readline()
    if not line:
        raise OSError(f"{side.args[-2:]} ended early: its message stands above")
    return json.loads(line)


def main(names: list[str]) -> None:
    """Print a row for each network."""
    print(f"{'':6}  cityjax   PyTorch   ratio (target {TARGET})")
    for name in names or NAMES:
        mine, other = compare(name)
        print(f"{name:6} {1000 * mine:5.0f} ms  {1000 * other:5.0f} ms  {other / mine:5.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        work(*sys.argv[2:4])
    else:
        main(sys.argv[1:])
