"""What a run shows while it goes: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from rich import progress as bars
from rich.console import Console
from rich.text import Text

# Between two plain lines of training; evaluations always get theirs.
_SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """How a run tells where it is; `values` are the metrics of a line."""

    def note(self, text: str) -> None:
        """Say one thing."""
        ...

    def start(self, seed: int, step: int, steps: int) -> None:
        """Begin the training of a seed at a step."""
        ...

    def advance(self, step: int) -> None:
        """Say that the updates up to `step` were dispatched."""
        ...

    def line(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Show the metrics of a split."""
        ...

    def close(self) -> None:
        """End the display."""
        ...


def make_progress(mode: str) -> Progress:
    """Return the display for "live", "plain", "off", or "auto": live on a terminal."""
    if mode == "auto":
        mode = "live" if sys.stdout.isatty() else "plain"
    return {"live": Live, "plain": Plain, "off": Off}[mode]()


def format_values(values: Mapping[str, float]) -> str:
    """Write metrics on one line: `loss 0.1234  error 0.0312`."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


class Off:
    """Shows nothing."""

    def note(self, text: str) -> None: ...  # noqa: D102
    def start(self, seed: int, step: int, steps: int) -> None: ...  # noqa: D102
    def advance(self, step: int) -> None: ...  # noqa: D102
    def line(self, step: int, split: str, values: Mapping[str, float]) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Plain(Off):
    """Lines for log files and pipes: the first of each seed, then one in ten seconds."""

    def __init__(self) -> None:  # noqa: D107
        self._steps, self._last = 0, -float("inf")

    def note(self, text: str) -> None:  # noqa: D102
        print(text, flush=True)

    def start(self, seed: int, step: int, steps: int) -> None:  # noqa: D102
        self._steps, self._last = steps, -float("inf")
        self.note(f"seed {seed}: step {step} of {steps}")

    def line(self, step: int, split: str, values: Mapping[str, float]) -> None:  # noqa: D102
        now = time.monotonic()
        if split == "train":
            if now - self._last < _SECONDS_BETWEEN_LINES and step != self._steps:
                return
            self._last = now
        self.note(f"  {step:>7} {split:<10}  {format_values(values)}")


class Live(Off):
    """One line that changes: bar, step, speed, time left, and the newest metrics."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to `console`, by default standard output."""
        self._console = console or Console(highlight=False)
        self._progress: bars.Progress | None = None
        self._task = bars.TaskID(0)
        self._shown: dict[str, str] = {}

    def note(self, text: str) -> None:  # noqa: D102
        self._console.print(text, markup=False)

    def start(self, seed: int, step: int, steps: int) -> None:  # noqa: D102
        self.close()
        self._shown = {}
        self._progress = bars.Progress(
            bars.TextColumn("seed {task.fields[seed]}"),
            bars.BarColumn(bar_width=10),
            bars.MofNCompleteColumn(),
            _Speed(),
            bars.TimeRemainingColumn(compact=True),
            bars.TextColumn("{task.fields[values]}"),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=steps, completed=step, seed=seed, values="")
        self._progress.start()

    def advance(self, step: int) -> None:  # noqa: D102
        if self._progress is not None:
            self._progress.update(self._task, completed=step)

    def line(self, step: int, split: str, values: Mapping[str, float]) -> None:  # noqa: D102
        if self._progress is None or split == "test":
            self.note(f"  {step:>7} {split:<10}  {format_values(values)}")
            return
        first = format_values(dict(list(values.items())[:1]))
        self._shown[split] = f"[bold]{split}[/] {first}"
        # 80 columns have room for one metric: that of validation as soon as there is one.
        known = [self._shown[name] for name in ("validation", "train") if name in self._shown]
        text = "  ".join(known if self._console.width >= 110 else known[:1])
        self._progress.update(self._task, completed=step, values=text)

    def close(self) -> None:  # noqa: D102
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class _Speed(bars.ProgressColumn):
    """Steps per second over the last half minute, evaluations and checkpoints included."""

    def render(self, task: bars.Task) -> Text:
        speed = task.speed
        return Text("" if speed is None else f"{speed:.{1 if speed < 10 else 0}f} steps/s")
