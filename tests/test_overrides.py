"""Arguments to configurations: Hydra's grammar, one-line errors, any character in a path."""

import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cityjax import registry
from cityjax.config import ConfigError
from cityjax.help import help_text, list_text
from cityjax.overrides import load_config, resolve, save_config
from cityjax.registry import Entry

TINY = '''"""A tiny experiment.

python -m cityjax.run experiment=tiny
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Optional

from cityjax.config import RunConfig, check_choice, check_range, option


class Colour(Enum):
    red = 1
    blue = 2


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 20
    widths: tuple[int, ...] = option((8, 4), "units of each layer, at least 1")
    kernel: tuple[int, int] = (3, 3)
    dropout: float | None = option(None, "share of units, at least 0 and below 1")
    momentum: Optional[float] = 0.9
    activation: str = "relu"
    conditional: bool = False
    colour: Colour = Colour.red
    names: list[str] = field(default_factory=lambda: ["a"])
    data: str = "mnist"
    größe: int = 1
    unused: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def __post_init__(self):
        super().__post_init__()
        check_range(self, "widths", at_least=1)
        check_range(self, "dropout", at_least=0, below=1)
        check_choice(self, "activation", ("relu", "tanh"))
        if self.momentum == 0.5:
            raise RuntimeError("a half\\nis refused")


def build(config):
    return config
'''
ODD_TEXTS = [
    "my runs/a b",
    "a=b",
    "lr(1e-3)",
    "Übung/城",
    "~/x",
    "$HOME/${oc.env:HOME}",
    'it\'s "quoted"',
    "a,b",
    "[a]{b:c}",
    " leading and trailing ",
    "back\\slash",
    "???",
    "null",
    "1e-3",
    "#hash: colon",
    "tab\tand\nnewline",
    "\udc80 not utf-8",
    "😀",
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Experiment `tiny` in a folder of CITYJAX_EXPERIMENTS; the current folder is elsewhere."""
    folder, elsewhere = tmp_path / "experiments", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "tiny.py").write_text(TINY, encoding="utf-8")
    monkeypatch.setenv("CITYJAX_EXPERIMENTS", str(folder))
    monkeypatch.chdir(elsewhere)
    return folder


def tiny(*arguments: str):
    """The one configuration that these arguments give."""
    (config,) = resolve(["experiment=tiny", *arguments]).configs
    return config


def failure(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(list(arguments))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def wrong(*arguments: str) -> str:
    return failure("experiment=tiny", *arguments)


def test_no_experiment_asks_for_the_list():
    assert resolve([]).experiment is None and not resolve([]).help
    assert resolve(["--help"]).help and resolve(["-h"]).help and resolve(["--help"]).module is None


def test_defaults_are_those_of_the_experiment():
    request = resolve(["experiment=tiny"])
    (config,) = request.configs
    assert (request.experiment, request.source) == ("tiny", "tiny")
    assert request.module is not None and type(config) is request.module.Config
    assert config == request.module.Config() and config.steps == 20
    assert request.overrides == ((),) and not request.evaluate_only


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("steps=1_000", 1000),
        ("steps=int(1e3)", 1000),
        ("steps='30'", 30),
        ("learning_rate=1e-3", 0.001),
        ("learning_rate=1", 1.0),
        ("learning_rate=.5", 0.5),
        ("dropout=0.5", 0.5),
        ("dropout=null", None),
        ("momentum=null", None),
        ("gradient_clip=1", 1.0),
        ("chunk=auto", "auto"),
        ("chunk=50", 50),
        ("conditional=true", True),
        ("conditional=FALSE", False),
        ("activation=tanh", "tanh"),
        ("activation='tanh'", "tanh"),
        ("widths=[3]", (3,)),
        ("widths=[ 3, 4 ]", (3, 4)),
        ("kernel=[5,1]", (5, 1)),
        ("names=[x,'y z']", ["x", "y z"]),
        ("größe=7", 7),
    ],
)
def test_values_have_the_types_of_their_fields(argument, value):
    key = argument.split("=")[0]
    result = getattr(tiny(argument), key)
    assert result == value and type(result) is type(value)


def test_enumerations_are_given_by_name():
    assert tiny("colour=blue").colour.value == 2
    assert wrong("colour=green") == "colour=green: one of red, blue is expected"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (
            "learning_rat=1",
            "unknown key 'learning_rat' for experiment tiny: did you mean learning_rate?",
        ),
        ("zzz=1", "unknown key 'zzz' for experiment tiny: experiment=tiny --help lists them"),
        ("_target_=os.system", "unknown key '_target_' for experiment tiny: "),
        ("hydra.run.dir=x", "unknown key 'hydra.run.dir' for experiment tiny: "),
        ("hydra/launcher=x", "unknown key 'hydra/launcher' for experiment tiny: "),
        ("steps@x=1", "unknown key 'steps@x' for experiment tiny: did you mean steps?"),
        ("steps =1", "unknown key 'steps ' for experiment tiny: did you mean steps?"),
        ("weight_decay=0", "weight_decay has no use in experiment tiny"),
        ("steps=ten", "steps=ten: an integer is expected"),
        ("steps=1e3", "steps=1e3: an integer is expected (write 1000)"),
        ("steps=1.5", "steps=1.5: an integer is expected"),
        ("steps=true", "steps=true: an integer is expected"),
        ("steps=null", "steps=null: an integer is expected"),
        ("steps=[1]", "steps=[1]: an integer is expected"),
        ("learning_rate=x", "learning_rate=x: a number is expected"),
        ("dropout=x", "dropout=x: a number or null is expected"),
        ("conditional=maybe", "conditional=maybe: true or false is expected"),
        ("activation=[relu]", "activation=[relu]: text is expected"),
        ("widths=3", "widths=3: a list in brackets, each an integer, is expected"),
        ("widths=[3,x]", "widths=[3,x]: a list in brackets, each an integer, is expected"),
        ("widths=[range(1,3)]", "widths=[range(1,3)]: a list in brackets, "),
        ("kernel=[1,2,3]", "kernel=[1,2,3]: a list of 2 values is expected"),
        ("learning_rate=-1", "learning_rate=-1 is out of range: a number above 0"),
        ("learning_rate=nan", "learning_rate=nan is out of range: a finite number"),
        ("learning_rate=1e999", "learning_rate=inf is out of range: a finite number"),
        ("batch_size=0", "batch_size=0 is out of range: an integer of at least 1 "),
        ("widths=[0]", "widths=[0] is out of range: an integer of at least 1"),
        ("activation=rel", "activation=rel is unknown: relu, tanh (did you mean relu?)"),
        ("optimizer=adamm", "optimizer=adamm is unknown: sgd, momentum, "),
        ("momentum=0.5", "experiment tiny: a half"),
        ("learning_rate=1,2", "learning_rate=1,2 is a sweep: add -m to run each value"),
        ("steps=range(1,3)", "steps=range(1,3) is a sweep: add -m "),
        ("steps=choice(3)", "steps=choice(3) is a sweep: add -m "),
        (
            "widths=3,4",
            "widths=3,4 is a sweep: add -m to run each value; a list is written widths=[3,4]",
        ),
        ("+steps=3", "+steps=3: keys are neither added nor removed; write key=value"),
        ("++steps=3", "++steps=3: keys are neither added nor removed"),
        ("~steps", "~steps: keys are neither added nor removed"),
        ("~steps=3", "~steps=3: keys are neither added nor removed"),
        ("steps", "'steps' has no '=': arguments are written key=value"),
        ("", "'' has no '=': arguments are written key=value"),
        ("=3", "'=3' has no key: arguments are written key=value"),
        ("--steps=3", "unknown flag '--steps': keys are written key=value, without dashes; "),
        ("-x", "unknown flag '-x': "),
        ("steps=", "steps= has no value: leave it out to get the default"),
        ("steps=  ", "steps= has no value: "),
        ("workdir=", "workdir= has no value: "),
        (
            "activation='relu",
            "activation='relu cannot be read: token recognition error at: ''relu'",
        ),
        ("activation=relü", "activation=relü cannot be read: token recognition error at: 'ü'"),
        ("widths=[3", "widths=[3 cannot be read: "),
        ("steps=foo(3)", "steps=foo(3) cannot be read: "),
        ("steps=" + "1" * 5000, "steps=111"),
        ("widths=" + "[" * 200, "widths=[[["),
        (
            "activation=${oc.env:HOME}",
            "activation=${oc.env:HOME}: ${...} and ??? are not interpreted",
        ),
        ("activation='a${x}'", "activation='a${x}': ${...} and ??? are not interpreted here"),
        ("names=[${steps}]", "names=[${steps}]: ${...} and ??? are not interpreted here"),
        ("steps=???", "steps=???: ${...} and ??? are not interpreted here"),
        ("workdir=a\0b", "argument "),
        ("evaluate_only=maybe", "evaluate_only=maybe: true or false is expected"),
        ("evaluate_only=true,false", "evaluate_only=true,false: true or false is expected"),
        ("evaluate_only=true", "evaluate_only=true needs workdir=RUN, the folder of a run"),
    ],
)
def test_what_is_refused_and_in_which_words(argument, expected):
    message = wrong(argument)
    assert message.startswith(expected)
    assert len(message) < 400


@pytest.mark.parametrize("word", ["list", "help"])
def test_a_word_alone_is_told_how_to_list_experiments_and_their_keys(word):
    assert failure(word).endswith(
        "without any, the experiments are listed, and experiment=NAME --help shows the keys of one"
    )


def test_a_key_given_twice_is_refused_even_with_one_value():
    assert wrong("seed=1", "seed=2") == "key 'seed' is given twice: 1 and 2"
    assert wrong("seed=1", "seed=1") == "key 'seed' is given twice: 1 and 1"
    assert wrong("experiment=x") == "key 'experiment' is given twice: tiny and x"
    assert wrong("workdir=a", "workdir=b") == "key 'workdir' is given twice: a and b"


def test_keys_without_an_experiment_are_not_dropped():
    assert failure("steps=3") == "steps=3 needs experiment=NAME (python -m cityjax.run lists them)"
    assert failure("experimen=tiny") == "unknown key 'experimen': did you mean experiment?"
    assert failure("evaluate_only=false").startswith("evaluate_only=false needs experiment=NAME")
    assert failure("experiment=tny").startswith("unknown experiment 'tny': did you mean tiny?")


def test_arguments_are_a_list_of_text():
    with pytest.raises(ConfigError, match="arguments are a list"):
        resolve("experiment=tiny")
    with pytest.raises(ConfigError, match="'3' is no text of the form key=value"):
        resolve(["experiment=tiny", 3])


@pytest.mark.parametrize("text", ODD_TEXTS)
@pytest.mark.parametrize("key", ["workdir", "data"])
def test_free_text_holds_any_character_and_never_sweeps(key, text):
    request = resolve(["experiment=tiny", f"{key}={text}", "-m"])
    (config,) = request.configs
    assert getattr(config, key) == text
    assert request.overrides == ((f"{key}={text}",),)


@pytest.mark.parametrize("text", [text for text in ODD_TEXTS if "/" not in text])
def test_experiment_and_config_paths_hold_any_character(text, tmp_path):
    place = tmp_path / text
    place.mkdir()
    (place / f"{text}.py").write_text(TINY, encoding="utf-8")
    request = resolve([f"experiment={place / text}.py", "steps=5"])
    assert (request.experiment, request.source) == (text, f"{place / text}.py")
    save_config(place / "config.yaml", str(request.source), request.configs[0])
    again = resolve([f"config={place / 'config.yaml'}"])
    assert again.configs == request.configs and again.source == request.source


def test_an_experiment_file_beside_the_user_is_kept_by_absolute_path(folder, monkeypatch):
    monkeypatch.chdir(folder)
    request = resolve(["experiment=./tiny.py"])
    assert (request.experiment, request.source) == ("tiny", str(folder / "tiny.py"))


def test_a_sweep_is_the_product_with_the_last_key_fastest():
    request = resolve(["experiment=tiny", "learning_rate=1e-3,1e-2", "-m", "seed=range(0,3)"])
    values = [(config.learning_rate, config.seed) for config in request.configs]
    assert values == [(0.001, 0), (0.001, 1), (0.001, 2), (0.01, 0), (0.01, 1), (0.01, 2)]
    assert request.overrides[5] == ("learning_rate=0.01", "seed=2")


def test_each_point_of_a_sweep_given_alone_gives_the_same_configuration():
    request = resolve(
        [
            "experiment=tiny",
            "--multirun",
            "activation=choice(relu,'tanh')",
            "widths=[1],[2,3]",
            "dropout=null,0.25",
            "names=['a b','c,d']",
            "workdir=a,b",
        ]
    )
    assert len(request.configs) == 8
    for config, overrides in zip(request.configs, request.overrides, strict=True):
        assert tiny(*overrides) == config


def test_a_sweep_of_one_run_and_multirun_without_a_sweep():
    assert [c.seed for c in resolve(["experiment=tiny", "-m", "seed=choice(4)"]).configs] == [4]
    assert [c.seed for c in resolve(["experiment=tiny", "-m", "seed=4"]).configs] == [4]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["seed=range(3,3)"], "seed=range(3,3) sweeps over no values"),
        (["seed=range(0,inf)"], "seed=range(0,inf) sweeps over more than 1000 values"),
        (["seed=range(0,40)", "steps=range(1,40)"], "this sweep has more than 1000 runs"),
        (["seed=range(0,3,0)"], "seed=range(0,3,0) cannot be swept: "),
        (["learning_rate=range(0,1,0.0)"], "learning_rate=range(0,1,0.0) cannot be swept: "),
        (["learning_rate=interval(0,1)"], "learning_rate=interval(0,1) cannot be swept: "),
        (["activation=glob(*)"], "activation=glob(*) cannot be swept: "),
        (["seed=1,x"], "seed=x: an integer is expected"),
        (["learning_rate=0.1,-1"], "learning_rate=-1 is out of range: a number above 0"),
        (["activation=relu,tahn"], "activation=tahn is unknown: relu, tanh (did you mean tanh?)"),
        (["seed=1,"], "seed=1, cannot be read: "),
    ],
)
def test_a_sweep_is_checked_whole_before_anything_runs(arguments, expected):
    assert wrong("-m", *arguments).startswith(expected)


def test_sweeps_are_those_of_hydras_own_sweeper():
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    arguments = ["learning_rate=0.1,1e-5", "activation='relu',tanh", "seed=range(1,9,3)"]
    arguments += ["widths=[1,2],[3]", "steps=sort(9,3)", "momentum=range(0.1,0.4,0.1)"]
    (expected,) = BasicSweeper.split_arguments(
        OverridesParser.create().parse_overrides(arguments), max_batch_size=None
    )
    request = resolve(["experiment=tiny", "-m", *arguments])
    assert [list(overrides) for overrides in request.overrides] == expected


def test_values_are_those_of_hydras_own_compose():
    from hydra import compose, initialize
    from hydra.core.config_store import ConfigStore

    arguments = ["learning_rate=1e-2", "widths=[5, 6]", "dropout=.25", "momentum=null", "steps=1_0"]
    arguments += ["conditional=True", 'activation="tanh"', "chunk=3", "names=[x,' y']", "seed=+2"]
    config = tiny(*arguments)
    node = {key: value for key, value in tiny().to_dict().items() if key not in ("größe",)}
    ConfigStore.instance().store(name="twin_of_tiny", node=node)
    with initialize(version_base=None):
        twin = compose("twin_of_tiny", overrides=arguments)
    for argument in arguments:
        key = argument.split("=")[0]
        value = getattr(config, key)
        assert twin[key] == (list(value) if isinstance(value, tuple) else value), key


def test_repeating_a_run_takes_its_numbers_and_not_its_place(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    first = tiny(
        "steps=7", "widths=[2]", f"workdir={run}", "resume=must", "progress=off", "colour=blue"
    )
    save_config(run / "config.yaml", "tiny", first, {"chunk": 5})
    for place in (run, run / "config.yaml"):
        (again,) = resolve([f"config={place}"]).configs
        assert again.hash() == first.hash() and type(again) is type(first)
        assert (again.workdir, again.resume, again.progress) == (None, "auto", "auto")
        assert again.chunk == "auto"
    (changed,) = resolve([f"config={run}", "steps=9", "experiment=tiny", "workdir=x"]).configs
    assert (changed.steps, changed.widths, changed.workdir) == (9, (2,), "x")
    swept = resolve([f"config={run}", "seed=1,2", "-m"])
    assert [(c.seed, c.steps) for c in swept.configs] == [(1, 7), (2, 7)]
    assert failure(f"config={run}", "steps=ten") == "steps=ten: an integer is expected"


def test_repeating_a_run_of_another_experiment_is_refused(tmp_path, folder):
    (folder / "other.py").write_text(TINY, encoding="utf-8")
    save_config(tmp_path / "config.yaml", "tiny", tiny())
    message = failure(f"config={tmp_path}", "experiment=other")
    assert message == f"{tmp_path / 'config.yaml'} is of experiment tiny, not other"


def test_scoring_a_run_reads_its_own_configuration(tmp_path):
    save_config(tmp_path / "config.yaml", "tiny", tiny("steps=7"))
    arguments = ["evaluate_only=true", f"workdir={tmp_path}"]
    for more in ([], ["experiment=tiny"], ["progress=plain"]):
        request = resolve([*arguments, *more])
        assert request.evaluate_only and request.experiment == "tiny"
        assert (request.configs[0].steps, request.configs[0].workdir) == (7, str(tmp_path))
    assert not resolve(["experiment=tiny", "evaluate_only=false", "steps=3"]).evaluate_only
    assert failure(*arguments, "steps=3").startswith("steps has no use with evaluate_only=true")
    assert failure(*arguments, "config=x").startswith("config has no use with evaluate_only=true")
    missing = failure("evaluate_only=true", f"workdir={tmp_path / 'none'}")
    assert missing == f"{tmp_path / 'none' / 'config.yaml'} does not exist"


def test_a_saved_configuration_is_readable_and_comes_back(tmp_path):
    path = tmp_path / "config.yaml"
    config = tiny("learning_rate=1e-5", "gradient_clip=1", "data=Übung: #1", "größe=2")
    save_config(path, "tiny", config, {"chunk": 50, "parallel": "jit"})
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "experiment: tiny" and "data: 'Übung: #1'" in lines
    assert "gradient_clip: 1.0" in lines and not any("weight_decay" in line for line in lines)
    saved = load_config(path)
    assert saved.config == config and type(saved.config) is type(config)
    assert (saved.experiment, saved.resolved) == ("tiny", {"chunk": 50, "parallel": "jit"})
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["config.yaml"]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_survives_the_file(text, tmp_path):
    config = tiny(f"workdir={text}", f"data={text}")
    save_config(tmp_path / "config.yaml", "tiny", config)
    assert load_config(tmp_path / "config.yaml").config == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("experiment: [", "cannot be read: "),
        ("experiment: !!python/object/apply:os.system [ls]", "cannot be read: could not determine"),
        ("a: 2020-13-45", "cannot be read: month must be in 1..12"),
        ("[" * 500, "cannot be read: "),
        ("", "is no configuration of a run: it names no experiment"),
        ("steps: 3", "is no configuration of a run: it names no experiment"),
        ("- experiment", "is no configuration of a run: it names no experiment"),
        ("experiment: tny", "unknown experiment 'tny': did you mean tiny?"),
        (
            "experiment: tiny\nstep: 3",
            "unknown key 'step' for experiment tiny: did you mean steps?",
        ),
        ("experiment: tiny\n3: 3", "unknown key '3' for experiment tiny"),
        ("experiment: tiny\n_target_: os.system", "unknown key '_target_' for experiment tiny"),
        ("experiment: tiny\nweight_decay: 0.0", "weight_decay has no use in experiment tiny"),
        ("experiment: tiny\nsteps: ten", "steps=ten: an integer is expected"),
        ("experiment: tiny\nsteps: 2020-01-01", "steps=2020-01-01: an integer is expected"),
        ("experiment: tiny\ndata: null", "data=null: text is expected"),
        (
            "experiment: tiny\nactivation: ${oc.env:HOME}",
            "activation=${oc.env:HOME} is unknown: relu",
        ),
        ("experiment: tiny\nnames: ['${steps}']", "names=[${steps}]: ${...} and ??? are not"),
        ("experiment: tiny\nlearning_rate: -1", "learning_rate=-1 is out of range"),
        ("experiment: tiny\nresolved: 3", "resolved=3: a mapping is expected"),
        ("experiment: tiny\nresolved: false", "resolved=false: a mapping is expected"),
        ("experiment: tiny\nresolved: {chunk: 0}", "resolved.chunk=0 is out of range: an integer"),
        ("experiment: tiny\nresolved: {chunk: auto}", "resolved.chunk=auto is out of range"),
        ("experiment: tiny\nresolved: {chunk: true}", "resolved.chunk=true is out of range"),
        ("experiment: tiny\nresolved: {devices: many}", "resolved.devices=many is out of range"),
        (
            "experiment: tiny\nresolved: {parallel: auto}",
            "resolved.parallel=auto is unknown: jit, pmap",
        ),
        ("experiment: tiny\nresolved: {parallel: [jit]}", "resolved.parallel=[jit] is unknown"),
    ],
)
def test_a_spoilt_file_is_named_with_what_is_wrong(text, expected, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    message = failure(f"config={path}")
    assert message.startswith(str(path)) and expected in message


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read: " in failure(f"config={tmp_path}")
    assert failure("config=./none.yaml") == "./none.yaml does not exist"
    assert "cannot be read: " in failure("config=" + "x" * 5000)


def test_a_file_written_by_hand_may_hold_part_of_the_keys(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("experiment: tiny\nlearning_rate: 1e-3\nwidths: [3]\n", encoding="utf-8")
    assert resolve([f"config={path}"]).configs[0] == tiny("learning_rate=0.001", "widths=[3]")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    save_config(path, "tiny", tiny())

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_config(path, "tiny", tiny("steps=3"))
    assert load_config(path).config == tiny()


def test_an_experiment_that_forgets_the_checks_of_the_run_keys_has_them(folder):
    forgetful = TINY.replace("super().__post_init__()", "pass")
    (folder / "forgetful.py").write_text(forgetful, encoding="utf-8")
    message = failure("experiment=forgetful", "learning_rate=-1")
    assert message == "learning_rate=-1 is out of range: a number above 0"


def test_a_field_of_a_type_that_could_not_be_read_back_is_refused_at_once(folder):
    literal = TINY.replace("kernel: tuple[int, int] = (3, 3)", 'kind: Literal["a"] = "a"')
    literal = literal.replace("import ClassVar", "import ClassVar, Literal")
    (folder / "literal.py").write_text(literal, encoding="utf-8")
    assert failure("experiment=literal").startswith(
        "Config.kind has a type that cannot be given as text: typing.Literal['a']; "
    )


def test_help_shows_the_docstring_then_own_keys_then_run_keys():
    request = resolve(["experiment=tiny", "--help", "steps=nonsense"])
    assert request.help and request.configs == () and request.module is not None
    text = help_text(request.module, request.shown, "tiny")
    lines = text.splitlines()
    assert lines[0] == "A tiny experiment."
    assert lines.index("Keys of tiny:") < lines.index("Keys of every run:")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines if line.startswith("  ")}
    assert rows["widths"] == ["[8,4]", "units of each layer, at least 1"]
    assert rows["names"] == ["[a]"]
    # A changed default keeps the run key's help and its place in the second table.
    assert rows["steps"] == ["20", "updates, an integer of at least 1"]
    assert "weight_decay" not in rows and "unused" not in rows
    assert list(rows)[:2] == ["widths", "kernel"] and list(rows)[-1] == "progress"
    assert text == text.rstrip()


@pytest.mark.parametrize(("columns", "width"), [(None, 100), ("80", 80), ("72", 72)])
def test_help_and_list_fit_the_terminal_and_texts_hang_below_themselves(
    folder, monkeypatch, columns, width
):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    long = "a word and " * 12 + "its end"
    changed = TINY.replace("A tiny experiment.", f"{long}.")
    changed = changed.replace('((8, 4), "', '((8, 4, 1, 2, 3, 4, 5, 6, 7, 8), "' + long + ", ")
    (folder / "tiny.py").write_text(changed, encoding="utf-8")
    request = resolve(["experiment=tiny", "--help"])
    text = help_text(request.module, request.shown, "tiny")
    shown = list_text([Entry("tiny", folder / "tiny.py", long), Entry("longer", folder, "short")])
    for lines in (text.splitlines(), shown.splitlines()):
        assert max(map(len, lines)) <= width and max(map(len, lines)) > width - 12
    lines = text.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("  widths"))
    assert lines[at].endswith("[8,4,1,2,3,4,5,6,7,8]")  # the text is below so long a default
    column = len(lines[at + 1]) - len(lines[at + 1].lstrip())
    below = [line for line in lines[at + 1 :] if line.startswith(" " * column)]
    words = " ".join(line.strip() for line in below[: len(below)])
    assert words.startswith(f"{long}, units of each layer, at least 1")
    lines = shown.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("  tiny "))
    found = [lines[at][10:]]
    while lines[at + len(found)].startswith(" " * 10):
        found.append(lines[at + len(found)][10:])
    assert " ".join(found) == long and len(found) > 1
    assert "  longer  short" in lines


def test_nothing_is_written_and_nothing_global_changes(tmp_path):
    from hydra.core.global_hydra import GlobalHydra

    def state():
        root = logging.getLogger()
        listing = sorted(str(path) for path in tmp_path.rglob("*"))
        hydra = GlobalHydra.instance().hydra
        return os.getcwd(), dict(os.environ), root.level, list(root.handlers), listing, hydra

    before = state()
    resolve(["experiment=tiny", "learning_rate=1,2", "-m", "workdir=new"])
    wrong("steps=ten")
    assert state() == before


def test_it_works_inside_a_hydra_application_of_the_users_own():
    from hydra import compose, initialize
    from hydra.core.global_hydra import GlobalHydra

    with initialize(version_base=None):
        outer = GlobalHydra.instance().hydra
        assert tiny("steps=3").steps == 3
        assert GlobalHydra.instance().hydra is outer
        assert compose(overrides=["+x=1"]).x == 1


def test_resolving_imports_no_jax():
    code = (
        "import sys; from cityjax.overrides import resolve;"
        "resolve(['experiment=tiny', 'steps=3']); print('jax' in sys.modules)"
    )
    root = Path(registry.__file__).parents[1]
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"


def test_garbage_gives_one_line_and_never_another_exception(tmp_path):
    save_config(tmp_path / "config.yaml", "tiny", tiny())
    generator = random.Random(0)
    keys = ["steps", "learning_rate", "widths", "kernel", "dropout", "activation", "conditional"]
    keys += ["experiment", "config", "evaluate_only", "workdir", "data", "names", "colour"]
    keys += ["weight_decay", "unused", "hash", "_target_", "model.width", "größe", "chunk", ""]
    pieces = ["1", "-2", "1e-3", "0x1", "null", "true", "auto", "relu", "nan", "inf", "???", "${x}"]
    pieces += [
        "range(",
        "choice(",
        "interval(",
        "glob(",
        "shuffle(",
        "sort(",
        "tag(",
        "int(",
        "str(",
    ]
    pieces += [")", "(", "[", "]", "{", "}", ",", ":", "=", "'", '"', "\\", "~", "+", "@", "/", " "]
    pieces += [
        "$",
        "%",
        "\t",
        "\n",
        "\0",
        "ü",
        "城",
        "\udc80",
        "\ud800",
        "...",
        "-",
        "#",
        str(tmp_path),
    ]
    accepted = refused = 0
    for _ in range(1500):
        arguments = ["experiment=tiny"] if generator.random() < 0.8 else []
        arguments += generator.choice([[], ["-m"], ["--help"], ["-m"]])
        for _ in range(generator.randint(1, 3)):
            text = "".join(generator.choices(pieces, k=generator.choice([1, 1, 1, 2, 4, 8])))
            equals = "=" if generator.random() < 0.95 else ""
            arguments.append(generator.choice(keys) + equals + text)
        generator.shuffle(arguments)
        try:
            resolve(arguments)
            accepted += 1
        except ConfigError as error:
            text = str(error)
            assert "\n" not in text and len(text) < 700, arguments
            text.encode()  # printable on any terminal that knows UTF-8
            refused += 1
    assert accepted > 50 and refused > 500
