"""The benchmarks of whole commands and of growth: what they read, resume and write."""

import copy
import functools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import end_to_end, peers, performance, scaling
from benchmarks.end_to_end import accurate, logged, most_memory, wait_for
from benchmarks.networks import in_flax, in_jax, shared
from benchmarks.results import ROOT
from cityjax.overrides import resolve


def run_of(cold, warm, eager, channels_last):
    sides = zip(
        ("cold", "warm", "eager", "channels_last"), (cold, warm, eager, channels_last), strict=True
    )
    return {side: {"seconds": seconds, "step": 300} for side, seconds in sides}


FOUND = {
    "digits": {
        "commit": "abc",
        "measured": "here",
        "runs": [run_of(30, 10, 20, 16), run_of(40, 12, 22, 18), run_of(29, 9, 21, 15)],
    },
    "start": {
        "commit": "abc",
        "measured": "there",
        "runs": [{"cold": {"seconds": 9.5, "step": 50}, "warm": {"seconds": 4.5, "step": 50}}],
    },
    "memory": {
        "commit": "abc",
        "measured": "today",
        "runs": [{"traffic_los": {"gigabytes": 0.75}, "metr_la_size": {"gigabytes": 1.625}}],
    },
    "dispatch": {
        "commit": "abc",
        "measured": "now",
        "runs": [{"chunks": {"seconds": 3.1e-5}, "whole": {"seconds": 1.8e-5}}],
    },
}


# A side that says what it is sent, then how long it took: its name's length, the first losses.
SIDE = """
import json, sys
side, name = sys.argv[1:3]
plain = side in ("cityjax", "flax")
sent = {"from": side} if plain else json.loads(sys.stdin.readline())
if plain:
    print(json.dumps(sent), flush=True)
assert plain or sent == {"from": "cityjax"}
for number, _ in enumerate(sys.stdin):
    if (side, name) == ("compile", "broken"):
        sys.exit(1)
    loss = 2.0 if (side, name) == ("flax", "wrong") else 1.0
    print(json.dumps([len(side) + number, [loss]]), flush=True)
"""


