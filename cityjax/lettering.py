"""Names in figures: short enough for the room there is, in a font that has their script."""

import logging
import os
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

NAME = 24  # characters of a sensor's name that a figure has room for


def short_names(names: Sequence[str]) -> list[str]:
    """Names of at most 24 characters: of a longer one the middle is left out.

    Where two would then be alike, what all begin with is left out first.
    """
    short = [_shortened(name) for name in names]
    if len(set(short)) == len(set(names)):
        return short
    # A number that is cut off within would be another number.
    alike = len(re.sub(r"\w+$", "", os.path.commonprefix(list(names))))
    return [_shortened(f"…{name[alike:]}" if alike else name) for name in names]


def _shortened(name: str) -> str:
    if len(name) <= NAME:
        return name
    end = (NAME - 1) // 2
    return f"{name[: NAME - 1 - end].rstrip()}…{name[-end:].lstrip()}"


@contextmanager
def every_script(figure: Figure) -> Iterator[None]:
    """Within, a figure is drawn in fonts that have its characters, where any that is installed has.

    What none has is drawn as boxes, which one line for each script says.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        strange = frozenset(c for c in text.get_text() if c > "\u02af" and c.isprintable())
        if strange and (more := _families(findfont(text.get_fontproperties()), strange)):
            known = text.get_fontfamily()
            text.set_fontfamily([*known, *(name for name in more if name not in known)])
    finder = logging.getLogger("matplotlib.font_manager")
    level = finder.level
    finder.setLevel(logging.ERROR)  # else it says which of these fonts has no bold letters
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
            yield
    finally:
        finder.setLevel(level)


@cache
def _families(font: str, characters: frozenset[str]) -> tuple[str, ...]:
    """Installed families that have the characters that a font, a path, lacks."""
    lacking, found = _lacking(font, characters), []
    if not lacking:
        return ()
    # The font of last resort has a box for everything. Of a family the upright one is looked at.
    entries = [entry for entry in fontManager.ttflist if not entry.name.startswith("Last Resort")]
    entries.sort(key=lambda entry: (entry.style == "normal", entry.weight == 400))
    paths = {entry.name: entry.fname for entry in entries}
    for name in sorted(paths, key=lambda name: ("Sans" not in name, "Mono" in name, name)):
        left = _lacking(paths[name], lacking)
        if len(left) < len(lacking):
            found.append(name)
            lacking = left
        if not lacking:
            return tuple(found)
    for kind in sorted({_kind(character) for character in lacking}):
        _say(kind)
    return tuple(found)


def _lacking(path: str, characters: frozenset[str]) -> frozenset[str]:
    """Which characters a font lacks; all, where it cannot be drawn with."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError):  # damaged, or of coloured pixels
        return characters
    if not font.scalable:
        return characters
    return frozenset(c for c in characters if not font.get_char_index(ord(c)))


def _kind(character: str) -> str:
    """In words: "CJK characters", "Arabic characters", or "some symbols"."""
    script = unicodedata.name(character, "").partition(" ")[0]
    if not script or not character.isalpha():
        return "some symbols"
    return f"{script if script == 'CJK' else script.capitalize()} characters"


@cache
def _say(kind: str) -> None:
    """Say on standard error, once, that figures have boxes."""
    text = f"cityjax: no installed font has {kind}: figures show boxes in their place"
    print(f"{text}; a font of the Noto family that has them would be used", file=sys.stderr)
