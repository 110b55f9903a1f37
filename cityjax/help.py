"""What `--help` prints of an experiment."""

import dataclasses
from collections.abc import Iterable
from types import ModuleType

from cityjax.config import MODEL_KEY, RunConfig, default_of, field_of, keys
from cityjax.errors import spell


def help_text(module: ModuleType, config_class: type[RunConfig], name: str) -> str:
    """The experiment's docstring and a table of its keys: its own, then those of every run.

    config_class: of `Request.shown`, whose model is chosen.
    """
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    shared = [field.name for field in dataclasses.fields(RunConfig)]
    given = keys(config_class)
    rows: dict[str, tuple[str, str]] = {}
    for key in given:
        field = field_of(key)
        default, factory = fields[field].default, fields[field].default_factory
        if factory is not dataclasses.MISSING:
            default = factory()
        # A changed default needs no new help: the nearest class that has some gives it.
        owners = [vars(owner).get("__dataclass_fields__", {}) for owner in config_class.__mro__]
        texts = [owner[field].metadata.get("help", "") for owner in owners if field in owner]
        required = default is dataclasses.MISSING
        rows[key] = ("(required)" if required else spell(default), next(filter(None, texts), ""))
    width = max(map(len, rows))
    default_width = max(len(default) for default, _ in rows.values())

    def table(names: Iterable[str]) -> list[str]:
        return [
            f"  {key:<{width}}  {rows[key][0]:<{default_width}}  {rows[key][1]}".rstrip()
            for key in names
        ]

    own = [key for key in given if key not in shared and not key.startswith(MODEL_KEY)]
    of_model = [key for key in given if key.startswith(MODEL_KEY)]
    lines = [(module.__doc__ or "").strip(), ""]
    if own:
        lines += [f"Keys of {name}:", *table(own), ""]
    if config_class.models:
        model = default_of(config_class, "model")
        lines += [f"Keys of model={model}:", *(table(of_model) or ["  none"])]
        lines += [f"  (models: {', '.join(config_class.models)})", ""]
    lines += ["Keys of every run:", *table(key for key in given if key in shared)]
    return "\n".join(lines).lstrip()
