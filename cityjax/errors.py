"""The one kind of error that a user can mend, and the words that its one line is made of."""

import difflib
import enum
from collections.abc import Sequence
from typing import Any


class UserError(ValueError):
    """What was asked for cannot be done; the message is one line that says why and what to do.

    The command line prints it and exits with 2; every other exception is a bug and keeps its
    traceback.
    """


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """`did you mean X?` for the nearest choice, or an empty string where none is near."""
    near = difflib.get_close_matches(word, choices, n=1)
    near = near or difflib.get_close_matches(word.lower(), choices, n=1)
    return f"did you mean {near[0]}?" if near else ""


def spell(value: Any) -> str:
    """A value as one would type it, on one line and of bounded length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (tuple, list)):
        text = "[" + ",".join(map(spell, value)) + "]"
    elif isinstance(value, float):
        text = str(value).removesuffix(".0")
    else:
        text = str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 100 else text[:97] + "..."


def one_line(error: BaseException) -> str:
    """The first line of an exception's text, or its kind where it has none."""
    lines = str(error).split("\n")
    return spell(lines[0].strip()) or type(error).__name__
