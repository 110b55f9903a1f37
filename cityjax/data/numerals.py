"""Cells of a table as numbers: decimal points and commas, and what is no number."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cityjax.data.cells import MISSING, Batch, Table, refusal, shown

if TYPE_CHECKING:
    import polars as pl

_GROUPED = "^[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}$"  # 1,012, which may be 1012


def numbers(
    table: Table, batch: Batch, columns: Sequence[int], *, double: bool = False
) -> np.ndarray:
    """Return the cells of some columns as float32 or float64 [R, C], NaN where missing.

    Missing is an empty cell, NA, N/A, NaN, null, none or -, in either case. In a table that is not
    separated by commas a comma may be the decimal sign, in all cells or in none.

    Raises DataError for any other cell, an infinite one included, with its row and column, and for
    a column that float32 would round by more than a tenth of what it changes from row to row.
    """
    import polars as pl

    cells = batch.cells.select([str(column) for column in columns])
    found = cells.select(pl.all().cast(pl.Float64, strict=False))
    wrong, marked, marks = {}, {}, table.marks
    for place, name in enumerate(cells.columns):
        signs = {}
        if found[name].null_count() > cells[name].null_count():
            odd = cells[name].is_not_null() & found[name].is_null()
            odd &= ~cells[name].str.to_lowercase().is_in(MISSING)
            if table.separator != "," and odd.any():
                commas = odd & cells[name].str.contains(r"^[+-]?[0-9]*,[0-9]+$")
                plain = cells[name].str.replace(",", ".", literal=True)
                plain = plain.zip_with(commas, pl.Series([None], dtype=pl.String))
                found = found.with_columns(found[name].fill_null(plain.cast(pl.Float64)))
                odd &= ~commas
                signs[","] = commas
            if odd.any():
                wrong.setdefault(int(odd.arg_max() or 0), place)
        # A look at every cell is dear: none where nothing new can be seen, or no cell has a point.
        look = batch.points and ("." not in marks.signs or not marks.decimal)
        if look and "." in cells[name].str.join().item():
            points = cells[name].str.contains(".", literal=True).fill_null(False)
            signs["."] = points & found[name].is_not_null()
        for sign, where in signs.items():
            _note_sign(table, batch, columns[place], sign, where)
            if not marks.decimal:
                _note_grouped(table, batch, columns[place], where)
            marked[place] = where.to_numpy() | marked.get(place, False)
    if wrong:
        row = min(wrong)
        cell = shown(cells[row, wrong[row]])
        message = f"{cell} is no number: write 1234.5, or leave it empty (or NA, NaN, null, -); "
        message += "text belongs into columns named time, sensor, from or to"
        raise refusal(table.path, message, batch.rows[row], table.header[columns[wrong[row]]])
    exact = found.fill_null(np.nan).to_numpy().reshape(len(batch.rows), len(columns))
    if not marks.decimal:
        _note_whole(table, batch, columns, exact, marked)
    with np.errstate(over="ignore"):
        array = exact if double else exact.astype(np.float32)
    if np.isinf(array).any():
        row, place = np.argwhere(np.isinf(array))[0]
        message = f"{shown(cells[int(row), int(place)])} is too large or infinite: leave it empty"
        raise refusal(table.path, message, batch.rows[row], table.header[columns[place]])
    for place, rounded in enumerate(np.abs(exact - array).T):
        changes = np.abs(np.diff(exact[:, place]))
        changes = changes[changes > 0]  # not of what is missing
        if len(changes) and np.nanmedian(rounded) > np.median(changes) / 10:
            row = int(np.nanargmax(rounded))
            message = f"{shown(cells[row, place])} has more digits than are kept, about seven, and"
            message += " they change from row to row: subtract a constant from the column"
            raise refusal(table.path, message, batch.rows[row], table.header[columns[place]])
    return array


def _note_sign(table: Table, batch: Batch, column: int, sign: str, where: "pl.Series") -> None:
    """Remember the first cell with a decimal sign; refuse the second of two different ones."""
    if sign not in table.marks.signs and where.any():
        row = int(where.arg_max() or 0)
        number, name = batch.rows[row], table.header[column]
        table.marks.signs[sign] = f"{shown(batch.cells[row, str(column)])} (row {number})"
        if len(table.marks.signs) == 2:
            both = " and ".join(table.marks.signs.values())
            message = f"decimal points and commas in one table, {both}: write points only, and"
            message += " nothing between thousands"
            raise refusal(table.path, message, number, name)


def _note_grouped(table: Table, batch: Batch, column: int, where: "pl.Series") -> None:
    """Remember the first cell with three digits behind its mark, or that a mark is decimal."""
    cells, marks = batch.cells[str(column)], table.marks
    if where.any():
        if cells.filter(where).str.contains(_GROUPED).all():
            row = int(where.arg_max() or 0)
            marks.grouped.setdefault(column, (int(batch.rows[row]), cells[row]))
        else:
            marks.decimal = True


def _note_whole(
    table: Table, batch: Batch, columns: Sequence[int], exact: np.ndarray, marked: dict
) -> None:
    """Remember of each column how large the numbers without a mark are."""
    size = np.abs(exact)
    for place, where in marked.items():
        size[where, place] = np.nan
    for place, most in enumerate(np.fmax.reduce(size, axis=0, initial=0)):
        column = columns[place]
        if most >= 1000:
            table.marks.above.add(column)
        elif most >= 1 and column not in table.marks.below:
            row = int(np.nanargmax(size[:, place]))
            cell = batch.cells[row, str(column)]
            table.marks.below[column] = int(batch.rows[row]), cell


def refuse_thousands(table: Table) -> None:
    """Raise DataError if numbers that were read had separators of thousands; after the last row.

    So it is where a column has 1,012 beside 919 but no 1012, and where no number of the table shows
    by more or fewer digits, such as 1,5 or 0,125, that its mark is decimal.
    """
    marks = table.marks
    for column, (row, cell) in marks.grouped.items():
        if marks.decimal or column in marks.above or column not in marks.below:
            continue
        other, whole = marks.below[column]
        sign = "." if "." in cell else ","
        message = f"{shown(cell)} beside {shown(whole)} (row {other}) has a separator of thousands:"
        message += f" write {cell.replace(sign, '')}, or {cell}0 if the mark is decimal"
        raise refusal(table.path, message, row, table.header[column])
