"""Finding experiments without importing them, and loading them with readable errors."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from cityjax import registry
from cityjax.config import ConfigError, RunConfig

BODY = """
from dataclasses import dataclass
from cityjax.config import RunConfig

@dataclass(frozen=True)
class Config(RunConfig):
    width: int = 3

def build(config):
    return config.width
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of experiments named by CITYJAX_EXPERIMENTS, with `first_try` in it."""
    folder = tmp_path / "mine"
    write(folder / "first_try.py", f'"""A first try.\n\nMore about it."""\n{BODY}')
    monkeypatch.setenv("CITYJAX_EXPERIMENTS", str(folder))
    return folder


def failure(name: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        registry.load(str(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_list_has_name_file_and_first_docstring_line(folder):
    entry = registry.available()["first_try"]
    assert entry == ("first_try", folder / "first_try.py", "A first try.")


def test_the_experiments_of_the_package_are_listed_by_file_name(monkeypatch):
    monkeypatch.delenv("CITYJAX_EXPERIMENTS", raising=False)
    checkout = Path(registry.__file__).parents[1] / "experiments"
    installed = Path(registry.__file__).parent / "experiments"
    source = installed if installed.is_dir() else checkout
    names = [path.stem for path in source.glob("[!_]*.py")]
    assert list(registry.available()) == sorted(names)


def test_listing_imports_nothing(folder):
    write(folder / "explodes.py", '"""Explodes."""\nraise SystemExit("imported")')
    assert registry.available()["explodes"].summary == "Explodes."


def test_files_with_an_underscore_and_folders_are_no_experiments(folder):
    write(folder / "_helper.py", BODY)
    write(folder / "__init__.py", "")
    (folder / "folder.py").mkdir()
    names = registry.available()
    assert "first_try" in names and not {"_helper", "__init__", "folder"} & set(names)


def test_an_experiment_without_docstring_is_listed(folder):
    write(folder / "silent.py", BODY)
    assert registry.available()["silent"].summary == ""


def test_a_broken_file_is_listed_and_says_where(folder):
    path = write(folder / "broken.py", '"""Broken."""\nx = 1\ny = (\n')
    assert registry.available()["broken"].summary == "(line 3: '(' was never closed)"
    assert failure("broken") == f"{path}, line 3: '(' was never closed"
    assert registry.load("first_try")


@pytest.mark.parametrize("content", [b"\0", b"\xff\xfe\xfa", b"x = '\xe4'"])
def test_a_file_that_is_no_text_is_listed_and_refused(folder, content):
    (folder / "binary.py").write_bytes(content)
    assert registry.available()["binary"].summary.startswith("(")
    assert str(folder / "binary.py") in failure("binary")


def test_one_name_in_two_places_shows_both(folder, tmp_path, monkeypatch):
    other = write(tmp_path / "theirs" / "first_try.py", BODY)
    monkeypatch.setenv("CITYJAX_EXPERIMENTS", os.pathsep.join([str(folder), str(other.parent)]))
    expected = f"two experiments are named 'first_try': {folder / 'first_try.py'} and {other}"
    with pytest.raises(ConfigError) as caught:
        registry.available()
    assert str(caught.value) == expected
    assert failure("first_try") == expected


def test_one_folder_named_twice_is_one_folder(folder, monkeypatch):
    twice = os.pathsep.join([str(folder), "", str(folder / ".." / "mine")])
    monkeypatch.setenv("CITYJAX_EXPERIMENTS", twice)
    assert registry.available()["first_try"].summary == "A first try."


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CITYJAX_EXPERIMENTS", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="CITYJAX_EXPERIMENTS names .*none, which is no folder"):
        registry.available()


def test_an_unknown_name_suggests_the_nearest(folder):
    assert failure("frist_try") == (
        "unknown experiment 'frist_try': did you mean first_try? (python -m cityjax.run lists them)"
    )
    assert failure("zzzzzz") == "unknown experiment 'zzzzzz' (python -m cityjax.run lists them)"


def test_loading_by_name_and_by_path(folder, tmp_path, monkeypatch):
    by_name = registry.load("first_try")
    assert by_name.build(by_name.Config(width=5)) == 5
    assert issubclass(by_name.Config, RunConfig)
    assert registry.load(str(folder / "first_try.py")) is by_name
    monkeypatch.chdir(tmp_path)
    assert registry.load("mine/first_try.py") is by_name
    monkeypatch.chdir(folder)
    assert registry.load("first_try.py") is by_name
    assert registry.source_of("./first_try.py") == str(folder / "first_try.py")
    assert registry.source_of("first_try") == "first_try"


@pytest.mark.parametrize(
    "name", ["my experiment", "a=b", "lr(1e-3)", "Übung", "~x", "$y{z}", "it's", "a,b", "städte 城"]
)
def test_paths_may_hold_any_character(tmp_path, name):
    path = write(tmp_path / name / f"{name}.py", BODY)
    module = registry.load(str(path))
    assert module.build(module.Config()) == 3 and Path(module.__file__ or "").stem == name


def test_annotations_kept_as_strings_work(tmp_path):
    path = write(tmp_path / "strings.py", "from __future__ import annotations\n" + BODY)
    module = registry.load(str(path))
    assert module.Config().width == 3
    assert registry.field_types(module.Config)["width"] is int


def test_an_edited_file_is_loaded_anew_and_leaves_no_bytecode(tmp_path):
    path = write(tmp_path / "edited.py", BODY)
    before = registry.load(str(path))
    write(path, BODY.replace("width: int = 3", "width: int = 4"))
    after = registry.load(str(path))
    assert (before.Config().width, after.Config().width) == (3, 4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["edited.py"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("build = len", "{path} defines no class Config(RunConfig)"),
        ("Config = 3\nbuild = len", "{path} defines no class Config(RunConfig)"),
        ("class Config: pass\nbuild = len", "{path} defines no class Config(RunConfig)"),
        (BODY.split("def build")[0], "{path} defines no function build(config)"),
        (BODY + "\nbuild = 3", "{path} defines no function build(config)"),
        (
            BODY.replace("@dataclass(frozen=True)", ""),
            "{path}: Config needs @dataclass(frozen=True)",
        ),
        (
            BODY.replace("width: int", "experiment: int"),
            "{path}: Config cannot have a field 'experiment'",
        ),
        (
            BODY.replace("width: int", "unused: tuple"),
            "{path}: Config cannot have a field 'unused'",
        ),
        (
            BODY.replace("width: int", "width: 'Nothing'"),
            "{path}: an annotation of Config cannot be read: name 'Nothing' is not defined",
        ),
        (
            BODY.replace("width: int = 3", "widths: list = []"),
            "{path}, line 5: ValueError: mutable default <class 'list'> for field widths is not"
            " allowed: use default_factory",
        ),
    ],
)
def test_what_an_experiment_must_define(tmp_path, text, expected):
    path = write(tmp_path / "wrong.py", text)
    assert failure(path) == expected.format(path=path)


def test_an_exception_at_import_has_file_and_line_and_is_chained(tmp_path):
    helper = "import json\n\ndef parse():\n    return json.loads('{')\n\nx = parse()\n"
    path = write(tmp_path / "raises.py", helper)
    assert failure(path).startswith(f"{path}, line 4: JSONDecodeError: Expecting property name")
    with pytest.raises(ConfigError) as caught:
        registry.load(str(path))
    assert isinstance(caught.value.__cause__, ValueError)
    assert not [name for name in sys.modules if name.startswith("cityjax_experiment_raises")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("    pass", "{path}: build(config) returned None, not a cityjax.learner.Experiment"),
        (
            "    return {}",
            "{path}: build(config) returned a dict, not a cityjax.learner.Experiment",
        ),
        ("    return (1,) * 12", "{path}: build(config) returned a tuple, not a cityjax."),
        ("    raise RuntimeError('first\\nsecond')", "{path}, line 10: RuntimeError: first"),
        ("    return json.loads('{{')", "{path}, line 10: NameError: name 'json' is not defined"),
        ("    return int('x')", "{path}, line 10: ValueError: invalid literal for int() with base"),
    ],
)
def test_a_build_that_fails_or_returns_no_experiment_is_named(tmp_path, body, expected):
    text = BODY.replace("    return config.width", body)
    module = registry.load(str(write(tmp_path / "builds.py", text)))
    with pytest.raises(ConfigError) as caught:
        registry.build(module, module.Config())
    assert str(caught.value).startswith(expected.format(path=module.__file__))
    assert "\n" not in str(caught.value)


def test_the_training_source_may_be_a_plain_function(tmp_path):
    text = BODY.replace(
        "    return config.width",
        """
    import jax.numpy as jnp
    from cityjax.learner import Experiment, Learner

    rows = jnp.arange(4.0)
    return Experiment(Learner(*[None] * 4), train=lambda key, step: {"x": rows}, evaluation={})
