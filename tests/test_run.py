"""The command line as a user meets it: the list, help, sweeps, and one line for bad input."""

import gzip
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cityjax import folder
from cityjax import run as command
from cityjax.data import mnist
from cityjax.errors import UserError

TINY = ["hidden_sizes=[4]", "steps=4", "batch_size=16", "log_every=2", "eval_every=4"]
MLP = ["experiment=mlp_mnist", *TINY]
SWEEP = [*MLP, "learning_rate=0.001,0.01", "-m", "progress=off"]
EXPERIMENT = '''"""A user's own experiment."""
from dataclasses import dataclass
from cityjax.config import RunConfig
from cityjax.learner import Experiment
from cityjax.models.mlp import MLP
from cityjax.tasks.digits import classify_digits


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 2


def build(config):
    return classify_digits(MLP((4,), 10), config.make_optimizer(), batch_size=config.batch_size)
'''


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch, read_once):
    """Runs land in the test's folder, signal handlers stay pytest's, data and floors are cheap."""
    from cityjax.tasks import digits

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.Signals, "install", lambda self: None)
    monkeypatch.setattr(mnist, "load", read_once)
    monkeypatch.setattr(digits, "baselines", dict)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of MLP."""
    from cityjax.tasks import digits

    path = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "baselines", dict)
        command.run([*MLP, f"workdir={path}", "progress=off"])
    return path


def contents(path):
    return {place: place.read_bytes() for place in path.rglob("*") if place.is_file()}


def outcome(capsys, arguments):
    """Return exit code, standard output and standard error of the command line."""
    code = command.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def altered_mnist(tmp_path, change):
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    name = "train-images-idx3-ubyte"
    content = (Path(mnist.__file__).parent / "mnist_files" / f"{name}.gz").read_bytes()
    (folder / f"{name}.gz").write_bytes(change(content))
    return {"CITYJAX_DATA": str(tmp_path / "data")}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["experiment=gan_mnits"], ["gan_mnits", "did you mean gan_mnist?"]),
        ([*MLP, "learning_rat=1"], ["learning_rat", "did you mean learning_rate?"]),
        ([*MLP, "steps=3"], ["steps", "twice"]),
        (["experiment=mlp_mnist", "steps=ten"], ["steps=ten", "integer"]),
        (["experiment=mlp_mnist", "learning_rate=-1"], ["learning_rate=-1", "above 0"]),
        (["experiment=mlp_mnist", "batch_size=0"], ["batch_size=0", "at least 1"]),
        (["experiment=mlp_mnist", "batch_size=70000"], ["batch_size=70000", "55000"]),
        (["experiment=mlp_mnist", "optimizer=adamm"], ["adamm", "did you mean adam?"]),
        (["experiment=mlp_mnist", "activation=rely"], ["rely", "did you mean relu?"]),
        (["experiment=cnn_mnist", "channels=[2,2,2,2,2,2]"], ["6 convolutions", "at most 4"]),
        (["experiment=rnn_mnist", "cell=gur"], ["cell=gur", "did you mean gru?"]),
        (["experiment=mlp_mnist", "latent_size=3"], ["latent_size", "mlp_mnist"]),
        (["experiment=mlp_mnist", "warmup_steps=11", "steps=10"], ["warmup_steps=11", "10"]),
        pytest.param(
            ["experiment=mlp_mnist", "batch_size=12", "parallel=pmap"],
            ["12", "8 local devices"],
            marks=pytest.mark.eight_devices,
        ),
        (["experiment=mlp_mnist", "hidden_sizes=[2000000,2000000]"], ["GB", "smaller layers"]),
        (["experiment=mlp_mnist", "learning_rate=1e-3,1e-2"], ["-m"]),
        (["experiment=./missing.py"], ["missing.py"]),
        (["config=missing.yaml"], ["missing.yaml"]),
        (["evaluate_only=true", "workdir=missing"], ["missing"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, words, capsys, tmp_path):
    code, out, err = outcome(capsys, arguments)
    assert (code, out) == (2, "")
    assert err.startswith("cityjax: ") and err.count("\n") == 1
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == []


def test_bad_workdirs(capsys, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("mine")
    assert "is a file" in outcome(capsys, [*MLP, f"workdir={file}"])[2]
    inside = outcome(capsys, [*MLP, f"workdir={file / 'run'}"])
    assert inside[0] == 2 and inside[2].count("\n") == 1
    filled = tmp_path / "filled"
    filled.mkdir()
    (filled / "thesis.tex").write_text("mine")
    assert "holds no run" in outcome(capsys, [*MLP, f"workdir={filled}"])[2]
    assert [p.name for p in filled.iterdir()] == ["thesis.tex"] and file.read_text() == "mine"

    with pytest.raises(UserError, match="is no UTF-8 text"):
        command.run([*MLP, "workdir=\udc80"])

    def refuse(*details, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere
    code, _, err = outcome(capsys, [*MLP, "workdir=closed"])
    assert (code, err) == (2, "cityjax: workdir=closed cannot be written: Permission denied\n")


def test_another_configuration_in_the_folder_is_named(capsys, tmp_path):
    assert outcome(capsys, [*MLP, "workdir=run"])[0] == 0
    before = contents(tmp_path)
    code, _, err = outcome(capsys, [*MLP, "workdir=run", "learning_rate=0.5", "seed=3"])
    assert code == 2 and err.count("\n") == 1
    assert "learning_rate: 0.001 -> 0.5" in err and "seed: 0 -> 3" in err
    code, _, err = outcome(capsys, ["experiment=article_nn", "workdir=run"])
    assert code == 2 and "mlp_mnist -> article_nn" in err
    assert contents(tmp_path) == before


def test_damaged_data_names_the_checksum(capsys, tmp_path, monkeypatch, read_once):
    monkeypatch.setattr(mnist, "load", read_once.__wrapped__)
    sha256 = mnist.FILES["train-images-idx3-ubyte"].sha256
    changes = {
        "truncated": lambda content: content[:1000],
        "altered": lambda content: gzip.compress(gzip.decompress(content)[:-1] + b"\7", 1),
    }
    for name, change in changes.items():
        environment = altered_mnist(tmp_path / name, change)
        monkeypatch.setenv("CITYJAX_DATA", environment["CITYJAX_DATA"])
        code, out, err = outcome(capsys, [*MLP, "workdir=run"])
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert sha256 in err and "train-images-idx3-ubyte" in err
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.jsonl", '{"seed": 0, "step": 2}\n'),
        ("metrics.jsonl", '\xff\n{"seed": 0, "step": 2, "split": "train"}\n'),
        ("timing.jsonl", "3\n"),
        ("timing.jsonl", '{"seed": 0, "step": 2, "seconds": "long", "compile_seconds": 0}\n'),
        ("result.json", "garbage"),
        ("result.json", '{"experiment": "mlp_mnist", "metrics": {"test/error": {"mean": "low"}}}'),
        ("config.yaml", "experiment: mlp_mnist\nresolved: {chunk: 0}\n"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_in_one_line_and_kept(
    name, text, finished, capsys, tmp_path
):
    path = shutil.copytree(finished, tmp_path / "run")
    if name != "result.json":
        (path / "result.json").unlink()  # as if it had stopped just before its end
    (path / name).write_text(text, encoding="latin-1")
    before = contents(tmp_path)
    code, out, err = outcome(capsys, [*MLP, f"workdir={path}", "progress=off"])
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert f"{path / name}: " in err
    assert contents(tmp_path) == before


# Found out by the next dispatch, before a checkpoint makes the folder anew; and by a line of the
# same dispatch that cannot be written.
@pytest.mark.parametrize("intervals", [["checkpoint_every=3", "eval_every=8"], ["eval_every=2"]])
def test_a_folder_deleted_under_its_run_is_said_in_one_line_and_not_made_anew(
    intervals, capsys, tmp_path, monkeypatch
):
    append = folder.append

    def and_delete(path, line):
        append(path, line)
        if path.name == folder.TIMING:
            shutil.rmtree(path.parent)

    monkeypatch.setattr(folder, "append", and_delete)
    small = ["experiment=mlp_mnist", "hidden_sizes=[4]", "batch_size=16", "chunk=1", "steps=8"]
    code, _, err = outcome(capsys, [*small, "log_every=2", *intervals, f"workdir={tmp_path}/run"])
    assert code == 2 and err.count("\n") == 1
    assert f"{tmp_path / 'run'} was deleted or moved while its run went on" in err
    assert not (tmp_path / "run").exists()


def test_users_own_experiments(capsys, tmp_path, monkeypatch):
    own = tmp_path / "my experiments (ü)"
    own.mkdir()
    (own / "mine.py").write_text(EXPERIMENT)
    monkeypatch.setenv("CITYJAX_EXPERIMENTS", str(own))
    assert "mine" in outcome(capsys, [])[1]
    small = ["batch_size=8", "workdir=a = (b), ü/run"]
    assert outcome(capsys, ["experiment=mine", *small])[0] == 0
    assert (tmp_path / "a = (b), ü" / "run" / "report.html").exists()
    path = own / "mine.py"
    assert outcome(capsys, [f"experiment={path}", "batch_size=8", "workdir=by path"])[0] == 0

    (own / "broken.py").write_text('"""Broken."""\nimport cityjax\nclass Config(:\n')
    code, _, err = outcome(capsys, ["experiment=broken"])
    assert code == 2 and "broken.py, line 3" in err and err.count("\n") == 1
    (own / "gan_mnist.py").write_text(EXPERIMENT)
    code, _, err = outcome(capsys, ["experiment=mine"])
    assert code == 2 and err.count("gan_mnist.py") == 2


def test_running_out_of_memory_names_what_to_make_smaller(capsys, tmp_path):
    needy = EXPERIMENT.replace("return classify_digits(", "experiment = classify_digits(")
    needy += """
    def judged(state, key):  # 128 TB
        return {"sum": float((jnp.arange(2**45, dtype=jnp.float32) * state.step).sum())}

    return experiment._replace(final=judged)
