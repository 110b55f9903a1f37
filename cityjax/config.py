"""The run keys every experiment shares, the checks on them, and what makes two runs the same."""

import dataclasses
import enum
import functools
import hashlib
import json
import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, ClassVar, TypeVar

from cityjax.errors import UserError, did_you_mean, spell
from cityjax.names import OPTIMIZERS, SCHEDULES

T = TypeVar("T")

# Where a run lives and how it is shown: a repeated run does not take these over.
PLACE_KEYS = ("workdir", "resume", "progress")
# Keys that cannot change a number, and so are left out of the hash.
UNHASHED_KEYS = (*PLACE_KEYS, "checkpoint_every")
# Names with a meaning of their own beside the fields, which no experiment may take.
RESERVED_KEYS = ("experiment", "config", "evaluate_only", "resolved", "unused", "models", "hash")
RESERVED_KEYS += ("neutral", "to_dict", "within", "model_options", "make_optimizer")
# jax keeps seeds and step counters in 32 bits.
LARGEST_INTEGER = 2**31 - 1
# `model.KEY` at the command line is the field `model_KEY` of the configuration.
MODEL_KEY, _MODEL_FIELD = "model.", "model_"


class ConfigError(UserError):
    """A configuration that cannot run; its message is the one line the user sees."""


