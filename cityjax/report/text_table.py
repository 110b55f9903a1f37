"""A table for the terminal that fits its width without cutting a number or a key in two."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

GAP = 2  # between columns
NARROW = 10  # of a text column: what is longer breaks before it gets less
# Where a name may break; an arrow follows its last part, so that it is never alone on a line.
PART = re.compile(r"(?<=[/_=,])(?=[^ ])|(?<=[^ ])(?=@)")


@dataclass(frozen=True)
class Cell:
    """One formatted number, and whether it is the best of its metric."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class TextTable:
    """Rows (texts, cells) under their headings: texts wrap before numbers do.

    The best cell of a metric is bold green. Text is never read as markup.
    """

    title: str
    texts: Sequence[str]
    numbers: Sequence[str]
    rows: Sequence[tuple[Sequence[str | Text], Sequence[Cell]]]
    caption: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render within the width that there is, the caption over all of it."""
        yield Text(f"{self.title}\n", style="bold")
        fitting = self._fitting(options.max_width)
        yield fitting._within(options.max_width)
        if lacking := self.numbers[len(fitting.numbers) :]:
            yield Text(f"\nin a wider terminal also: {', '.join(lacking)}")
        if self.caption:
            yield Text(f"\n{self.caption}")

    def _fitting(self, width: int) -> "TextTable":
        """Return the table with as many of its first columns of numbers as there is room for."""
        count = len(self.numbers)
        while count > 1 and self._first(count)._least() > width:
            count -= 1
        return self._first(count)

    def _first(self, count: int) -> "TextTable":
        rows = [(texts, cells[:count]) for texts, cells in self.rows]
        return replace(self, numbers=self.numbers[:count], rows=rows)

    def _within(self, width: int) -> Table:
        texts, numbers = self._widths(width)
        table = Table(box=SIMPLE_HEAD)
        table.show_edge = table.pad_edge = False
        table.padding = (0, GAP - 1, 0, 0)  # the box has one more
        for name, size in zip(self.texts, texts, strict=True):
            table.add_column(soft(name, size), width=size, overflow="fold")
        for name, size in zip(self.numbers, numbers, strict=True):
            table.add_column(soft(name, size), width=size, justify="right", overflow="fold")
        for row, cells in self.rows:
            shown = [Text(cell.text, style="bold green" if cell.best else "") for cell in cells]
            table.add_row(*map(soft, row, texts), *shown)
        return table

    def _widths(self, width: int) -> tuple[list[int], list[int]]:
        """Widths of the columns of texts and of numbers: keys are whole where there is room."""
        full, columns = self._texts(), self._numbers()
        between = GAP * (len(full) + len(columns) - 1)
        roomy = [max(9, length, *map(cell_len, name.split(" "))) for length, name in columns]
        if sum(full) + sum(roomy) + between <= width:
            return full, roomy
        tight = [max(length, *map(cell_len, _parts(name))) for length, name in columns]
        if (spare := width - sum(full) - sum(tight) - between) >= 0:
            for index, size in enumerate(roomy):  # the first ones are the most wanted
                more = min(spare, size - tight[index])
                tight[index], spare = tight[index] + more, spare - more
            return full, tight
        return _shares(full, width - sum(tight) - between), tight

    def _texts(self) -> list[int]:
        """The longest of each column of texts."""
        rows = [[str(text) for text in texts] for texts, _ in self.rows]
        return [max(map(cell_len, column)) for column in zip(self.texts, *rows, strict=True)]

    def _numbers(self) -> list[tuple[int, str]]:
        """The longest of each column of numbers, and its name."""
        return [
            (max([0, *(cell_len(cells[index].text) for _, cells in self.rows)]), name)
            for index, name in enumerate(self.numbers)
        ]

    def _least(self) -> int:
        """The width below which a number or the part of a name would be cut."""
        texts = [min(size, NARROW) for size in self._texts()]
        numbers = [max(length, *map(cell_len, _parts(name))) for length, name in self._numbers()]
        return sum(texts) + sum(numbers) + GAP * (len(texts) + len(numbers) - 1)


def _shares(full: Sequence[int], room: int) -> list[int]:
    """Share room among columns by what each needs at most; none gets less than it can bear."""
    shares = list(full)
    for rank, index in enumerate(sorted(range(len(full)), key=full.__getitem__)):
        fair = max(room // (len(full) - rank), NARROW)
        shares[index] = min(full[index], fair)
        room -= shares[index]
    return shares


def _parts(text: str) -> list[str]:
    return [part for word in text.split(" ") for part in PART.split(word)]


def soft(text: str | Text, width: int) -> Text:
    """Return text in which a word longer than `width` is broken after / or _ or before @."""
    text = text if isinstance(text, Text) else Text(text)
    cuts = []
    for word in re.finditer(r"[^ \n]+", text.plain):
        if cell_len(word[0]) <= width:
            continue
        at, used = word.start(), 0
        for part in PART.split(word[0]):
            if used and used + cell_len(part) > width:
                cuts.append(at)
                used = 0
            at, used = at + len(part), used + cell_len(part)
    return Text("\n").join(text.divide(cuts))
