"""Tables as text: CSV and Parquet files in batches of cells; `data.numerals` reads numbers.

Row numbers are those of the file: lines of a CSV, where the header is row 1; rows of a Parquet
file, counted from 1. However large the file, one batch of it is held at a time.
"""

import csv
import dataclasses
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cityjax.data.files import DataError

if TYPE_CHECKING:  # importing Polars sets an environment variable: it waits for the first table
    import polars as pl

SUFFIXES = (".csv", ".csv.gz", ".parquet")
MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "-")
BATCH = 1 << 23  # characters of a CSV, and eight times the cells of a Parquet file, in one batch
SEPARATORS = (",", ";", "\t", "|")
_END = "\x1e"  # "record separator", a character that no table holds


class Batch(NamedTuple):
    """Some rows: their numbers in the file, int64 [R], and their cells as text, null where empty.

    The columns of `cells` are named "0", "1", ... points: whether any of them may hold a point.
    """

    rows: np.ndarray
    cells: "pl.DataFrame"
    points: bool


@dataclasses.dataclass
class Marks:
    """The points and commas in the numbers of a table, as they are met.

    signs: where the first decimal point and the first decimal comma stood. decimal: whether one of
    them is surely decimal. By column, the first cell of a kind, its row and its text: grouped, that
    may have a separator of thousands, 1,012; below, a whole number from 1 to 999. above: columns
    with a number of 1000 or more that is written without a separator.
    """

    signs: dict[str, str] = dataclasses.field(default_factory=dict)
    decimal: bool = False
    grouped: dict[int, tuple[int, str]] = dataclasses.field(default_factory=dict)
    below: dict[int, tuple[int, str]] = dataclasses.field(default_factory=dict)
    above: set[int] = dataclasses.field(default_factory=set)


class Table(NamedTuple):
    """A table that is being read: its column names, and its rows, which can be read once.

    first: number in the file of the first row, blank or not. marks: what its numbers told so far.
    times: places of the columns whose type says that they hold times; a CSV has no types.
    """

    path: Path
    header: tuple[str, ...]
    first: int
    batches: Iterator[Batch]
    separator: str
    marks: Marks
    times: tuple[int, ...] = ()

    def whole(self) -> Batch:
        """Return all rows at once, for small tables."""
        import polars as pl

        none = pl.DataFrame(schema={str(place): pl.String for place in range(len(self.header))})
        batches = [Batch(np.zeros(0, np.int64), none, False), *self.batches]
        rows = np.concatenate([batch.rows for batch in batches])
        cells = pl.concat([batch.cells for batch in batches])
        return Batch(rows, cells, any(batch.points for batch in batches))


def refusal(path: Path, message: str, row: object = None, column: str | None = None) -> DataError:
    """Return the error that names file, row and column, in one line."""
    place = str(path) if str(path).isprintable() else repr(str(path))
    place += "" if row is None else f", row {row}"
    place += "" if column is None else f", column {shown(column)}"
    return DataError(f"{place}: {message}")


def shown(text: object) -> str:
    """Return a cell or a name as an error shows it: quoted, in one line, at most 40 characters."""
    text = str(text)
    return repr(text if len(text) <= 40 else text[:39] + "…")


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + more


def failures() -> tuple[type[BaseException], ...]:
    """Return what Polars raises; a panic of it is no Exception of Python's."""
    import polars as pl

    return pl.exceptions.PolarsError, pl.exceptions.PanicException


def is_table(name: str) -> bool:
    """Whether a file of this name is read as a table."""
    return name.lower().endswith(SUFFIXES)


def is_cell(name: str) -> bool:
    """Whether a name is one that only cells have: a gap, or a number that is no whole one."""
    number = r"[-+]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)(e[-+]?[0-9]+)?"
    value = re.fullmatch(number, name.lower()) and not name.isdigit()
    return bool(value) or name.lower() in MISSING


def open_table(path: Path, *, header: bool = True) -> Table:
    """Open a table; without a header its columns are named "1", "2", ... (a CSV only).

    CSV: UTF-8 with or without a byte order mark, plain or gzip, any line end; separated by comma,
    semicolon, tab or bar, the one that the first row has most of; cells may be quoted. Spaces
    around a cell do not count, blank rows neither.

    Raises DataError, here or while rows are read: what is no such table, with the row.
    """
    if path.name.lower().endswith(".parquet"):
        return _open_parquet(path)
    pieces = _pieces(path)
    number, text = next(pieces, (1, ""))
    # Blank rows, and the one that tells Excel the separator.
    while skipped := re.match('("?sep=[,;\t|]"?)?\n', text):
        number, text = number + 1, text[skipped.end() :]
    first, _, rest = text.partition("\n")
    if not first.strip():
        raise refusal(path, "the table is empty: its first row names the columns")
    # Quoted parts may hold separators that separate nothing.
    bare = re.sub(r'"[^"]*"', "", first)
    separator = max(SEPARATORS, key=bare.count)
    try:
        names = tuple(name.strip() for name in next(csv.reader([first], delimiter=separator)))
    except csv.Error as error:
        raise refusal(path, f"the header cannot be read: {error}", number) from error
    if header:
        number, text = number + 1, rest
    else:
        names = tuple(str(1 + place) for place in range(len(names)))
    remaining = itertools.chain([(number, text)], pieces)
    batches = (_batch(path, text, at, separator, len(names)) for at, text in remaining if text)
    return Table(path, names, number, batches, separator, Marks())


