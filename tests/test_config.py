"""The run keys: what is refused and in which words, and what makes two runs the same."""

import dataclasses
import enum
import subprocess
import sys
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import pytest

from cityjax.config import (
    ConfigError,
    RunConfig,
    check_choice,
    check_range,
    difference,
    field_types,
    keys,
    leaf_types,
    option,
)
from cityjax.errors import did_you_mean, one_line, spell


class Colour(enum.Enum):
    red = 1
    blue = 2


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 20
    widths: tuple[int, ...] = option((8, 4), "units of each layer, at least 1")
    dropout: float | None = option(None, "rate")
    activations: tuple[str, ...] = ("relu",)
    colour: Colour = Colour.red
    unused: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "widths", at_least=1)
        check_range(self, "dropout", at_least=0, below=1)
        check_choice(self, "activations", ("relu", "tanh"))


def message(**values) -> str:
    with pytest.raises(ConfigError) as caught:
        Config(**values)
    return str(caught.value)


def test_the_defaults_are_valid_and_every_run_key_has_a_line_of_help():
    config = RunConfig()
    assert (config.seed, config.seeds, config.batch_size, config.optimizer) == (0, 1, 128, "adam")
    assert (config.log_every, config.eval_every, config.checkpoint_every) == (100, 500, 1000)
    assert config.gradient_clip is None and config.workdir is None and config.chunk == "auto"
    for field in dataclasses.fields(RunConfig):
        assert field.metadata["help"] and "\n" not in field.metadata["help"], field.name


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().seed = 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"learning_rate": -1}, "learning_rate=-1 is out of range: a number above 0"),
        ({"learning_rate": 0.0}, "learning_rate=0 is out of range: a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan is out of range: a finite number"),
        ({"learning_rate": float("inf")}, "learning_rate=inf is out of range: a finite number"),
        ({"learning_rate": "fast"}, "learning_rate=fast: a number is expected"),
        ({"learning_rate": True}, "learning_rate=true: a number is expected"),
        ({"gradient_clip": 0}, "gradient_clip=0 is out of range: a number above 0, or null"),
        ({"steps": 1e3}, "steps=1000: an integer is expected"),
        ({"steps": None}, "steps=null: an integer is expected"),
        ({"warmup_steps": 21}, "warmup_steps=21 is out of range: at most steps=20"),
        ({"chunk": 0}, "chunk=0 is out of range: auto or an integer of at least 1"),
        ({"chunk": True}, "chunk=true is out of range: auto or an integer of at least 1"),
        ({"chunk": "big"}, "chunk=big is out of range: auto or an integer of at least 1"),
        ({"parallel": "pmp"}, "parallel=pmp is unknown: auto, jit, pmap (did you mean pmap?)"),
        ({"resume": "yes"}, "resume=yes is unknown: auto, must, never"),
        ({"progress": 3}, "progress=3 is unknown: auto, live, plain, off"),
        ({"widths": (8, 0)}, "widths=[8,0] is out of range: an integer of at least 1"),
        ({"widths": (8, 0.5)}, "widths=[8,0.5]: an integer is expected"),
        (
            {"dropout": 1},
            "dropout=1 is out of range: a number of at least 0 and below 1, or null",
        ),
        (
            {"activations": ("relu", "tahn")},
            "activations=[relu,tahn] is unknown: relu, tanh (did you mean tanh?)",
        ),
        ({"weight_decay": 0.1}, "weight_decay has no use in this experiment"),
    ],
)
def test_what_is_refused_and_in_which_words(values, expected):
    assert message(**values) == expected


@pytest.mark.parametrize(
    "name", ["seeds", "steps", "batch_size", "eval_every", "log_every", "checkpoint_every"]
)
def test_counts_start_at_one_and_fit_32_bits(name):
    limits = "an integer of at least 1 and of at most 2147483647"
    for value in (0, -3, 2**31):
        assert message(**{name: value}) == f"{name}={value} is out of range: {limits}"
    assert getattr(Config(**{name: 1}), name) == 1


def test_an_unknown_optimizer_lists_all_and_names_the_nearest():
    assert message(optimizer="adamm").startswith("optimizer=adamm is unknown: sgd, momentum, ")
    assert message(optimizer="adamm").endswith(" (did you mean adam?)")
    assert message(optimizer="SGD").endswith(" (did you mean sgd?)")
    assert message(optimizer="xyz").endswith("adagrad, lamb")


def test_an_unused_name_that_is_no_key_is_an_error_of_the_experiment():
    @dataclass(frozen=True)
    class Wrong(RunConfig):
        unused: ClassVar[tuple[str, ...]] = ("wieght_decay",)

    with pytest.raises(ConfigError, match="unused names 'wieght_decay'"):
        Wrong()


def test_range_without_bounds_and_at_most():
    @dataclass(frozen=True)
    class Bounded(RunConfig):
        share: float = 1.0

        def __post_init__(self) -> None:
            super().__post_init__()
            check_range(self, "share", above=0, at_most=1)

    assert Bounded(share=1).share == 1
    with pytest.raises(ConfigError, match=r"^share=1.5 is out of range: a number above 0 and of"):
        Bounded(share=1.5)