def option(default: T, help: str) -> T:
    """A dataclass field with a default and one line of help (meaning, unit, range)."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Keys of every run; an experiment subclasses it, adds its own and changes defaults.

    A subclass that adds checks calls `super().__post_init__()` first. Keys it has no use for go in
    `unused`: they cannot be given, are missing from the help and do not count in the hash. A key
    that is younger than runs one may have names in `neutral` the value that changes nothing: there
    it does not count in the hash either. One with a choice of models names them in `models` and has
    a field `model`, the name of one of them.

    Raises:
      ConfigError: a value is out of range or no known choice, or an unused key is given.
    """

    unused: ClassVar[tuple[str, ...]] = ()
    neutral: ClassVar[Mapping[str, Any]] = {}
    models: ClassVar[Mapping[str, Any]] = {}

    seed: int = option(0, "first random seed, an integer of at least 0")
    seeds: int = option(1, "how many seeds to train: seed .. seed + seeds - 1")
    steps: int = option(10_000, "updates, an integer of at least 1")
    batch_size: int = option(128, "examples per update, over all devices")
    learning_rate: float = option(1e-3, "peak learning rate, above 0")
    optimizer: str = option("adam", ", ".join(OPTIMIZERS))
    schedule: str = option("constant", "learning rate over the steps: " + ", ".join(SCHEDULES))
    warmup_steps: int = option(0, "updates of linear warm-up from 0, at least 0")
    weight_decay: float = option(0.0, "decoupled weight decay, at least 0")
    gradient_clip: float | None = option(None, "largest global gradient norm, above 0, or null")
    eval_every: int = option(500, "updates between evaluations")
    log_every: int = option(100, "updates between lines of training metrics")
    checkpoint_every: int = option(1000, "updates between checkpoints")
    chunk: int | str = option("auto", "updates per dispatch: auto or an integer of at least 1")
    parallel: str = option("auto", "devices: auto, jit (one), pmap (all local)")
    workdir: str | None = option(None, "run folder; null: runs/<experiment>/<date-time>")
    resume: str = option("auto", "a run already in workdir: auto (go on), must, never")
    progress: str = option("auto", "how progress is shown: auto, live, plain, off")

    def __post_init__(self) -> None:
        """Check every run key."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in self.unused:
            if name not in defaults:
                raise ConfigError(f"unused names {name!r}, which is no key of this experiment")
            if getattr(self, name) != defaults[name]:
                raise ConfigError(f"{name} has no use in this experiment")
        for name in defaults:
            value = getattr(self, name)
            for item in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(item, float) and not math.isfinite(item):
                    raise ConfigError(f"{name}={spell(value)} is out of range: a finite number")
        check_range(self, "seed", at_least=0, at_most=LARGEST_INTEGER)
        for name in ("seeds", "steps", "batch_size", "eval_every", "log_every", "checkpoint_every"):
            check_range(self, name, at_least=1, at_most=LARGEST_INTEGER)
        check_range(self, "learning_rate", above=0)
        check_range(self, "warmup_steps", at_least=0)
        if self.warmup_steps > self.steps:
            raise ConfigError(
                f"warmup_steps={self.warmup_steps} is out of range: at most steps={self.steps}"
            )
        check_range(self, "weight_decay", at_least=0)
        check_range(self, "gradient_clip", above=0)
        check_choice(self, "optimizer", OPTIMIZERS)
        check_choice(self, "schedule", SCHEDULES)
        if self.chunk != "auto" and (type(self.chunk) is not int or self.chunk < 1):
            raise ConfigError(
                f"chunk={spell(self.chunk)} is out of range: auto or an integer of at least 1"
            )
        check_choice(self, "parallel", ("auto", "jit", "pmap"))
        check_choice(self, "resume", ("auto", "must", "never"))
        check_choice(self, "progress", ("auto", "live", "plain", "off"))

    def to_dict(self) -> dict[str, Any]:
        """Every key the experiment uses as plain data (None, bool, int, float, str, list, dict)."""
        types = field_types(type(self))
        return {key: _plain(value_of(self, key), types[field_of(key)]) for key in keys(type(self))}

    def within(self, folder: str) -> "RunConfig":
        """What to build where relative paths begin in that folder; here there are none."""
        return self

    def model_options(self) -> dict[str, Any]:
        """What was chosen for the keys `model.OPTION`, by option: arguments of the model."""
        return {
            key.removeprefix(MODEL_KEY): value_of(self, key)
            for key in keys(type(self))
            if key.startswith(MODEL_KEY)
        }

    def make_optimizer(self, *, learning_rate: float | None = None, momentum: float = 0.9) -> Any:
        """The Optax optimiser these keys name; the arguments replace or add to them."""
        from cityjax.optimizers import make_optimizer, make_schedule

        rate = self.learning_rate if learning_rate is None else learning_rate
        schedule = make_schedule(self.schedule, rate, self.steps, warmup_steps=self.warmup_steps)
        return make_optimizer(
            self.optimizer,
            schedule,
            weight_decay=self.weight_decay,
            gradient_clip=self.gradient_clip,
            momentum=momentum,
        )

    def hash(self) -> str:
        """Sha256, in hex, over the keys that change what a run computes or writes as metrics.

        Left out: `workdir`, `resume`, `progress`, `checkpoint_every`, the unused keys, and those
        that are `neutral`. `log_every` and `eval_every` count: they decide which metric lines exist
        and which checkpoint is best. The experiment's name is not part of it.
        """
        counted = {
            key: value
            for key, value in self.to_dict().items()
            if key not in UNHASHED_KEYS and not (key in self.neutral and value == self.neutral[key])
        }
        text = json.dumps(counted, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def keys(config_class: type[RunConfig]) -> tuple[str, ...]:
    """Names that can be given for this experiment, in the order in which they are declared."""
    names = [f.name for f in dataclasses.fields(config_class) if f.init]
    if config_class.models:
        mine = len(_MODEL_FIELD)
        names = [MODEL_KEY + n[mine:] if n.startswith(_MODEL_FIELD) else n for n in names]
    return tuple(name for name in names if name not in config_class.unused)


def field_of(key: str) -> str:
    """Name of the field that holds a key: `model_hidden_size` for `model.hidden_size`."""
    return key.replace(MODEL_KEY, _MODEL_FIELD, 1) if key.startswith(MODEL_KEY) else key


def value_of(config: RunConfig, key: str) -> Any:
    """Value of a key, as the command line names it."""
    return getattr(config, field_of(key))


def default_of(config_class: type[RunConfig], key: str) -> Any:
    """Default of a key that has one."""
    return getattr(config_class, field_of(key))


@functools.cache
def field_types(config_class: type[RunConfig]) -> dict[str, Any]:
    """Type of each field, also where `from __future__ import annotations` made it a string.

    Raises:
      ConfigError: an annotation names something that its module does not hold.
    """
    try:
        hints = typing.get_type_hints(config_class)
    except Exception as error:  # evaluating someone's annotation can raise anything
        raise ConfigError(f"an annotation of Config cannot be read: {error}") from error
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class)}


def leaf_types(hint: Any) -> set[Any]:
    """The types inside a hint: `tuple[int, ...] | None` gives `{int, NoneType}`."""
    arguments = [argument for argument in typing.get_args(hint) if argument is not Ellipsis]
    return set().union(*map(leaf_types, arguments)) if arguments else {hint}


def check_range(
    config: RunConfig,
    name: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Check the number of a key, or every one of a tuple, against bounds; null passes if allowed.

    Raises:
      ConfigError: it is no number, no integer where the field is one, or out of bounds.
    """
    value = value_of(config, name)
    types = leaf_types(field_types(type(config))[field_of(name)])
    if value is None and type(None) in types:
        return
    whole = float not in types
    allowed = "an integer" if whole else "a number"
    bounds = (
        ("above", above),
        ("of at least", at_least),
        ("below", below),
        ("of at most", at_most),
    )
    words = [f"{word} {spell(bound)}" for word, bound in bounds if bound is not None]
    for item in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(item, bool) or not isinstance(item, int if whole else (int, float)):
            raise ConfigError(f"{name}={spell(value)}: {allowed} is expected")
        inside = (
            (above is None or item > above)
            and (at_least is None or item >= at_least)
            and (below is None or item < below)
            and (at_most is None or item <= at_most)
        )
        if not inside or not math.isfinite(item):
            limits = " and ".join(words) or "finite"
            or_null = ", or null" if type(None) in types else ""
            raise ConfigError(f"{name}={spell(value)} is out of range: {allowed} {limits}{or_null}")