""",
    )
    module = registry.load(str(write(tmp_path / "plain.py", text)))
    source = registry.build(module, module.Config()).train
    shapes = jax.eval_shape(lambda source: source(jax.random.key(0), 0), source)
    assert shapes["x"].shape == (4,)


def test_what_the_user_can_mend_passes_a_build_as_it_is(tmp_path):
    from cityjax.data.files import DataError

    text = BODY.replace("    return config.width", "    raise DataError('no data')")
    text = "from cityjax.data.files import DataError\n" + text
    module = registry.load(str(write(tmp_path / "mends.py", text)))
    with pytest.raises(DataError, match="^no data$"):
        registry.build(module, module.Config())


def test_leaving_the_process_at_import_is_let_through(tmp_path):
    path = write(tmp_path / "leaves.py", "raise SystemExit(3)")
    with pytest.raises(SystemExit):
        registry.load(str(path))
    assert not [name for name in sys.modules if name.startswith("cityjax_experiment_leaves")]


def test_a_missing_import_names_the_module(tmp_path):
    path = write(tmp_path / "imports.py", "import math\nimport no_such_module_here")
    assert failure(path) == (
        f"{path}, line 2: ModuleNotFoundError: No module named 'no_such_module_here'"
    )


@pytest.mark.parametrize("name", ["./none.py", "none.py", "/", "./\ud800.py", "./" + "x" * 5000])
def test_a_path_that_cannot_be_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "cannot be read: " in failure(name)


def test_the_list_needs_neither_jax_nor_hydra():
    code = (
        "import sys; from cityjax import overrides, registry; overrides.resolve([]);"
        "registry.available();"
        "print({'jax', 'hydra', 'omegaconf', 'numpy', 'yaml'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"
