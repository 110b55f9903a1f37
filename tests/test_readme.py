"""README does what it says: its Python and its commands run as printed, its install is CI's."""

import functools
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

from cityjax import registry
from cityjax import run as command
from cityjax.config import keys
from cityjax.data.__main__ import main as data
from cityjax.overrides import resolve
from cityjax.report.__main__ import main as report

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
RUN, REPORT, DATA = (["python", "-m", f"cityjax.{name}"] for name in ("run", "report", "data"))
PROGRAMS = [(RUN, command.main), (REPORT, report), (DATA, data)]
# An installation is for .ci/run to follow; whatever else a shell block holds has to run here.
INSTALLATION = re.compile(r"pip install|-m venv|^uv |^pytest$")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


PYTHON = blocks("python")
COMMANDS = [line.split("  #")[0].strip() for text in blocks("bash") for line in text.splitlines()]
EXPERIMENT = next(block for block in PYTHON if "def build(config)" in block)


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch, read_once):
    """An empty folder, data read once, a judge of few samples, floors that cost nothing."""
    from cityjax.data import mnist, synthetic
    from cityjax.tasks import digits, gan, judge

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.Signals, "install", lambda self: None)
    monkeypatch.setattr(mnist, "load", read_once)
    monkeypatch.setattr(judge, "SAMPLES", 500)
    whole = synthetic.city
    town = functools.partial(whole, sensors=3)
    monkeypatch.setattr(synthetic, "city", lambda domain, steps: town(domain, steps=steps // 2))
    monkeypatch.setattr(digits, "baselines", dict)
    monkeypatch.setattr(gan, "floors", lambda conditional: {})


def written(code):
    """Run one of README's Python blocks, as a script in an empty folder would, and return it."""
    namespace = {"__name__": "__main__"}
    exec(compile(code, "README.md", "exec"), namespace)
    return namespace


def block_with(text):
    (found,) = [block for block in PYTHON if text in block]
    return found


def test_every_python_block_is_one_of_those_tested_below():
    tested = ["import load, run", "def huber", "from_nnx(", "backtest(", "def build(config)"]
    assert sorted(PYTHON) == sorted(map(block_with, tested))


def test_a_run_and_its_model_from_python(capsys):
    names = written(block_with("import load, run"))
    error, digits = capsys.readouterr().out.split(maxsplit=1)
    assert 0 < float(error) < 0.3  # after 200 updates
    found, truth = re.findall(r"\[([\d ]+)\]", digits)
    assert np.mean([a == b for a, b in zip(found.split(), truth.split(), strict=True)]) >= 0.5
    assert names["config"].steps == 200


def test_own_model_and_loss_without_a_configuration(capsys):
    code = block_with("def huber")
    assert "run" not in code and "config" not in code.lower()
    names = written(code)
    assert float(capsys.readouterr().out) < 0.06  # of a wave between -1 and 1
    assert names["state"].step == 1000


def test_nnx_module_goes_through_the_same_learner():
    from cityjax.data.sources import shuffled
    from cityjax.fit import fit

    learner = written(block_with("from_nnx("))["learner"]
    x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    source = shuffled({"inputs": x, "targets": x**2}, 64)
    state = learner.init(jax.random.key(0), source(jax.random.key(1), 0))
    state = fit(learner, source, state, 300, chunk=50)
    np.testing.assert_allclose(learner.predict(state, x), x**2, atol=0.1)


def test_a_backtest_of_a_typical_day(capsys):
    names = written(block_with("backtest("))
    found = names["found"]
    assert capsys.readouterr().out.startswith(str(found.metrics["mae@1-24"]))
    assert found.by_lead["mae"].shape == (24,)
    assert (np.unique(np.diff(np.unique(found.fits))) == 24).all()
    # What is fitted once knows less of the season.
    once = names["backtest"](names["problem"], names["fit"], names["forecast"])
    assert found.metrics["mae@1-24"] < once.metrics["mae@1-24"]


def arguments(line):
    """Split a command of README into environment, program and arguments; and whether it trains."""
    words = shlex.split(line)
    environment = {}
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    program, rest = words[:3], words[3:]
    trains = any(word.startswith(("experiment=", "config=")) for word in rest)
    return environment, program, rest, program == RUN and trains and "--help" not in rest


def cut(rest):
    """Cut a training to three steps, where its model takes any number."""
    (config, *_) = resolve(rest).configs
    return [*rest, "steps=3"] if "steps" in keys(type(config)) else rest


def test_every_command_runs_as_printed(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weekday.py").write_text(EXPERIMENT, encoding="utf-8")
    assert "`mine/weekday.py`" in README
    lines = [part for line in COMMANDS for part in line.split(" && ") if part]
    lines = [line for line in lines if not INSTALLATION.search(line) and "activate" not in line]
    assert len(lines) >= 14
    for line in lines:
        environment, program, rest, trains = arguments(line)
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                if name != "XLA_FLAGS":  # read once, at start; conftest has given eight devices
                    patch.setenv(name, value)
            mains = [main for known, main in PROGRAMS if known == program]
            assert mains, f"README's {line!r} is no command this test knows"
            code = mains[0](cut(rest) if trains else rest)
        shown = capsys.readouterr()
        assert (code, shown.err) == (0, ""), f"README's {line!r}"
        if "parallel=pmap" in rest:
            assert environment == {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
            assert "8 x cpu (pmap)" in shown.out
        if "-m" in rest:
            assert len(list(tmp_path.glob("runs/mlp_mnist/*-m/*/result.json"))) == 4
    for name in ("gan_mnist", "weekday"):
        assert list(tmp_path.glob(f"runs/{name}/*/report.html"))
    assert (tmp_path / "runs" / "other" / "report.html").exists()
    assert (tmp_path / "comparison.html").exists()
    assert (tmp_path / "i94.png").exists()


def test_commands_are_those_of_ci():
    first, second = COMMANDS[:2]
    assert first == "pip install -e . && python -m cityjax.run experiment=gan_mnist"
    assert second == "pip install -e '.[test]' && pytest"
    checked = [line.strip() for line in CI.splitlines()]
    assert second in checked
    assert any(line.startswith(first.split(" && ")[1]) for line in checked)


def test_the_table_of_experiments_is_the_registry():
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", README, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(registry.available())


def test_links_to_files_lead_somewhere():
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
