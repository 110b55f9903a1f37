"""The only file that knows Hydra: its override grammar, its typed conversion, its sweeps.

Hydra is imported inside the functions: it takes 0.3 s, which the list of experiments can do
without.
"""

import dataclasses
import enum
import functools
import itertools
import typing
from typing import Any

from cityjax.config import ConfigError, RunConfig, field_types, leaf_types
from cityjax.errors import one_line, spell

# Their values are taken as they stand, whatever characters they hold, and never sweep.
FREE_TEXT_KEYS = ("experiment", "config", "workdir", "data")
LARGEST_SWEEP = 1000


def is_free_text(key: str, hint: Any) -> bool:
    """Whether the text given for a key is its value, unread."""
    return key in FREE_TEXT_KEYS and str in leaf_types(hint)


def sweep(key: str, text: str, hint: Any, *, multirun: bool) -> list[str]:
    """The one text of a key, or with `multirun` the texts of its sweep.

    Raises:
      ConfigError: the text is malformed, or a sweep where there is to be none.
    """
    if is_free_text(key, hint):
        return [text]
    override = parse(key, text)
    if not override.is_sweep_override():
        return [text]
    if not multirun:
        listed = f"; a list is written {key}=[{spell(text)}]" if _sequence(hint) else ""
        raise ConfigError(f"{key}={spell(text)} is a sweep: add -m to run each value{listed}")
    try:
        texts = list(itertools.islice(override.sweep_string_iterator(), LARGEST_SWEEP + 1))
    except Exception as error:  # interval(), glob(), a step of 0: each raises its own kind
        raise ConfigError(f"{key}={spell(text)} cannot be swept: {one_line(error)}") from error
    if not 1 <= len(texts) <= LARGEST_SWEEP:
        number = f"more than {LARGEST_SWEEP}" if texts else "no"
        raise ConfigError(f"{key}={spell(text)} sweeps over {number} values")
    return texts


def read(key: str, text: str, hint: Any) -> Any:
    """The value that one text, of no sweep, gives a key whose field has this type.

    Raises:
      ConfigError: the text is malformed or of the wrong type.
    """
    if is_free_text(key, hint):
        return text
    return convert(key, text, parse(key, text).value(), hint)


def parse(key: str, text: str) -> Any:
    """Hydra's reading of a value, as its `Override`.

    Raises:
      ConfigError: the text is malformed.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        # A fixed key: how the real one is spelled has no influence on the reading.
        return OverridesParser.create().parse_override(f"key={text}")
    except Exception as error:  # the generated parser fails in many ways on malformed text
        reason = one_line(error).split(" expecting ")[0]
        raise ConfigError(
            f"{spell(key)}={spell(text)} cannot be read: {reason}"
            f" (text with special characters is quoted twice: '{spell(key)}=\"...\"')"
        ) from error


def convert(key: str, text: str, value: Any, hint: Any) -> Any:
    """A parsed value as its field's type, by OmegaConf, Hydra's schema; nothing is evaluated.

    Raises:
      ConfigError: the value is of another type, or would be interpolated.
    """
    from omegaconf import OmegaConf

    if _is_interpolated(value):
        raise ConfigError(f"{key}={spell(text)}: ${{...}} and ??? are not interpreted here")
    node = _schema(key, hint)
    try:
        node.value = value
        fields: Any = OmegaConf.to_container(node, throw_on_missing=True)
        converted = fields["value"]
    except Exception as error:
        whole = isinstance(value, float) and value.is_integer() and int in leaf_types(hint)
        write = f" (write {int(value)})" if whole and abs(value) < 1e15 else ""
        raise ConfigError(f"{key}={spell(text)}: {_expected(hint)} is expected{write}") from error
    sequence = _sequence(hint)
    if isinstance(converted, list) and typing.get_origin(sequence) is tuple:
        members = typing.get_args(sequence)
        # OmegaConf holds tuples as lists and does not compare their lengths.
        if Ellipsis not in members and len(members) != len(converted):
            raise ConfigError(f"{key}={spell(text)}: a list of {len(members)} values is expected")
        return tuple(converted)
    return converted


@functools.cache
def check_types(config_class: type[RunConfig]) -> None:
    """Refuse fields that no command line and no config.yaml could give back, such as a Literal.

    Raises:
      ConfigError: names the first such field.
    """
    for key, hint in field_types(config_class).items():
        _schema(key, hint)


def _schema(key: str, hint: Any) -> Any:
    """An OmegaConf node whose one field, `value`, converts what it is given to the type."""
    from omegaconf import OmegaConf

    try:
        return OmegaConf.structured(dataclasses.make_dataclass("Schema", [("value", hint)]))
    except Exception as error:  # OmegaConf's refusals of a type are of several kinds
        raise ConfigError(
            f"Config.{key} has a type that cannot be given as text: {hint};"
            " take str and check_choice"
        ) from error


def _is_interpolated(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_is_interpolated, [*value, *value.values()]))
    if isinstance(value, list):
        return any(map(_is_interpolated, value))
    return isinstance(value, str) and ("${" in value or value == "???")


def _sequence(hint: Any) -> Any:
    """The list or tuple type in a hint, also in an optional one; None where there is none."""
    for part in (hint, *typing.get_args(hint)):
        if typing.get_origin(part) in (tuple, list):
            return part
    return None


def _expected(hint: Any) -> str:
    types = leaf_types(hint)
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    allowed = [word for kind, word in words.items() if kind in types]
    for kind in types:
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            allowed.append("one of " + ", ".join(member.name for member in kind))
    text = " or ".join(allowed) or str(hint)
    text = f"a list in brackets, each {text}," if _sequence(hint) else text
    return f"{text} or null" if type(None) in types else text
