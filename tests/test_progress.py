"""What a run shows: a live line that fits a terminal, plain lines for files."""

import io
import re

import pytest
from rich.console import Console

from cityjax.progress import Live, Plain, make_progress

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def terminal():
    """Return (live display, its clock, what it wrote, frame by frame) of a terminal this wide."""

    def make(width):
        clock, buffer = Clock(), io.StringIO()
        console = Console(
            file=buffer, force_terminal=True, width=width, highlight=False, get_time=clock
        )
        return (
            Live(console),
            clock,
            lambda: [
                frame.rstrip()
                for frame in re.split(r"[\r\n]", CODES.sub("", buffer.getvalue()))
                if frame.strip()
            ],
        )

    return make


def train(live, clock, steps, name="loss"):
    """Ten seconds of 400 updates each, from step 1000 on."""
    live.start(3, 1000, steps)
    for step in range(1400, 5001, 400):
        clock.now += 1.0
        live.advance(step)
    live.line(5000, "train", {name: 0.123456, "error": 0.5})


def test_the_live_line_has_bar_step_speed_time_left_and_one_metric_in_80_columns(terminal):
    live, clock, frames = terminal(80)
    train(live, clock, 20_000)
    live.close()
    last = frames()[-1]
    # A resumed run's speed counts its own updates; 15,000 are left at 400 a second.
    assert re.fullmatch(
        r"seed 3 [━╸╺ ]{10}  ?5000/20000 400 steps/s 00:3[78] train loss 0\.1235", last
    )
    assert len(last) <= 80


@pytest.mark.parametrize("width", [80, 120])
def test_validation_comes_first_and_train_stays_where_there_is_room(width, terminal):
    live, clock, frames = terminal(width)
    train(live, clock, 100_000, name="discriminator_loss")
    live.line(5000, "validation", {"mae@1-6": 1234.5})
    live.close()
    last = frames()[-1]
    assert " validation mae@1-6 1234" in last and len(last) <= width
    assert ("train discriminator_loss 0.1235" in last) == (width == 120)


def test_the_longest_line_of_the_experiments_fits_80_columns(terminal):
    live, clock, frames = terminal(80)
    train(live, clock, 20_000, name="discriminator_loss")
    live.close()
    assert frames()[-1].endswith("train discriminator_loss 0.1235")


def test_test_lines_and_notes_stay_above_the_line_that_changes(terminal):
    live, clock, frames = terminal(80)
    live.note("[mlp] -> runs/mlp")  # no markup
    train(live, clock, 5000)
    live.line(5000, "test", {"loss": 0.25, "error": 0.03125})
    live.close()
    live.close()
    assert frames()[0] == "[mlp] -> runs/mlp"
    assert "     5000 test        loss 0.25  error 0.03125" in frames()
    live.start(4, 0, 10)
    live.close()
    assert frames()[-1].startswith("seed 4 ") and "0/10" in frames()[-1]


def test_plain_lines_are_the_first_the_last_and_every_evaluation(capsys, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("cityjax.progress.time.monotonic", clock)
    plain = make_progress("plain")
    assert isinstance(plain, Plain)
    plain.start(0, 0, 400)
    for step in (100, 200, 300, 400):
        clock.now += 4.0
        plain.line(step, "train", {"loss": step / 1000})
    plain.line(400, "validation", {"loss": 0.5, "error": 0.25})
    assert capsys.readouterr().out.splitlines() == [
        "seed 0: step 0 of 400",
        "      100 train       loss 0.1",
        "      400 train       loss 0.4",
        "      400 validation  loss 0.5  error 0.25",
    ]


def test_off_shows_nothing_and_auto_is_plain_without_a_terminal(capsys):
    off = make_progress("off")
    off.note("text")
    off.start(0, 0, 1)
    off.line(1, "test", {"loss": 1.0})
    off.close()
    assert capsys.readouterr().out == ""
    assert isinstance(make_progress("auto"), Plain)