def test_keys_are_the_ones_that_can_be_given():
    assert "weight_decay" in keys(RunConfig)
    assert "weight_decay" not in keys(Config) and "unused" not in keys(Config)
    assert keys(Config)[-4:] == ("widths", "dropout", "activations", "colour")


def test_to_dict_is_plain_data_in_the_order_of_the_fields():
    values = Config(learning_rate=1, dropout=0).to_dict()
    assert list(values) == list(keys(Config))
    assert values["widths"] == [8, 4] and values["colour"] == "red"
    assert type(values["learning_rate"]) is float and type(values["dropout"]) is float
    assert type(values["steps"]) is int and values["chunk"] == "auto"


def test_to_dict_refuses_what_no_file_can_hold():
    @dataclass(frozen=True)
    class Odd(RunConfig):
        thing: object = RunConfig

    with pytest.raises(ConfigError, match=r"\(type\) cannot be kept in a configuration"):
        Odd().to_dict()


def test_the_hash_ignores_place_and_saving_and_nothing_else():
    base = Config()
    same = {"workdir": "elsewhere", "resume": "must", "progress": "off", "checkpoint_every": 7}
    for key, value in same.items():
        assert Config(**{key: value}).hash() == base.hash(), key
    other = {
        "seed": 1,
        "seeds": 2,
        "steps": 21,
        "batch_size": 64,
        "learning_rate": 0.01,
        "optimizer": "sgd",
        "schedule": "cosine",
        "warmup_steps": 1,
        "gradient_clip": 1.0,
        "eval_every": 7,
        "log_every": 7,
        "chunk": 5,
        "parallel": "jit",
        "widths": (4, 8),
        "dropout": 0.5,
        "activations": ("tanh",),
        "colour": Colour.blue,
    }
    assert set(same) | set(other) == set(keys(Config))
    hashes = {Config(**{key: value}).hash() for key, value in other.items()}
    assert len(hashes | {base.hash()}) == len(other) + 1


def test_the_hash_does_not_depend_on_how_a_number_was_written():
    assert Config(learning_rate=1).hash() == Config(learning_rate=1.0).hash()
    assert len(Config().hash()) == 64 and int(Config().hash(), 16) > 0


def test_a_younger_key_counts_in_the_hash_only_where_it_changes_something():
    @dataclass(frozen=True)
    class Younger(Config):
        neutral = MappingProxyType({"members": 1})
        members: int = 1

    assert Younger().hash() == Config().hash() != Younger(members=2).hash()


def test_the_hash_of_a_configuration_does_not_change_between_versions_by_accident():
    # Run folders hold hashes: change this number only together with what a hash covers.
    expected = "172b8a0299345b85c4b4fa5fc8d2d773b86e05a8cfa158082e02ac691117ee27"
    assert RunConfig().hash() == expected


def test_the_hash_is_the_same_in_another_process():
    code = "from cityjax.config import RunConfig; print(RunConfig(seed=3).hash())"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == RunConfig(seed=3).hash()


def test_difference_names_what_the_hash_counts():
    a, b = Config(), Config(seed=1, gradient_clip=0.5, widths=(1,), workdir="x", progress="off")
    assert difference(a, b) == [
        "seed: 0 -> 1",
        "gradient_clip: null -> 0.5",
        "widths: [8,4] -> [1]",
    ]
    assert difference(a, a) == []
    assert "widths: [8,4] -> (no such key)" in difference(a, RunConfig())
    assert "weight_decay: (no such key) -> 0" in difference(a, RunConfig())


def test_types_inside_a_hint():
    assert leaf_types(int) == {int}
    assert leaf_types(tuple[int, ...] | None) == {int, type(None)}
    assert field_types(Config)["dropout"] == float | None


def test_an_annotation_that_means_nothing_is_a_config_error():
    namespace: dict = {"__name__": __name__, "RunConfig": RunConfig, "dataclass": dataclass}
    exec("@dataclass(frozen=True)\nclass Bad(RunConfig):\n    x: 'Nothing' = 1", namespace)
    with pytest.raises(ConfigError, match="name 'Nothing' is not defined"):
        field_types(namespace["Bad"])


def test_values_are_spelled_on_one_line_of_bounded_length():
    assert spell(None) == "null" and spell(True) == "true" and spell(False) == "false"
    assert spell(1.0) == "1" and spell(1e-5) == "1e-05" and spell((1, (2, "a"))) == "[1,[2,a]]"
    assert spell("two\nlines") == "'two\\nlines'" and spell(Colour.blue) == "blue"
    assert len(spell("x" * 1000)) == 100 and spell("x" * 1000).endswith("...")
    spell("\udc80").encode()


def test_the_nearest_name():
    assert did_you_mean("gan_mnits", ["gan_mnist", "cnn"]) == "did you mean gan_mnist?"
    assert did_you_mean("zzz", ["gan_mnist", "cnn"]) == ""


def test_the_first_line_of_an_exception():
    assert one_line(ValueError("a\nb")) == "a"
    assert one_line(ValueError()) == "ValueError"