"""
    (tmp_path / "needy.py").write_text(
        needy.replace("from dataclasses", "import jax.numpy as jnp\nfrom dataclasses")
    )
    code, _, err = outcome(capsys, ["experiment=./needy.py", "batch_size=8", "workdir=run"])
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("cityjax: out of memory: make batch_size or the network's sizes smaller")
    code, _, err = outcome(capsys, ["evaluate_only=true", "workdir=run"])
    assert code == 2 and err.startswith("cityjax: out of memory")


def test_list_and_help(capsys):
    code, out, _ = outcome(capsys, [])
    assert code == 0
    for name in ("gan_mnist", "rnn_traffic", "article_rnn"):
        assert f"  {name} " in out
    code, out, _ = outcome(capsys, ["experiment=gan_mnist", "--help"])
    assert code == 0 and "latent_size" in out and "workdir" in out


@pytest.mark.parametrize("package", ["jax", "numpy", "rich"])
def test_list_is_fast(package):
    code = "import sys; from cityjax.run import main; main([]); sys.exit({!r} in sys.modules)"
    code = code.format(package)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["experiment=mlp_mnist", "--help"]])
def test_a_reader_that_leaves_early_sees_no_error(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "-m", "cityjax.run", *arguments]
    done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_terminal_without_unicode_gets_question_marks(variables, tmp_path):
    (tmp_path / "mine.py").write_text('"""Städte ↓ ±."""', encoding="utf-8")
    environment = {**os.environ, "CITYJAX_EXPERIMENTS": str(tmp_path), **variables}
    line = [sys.executable, "-m", "cityjax.run"]
    done = subprocess.run(line, env=environment, capture_output=True, check=True)
    assert re.search(rb"\n  mine +St\?dte \? \?\.\n", done.stdout) and done.stderr == b""


def test_sweep_runs_every_point_and_shows_one_table(capsys, tmp_path):
    arguments = [*SWEEP, "workdir=sweep"]
    code, out, err = outcome(capsys, arguments)
    assert (code, err) == (0, "")
    assert "learning_rate" in out and "0.001" in out and "0.01" in out
    rates = [
        json.loads((tmp_path / "sweep" / f"{n:03d}" / "result.json").read_text())["config_hash"]
        for n in range(2)
    ]
    assert rates[0] != rates[1]
    assert len(command.run(arguments)) == 2  # finished runs are shown again, not repeated


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["experiment=mlp_mnist", "batch_size=16,70000"], ["batch_size=70000", "55000"]),
        pytest.param(
            ["experiment=mlp_mnist", "batch_size=16,12", "parallel=pmap"],
            ["=12", "8 local devices"],
            marks=pytest.mark.eight_devices,
        ),
        (["experiment=mlp_mnist", "optimizer=adam,adamm"], ["adamm", "did you mean adam?"]),
        (["experiment=./mine.py", "seed=0,1"], ["mine.py, line 16: ValueError: unlucky"]),
        ([*SWEEP, "resume=must"], ["resume=must needs workdir=FOLDER"]),
        ([*SWEEP, "resume=must", "workdir=new"], ["workdir=new holds no sweep"]),
        ([*SWEEP, "workdir=mine.py"], ["workdir=mine.py is a file"]),
    ],
)
def test_a_sweep_with_one_bad_point_is_refused_before_anything_is_written(
    arguments, words, capsys, tmp_path
):
    bad = '    if config.seed == 1:\n        raise ValueError("unlucky")\n    return'
    Path("mine.py").write_text(EXPERIMENT.replace("    return", bad))
    code, _, err = outcome(capsys, [*dict.fromkeys([*arguments, "-m", "progress=off"])])
    assert code == 2 and err.startswith("cityjax: ") and err.count("\n") == 1
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.py"]


@pytest.mark.parametrize(
    ("put", "words"),
    [
        ("config.yaml", "holds a single run"),
        ("thesis.tex", "is not empty and holds no sweep"),
        ("001/thesis.tex", "001 is not empty and holds no run"),
        ("001/config.yaml", "001 holds another configuration's run"),
        ("002/config.yaml", "holds another sweep (this one has 2 runs, and 002 is there)"),
    ],
)
def test_a_sweep_is_refused_by_a_folder_that_holds_something_else(
    put, words, finished, capsys, tmp_path
):
    place = tmp_path / "sweep" / put
    place.parent.mkdir(parents=True)
    shutil.copy(finished / "config.yaml", place)
    before = contents(tmp_path)
    code, out, err = outcome(capsys, [*SWEEP, "workdir=sweep"])
    assert (code, out) == (2, "") and err.count("\n") == 1 and words in err
    assert contents(tmp_path) == before


def test_an_interrupted_sweep_is_continued_as_a_whole(capsys, tmp_path, monkeypatch):
    signals, append = [], folder.append
    monkeypatch.setattr(command.Signals, "install", lambda self: signals.append(self))

    def interrupt(path, line):
        append(path, line)
        if path.parent.name == "001" and line["step"] == 2:
            signals[-1].requested = signal.SIGINT

    with monkeypatch.context() as patch:
        patch.setattr(folder, "append", interrupt)
        sweep = [*MLP, "learning_rate=1e-3,1e-2,1e-1", "-m", "resume=never", "progress=off"]
        code, _, err = outcome(capsys, [*sweep, "chunk=1", "parallel=jit"])
    assert code == 128 + signal.SIGINT
    (base,) = tmp_path.glob("runs/mlp_mnist/*-m")
    assert sorted(path.name for path in base.iterdir()) == ["000", "001"]
    said = shlex.split(err.partition("continue with: ")[2])
    assert said[:3] == ["python", "-m", "cityjax.run"]
    assert said[-1] == f"workdir={base.relative_to(tmp_path)}"

    first, stopped = contents(base / "000"), folder.read_lines(base / "001" / folder.METRICS)
    assert first and [line["step"] for line in stopped] == [2]
    (base / "notes.txt").write_text("mine")
    code, out, err = outcome(capsys, said[3:])
    assert (code, err) == (0, "") and "3 runs" in out and "\n0.1 " in out
    assert contents(base / "000") == first
    assert folder.read_lines(base / "001" / folder.METRICS)[0] == stopped[0]
    for number in range(3):
        assert (base / folder.point(number) / folder.RESULT).exists()
    whole = contents(base)
    assert len(command.run(said[3:])) == 3 and contents(base) == whole
    with pytest.raises(UserError, match="not empty and resume=never"):
        command.run([*said[3:], "resume=never"])


def test_sweeps_begun_in_one_second_have_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(folder.time, "strftime", lambda format: "20260101-000000")
    untrained = lambda request, config, *rest: command.Result(Path(config.workdir), {})  # noqa: E731
    monkeypatch.setattr(command, "_train", untrained)
    bases = set()
    for rates in ("0.1,0.2", "0.1,0.3"):
        results = command.run([*MLP, f"learning_rate={rates}", "-m", "progress=off"])
        bases |= {result.workdir.parent.name for result in results}
    assert bases == {"20260101-000000-m", "20260101-000000-2-m"}


@pytest.mark.eight_devices
def test_pmap_over_eight_devices_and_auto_that_says_which(capsys, tmp_path):
    code, out, _ = outcome(capsys, [*MLP, "workdir=pmap"])
    assert code == 0 and "8 x cpu (pmap)" in out
    arguments = [item for item in MLP if not item.startswith("batch_size")] + ["batch_size=12"]
    code, out, _ = outcome(capsys, [*arguments, "workdir=jit"])
    assert code == 0 and "1 x cpu (jit)" in out


def test_summary_before_the_first_step(capsys):
    _, out, _ = outcome(capsys, [*MLP, "workdir=run", "progress=plain"])
    head = out.split("seed 0")[0]
    assert "3,190 parameters" in head  # 784 * 4 + 4 + 4 * 10 + 10
    assert f"data {70_000 * (28 * 28 + 4) / 2**20:.1f} MB" in head  # each array once


def test_a_run_imports_no_pytorch_where_there_is_one(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("raise AssertionError('PyTorch was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in list(sys.modules):
        if name == "torch" or name.partition(".")[0] == "tensorboardX":
            monkeypatch.delitem(sys.modules, name)
    command.run([*MLP, f"workdir={tmp_path / 'run'}", "progress=off"])
    assert list((tmp_path / "run" / "tensorboard").rglob("events*"))
    assert "torch" not in sys.modules


def test_run_from_python_returns_the_result(tmp_path):
    result = command.run([*MLP, "progress=off"])
    assert result.workdir.parent == Path("runs/mlp_mnist")
    assert 0 < result.metrics["test/error"] < 1
    with pytest.raises(UserError, match="nothing to run"):
        command.run([])


def test_two_runs_are_compared(capsys, tmp_path):
    from cityjax.report.__main__ import main as compare

    for seed in (0, 1):
        command.run([*MLP, f"seed={seed}", f"workdir=run{seed}", "progress=off"])
    assert compare(["run0", "run1"]) == 0
    out = capsys.readouterr().out
    assert "run0" in out and "run1" in out and (tmp_path / "comparison.html").exists()


@pytest.mark.parametrize(
    ("select", "rule"), [(None, "last step"), ("validation/error", "best validation/error")]
)
def test_more_steps_are_another_setting_and_not_another_protocol(select, rule):
    from cityjax.report.compare import compare_runs

    own = EXPERIMENT.replace("return classify_digits", "made = classify_digits")
    Path("mine.py").write_text(f"{own}    return made._replace(select={select!r})\n")
    small = ["experiment=./mine.py", "batch_size=16", "progress=off", "log_every=2"]
    for steps, every in ((2, 2), (4, 4)):
        command.run([*small, f"steps={steps}", f"eval_every={every}", f"workdir={steps}"])
    comparison = compare_runs(["2", "4"])
    assert comparison.warnings == {}
    assert comparison.settings == {"2": "steps=2 eval_every=2", "4": "steps=4 eval_every=4"}
    assert comparison.runs["4"].result["protocol"]["selection"] == rule