@pytest.fixture
def sides(monkeypatch, tmp_path):
    """Sides of four kinds that take so many seconds."""
    (tmp_path / "side.py").write_text(SIDE)
    monkeypatch.setattr(
        peers, "sides", lambda name, device: ["cityjax", "flax", "eager", "compile"]
    )
    monkeypatch.setitem(peers.TURNS, "cpu", 3)
    monkeypatch.setattr(
        peers,
        "started",
        lambda side, name, device: subprocess.Popen(
            [sys.executable, str(tmp_path / "side.py"), side, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ),
    )


def test_sides_take_turns_and_the_first_two_do_not_count(sides):
    found = peers.compare("mlp", "cpu")
    assert found == {  # turns 2, 3, 4
        side: {"median": len(side) + 3, "min": len(side) + 2}
        for side in ("cityjax", "flax", "eager", "compile")
    }


def test_what_pytorch_cannot_compile_is_left_out_and_said(sides, capsys):
    assert set(peers.compare("broken", "cpu")) == {"cityjax", "flax", "eager"}
    assert "broken: PyTorch's compile fails and is left out" in capsys.readouterr().err


def test_sides_that_do_not_compute_the_same_are_refused(sides):
    with pytest.raises(ValueError, match="wrong: the first losses differ"):
        peers.compare("wrong", "cpu")


@pytest.mark.parametrize("name", peers.NETWORKS)
def test_plain_flax_is_the_same_network(name, monkeypatch):
    # Small, but for networks whose own sizes are written out.
    for module in (in_jax, in_flax, shared):
        for constant, value in {"HIDDEN": 8, "DIGITS": 4, "CITY_HIDDEN": 4}.items():
            if name not in ("mlp", "gan") and hasattr(module, constant):
                monkeypatch.setattr(module, constant, value)
    monkeypatch.setattr(in_jax, "city", functools.partial(shared.city, 3, 5))
    losses = []
    for plain in (False, True):
        learner, state, batch, _ = in_jax.start(name, plain)
        _, sums = jax.jit(learner.step)(state, batch)
        losses.append({key: float(total / count) for key, (total, count) in sums.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_lines_of_a_run_are_read():
    assert accurate("      300 validation  loss 0.0505  error 0.015") == 300
    assert accurate("      300 validation  loss 0.0505  error 0.0151") is None
    assert accurate("      300 train       loss 0.0505  error 0.0101") is None
    assert accurate("seed 0: step 0 of 4000") is None
    assert logged("       50 train       discriminator_loss 1.2") == 50
    assert logged("       50 validation  frechet_distance 1.2") is None


def test_a_process_is_awaited_and_ended(tmp_path, monkeypatch):
    script = "import time\nprint('seed 0: step 0 of 9', flush=True)\ntime.sleep(0.5)\n"
    script += "print('  7 train  loss 1', flush=True)\n"
    (tmp_path / "endless.py").write_text(script + "time.sleep(600)")
    (tmp_path / "short.py").write_text("print('  7 validation  error 0.5')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = wait_for(["endless"], logged)
    assert found["step"] == 7
    assert 0 < found["before"] <= found["seconds"] - 0.4
    with pytest.raises(OSError, match="short ended before"):
        wait_for(["short"], logged)


def test_the_most_memory_of_a_process_is_measured(tmp_path, monkeypatch):
    (tmp_path / "large.py").write_text("held = bytearray(b'x') * 300_000_000\ndel held")
    (tmp_path / "failing.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    held = bytearray(b"x") * 1_000_000_000  # what the one who asks holds is not counted
    del held
    assert 0.3 < most_memory(["large"]) < 0.6
    with pytest.raises(OSError, match="failing failed"):
        most_memory(["failing"])


def test_the_section_sets_medians_beside_their_targets():
    shown = "\n".join(end_to_end.section(FOUND))
    assert "| cityjax, warm | 10.0 | 9.0 | 300 | **1.60** (≥ 1.5 met) |" in shown
    assert "| cityjax, cold | 30.0 | 29.0 | 300 | 0.53 |" in shown
    assert "before its first update" not in shown
    found = copy.deepcopy(FOUND)
    for run in found["digits"]["runs"]:
        run["warm"]["before"] = 4.0
    shown = "\n".join(end_to_end.section(found))
    assert "4.0 pass before its first update" in shown
    # Of 10 seconds 6 are for 300 updates; of 16 / 1.5, the best of PyTorch's, 6.67.
    assert "takes 20 ms" in shown and "room for 22 ms" in shown
    assert "second start **4.50 s** (≤ 4 missed)" in shown
    assert "**13.00 µs** (≤ 15 met)" in shown
    assert "**0.75 GB** (≤ 1.2 met)" in shown and "**1.62 GB** (≤ 1.5 missed)" in shown
    assert "- start: there" in shown


@pytest.mark.parametrize("module", [end_to_end, scaling])
def test_unknown_arguments_are_one_line(module):
    command = [sys.executable, "-m", module.__name__, "digit"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "unknown" in ended.stderr


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Write where nothing is kept."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(performance, "FOLDER", tmp_path / "performance")
    monkeypatch.setattr(performance, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(scaling, "FOUND", tmp_path / "scaling" / "points.json")
    monkeypatch.setattr(scaling, "PAGE", tmp_path / "scaling.md")
    monkeypatch.setattr(scaling, "FIGURE", tmp_path / "scaling.png")
    monkeypatch.setattr(performance, "measured", lambda: "here")
    return tmp_path


def test_a_stopped_measurement_goes_on_and_another_commit_begins_anew(folders, monkeypatch):
    asked = []

    def part(seed):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(seed)
        return {"cold": {"seconds": 9.0 + seed}, "warm": {"seconds": 3.0 + seed}}

    monkeypatch.setitem(end_to_end.PARTS, "start", part)
    for module in (end_to_end, performance):  # the tests may run where there is no repository
        monkeypatch.setattr(module, "commit", lambda: "abc")
    with pytest.raises(KeyboardInterrupt):
        end_to_end.main(["start"])
    assert "second start **3.50 s** (≤ 4 met)" in performance.PAGE.read_text(encoding="utf-8")
    asked = [None] * 3
    end_to_end.main(["start"])
    assert asked[3:] == list(range(2, end_to_end.REPEATS))
    monkeypatch.setattr(end_to_end, "commit", lambda: "another")
    asked = [None] * 3
    end_to_end.main(["start"])
    assert asked[3:] == list(range(end_to_end.REPEATS))


def test_both_sides_train_cnn_mnist():
    torch = pytest.importorskip("torch")
    from benchmarks.networks.digits_in_torch import network

    request = resolve([f"experiment={end_to_end.EXPERIMENT}"])
    settings, own = request.configs[0].to_dict(), resolve(["experiment=cnn_mnist"]).configs[0]
    assert settings == own.to_dict()
    made = network(settings["channels"], settings["hidden_sizes"], settings["dropout"])
    assert made(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    sizes = sorted(parameter.numel() for parameter in made.parameters())
    import jax

    from cityjax import registry, train

    experiment = registry.build(request.module, request.configs[0])
    assert experiment.select == "validation/error"
    assert experiment.evaluation["validation"].count == 10
    like = train.abstract_state(experiment)
    assert sizes == sorted(leaf.size for leaf in jax.tree.leaves(like.params))


def test_the_loop_in_pytorch_learns_its_digits(monkeypatch):
    torch = pytest.importorskip("torch")
    from benchmarks.networks import digits_in_torch

    settings = resolve(["experiment=cnn_mnist"]).configs[0].to_dict()
    settings |= {"channels": [4], "hidden_sizes": [16], "batch_size": 32, "steps": 60}
    settings |= {"folder": "nowhere", "channels_last": True, "eval_every": 30, "dropout": 0.0}
    # A white row names the digit; the last 5,000 are validation, which is left out.
    labels = torch.arange(5_100) % 10
    images = torch.zeros(5_100, 1, 28, 28, dtype=torch.uint8)
    images[torch.arange(5_100), 0, 2 * labels] = 255
    monkeypatch.setattr(digits_in_torch, "read", lambda *_: (images, labels))
    found = list(digits_in_torch.train(settings))
    assert [step for step, _ in found] == [30, 60]
    assert found[-1][1] < 0.5  # by chance it is 0.9


def test_growth_is_fitted_to_the_largest_points():
    values = (1, 2, 4, 8, 16)
    assert scaling.exponent(values, [5.0, 5.0, 32.0, 256.0, 2048.0]) == pytest.approx(3)


def test_points_are_resumed_tabled_and_drawn(folders, monkeypatch):
    asked = []

    def answer(command, **options):
        sweep, model, value = scaling.POINTS[command[-1]]
        asked.append(command[-1])
        if len(asked) == 5:
            raise KeyboardInterrupt
        slow = 1e-4 if asked.count(command[-1]) > 1 else 3e-4  # the least counts
        return json.dumps(scaling.Point(slow * value, 2**20 * value**2, 2**28))

    monkeypatch.setattr(scaling.subprocess, "check_output", answer)
    monkeypatch.setattr(scaling, "commit", lambda: "abc")
    monkeypatch.setattr(scaling, "TURNS", 2)
    with pytest.raises(KeyboardInterrupt):
        scaling.main()
    assert "| 4.8 | 9.6 |" in scaling.PAGE.read_text(encoding="utf-8")
    assert scaling.FIGURE.exists()
    scaling.main()
    assert sorted(asked) == sorted([*scaling.POINTS, *scaling.POINTS, asked[4]])
    assert asked[5 : len(scaling.POINTS) + 1] == list(scaling.POINTS)[4:]  # a turn after the other
    shown = scaling.PAGE.read_text(encoding="utf-8")
    assert shown.count("| 1.00 |") == shown.count("| 2.00 |") == 8
    assert scaling.FIGURE.stat().st_size > 10_000


def test_a_point_is_measured(monkeypatch):
    monkeypatch.setattr(scaling, "SECONDS", 0.01)
    monkeypatch.setattr("cityjax.process.keep_freed_memory", lambda: None)  # that would stay
    sweep = scaling.Sweep("rows", (4,), {"MLP": lambda n: scaling.mlp(n, 8, 1)})
    monkeypatch.setitem(scaling.POINTS, "rows 4, MLP", (sweep, "MLP", 4))
    point = scaling.measure("rows 4, MLP")
    parameters = 784 * 8 + 8 + 8 * 10 + 10
    # Weights and both moments of Adam, at the least.
    assert 12 * parameters < point.program < 100 * parameters < point.process
    assert point.seconds > 0


@pytest.mark.parametrize("sweep", scaling.SWEEPS, ids=lambda sweep: sweep.axis)
def test_every_model_of_a_sweep_takes_a_step(sweep):
    import jax

    for make in sweep.models.values():
        learner, batch = make(sweep.values[0])
        state = jax.eval_shape(learner.init, jax.random.key(0), batch)
        _, sums = jax.eval_shape(learner.step, state, batch)
        assert np.shape(sums["loss"][0]) == ()
