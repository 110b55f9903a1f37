"""A run stopped at any moment and resumed ends bit for bit like an unbroken one."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cityjax import checkpoint, folder
from cityjax.errors import UserError
from cityjax.run import Signals, load, main, run

# One of each family: dense with dropout, convolutions with batch norm, recurrence with a moving
# average on masked windows, an adversarial pair. Chunks that divide the intervals and that do not.
CASES = {
    "mlp": (["experiment=mlp_mnist", "hidden_sizes=[8]"], 5),
    "cnn": (["experiment=cnn_mnist", "channels=[2]", "hidden_sizes=[4]", "augment=shift"], 1),
    "rnn": (["experiment=rnn_traffic", "hidden_size=4", "warmup_steps=2"], 7),
    "gan": (["experiment=gan_mnist", "hidden_sizes=[8]", "latent_size=4"], 4),
}
SMALL = [
    "steps=24",
    "batch_size=16",
    "log_every=5",
    "eval_every=8",
    "checkpoint_every=6",
    "parallel=jit",
    "progress=off",
    "seeds=2",
]


class Killed(BaseException):
    """Stands for kill -9: nothing in the library catches it."""


def outcome(path):
    """Everything a run leaves that must not depend on where it was interrupted."""
    result = json.loads((path / folder.RESULT).read_text())
    result.pop("timing")
    files = {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*.png")
        if "curves" not in file.name
    }
    leaves = []
    for seed in result["seeds"]:
        for leaf in jax.tree.leaves(load(path, seed=seed).state):
            if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
            leaves.append(np.asarray(leaf))
    return (path / folder.METRICS).read_text(), result, files, leaves


def assert_same(left, right):
    assert left[:2] == right[:2]
    assert left[2] == right[2]
    for one, other in zip(left[3], right[3], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(autouse=True)
def few_examples(monkeypatch):
    """Judge and evaluate on little, and draw nothing at the end: resuming is what is tested."""
    from cityjax import conclude
    from cityjax.data import i94, mnist
    from cityjax.tasks import digits, gan, judge, traffic

    whole, origins, series = mnist.load, i94.forecast_origins, i94.load()
    monkeypatch.setattr(i94, "load", lambda: series)
    monkeypatch.setattr(conclude, "draw", lambda run: None)
    monkeypatch.setattr(
        mnist, "load", lambda split: mnist.Digits(*(part[:300] for part in whole(split)))
    )
    monkeypatch.setattr(i94, "forecast_origins", lambda series, split: origins(series, split)[:300])
    monkeypatch.setattr(judge, "SAMPLES", 500)
    judge.test_verdict.cache_clear()
    monkeypatch.setattr(traffic, "floors", dict)
    monkeypatch.setattr(gan, "floors", lambda conditional: {})
    monkeypatch.setattr(digits, "baselines", dict)
    yield
    judge.test_verdict.cache_clear()


@pytest.mark.parametrize("name", CASES)
def test_killed_anywhere_and_resumed_equals_unbroken(name, tmp_path, monkeypatch):
    arguments, chunk = CASES[name]
    arguments = [*arguments, *SMALL, f"chunk={chunk}"]
    unbroken = run([*arguments, f"workdir={tmp_path / 'unbroken'}"])

    broken = tmp_path / "broken"
    append, save = folder.append, checkpoint.save
    # Kill at the n-th line written, and right after the n-th checkpoint: inside both seeds, just
    # after a validation line whose checkpoint is still missing, and before the result.
    for moment in (2, 5, 9):
        count = 0

        def counted(do, moment=moment):
            def wrapped(*details):
                nonlocal count
                do(*details)
                count += 1
                if count == moment:
                    raise Killed

            return wrapped

        with monkeypatch.context() as patch:
            patch.setattr(folder, "append", counted(append))
            patch.setattr(checkpoint, "save", counted(save))
            try:
                run([*arguments, f"workdir={broken}"])
            except Killed:
                # A line that the kill cut in two.
                with (broken / folder.METRICS).open("a") as file:
                    file.write('{"seed": 0, "st')
    resumed = run([*arguments, f"workdir={broken}"])
    assert resumed.metrics == unbroken.metrics
    assert_same(outcome(tmp_path / "unbroken"), outcome(broken))


def test_a_workdir_of_any_name_is_resumed(tmp_path, monkeypatch, capsys):
    arguments = [*CASES["mlp"][0], *SMALL]
    run([*arguments, f"workdir={tmp_path / 'plain'}"])
    path, save = tmp_path / "a [b]*\\c?", checkpoint.save

    def save_and_die(where, step, tree):
        save(where, step, tree)
        if step == 12:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_die)
        with pytest.raises(Killed):
            run([*arguments, f"workdir={path}"])
    monkeypatch.setattr(Signals, "install", lambda self: None)
    assert main([*arguments, f"workdir={path}", "resume=must"]) == 0
    assert capsys.readouterr().err == ""
    assert_same(outcome(tmp_path / "plain"), outcome(path))


def test_finished_run_shows_its_result_and_changes_nothing(tmp_path):
    arguments = [*CASES["mlp"][0], *SMALL, f"workdir={tmp_path / 'run'}"]
    first = run(arguments)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert run(arguments) == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == files


def test_resume_must_and_never(tmp_path):
    arguments = [*CASES["mlp"][0], *SMALL, f"workdir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match="holds no run and resume=must"):
        run([*arguments, "resume=must"])
    run(arguments)
    with pytest.raises(UserError, match="not empty and resume=never"):
        run([*arguments, "resume=never"])
    assert run([*arguments, "resume=must"]).workdir == tmp_path / "run"


def test_evaluate_only_scores_again_and_writes_nothing(tmp_path):
    path = tmp_path / "run"
    first = run([*CASES["cnn"][0], *SMALL, f"workdir={path}"])
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = run(["evaluate_only=true", f"workdir={path}"])
    assert again.metrics == first.metrics
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == files


def test_evaluate_only_of_an_unfinished_run_says_which_step_it_scored(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / "run"
    save, evaluate = checkpoint.save, ["evaluate_only=true", f"workdir={path}"]

    def killed_before(kind, step):
        def wrapped(place, number, tree):
            if (place.name, number) == (kind, step):
                raise Killed
            save(place, number, tree)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(checkpoint, "save", wrapped)
            run([*CASES["gan"][0], *SMALL, f"workdir={path}"])

    monkeypatch.setattr(Signals, "install", lambda self: None)
    killed_before("last", 6)
    with pytest.raises(UserError, match="has no checkpoint yet: train it first"):
        run(evaluate)
    killed_before("last", 18)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    result = run(evaluate).result
    assert result["selected_step"] == [12] and result["seeds"] == [0]
    assert result["protocol"]["selection"] == "last step"
    unfinished = "seed 0 is at step 12 of 24, seed 1 has no checkpoint"
    assert result["unfinished"] == unfinished
    assert main(evaluate) == 0
    assert f"judged at step 12; unfinished: {unfinished}" in " ".join(
        capsys.readouterr().out.split()
    )
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == files
    run([*CASES["gan"][0], *SMALL, f"workdir={path}"])
    assert "unfinished" not in run(evaluate).result


def test_config_repeats_a_run_bit_for_bit(tmp_path):
    first = run([*CASES["mlp"][0], *SMALL, f"workdir={tmp_path / 'first'}"])
    config = first.workdir / folder.CONFIG
    again = run([f"config={config}", f"workdir={tmp_path / 'again'}", "progress=off"])
    assert again.result["config_hash"] == first.result["config_hash"]
    assert_same(outcome(first.workdir), outcome(again.workdir))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_a_checkpoint_and_the_command_that_continues(number, tmp_path):
    path = tmp_path / "a run (ü) = 1"
    arguments = [sys.executable, "-m", "cityjax.run", "experiment=mlp_mnist", "steps=100000"]
    arguments += [f"workdir={path}", "hidden_sizes=[8]", "eval_every=100000", "log_every=1"]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    for line in process.stdout:
        if " train " in line:
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    step = checkpoint.latest(folder.checkpoints(path, 0, "last"))
    assert step is not None and step > 0
    lines = folder.read_lines(path / folder.METRICS)
    assert step - 1 <= lines[-1]["step"] <= step
    assert f"'workdir={path}'" in errors and "continue with: python -m cityjax.run" in errors


def test_a_checkpoint_of_another_shape_is_refused_in_one_line(tmp_path):
    like = {"a": jax.ShapeDtypeStruct((3,), np.float32)}
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint"):
        checkpoint.restore(tmp_path / "none", like)
    checkpoint.save(tmp_path / "run", 3, {"a": np.ones(3, np.float32)})
    restored = checkpoint.restore(tmp_path / "run", like)
    np.testing.assert_array_equal(restored["a"], np.ones(3))
    with pytest.raises(checkpoint.CheckpointError, match="cannot be read"):
        checkpoint.restore(tmp_path / "run", {"b": like["a"]})
    assert checkpoint.latest(tmp_path / "run") == 3


def test_only_the_newest_checkpoint_is_kept_and_typed_keys_survive(tmp_path):
    key = jax.random.key(7)
    for step in (1, 2):
        checkpoint.save(tmp_path / "run", step, {"key": key})
    assert [entry.name for entry in Path(tmp_path / "run").iterdir()] == ["2"]
    restored = checkpoint.restore(tmp_path / "run", jax.eval_shape(lambda: {"key": key}))
    assert jax.random.uniform(restored["key"]) == jax.random.uniform(key)
