"""Turn command-line arguments into checked configurations, in Hydra's grammar.

One route serves a single run, a sweep (`-m`) and `run([...])`: split the arguments, read each
value by Hydra's grammar (cityjax/grammar.py), build the experiment's own dataclass. The reasons
are in docs/adr/003-hydra.md.
"""

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from cityjax import registry
from cityjax.choices import with_model
from cityjax.config import (
    MODEL_KEY,
    PLACE_KEYS,
    ConfigError,
    RunConfig,
    check_resolved,
    default_of,
    field_of,
    field_types,
    keys,
    value_of,
)
from cityjax.errors import did_you_mean, one_line, spell
from cityjax.grammar import (
    FREE_TEXT_KEYS,
    LARGEST_SWEEP,
    check_types,
    convert,
    parse,
    read,
    sweep,
)

FLAGS = {"-m": "multirun", "--multirun": "multirun", "-h": "help", "--help": "help"}
SPECIAL_KEYS = ("experiment", "config", "evaluate_only")
_LISTS_THEM = "(python -m cityjax.run lists them)"


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for.

    experiment: its name (the file's stem); None asks for the list. source: what `save_config`
    keeps: the name, or the absolute path of an experiment given as a file. configs: one, or the
    points of a sweep, the last key varying fastest; none where help is asked for. overrides: for
    each of them the `key=value` arguments that make it, without the special keys. folder: where
    relative paths begin that a config.yaml holds; None for the present one.
    """

    experiment: str | None = None
    source: str | None = None
    module: ModuleType | None = None
    configs: tuple[RunConfig, ...] = ()
    overrides: tuple[tuple[str, ...], ...] = ()
    shown: type[RunConfig] | None = None
    evaluate_only: bool = False
    help: bool = False
    folder: str | None = None


class SavedConfig(NamedTuple):
    """What a run's config.yaml holds; `resolved` is that of `config.check_resolved`."""

    experiment: str
    module: ModuleType
    config: RunConfig
    resolved: dict[str, Any]


def resolve(arguments: Sequence[str]) -> Request:
    """Read `experiment=NAME key=value ... [-m]`.

    Raises:
      ConfigError: whatever is wrong with the arguments, in one line.
    """
    flags, given = _split(arguments)
    evaluate_only = False
    if "evaluate_only" in given:
        text = given["evaluate_only"]
        evaluate_only = convert("evaluate_only", text, parse("evaluate_only", text).value(), bool)
    saved = _saved(given, evaluate_only)
    if saved is None and "experiment" not in given:
        if given:
            key, text = next(iter(given.items()))
            hint = "" if key in SPECIAL_KEYS else did_you_mean(key, SPECIAL_KEYS)
            raise ConfigError(
                f"unknown key {spell(key)!r}: {hint}"
                if hint
                else f"{spell(key)}={spell(text)} needs experiment=NAME {_LISTS_THEM}"
            )
        return Request(help="help" in flags)
    module = saved.module if saved else registry.load(given["experiment"])
    name = Path(str(module.__file__)).stem
    source = saved.experiment if saved else registry.source_of(given["experiment"])
    texts = {key: text for key, text in given.items() if key not in SPECIAL_KEYS}
    multirun = "multirun" in flags
    classes = _classes(module.Config, texts, saved, multirun=multirun)
    first = next(iter(classes.values()))
    if "help" in flags:
        return Request(name, source, module, shown=first, evaluate_only=evaluate_only, help=True)

    hints: dict[str, dict[str, Any]] = {}
    for model, config_class in classes.items():
        check_types(config_class)
        hints[model] = {key: _field_type(config_class, name, key) for key in texts}
    points = [
        [(key, point) for point in sweep(key, text, hint, multirun=multirun)]
        for (key, text), hint in zip(texts.items(), hints[next(iter(hints))].values(), strict=True)
    ]
    if math.prod(map(len, points)) > LARGEST_SWEEP:
        raise ConfigError(f"this sweep has more than {LARGEST_SWEEP} runs")
    base: dict[str, Any] = {}
    if saved:  # repeated with the numbers of that run, in a place of its own
        known = keys(type(saved.config))
        base = {key: value_of(saved.config, key) for key in known if key not in PLACE_KEYS}
    value = functools.cache(read)
    configs, overrides = [], []
    for run in itertools.product(*points):
        model = dict(run).get("model", next(iter(classes)))
        values = {key: value(key, text, hints[model][key]) for key, text in run}
        configs.append(_build(classes[model], name, base | values))
        overrides.append(tuple(f"{key}={text}" for key, text in run))
    return Request(
        name,
        source,
        module,
        configs=tuple(configs),
        overrides=tuple(overrides),
        evaluate_only=evaluate_only,
        folder=saved.resolved.get("folder") if saved and "data" not in texts else None,
    )


def _classes(
    config_class: type[RunConfig],
    texts: Mapping[str, str],
    saved: SavedConfig | None,
    *,
    multirun: bool,
) -> dict[str, type[RunConfig]]:
    """The configuration class of each model asked for; one of no name where there is no choice."""
    if not config_class.models:
        return {"": config_class}
    of_saved = value_of(saved.config, "model") if saved else None
    names = [of_saved or default_of(config_class, "model")]
    if "model" in texts:
        hint = field_types(config_class)["model"]
        names = sweep("model", texts["model"], hint, multirun=multirun)
    if saved and names != [of_saved]:
        raise ConfigError(
            f"model={spell(texts['model'])}: config= repeats a run of model={of_saved};"
            " begin another with experiment=NAME"
        )
    return {name: with_model(config_class, name) for name in names}


def save_config(
    path: str | os.PathLike[str],
    experiment: str,
    config: RunConfig,
    resolved: Mapping[str, Any] | None = None,
) -> None:
    """Write config.yaml, all of it or none.

    experiment: `Request.source`. resolved: what `check_resolved` allows.
    """
    import yaml

    content = {"experiment": experiment, **config.to_dict(), "resolved": dict(resolved or {})}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    temporary = Path(f"{os.fspath(path)}.partial")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def load_config(path: str | os.PathLike[str]) -> SavedConfig:
    """Read a run's config.yaml and load its experiment; keys it lacks take their defaults.

    Raises:
      ConfigError: it cannot be read, or does not fit the experiment as that is today.
    """
    import yaml

    shown = spell(os.fspath(path))
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{shown} does not exist") from error
    except (OSError, ValueError, ArithmeticError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{shown} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("experiment"), str):
        raise ConfigError(f"{shown} is no configuration of a run: it names no experiment")
    experiment, resolved = content.pop("experiment"), content.pop("resolved", None)
    try:
        resolved = check_resolved(resolved)
        module = registry.load(experiment)
        name = Path(str(module.__file__)).stem
        values = {}
        config_class = module.Config
        if config_class.models:
            chosen = content.get("model", default_of(config_class, "model"))
            config_class = with_model(config_class, spell(chosen))
        for key, value in content.items():
            hint = _field_type(config_class, name, str(key))
            text = isinstance(value, str) and hint in (str, str | None)
            values[key] = value if text else convert(key, spell(value), value, hint)
        return SavedConfig(experiment, module, _build(config_class, name, values), resolved)
    except ConfigError as error:
        raise ConfigError(f"{shown}: {error}") from error


def _split(arguments: Sequence[str]) -> tuple[set[str], dict[str, str]]:
    """Flags, and the text given for each key; nothing is interpreted yet."""
    if isinstance(arguments, (str, bytes)):
        raise ConfigError('arguments are a list: ["experiment=NAME", "key=value"]')
    flags: set[str] = set()
    given: dict[str, str] = {}
    for argument in arguments:
        if not isinstance(argument, str) or "\0" in argument:
            raise ConfigError(f"argument {spell(argument)!r} is no text of the form key=value")
        if argument in FLAGS:
            flags.add(FLAGS[argument])
            continue
        key, equals, text = argument.partition("=")
        if key.startswith("-"):
            raise ConfigError(
                f"unknown flag {spell(key)!r}: keys are written key=value, without dashes;"
                " the flags are -m (sweep) and --help"
            )
        if key.startswith(("+", "~")):
            raise ConfigError(
                f"{spell(argument)}: keys are neither added nor removed; write key=value, no + or ~"
            )
        if not equals:
            raise ConfigError(
                f"{spell(argument)!r} has no '=': arguments are written key=value; without any, the"
                " experiments are listed, and experiment=NAME --help shows the keys of one"
            )
        if not key:
            raise ConfigError(f"{spell(argument)!r} has no key: arguments are written key=value")
        if not (text if key in FREE_TEXT_KEYS else text.strip()):
            raise ConfigError(f"{spell(key)}= has no value: leave it out to get the default")
        if key in given:
            raise ConfigError(
                f"key {spell(key)!r} is given twice: {spell(given[key])} and {spell(text)}"
            )
        given[key] = text
    return flags, given


def _saved(given: Mapping[str, str], evaluate_only: bool) -> SavedConfig | None:
    """The configuration that `config=` or `evaluate_only=true workdir=` point to."""
    if evaluate_only:
        if "workdir" not in given:
            raise ConfigError("evaluate_only=true needs workdir=RUN, the folder of a run")
        for key in given:
            if key not in ("evaluate_only", "workdir", "experiment", "progress"):
                raise ConfigError(
                    f"{spell(key)} has no use with evaluate_only=true,"
                    " which scores a run with its own configuration"
                )
        path = os.path.join(given["workdir"], "config.yaml")
    elif "config" in given:
        path = given["config"]
        path = os.path.join(path, "config.yaml") if os.path.isdir(path) else path
    else:
        return None
    saved = load_config(path)
    if "experiment" in given and registry.source_of(given["experiment"]) != saved.experiment:
        raise ConfigError(
            f"{spell(path)} is of experiment {spell(saved.experiment)},"
            f" not {spell(given['experiment'])}"
        )
    return saved


def _field_type(config_class: type[RunConfig], name: str, key: str) -> Any:
    """The type of a key; refuses what the experiment does not know or use."""
    if key in config_class.unused:
        where = ""
        if config_class.models:
            model = default_of(config_class, "model")
            where = f" with model={model}"
            users = [m for m, choice in config_class.models.items() if key not in choice.unused]
            if key in config_class.models[model].unused and users:
                where += f": it has with model={', '.join(users)}"
        raise ConfigError(f"{key} has no use in experiment {name}{where}")
    known = keys(config_class)
    if key not in known and key.startswith(MODEL_KEY) and config_class.models:
        model = default_of(config_class, "model")
        options = [option for option in known if option.startswith(MODEL_KEY)]
        hint = did_you_mean(key, options) or ", ".join(options) or "it has none"
        raise ConfigError(f"unknown key {spell(key)!r} for model={model}: {hint}")
    if key not in known:
        hint = did_you_mean(key, known) or f"experiment={name} --help lists them"
        raise ConfigError(f"unknown key {spell(key)!r} for experiment {name}: {hint}")
    return field_types(config_class)[field_of(key)]


def _build(config_class: type[RunConfig], name: str, values: Mapping[str, Any]) -> RunConfig:
    try:
        config = config_class(**{field_of(key): value for key, value in values.items()})
        RunConfig.__post_init__(config)  # an experiment may have forgotten to call super()
    except ConfigError:
        raise
    except Exception as error:  # checks of a user's own, which may raise anything
        raise ConfigError(f"experiment {name}: {one_line(error)}") from error
    return config
