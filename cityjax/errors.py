"""The one kind of error that a user can mend, and the hint that goes with a misspelt name."""

import difflib
from collections.abc import Sequence


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