def _pieces(path: Path) -> Iterator[tuple[int, str]]:
    """Yield whole lines, and the number of the first of them."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    number, rest = 1, ""
    try:
        # Bytes that are no UTF-8 become surrogates, which fail to encode below, at their row.
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape") as file:
            while piece := file.read(BATCH):
                rest += piece
                cut = rest.rfind("\n") + 1
                if not cut and len(rest) > 8 * BATCH:
                    raise refusal(path, f"the row is longer than {8 * BATCH} characters", number)
                if cut:
                    yield number, _encodable(path, rest[:cut], number)
                    number, rest = number + rest.count("\n"), rest[cut:]
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise refusal(path, f"cannot be read ({reason})") from error
    if rest:
        yield number, _encodable(path, rest + "\n", number)


def _encodable(path: Path, text: str, number: int) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        row = number + text.count("\n", 0, error.start)
        raise refusal(path, "the text is not UTF-8: save the file as UTF-8", row) from error
    return text


def _batch(path: Path, text: str, number: int, separator: str, width: int) -> Batch:
    import polars as pl

    # Polars fills up short rows and cuts long ones: a last cell of our own shows which they are.
    # The first line tells it the width, whatever the width of the next.
    names = [str(place) for place in range(width + 1)]
    end = f"{separator}{_END}\n"
    marked = separator * (width - 1) + end + text.replace("\n", end)
    try:
        cells = pl.read_csv(
            io.BytesIO(marked.encode()),
            has_header=False,
            separator=separator,
            schema={name: pl.String for name in names},
            truncate_ragged_lines=True,
        )[1:]
    except failures():
        cells = pl.DataFrame()
    if cells.height != text.count("\n"):
        row = number + _misquoted(text, separator)
        raise refusal(path, "the quotes of a cell do not close, or not at its end", row)
    cells = cells.with_columns(pl.all().str.strip_chars(" \t\xa0"))
    full = cells[names[-1]].eq_missing(_END)
    # A look at every cell is dear: only rows without a first one may be blank.
    blank = (~full | cells["0"].fill_null("").eq("")).to_numpy().copy()
    empty = pl.all_horizontal(pl.all().fill_null("").is_in(["", _END]))
    blank[blank] = cells.filter(blank).select(empty.alias("blank"))["blank"].to_numpy()
    wrong = np.flatnonzero(~full.to_numpy() & ~blank)
    if len(wrong):
        found = 1 + text.split("\n", int(wrong[0]) + 1)[-2].count(separator)
        message = f"{found} cells where the first row has {width}: write as many, and text that"
        raise refusal(path, f"{message} holds {shown(separator)} in quotes", number + wrong[0])
    rows = number + np.flatnonzero(~blank)
    return Batch(rows, cells.filter(~blank).select(names[:-1]), "." in text)


def _misquoted(text: str, separator: str) -> int:
    """Return the first line whose quotes are not those of a CSV."""
    cell = f'(?:[^"{re.escape(separator)}]*|"(?:[^"]|"")*")'
    line = re.compile(f"{cell}(?:{re.escape(separator)}{cell})*")
    return next((i for i, t in enumerate(text.split("\n")) if not line.fullmatch(t)), 0)


def _open_parquet(path: Path) -> Table:
    import polars as pl

    try:
        # A name may hold `*` or `key=value`, which are no pattern and no column here.
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        schema = scan.collect_schema()
        height = scan.select(pl.len()).collect().item()
    except (*failures(), OSError) as error:
        raise refusal(path, "is no Parquet file, or damaged") from error
    if not len(schema):
        raise refusal(path, "the table has no columns")
    texts = [_as_text(name, kind, str(i)) for i, (name, kind) in enumerate(schema.items())]

    def batches() -> Iterator[Batch]:
        size = max(1, BATCH // 8 // len(schema))
        for start in range(0, height, size):
            try:
                cells = scan.slice(start, size).select(texts).collect()
            except (*failures(), OSError) as error:
                rows = f"rows {start + 1} to {min(start + size, height)}"
                message = f"{rows} cannot be read: columns hold numbers, text or times"
                raise refusal(path, message) from error
            yield Batch(1 + start + np.arange(cells.height), cells, True)

    times = tuple(i for i, kind in enumerate(schema.dtypes()) if kind in (pl.Date, pl.Datetime))
    return Table(path, tuple(schema.names()), 1, batches(), ",", Marks(), times)


def _as_text(name: str, kind: "pl.DataType", to: str) -> "pl.Expr":
    import polars as pl

    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        zone = "" if kind.time_zone is None else "%z"
        return column.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.f{zone}").alias(to)
    if kind == pl.Boolean:
        column = column.cast(pl.Int8)
    return column.cast(pl.String).str.strip_chars(" \t\xa0").alias(to)
