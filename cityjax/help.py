"""What `--help` prints of an experiment, and the list of all, as wide as the terminal."""

import dataclasses
import shutil
import textwrap
from collections.abc import Iterable
from types import ModuleType

from cityjax.config import MODEL_KEY, RunConfig, default_of, field_of, keys
from cityjax.errors import spell
from cityjax.registry import Entry

WIDTH = 100  # of what goes to no terminal
NARROW = 16  # columns that a text has at least
DEFAULT = 20  # columns of a default; a longer one has its text below it


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
    default_width = min(DEFAULT, max(len(default) for default, _ in rows.values()))

    def table(names: Iterable[str]) -> list[str]:
        lines = []
        for key in names:
            default, text = rows[key]
            head = f"  {key:<{width}}  {default:<{default_width}}  "
            lines += hanging(head, text, indent=width + default_width + 6)
        return lines

    own = [key for key in given if key not in shared and not key.startswith(MODEL_KEY)]
    of_model = [key for key in given if key.startswith(MODEL_KEY)]
    lines = []
    for line in (module.__doc__ or "").strip().splitlines():
        stripped = line.lstrip()
        before = " " * (len(line) - len(stripped))
        lines += hanging(before, stripped, indent=len(before))
    lines += [""]
    if own:
        lines += [f"Keys of {name}:", *table(own), ""]
    if config_class.models:
        model = default_of(config_class, "model")
        lines += [f"Keys of model={model}:", *(table(of_model) or ["  none"])]
        models = ", ".join(config_class.models)
        if models not in rows["model"][1]:
            lines += hanging("  (models: ", f"{models})", indent=11)
        lines += [""]
    lines += ["Keys of every run:", *table(key for key in given if key in shared)]
    return "\n".join(lines).lstrip()


def list_text(entries: Iterable[Entry]) -> str:
    """How an experiment is run, and the name and summary of each."""
    entries = list(entries)
    width = max((len(entry.name) for entry in entries), default=0)
    lines = [
        "usage: python -m cityjax.run experiment=NAME [key=value ...] [-m]",
        "",
        "experiments:",
    ]
    for entry in entries:
        lines += hanging(f"  {entry.name:<{width}}  ", entry.summary, indent=width + 4)
    return "\n".join(
        [*lines, "", "python -m cityjax.run experiment=NAME --help shows the keys of one."]
    )


def hanging(head: str, text: str, *, indent: int) -> list[str]:
    """Lines of a head and a text after it, which goes on below at `indent` where the line is full.

    A head longer than the indent has a line of its own.
    """
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    words = textwrap.wrap(
        text,
        max(width - indent, NARROW),
        break_long_words=False,
        break_on_hyphens=False,
    )
    first = [head] if len(head) > indent else [head + (words.pop(0) if words else "")]
    return [line.rstrip() for line in [*first, *(" " * indent + line for line in words)]]