def check_choice(config: RunConfig, name: str, choices: Sequence[str]) -> None:
    """Check a name, or every name of a tuple, against the known ones.

    Raises:
      ConfigError: it is none of them; the message lists them and the nearest.
    """
    value = value_of(config, name)
    for item in value if isinstance(value, (tuple, list)) else (value,):
        if item not in choices:
            hint = did_you_mean(spell(item), choices)
            listed = ", ".join(choices) + (f" ({hint})" if hint else "")
            raise ConfigError(f"{name}={spell(value)} is unknown: {listed}")


def check_resolved(resolved: Any) -> dict[str, Any]:
    """Check what a config.yaml says a run came to, or some of it.

    What `auto` chose for "parallel", "devices" and "chunk"; the sha256 of "data" by name; and the
    "folder" in which relative paths begin.

    Raises:
      ConfigError: it is no mapping, or a choice is none that `auto` could make.
    """
    if resolved is None:
        return {}
    if not isinstance(resolved, dict):
        raise ConfigError(f"resolved={spell(resolved)}: a mapping is expected")
    parallel = resolved.get("parallel", "jit")
    if parallel not in ("jit", "pmap"):
        raise ConfigError(f"resolved.parallel={spell(parallel)} is unknown: jit, pmap")
    for name in ("devices", "chunk"):
        value = resolved.get(name, 1)
        if type(value) is not int or not 1 <= value <= LARGEST_INTEGER:
            allowed = "an integer of at least 1"
            raise ConfigError(f"resolved.{name}={spell(value)} is out of range: {allowed}")
    folder, data = resolved.get("folder", ""), resolved.get("data", {})
    if not isinstance(folder, str):
        raise ConfigError(f"resolved.folder={spell(folder)}: a path is expected")
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise ConfigError(f"resolved.data={spell(data)}: a sha256 by name is expected")
    return resolved


def difference(a: RunConfig, b: RunConfig) -> list[str]:
    """What keeps two configurations from having one hash, as lines `key: a -> b`."""
    left, right = a.to_dict(), b.to_dict()
    names = [name for name in dict.fromkeys([*left, *right]) if name not in UNHASHED_KEYS]
    absent = object()

    def show(values: dict[str, Any], name: str) -> str:
        return spell(values[name]) if name in values else "(no such key)"

    return [
        f"{name}: {show(left, name)} -> {show(right, name)}"
        for name in names
        if left.get(name, absent) != right.get(name, absent)
    ]


def _plain(value: Any, hint: Any) -> Any:
    """A field's value as JSON and YAML hold it; the learning rates 1 and 1.0 become one number."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (int, float)):
        types = leaf_types(hint)
        is_float = isinstance(value, float) or (float in types and int not in types)
        return float(value) if is_float else int(value)
    if isinstance(value, (str, PurePath)):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item, hint) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, hint) for key, item in value.items()}
    raise ConfigError(f"{spell(value)} ({type(value).__name__}) cannot be kept in a configuration")
