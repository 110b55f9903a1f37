"""A choice of models, `model=NAME model.KEY=value`: each has keys and defaults of its own."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cityjax.config import (
    LARGEST_INTEGER,
    MODEL_KEY,
    ConfigError,
    RunConfig,
    field_of,
    field_types,
    option,
)
from cityjax.errors import did_you_mean, spell

NEVER = LARGEST_INTEGER  # updates between things that are not to be done
SIZE = {"at_least": 1}
RATE = {"at_least": 0, "below": 1}


class Choice(NamedTuple):
    """One of the models that an experiment offers as `model=NAME`.

    make: the module or function that makes it; its arguments named in `options`, which have types
    and defaults there, are the keys `model.OPTION`: name -> one line of help. defaults: keys, also
    `model.OPTION`, that this model changes the defaults of. unused: run keys it has no use for.
    allowed: what an option may be, bounds as `config.check_range` has them, or names to choose
    from; other numbers are at least 0.
    """

    make: Callable[..., Any]
    options: Mapping[str, str] = {}
    defaults: Mapping[str, Any] = {}
    unused: tuple[str, ...] = ()
    allowed: Mapping[str, Mapping[str, float] | tuple[str, ...]] = {}


def tuned(
    models: Mapping[str, Choice], defaults: Mapping[str, Mapping[str, Any]]
) -> dict[str, Choice]:
    """Return models with other defaults: {model: {"steps": 9, "model.hidden_size": 4}}."""
    changed = {name: dict(models[name].defaults) | dict(new) for name, new in defaults.items()}
    return {**models, **{n: models[n]._replace(defaults=new) for n, new in changed.items()}}


@functools.cache
def with_model(config_class: type[RunConfig], model: str) -> type[RunConfig]:
    """The configuration of an experiment whose `model` is chosen: with that model's own keys.

    An experiment without a choice of models keeps its class.

    Raises:
      ConfigError: there is no such model; the message lists them.
    """
    if not config_class.models:
        return config_class
    if model not in config_class.models:
        hint = did_you_mean(spell(model), list(config_class.models))
        listed = ", ".join(config_class.models) + (f" ({hint})" if hint else "")
        raise ConfigError(f"model={spell(model)} is unknown: {listed}")
    choice = config_class.models[model]
    own = {field.name: field for field in dataclasses.fields(config_class)}
    types = field_types(config_class)
    parameters = inspect.signature(choice.make).parameters
    hints = typing.get_type_hints(choice.make)
    defaults = {"model": model}
    defaults |= {MODEL_KEY + name: parameters[name].default for name in choice.options}
    fields = []
    for key, default in (defaults | dict(choice.defaults)).items():
        name = key.removeprefix(MODEL_KEY)
        if key.startswith(MODEL_KEY):
            fields.append((field_of(key), hints[name], option(default, choice.options[name])))
        else:
            text = own[key].metadata.get("help", "")
            fields.append((key, types[key], option(default, text)))
    return dataclasses.make_dataclass(
        config_class.__name__,
        fields,
        bases=(config_class,),
        namespace={
            "unused": (*config_class.unused, *choice.unused),
            "__module__": config_class.__module__,
        },
        frozen=True,
    )
