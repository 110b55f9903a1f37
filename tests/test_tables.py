"""A city of one's own: tables and folders become series, by the rules of docs/own_data.md."""

import datetime
import gzip
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cityjax.data import cells
from cityjax.data.files import DataError
from cityjax.data.series import Series
from cityjax.data.tables import find_tables, read_series, write_series

NAN = float("nan")


def put(folder, files):
    """A folder with these files; text is written as UTF-8, frames as Parquet."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        if isinstance(content, pl.DataFrame):
            content.write_parquet(folder / name)
        else:
            data = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def read(tmp_path):
    """Read a folder of files, or one table's content."""

    def read(content, **files):
        if not isinstance(content, dict):
            content = {"values.csv": content}
        shutil.rmtree(tmp_path / "city", ignore_errors=True)
        return read_series(put(tmp_path / "city", {**content, **files}))

    return read


@pytest.fixture
def refused(read):
    """The message that a folder of files is refused with."""

    def refused(content, **files):
        with pytest.raises(DataError) as caught:
            read(content, **files)
        message = str(caught.value)
        assert message.isprintable()  # one line
        return message

    return refused


def hours(*values, start="2024-03-01 00:00", header="time,a"):
    """A table of hourly rows, the cells after the time as given."""
    first = datetime.datetime.fromisoformat(start)
    times = [first + datetime.timedelta(hours=hour) for hour in range(len(values))]
    return "\n".join([header, *(f"{t},{v}" for t, v in zip(times, values, strict=True))]) + "\n"


def times(series):
    return [str(time)[5:16] for time in series.time]


def same(one, other):
    """Every field equal to the bit, NaN where NaN."""
    for name, left, right in zip(Series._fields, one, other, strict=True):
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)
        elif isinstance(left, dict):
            assert list(left) == list(right)
            for key in left:
                assert left[key].dtype == right[key].dtype
                np.testing.assert_array_equal(left[key], right[key], err_msg=key)
        else:
            assert left == right, name


WIDE = hours("1,2.5", "3,", "-4e0,NA", header="time,b,00123")
LONG = (
    "station,time,flow\nb,2024-03-01T00:00,1\nb,2024-03-01T01:00,3\nb,2024-03-01T02:00,-4\n"
    "00123,2024-03-01T00:00,2.5\n"
)


# Layouts.


def test_a_wide_table_has_a_column_per_sensor(read):
    series = read(WIDE)
    np.testing.assert_array_equal(series.values, np.float32([[1, 2.5], [3, NAN], [-4, NAN]]))
    assert series.sensors == ("b", "00123") and series.step == 3600 and series.unit == ""
    assert series.time.dtype == "datetime64[s]" and times(series)[2] == "03-01T02:00"
    assert series.values.dtype == np.float32 and not series.past and not series.known
    assert series.adjacency is None and series.coordinates is None


def test_a_long_table_has_a_row_per_time_and_sensor(read):
    series = read(LONG)
    assert series.sensors == ("00123", "b")  # in the order of their names, whatever that of rows
    expected = np.float32([[2.5, 1], [NAN, 3], [NAN, -4]])
    np.testing.assert_array_equal(series.values, expected)


@pytest.mark.parametrize("text", [WIDE, LONG])
def test_csv_gzip_and_parquet_read_alike(read, tmp_path, text):
    expected = read(text)
    same(read_series(str(tmp_path / "city" / "values.csv")), expected)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    same(read_series(tmp_path / "a.csv.gz"), expected)
    frame = pl.read_csv(text.encode(), null_values=["NA"], schema_overrides={"station": pl.String})
    frame = frame.with_columns(pl.col("time").str.to_datetime())
    frame.write_parquet(tmp_path / "a.parquet")
    same(read_series(tmp_path / "a.parquet"), expected)


@pytest.mark.parametrize(
    "name", ["a b.csv", "x=1,(é)[*].csv", "it's~{}.csv.gz", "x=1[*]é .parquet"]
)
def test_paths_may_hold_any_character(tmp_path, name):
    folder = tmp_path / "key=value [2024] (ü)"
    content = pl.DataFrame({"time": ["2024-03-01", "2024-03-02"], "a": [1, 2]})
    text = content.write_csv().encode()
    packed = gzip.compress(text) if name.endswith("gz") else text
    put(folder, {name: content if name.endswith("parquet") else packed})
    for path in (folder, folder / name):
        assert read_series(path).values.tolist() == [[1], [2]]


def test_a_parquet_file_holds_times_of_every_type(read):
    moments = pl.Series([datetime.datetime(2024, 7, 1, hour) for hour in (0, 1)])
    zoned = moments.dt.replace_time_zone("Europe/Berlin")
    flags = pl.Series([True, None])
    for time in (moments, moments.cast(pl.Datetime("ns")), zoned, zoned.dt.epoch("s") + 7200):
        series = read({"values.parquet": pl.DataFrame({"time": time, "a": flags, "b": [1, 2]})})
        assert times(series) == ["07-01T00:00", "07-01T01:00"]
        np.testing.assert_array_equal(series.values, [[1, 1], [NAN, 2]])
    dates = moments.cast(pl.Date) + pl.Series([datetime.timedelta(days=d) for d in (0, 1)])
    assert read({"values.parquet": pl.DataFrame({"date": dates, "b": [1, 2]})}).step == 86_400


@pytest.mark.parametrize("size", [8, 40, 100])
@pytest.mark.parametrize("text", [WIDE, LONG])
def test_the_size_of_a_batch_changes_nothing(read, monkeypatch, tmp_path, text, size):
    expected = read(text)
    frame = pl.read_csv(text.encode(), infer_schema=False)
    put(tmp_path / "parquet", {"values.parquet": frame})
    bad = tmp_path / "bad.csv"
    bad.write_text(text + text.splitlines()[-1].replace("02:00", "03:00") + "x\n")
    monkeypatch.setattr(cells, "BATCH", size)
    same(read(text), expected)
    same(read_series(tmp_path / "parquet"), expected)
    with pytest.raises(DataError, match=f"row {text.count(chr(10)) + 1}, column"):
        read_series(bad)


def test_a_line_without_end_is_not_held(tmp_path, monkeypatch):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"time,a\n" + b"1" * 1_000_000))
    monkeypatch.setattr(cells, "BATCH", 1_000)
    with pytest.raises(DataError, match="row 2: the row is longer than 8000 characters"):
        read_series(tmp_path / "a.csv.gz")


# Text.

PLAIN = "time,a,b\n2024-03-01,1.5,2\n2024-03-02,,4\n"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.rstrip("\n"),
        "\n\n" + PLAIN.replace("\n", "\n\n"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        '\ufeff"sep=\t"\r\n' + PLAIN.replace(",", "\t"),
        PLAIN + ",,\n , ,\n",
        PLAIN.replace(",", " ; "),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", ";").replace(".", ","),
        re.sub(r"([^,\n]+)", r'"\1"', PLAIN),
        PLAIN.replace("time,a,b", '"time","a","b"'),
        PLAIN.replace("time", "Date Time"),
        PLAIN.replace("time", "when"),
        PLAIN.replace("time", "5 Minutes"),
    ],
)
def test_every_spelling_of_a_table_reads_alike(read, text):
    same(read(text), read(PLAIN))


def test_names_of_sensors_are_text_as_it_stands(read):
    series = read('time,00123,"a, ""b""",é\n2024-03-01,1,2,3\n2024-03-02,1,2,3\n')
    assert series.sensors == ("00123", 'a, "b"', "é")


@pytest.mark.parametrize(
    "cell", ["", "NA", "n/a", "#N/A", "NaN", "nan", "NULL", "None", "-", " ", '""']
)
def test_a_missing_cell_is_missing(read, cell):
    np.testing.assert_array_equal(read(hours("1", cell, "2")).values[:, 0], [1, NAN, 2])


@pytest.mark.parametrize("cell", ["x", "1.2.3", "1 000", '"1,5"', "0x1", "5%", "true", "--", "१"])
def test_any_other_cell_is_refused_with_row_column_and_remedy(refused, cell):
    message = refused(hours("1,2", f"3,{cell}", "5,6", header="time,a,b"))
    shown = cell.strip('"')
    assert f"values.csv, row 3, column 'b': '{shown}' is no number: write 1234.5" in message


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e39"])
def test_infinity_is_refused(refused, cell):
    assert f"row 3, column 'a': '{cell}' is too large or infinite" in refused(hours(1, cell))


def test_decimal_commas_and_points_do_not_mix(refused):
    text = "time;a;b\n2024-03-01;1.500;2\n2024-03-02;3;2,5\n"
    message = refused(text)
    assert "row 3, column 'b': decimal points and commas in one table" in message
    assert (
        "'1.500' (row 2) and '2,5' (row 3): write points only, and nothing between thousands"
        in message
    )
    assert "'1.234,5' is no number" in refused("time;a\n2024-03-01;1.234,5\n2024-03-02;1\n")


def days(*values, separator=","):
    """A table of daily rows of one sensor, separated as given."""
    rows = [f"2024-03-0{day}{separator}{value}\n" for day, value in enumerate(values, start=1)]
    return "".join([f"time{separator}a\n", *rows])


@pytest.mark.parametrize("size", [8, 1 << 23])
@pytest.mark.parametrize(("separator", "sign"), [(",", "."), (";", "."), (";", ","), ("\t", ",")])
@pytest.mark.parametrize(
    ("values", "grouped", "other"),
    [("919 1,012 1,004", 3, 2), ("-1,012 0 -7", 2, 4), ("12,000 NA 999 1,010", 2, 4)],
)
def test_separators_of_thousands_are_refused(
    refused, monkeypatch, values, grouped, other, separator, sign, size
):
    monkeypatch.setattr(cells, "BATCH", size)
    values = values.replace(",", sign).split()
    message = refused(days(*values, separator=separator))
    cell, whole = values[grouped - 2], values[other - 2]
    assert f"row {grouped}, column 'a': '{cell}' beside '{whole}' (row {other})" in message
    assert f"write {cell.replace(sign, '')}, or {cell}0 if the mark is decimal" in message


@pytest.mark.parametrize(
    "values",
    [
        "1.012 0.919 12.345",  # a fixed number of decimals
        "1.012 1.919 0",  # but for zeros
        "1.012 919 1.5",  # no zeros at the end
        "1.012 919 1.0120",
        "-1.012 919 0.125",
        "1.012 919 1012.345",
        "1.012 919 1919",  # a thousand without a separator
    ],
)
@pytest.mark.parametrize("sign", [".", ","])
@pytest.mark.parametrize("size", [8, 1 << 23])
def test_decimals_of_three_digits_are_read(read, monkeypatch, values, sign, size):
    monkeypatch.setattr(cells, "BATCH", size)
    series = read(days(*values.replace(".", sign).split(), separator=";"))
    np.testing.assert_array_equal(series.values[:, 0], np.float32(values.split()))


def test_one_decimal_shows_what_the_marks_of_a_table_are(read):
    series = read(hours("1.012,919", "919,2.5", header="time,a,b"))
    np.testing.assert_array_equal(series.values, np.float32([[1.012, 919], [919, 2.5]]))
    # What has no mark in a column of its own says nothing: cars, and their speed.
    series = read(hours("1.012,919", "1.919,12", header="time,a,b"))
    np.testing.assert_array_equal(series.values, np.float32([[1.012, 919], [1.919, 12]]))


def test_distances_have_no_separators_of_thousands(refused):
    message = refused(THREE, **{"distances.csv": "from;to;distance\na;b;1,012\nb;c;919\n"})
    assert "distances.csv, row 2, column 'distance': '1,012' beside '919' (row 3)" in message
    message = refused(THREE, **{"adjacency.csv": "a;b;c\n1;1,012;3\n1;2;4\n1;7;9\n"})
    assert "adjacency.csv, row 2, column 'b': '1,012' beside '7' (row 4)" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the table is empty"),
        ("\n\n", "the table is empty"),
        ("time,a\n", "the table has no rows"),
        ("time\n2024-03-01\n", "time and values are needed"),
        ("time,a,a\n2024-03-01,1,2\n", "two columns are named 'a'"),
        ("time,a,\n2024-03-01,1,2\n", "column 3 is named '': give it a name, or remove it"),
        ("Unnamed: 0,time,a\n0,2024-03-01,1\n", "column 1 is named 'Unnamed: 0'"),
        ("time,\u200b\n2024-03-01,1\n", "column 2 is named '\\u200b'"),
        (",time,a\n0,2024-03-01,1\n", "column 1 is named ''"),
        ("time,a\n2024-03-01,1\n2024-03-02\n", "row 3: 1 cells where the first row has 2"),
        ("time,a\n2024-03-01,1\n2024-03-02,1,2\n", "row 3: 3 cells where the first row has 2"),
        ('time,a\n2024-03-01,1\n2024-03-02,"1\n', "row 3: the quotes of a cell do not close"),
        ('time,a\n2024-03-01,1\n2024-03-02,"\n1"\n', "row 3: the quotes of a cell"),
        ("time,a\n2024-03-01,1\n,2\n", "row 3, column 'time': the cell is empty"),
        ("time,sensor,v\n2024-03-01,,2\n", "row 2, column 'sensor': the cell is empty"),
        ("time,sensor,v,w\n2024-03-01,a,2,3\n", "beside time and sensor there are 'v', 'w'"),
        ("64,65\n64.5,66\n", "'64' is no name: the first row names the columns, one of them"),
        ("2024-03-01,1\n2024-03-02,2\n", "'2024-03-01' is no name: the first row names"),
        ("2024-03-01T00:00Z;1\n", "'2024-03-01T00:00Z' is no name"),
        ("hour,speed\n0:00,1\n", "'0:00' is no time"),
        ("time,ä\n2024-03-01,1\n".encode("utf-16"), "row 1: the text is not UTF-8"),
        ("time,a\n2024-03-01,1\n2024-03-02,ä\n".encode("latin-1"), "row 3: the text is not UTF-8"),
        ("time,a\n2024-03-01,1\n", "one time has no step"),
    ],
)
def test_a_broken_table_is_refused(refused, text, part):
    assert part in refused(text)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.parquet"])
def test_a_damaged_file_is_refused(tmp_path, name):
    frame = pl.DataFrame({"time": ["2024-03-01", "2024-03-02"], "a": [1, 2]})
    put(tmp_path, {name: frame if "parquet" in name else gzip.compress(frame.write_csv().encode())})
    whole = (tmp_path / name).read_bytes()
    for content in (b"", b"no such thing", whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=re.escape(name)):
            read_series(tmp_path / name)


def test_columns_of_other_types_are_refused(refused):
    frame = pl.DataFrame({"time": ["2024-03-01", "2024-03-02"], "a": [[1], [2]]})
    assert "columns hold numbers, text or times" in refused({"values.parquet": frame})


# Times.


@pytest.mark.parametrize(
    "written",
    [
        ["2024-03-13 12:30", "2024-03-13 13:30"],
        ["2024-03-13T12:30:00.000", "2024-03-13T13:30:00"],
        ["2024/3/13 12:30", "2024/3/13 13:30"],
        ["13.03.2024 12:30", "13.03.2024 13:30"],
        ["3/13/2024 12:30:00 PM", "03/13/2024 1:30:00 pm"],
        ["13-Mar-2024 12:30", "13 March 2024 13:30"],
        ['"March 13, 2024 12:30:00 PM"', '"MAR. 13 2024 1:30 PM"'],
        ["2024-03-13T12:30Z", "2024-03-13T13:30Z"],
        ["2024-03-13T12:30+05:30", "2024-03-13 13:30:00 +0530"],
        ["1710333000", "1710336600"],
        ["1710333000.0", "1710336600.0"],
        ["1710333000000", "1710336600000"],
    ],
)
def test_forms_of_time(read, written):
    series = read("time,a\n" + "".join(f"{time},1\n" for time in written))
    assert times(series) == ["03-13T12:30", "03-13T13:30"] and series.step == 3600


@pytest.mark.parametrize("names", ["date,time,a", "Time,Date,a", "date,hour,a", "a,hour,date"])
def test_a_date_and_a_time_of_day_are_one_time(read, refused, names):
    cells = {"date": "13.03.2024", "a": "1"}
    text = names + "\n"
    for hour in (0, 1, 2):
        cells["time"], cells["hour"] = f"{hour}:00", f"{hour:02}"
        text += ",".join(cells[name.lower()] for name in names.split(",")) + "\n"
    series = read(text)
    assert times(series) == [f"03-13T0{hour}:00" for hour in (0, 1, 2)] and series.sensors == ("a",)
    assert "row 2, column " in refused(text.replace("13.03", "13.13"))


def test_dates_and_hours_may_be_digits_alone(read):
    assert times(read("date,a\n20240313,1\n20240314,1\n"))[0] == "03-13T00:00"
    assert times(read("time,a\n2024031312,1\n2024031313,1\n"))[1] == "03-13T13:00"
    # What cannot all be so is seconds: 2024031360 has no such hour.
    assert str(read("time,a\n2024031312,1\n2024031360,1\n").time[0]) == "2034-02-20T06:55:12"


@pytest.mark.parametrize(
    ("rows", "row", "part"),
    [
        (["01/02/2024", "03/04/2024"], 2, "'01/02/2024' may be day or month first"),
        (["13/02/2024", "02/13/2024"], 3, "is no date with the day first"),
        (["2024-02-30", "2024-03-01"], 2, "'2024-02-30' does not exist"),
        (["2024-03-01", "2024-03-01 24:00"], 3, "24 o'clock is 00:00 of the next day"),
        (["2024-03-01", "2024-03-01 13:00 PM"], 3, "does not exist"),
        (["2024-03-01", "02.03.2024"], 3, "is written otherwise than '2024-03-01'"),
        (["2024-03-01 00:00", "2024-03-01 01:00Z"], 3, "is written otherwise"),
        (["20240301", "20240332"], 2, "'20240301' is no time: write 2024-12-31 23:00"),
        (["2024-03-01 00:00:00.5", "2024-03-01 00:00:01.5"], 2, "lies between two seconds"),
        (["1/2/24", "2/2/24"], 2, "is no time: write 2024-12-31 23:00"),
        (["1/2/24", "2/2/24"], 2, "; write a year with four digits"),
        (["1-Jan-24 10:00", "2-Jan-24 10:00"], 2, "; write a year with four digits"),
        (["2024-W05", "2024-W06"], 2, "; of a week write its first day"),
        (["2024-01", "2024-02"], 2, "; months are no regular step, give values by day or week"),
        (["2024", "2025"], 2, "; write day, month and year into one column"),
        (["2024-01-01 00:00 - 2024-01-01 01:00"] * 2, 2, "; of an interval write its begin"),
        (["1 Mar 2024", "2 Mai 2024"], 3, "'2 Mai 2024' is no time"),
        (["29 Feb 2024", "30 Feb 2024"], 3, "'30 Feb 2024' does not exist"),
        (["2024022923", "2024023023"], 3, "'2024023023' does not exist"),
        (["1-Mar-20245 10:00", "1-Mar-20245 11:00"], 2, "is no time"),
        (["Marble 5 2024", "Marble 6 2024"], 2, "is no time"),
        (["1 Mar 2024", "2024-03-02"], 2, "'1 Mar 2024' is no time"),
    ],
)
def test_other_times_are_refused(refused, rows, row, part):
    message = refused("time,a\n" + "".join(f"{time},1\n" for time in rows))
    assert f"row {row}, column 'time': " in message and part in message


def test_every_month_has_its_name(read):
    days = [datetime.date(2024, month, 1) for month in range(1, 13)]
    for form in ("%d %b %Y", "%d-%B-%Y", '"%B %d, %Y"', "%b. %d %Y"):
        text = "date,a\n" + "".join(f"{day.strftime(form)},1\n" for day in days)
        found = read(text, **{"city.yaml": "step: 86400"})
        there = found.time[found.observed[:, 0]]
        assert [str(time)[:10] for time in there] == [str(day) for day in days]


def test_values_without_times_begin_at_the_start_of_city_yaml(read, refused):
    values = "90217,90218\n1,2\n3,\n5,6\n"
    city = "start: 2015-01-31 23:45\nstep: 900\n"
    series = read(values, **{"city.yaml": city, "adjacency.csv": "1,0.5\n0,1\n"})
    assert series.sensors == ("90217", "90218") and series.step == 900
    assert times(series) == ["01-31T23:45", "02-01T00:00", "02-01T00:15"]
    np.testing.assert_array_equal(series.values, [[1, 2], [3, NAN], [5, 6]])
    np.testing.assert_array_equal(series.adjacency, [[1, 0.5], [0, 1]])
    # With an offset, on the clock of the place, whose summer begins.
    city = "start: 2024-03-31T00:00Z\nstep: 3600\ntimezone: Europe/Berlin\n"
    assert times(read(values, **{"city.yaml": city})) == [f"03-31T0{h}:00" for h in (1, 2, 3, 4)]
    # Without a zone the clock is kept as it is written.
    for start in ("2024-10-27T00:00+02:00", "2024-10-27 00:00", "27-Oct-2024 00:00 -0430"):
        city = f"start: {start}\nstep: 3600\n"
        assert times(read(values, **{"city.yaml": city}))[:2] == ["10-27T00:00", "10-27T01:00"]
    told = "start: 2024-03-31 01:00\nstep: 3600\ntimezone: Europe/Berlin\n"
    assert "values.csv, row 3: 2024-03-31 02:00:00 is left out" in refused(
        values, **{"city.yaml": told}
    )
    for table in (hours(1, 2), "station,value\na,1\nb,1\n"):
        message = refused(table, **{"city.yaml": city})
        assert "start of city.yaml is for a wide table without times" in message
    for first in ("61.5", "-1", "2e3", "NA", "1709251200"):
        message = refused(f"{first},60\n1,2\n3,4\n", **{"city.yaml": city})
        assert f"{first!r} is no name: the first row names the columns" in message
    # A blank row would move those after it.
    for blank, row in (("1,2\n,\n5,6\n", 3), ("\n1,2\n", 2), ("1,2\n\n5,6\n", 3)):
        message = refused(f"a,b\n{blank}", **{"city.yaml": city})
        assert f"values.csv, row {row}: the row is blank" in message
    assert times(read("\n\na,b\n1,2\n3,4\n", **{"city.yaml": city}))[0] == "10-27T00:00"
    message = refused("\n\na,b\n1,2\n\n5,6\n", **{"city.yaml": city})
    assert "values.csv, row 5: the row is blank" in message
    message = refused(values, **{"city.yaml": "start: 9999-12-31 22:00\nstep: 3600\n"})
    assert "3 rows, 3600 s apart, from '9999-12-31 22:00' on go beyond the year 9999" in message
    gap = read("a,b\n1,2\nNA,NA\n5,6\n", **{"city.yaml": city})
    np.testing.assert_array_equal(gap.values, [[1, 2], [NAN, NAN], [5, 6]])
    assert "or give start and step in city.yaml" in refused(values)


def test_the_order_of_day_and_month_is_that_in_which_every_date_exists(read):
    days = [f"{month:02}/{day:02}/2024" for month, day in ((3, 12), (3, 13))]
    assert times(read("time,a\n" + "".join(f"{day},1\n" for day in days)))[0] == "03-12T00:00"


def test_dates_with_dots_have_the_day_first(read, refused):
    assert times(read("time,a\n01.02.2024,1\n02.02.2024,1\n"))[0] == "02-01T00:00"
    assert "row 2, column 'time': '02.13.2024' does not exist" in refused("time,a\n02.13.2024,1\n")


def test_rows_may_be_in_any_order(read):
    lines = WIDE.splitlines()
    same(read("\n".join([lines[0], *lines[:0:-1]])), read(WIDE))


OFFSETS = (
    "time,a\n2024-10-27T01:00+02:00,1\n2024-10-27T02:00+02:00,2\n2024-10-27T02:00+01:00,4\n"
    "2024-10-27T03:00+01:00,5\n"
)


def test_offsets_are_converted_to_the_clock_of_the_city(read):
    city = {"city.yaml": "timezone: America/New_York"}
    series = read({"values.csv": OFFSETS, **city})
    assert times(series) == ["10-26T19:00", "10-26T20:00", "10-26T21:00", "10-26T22:00"]
    assert series.values[:, 0].tolist() == [1, 2, 4, 5]
    # Without offset the text is that clock already.
    assert times(read({"values.csv": hours(1, 2), **city}))[0] == "03-01T00:00"


@pytest.mark.parametrize("city", ["", "timezone: Europe/Berlin"])
def test_the_hour_that_autumn_repeats_is_averaged_where_offsets_tell(read, city):
    series = read({"values.csv": OFFSETS, "city.yaml": city})
    assert times(series) == ["10-27T01:00", "10-27T02:00", "10-27T03:00"]
    assert series.values[:, 0].tolist() == [1, 3, 5]
    text = OFFSETS.replace("+01:00,4", "+01:00,")  # one of the two is missing
    assert read({"values.csv": text, "city.yaml": city}).values[:, 0].tolist() == [1, 2, 5]


def test_the_hour_that_autumn_repeats_is_averaged_where_it_may_be_so(read, refused):
    text = hours(1, 2, 4, start="2024-10-27 01:00")
    twice = text + "2024-10-27 02:00,5\n"
    assert read(twice).values[:, 0].tolist() == [1, 3.5, 4]
    next_day = text.replace("time,a\n", "").replace("2024-10-27", "2024-10-28")
    one = refused(twice + next_day + "2024-10-28 02:00,7\n")  # a second hour of one year
    assert "2024-10-27 02:00:00 has another value in row 3: keep one" in one
    assert "row 5, column 'a'" in one
    for start in ("2024-10-27 11:00", "2024-06-12 01:00"):  # when no clock goes back
        again = start.replace("1:00", "2:00")
        assert "has another value in row 3" in refused(hours(1, 2, 4, start=start) + f"{again},5\n")
    days = "time,a\n2024-10-27,1\n2024-10-28,1\n2024-10-28,2\n"
    assert "row 4, column 'a': 2024-10-28 00:00:00 has another value in row 3" in refused(days)


@pytest.mark.parametrize(
    "zone, night, averaged",
    [
        ("Europe/Berlin", "2024-10-27", True),
        ("Europe/Berlin", "2024-11-03", False),
        ("America/New_York", "2024-11-03", False),  # there it is the hour before
        ("Asia/Tokyo", "2024-10-27", False),
    ],
)
def test_an_hour_that_comes_twice_is_one_that_the_clock_of_the_place_repeats(
    read, refused, zone, night, averaged
):
    files = {
        "values.csv": hours(1, 2, 4, start=f"{night} 01:00") + f"{night} 02:00,5\n",
        "city.yaml": f"timezone: {zone}",
    }
    if averaged:
        assert read(files).values[:, 0].tolist() == [1, 3.5, 4]
    else:
        assert f"only the hour that a clock of {zone} repeats" in refused(files)


def test_the_hour_that_spring_leaves_out_is_a_missing_row(read):
    text = "time,a\n2024-03-31T01:00+01:00,1\n2024-03-31T03:00+02:00,2\n2024-03-31T04:00+02:00,3\n"
    for city in ("", "timezone: Europe/Berlin"):
        series = read({"values.csv": text, "city.yaml": city})
        assert times(series) == [f"03-31T0{hour}:00" for hour in (1, 2, 3, 4)]
        np.testing.assert_array_equal(series.values[:, 0], [1, NAN, 2, 3])


def test_rows_of_one_moment_are_one_row_or_refused(read, refused):
    lines = hours("1,", "2,3", "4,5", header="time,a,b").splitlines()
    series = read("\n".join([*lines, lines[2], "2024-03-01 00:00,,7"]))
    np.testing.assert_array_equal(series.values, [[1, 7], [2, 3], [4, 5]])
    epochs = "time,a\n1710333000,1\n1710336600,2\n1710336600,2\n1710336600,3\n"
    message = refused(epochs)  # the offset is known: no repeated hour
    assert "row 5, column 'a': 2024-03-13 13:30:00 has another value in row 3" in message


def test_rows_of_one_moment_and_sensor_in_a_long_table(read, refused):
    same(read(LONG + "00123,2024-03-01T00:00,2.5\n"), read(LONG))
    message = refused(LONG + "b,2024-03-01T02:00,4\n" + "b,2024-03-01T00:00,4\n")
    assert "row 7, column 'flow': 2024-03-01 00:00:00 of 'b' has another value in row 2" in message


def test_the_step_is_the_most_common_difference_and_gaps_are_missing_rows(read):
    series = read("time,a\n2024-03-01 00:10,1\n2024-03-01 00:15,2\n2024-03-01 00:30,4\n")
    assert series.step == 300  # as common as 900, and smaller
    np.testing.assert_array_equal(series.values[:, 0], [1, 2, NAN, NAN, 4])
    assert read(hours(1, 2, 3), **{"city.yaml": "step: 1800"}).values.shape == (5, 1)
    assert read(hours(1), **{"city.yaml": "step: 1800"}).step == 1800


def test_rows_off_the_grid_are_refused(refused):
    message = refused(hours(*range(5)) + "2024-03-01 05:10,1\n")
    where = "row 7, column 'time': 2024-03-01 05:10:00 is off the grid of 3600 s that"
    assert f"{where} most rows keep" in message
    asked = {"city.yaml": "step: 3600"}
    assert f"{where} city.yaml asks for" in refused(
        hours(*range(5)) + "2024-03-01 05:10,1\n", **asked
    )
    six = "time,a\n" + "".join(
        f"2024-{day} {hour:02}:00Z,1\n" for day in ("03-30", "03-31") for hour in (0, 6, 12, 18)
    )
    message = refused(six, **{"city.yaml": "timezone: Europe/Berlin"})
    assert "on the clock of Europe/Berlin, is off the grid of 21600 s" in message


def test_times_that_keep_no_step_are_refused(refused):
    minutes = (0, 7, 14, 22, 31, 43, 59)
    message = refused("time,a\n" + "".join(f"2024-03-01 00:{m:02},1\n" for m in minutes))
    assert "row 5, column 'time': the times keep no step" in message
    assert "the one that is the most common, 420 s, fits 3 of 7 rows: bring them to" in message
    message = refused(
        "time,a\n" + "".join(f"2024-03-01 {m:02}:{m:02}Z,1\n" for m in range(9)),
        **{"city.yaml": "step: 7200\ntimezone: Europe/Berlin"},
    )
    assert "the times, on the clock of Europe/Berlin, keep no step: the one of" in message
    assert "of city.yaml, 7200 s, fits 1 of 9 rows" in message


def test_a_mistaken_year_is_refused_and_no_empty_decades_are_made(refused):
    message = refused(hours(*range(5)) + "2204-03-01 05:00,1\n")
    assert "row 7, column 'time': no row between 2024-03-01 04:00:00 and 2204-03-01" in message


def test_a_table_of_strangers_is_refused_before_it_fills_the_memory(refused):
    rows = [f"{1_700_000_000 + 60 * k},s{k},1\n" for k in range(11_000)]
    rows.append("1700000060,s0,1\n")
    message = refused("time,sensor,value\n" + "".join(rows))
    assert "11000 times by 11000 sensors, of which 11001 are there" in message


def test_sensors_without_any_value_are_refused_by_name(refused):
    message = refused(hours("1,NA,", "2,-,", header="time,a,b,c"))
    assert message.endswith(
        "values.csv: no value at all of 'b', 'c': remove what was never measured"
    )


# Folders.

BASE = hours("1,2", "3,4", "5,6", header="time,a,b")


def test_the_only_table_of_a_folder_holds_the_values(read):
    same(read({"Flow 2024.csv": BASE, "README.md": "#", ".hidden.csv": "x"}), read(BASE))


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({}, "no table of values: put values.csv"),
        ({"values.tsv": BASE}, "no table of values among 'values.tsv': put values.csv"),
        ({"a.csv": BASE, "b.csv": BASE}, "'a.csv' is none of the tables of a city"),
        ({"values.csv": BASE, "sensor.csv": ""}, "rename it, perhaps sensors"),
        ({"values.csv": BASE, "values.parquet": ""}, "values.csv and values.parquet are two"),
        ({"values.csv": BASE, "edges.csv": "", "adjacency.csv": ""}, "each describe the graph"),
    ],
)
def test_folders_that_are_not_clear_are_refused(refused, files, part):
    assert part in refused(files)


def test_what_is_not_there_or_no_table_is_refused(tmp_path):
    for name in ("absent", "absent.csv", "x" * 300, "nul\0"):
        with pytest.raises(DataError, match="there is no such file or folder"):
            read_series(tmp_path / name)
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"a.xlsx: is no table: .csv, .csv.gz, .parquet"):
        read_series(tmp_path / "a.xlsx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_refused(tmp_path):
    path = put(tmp_path / "city", {"values.csv": BASE}) / "values.csv"
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        read_series(path)


def test_the_files_of_a_city_are_named_by_role(tmp_path):
    folder = put(tmp_path / "city", {"flow.csv": BASE, "city.yaml": "", "known.csv.gz": b""})
    found = {"values": "flow.csv", "city": "city.yaml", "known": "known.csv.gz"}
    assert find_tables(folder) == {role: folder / name for role, name in found.items()}


def test_city_yaml_is_text(read):
    series = read(BASE, **{"city.yaml": "unit: 1\ncountry: NO\n"})  # Norway is not false
    assert series.unit == "1" and set(series.known) == {"holiday"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("units: km/h", "'units' is no key (unit?): unit, timezone, step, start"),
        ("unit: [1]", "holds lines of `key: value`"),
        ("- unit", "holds lines of `key: value`"),
        ("a: b: c", "city.yaml, row 1: is no YAML text"),
        ("[" * 3_000, "is no YAML text"),
        ("unit: a\nstep: 60\nunit: b", "unit is given twice: keep one"),
        ("step: 1h", "step: '1h' is no number of seconds"),
        ("start: 2024-03-01", "start needs the step between rows: add step, in seconds"),
        ("start: noon\nstep: 60", "start: 'noon' is no time: write 2024-12-31 23:00"),
        ("step: 0", "step: '0' is no number of seconds"),
        ("timezone: Mars/Base", "timezone 'Mars/Base' is unknown: name one such as Europe/Berlin"),
        ("country: Atlantis", "country 'Atlantis' is unknown: give its ISO code"),
        ("country: DE\nsubdivision: CA", "subdivision 'CA' is unknown: '"),
        ("subdivision: CA", "subdivision needs its country"),
    ],
)
def test_a_wrong_city_yaml_is_refused(refused, text, part):
    assert part in refused(BASE, **{"city.yaml": text})


# Sensors and graphs.


def test_the_sensor_table_gives_order_and_coordinates(read):
    text = "index,Sensor ID,Longitude,Latitude\n0,b,13.5,52.25\n1,other,,\n2,a,-0.5,-90\n"
    series = read(BASE, **{"sensors.csv": text})
    assert series.sensors == ("b", "a") and series.values[0].tolist() == [2, 1]
    assert series.coordinates is not None and series.coordinates.dtype == np.float64
    assert series.coordinates.tolist() == [[52.25, 13.5], [-90, -0.5]]
    assert read(BASE, **{"sensors.csv": "id\na\nb\n"}).coordinates is None


def test_the_sensor_table_orders_a_long_table(read):
    series = read(LONG, **{"sensors.csv": "id,lat,lon\nb,1,2\nother,9,9\n00123,3,4\n"})
    assert series.sensors == ("b", "00123") and series.values[0].tolist() == [1, 2.5]
    assert series.coordinates is not None and series.coordinates.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("id,lat,lon\na,1,2\nc,1,2\n", "'b' of the values not here: name all sensors alike"),
        ("id,lat,lon\na,1,2\nb,1,2\na,1,2\n", "row 4: 'a' is named twice: keep one"),
        (
            "id,lat,lon\na,1,2\nb,91,2\n",
            "row 3, column 'lat': '91' is no degrees: a latitude lies within",
        ),
        (
            "id,lat,lon\na,1,2\nb,1,\n",
            "row 3, column 'lon': an empty cell is no degrees: a latitude lies within",
        ),
        ("id,lat\na,1\nb,1\n", "lat and lon are needed"),
        ("a,1,2\nb,1,3\n", "id, lat and lon are needed"),
    ],
)
def test_a_wrong_sensor_table_is_refused(refused, text, part):
    message = refused(BASE, **{"sensors.csv": text})
    assert "sensors.csv" in message and part in message


@pytest.mark.parametrize(
    "text",
    [
        "0,0.5\n2,1\n",
        "a,b\n0,0.5\n2,1\n",
        "b,a\n1,2\n0.5,0\n",
        ",b,a\nb,1,2\na,0.5,0\n",
        "b,other,a\n1,7,2\n7,7,7\n0.5,7,0\n",
    ],
)
def test_a_matrix_is_read_by_its_names_or_in_order(read, text):
    adjacency = read(BASE, **{"adjacency.csv": text}).adjacency
    assert adjacency.dtype == np.float32 and adjacency.tolist() == [[0, 0.5], [2, 1]]


def test_a_matrix_of_equal_rows_is_no_table_of_equal_names(read):
    same_twice = hours("1,2,3", "4,5,6", header="time,a,b,c")
    adjacency = read(same_twice, **{"adjacency.csv": "1,0,0\n0,1,0\n0,0,1\n"}).adjacency
    assert adjacency.tolist() == np.eye(3).tolist()


def test_a_matrix_may_be_a_parquet_file(read):
    frame = pl.DataFrame({"b": [1.0, 0.5], "a": [2.0, 0.0]})
    series = read({"values.csv": BASE, "adjacency.parquet": frame})
    assert series.adjacency is not None and series.adjacency.tolist() == [[0, 0.5], [2, 1]]


@pytest.mark.parametrize("text", ["3\n", "a\n3\n", ",a\na,3\n"])
def test_the_matrix_of_one_sensor(read, text):
    assert read(hours(1, 2), **{"adjacency.csv": text}).adjacency.tolist() == [[3]]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1,1,1\n1,2,3\n1,2,3\n", "are no matrix of the 2 sensors: name them there, or write 2 by"),
        ("a,c\n0,1\n1,0\n", "'b' of the values not here"),
        ("a,b,a\n0,1,0\n1,0,0\n1,0,0\n", "'a' is named twice"),
        (",a,b\na,0,1\na,1,0\n", "'b' of the values not here"),
        (
            "0,1\n-1,0\n",
            "row 2, column '1': '-1' is no weight or distance: a number from 0 up is needed",
        ),
        (
            "a,b\n0,1\n1,\n",
            "row 3, column 'b': an empty cell is no weight or distance: a number from 0 up is"
            " needed",
        ),
        ("0,1\nx,0\n", "row 2, column '1': 'x' is no number"),
    ],
)
def test_a_wrong_matrix_is_refused(refused, text, part):
    assert part in refused(BASE, **{"adjacency.csv": text})


def test_a_matrix_without_names_needs_an_order(read, refused):
    matrix = {"adjacency.csv": "0,1\n2,0\n"}
    assert "name the sensors in a header" in refused(LONG, **matrix)
    sensors = {"sensors.csv": "id,lat,lon\nb,1,2\n00123,3,4\n"}
    assert read(LONG, **matrix, **sensors).adjacency.tolist() == [[0, 1], [2, 0]]
    other = {"sensors.csv": "id,lat,lon\nb,1,2\na,3,4\n"}
    assert "name the sensors in a header" in refused(BASE, **matrix, **other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from,to,weight\na,b,0.5\n", 0.5),
        ("weight,to,from\n0.25,b,a\n0.25,b,a\n", 0.25),
        ("a,b,0.5\n", 0.5),
        ("from,to\na,b\n", 1),
        ("a,b\n", 1),
    ],
)
def test_a_list_of_edges_is_directed(read, text, expected):
    assert read(BASE, **{"edges.csv": text}).adjacency.tolist() == [[0, expected], [0, 0]]


THREE = hours("1,2,3", "3,4,5", header="time,a,b,c")


def test_equal_distances_are_equal_weights(read):
    adjacency = read(THREE, **{"distances.csv": "a,b,5\nb,c,5\n"}).adjacency
    assert adjacency.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("header", ["from,to,distance\n", "from,to,cost\n", ""])
def test_distances_become_weights_by_the_kernel_of_dcrnn(read, header):
    rows = "a,b,1\nb,c,2\nc,a,9\na,elsewhere,700\n"  # the last one joins no two of the sensors
    adjacency = read(THREE, **{"distances.csv": header + rows}).adjacency
    sigma = np.std([1, 2, 9])
    expected = np.exp(-np.square([[0, 1, np.inf], [np.inf, 0, 2], [9, np.inf, 0]] / sigma))
    np.testing.assert_allclose(adjacency, expected, rtol=1e-5)
    assert 0 < adjacency[2, 0] < 0.1  # a long road between neighbours is still one


def test_the_distance_of_a_sensor_to_itself_widens_no_kernel(read):
    rows = "a,b,1\nb,c,2\nc,a,9\n"
    alone, both = (
        read(THREE, **{"distances.csv": text}).adjacency
        for text in (rows, rows + "a,a,0\nb,b,0\nc,c,0\n")
    )
    np.testing.assert_array_equal(alone, both)


@pytest.mark.parametrize(("reach", "thinned"), [(2, False), (5, False), (9, True)])
def test_only_a_list_of_many_distances_is_thinned_out(read, reach, thinned):
    names = [f"s{number:02}" for number in range(14)]
    pairs = [(i, j) for i in range(14) for j in range(14) if 0 < abs(i - j) <= reach]
    rows = "".join(f"{names[i]},{names[j]},{abs(i - j) ** 2}\n" for i, j in pairs)
    assert (len(pairs) > 140) == thinned
    values = hours(",".join("1" * 14), header=",".join(["time", *names]))
    found = read(values, **{"distances.csv": "from,to,distance\n" + rows, "city.yaml": "step: 60"})
    weights = found.adjacency[~np.eye(14, dtype=bool)]
    assert (np.count_nonzero(weights) < len(pairs)) == thinned
    assert (weights[weights > 0].min() >= 0.1) == thinned


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("edges.csv", "from,to,weight\na,z,1\n", "no edge of the list joins two of the sensors"),
        ("edges.csv", "from,to,weight\na,b,1\na,b,2\n", "from a to b has two values, 1 and 2"),
        ("distances.csv", "a,b,900\nb,a,901\n", "the distances differ too little"),
        ("distances.csv", "a,b,100\nb,a,180\n", "the distances differ too little"),
        (
            "edges.csv",
            "from,to,weight\na,b,-1\n",
            "row 2, column 'weight': '-1' is no weight or distance: a number from 0 up",
        ),
        ("edges.csv", "from,to,capacity,speed\na,b,1,2\n", "from, to, and weight or"),
        ("edges.csv", "from,weight\na,1\n", "from, to, and weight or distance are needed"),
        ("distances.csv", "from,to\na,b\n", "no column of distances"),
        (
            "distances.csv",
            "from,to,distance\na,b,\n",
            "row 2, column 'distance': an empty cell is no weight or distance: a number from 0",
        ),
    ],
)
def test_a_wrong_list_is_refused(refused, name, text, part):
    assert part in refused(BASE, **{name: text})


# Covariates and holidays.


def test_measured_covariates_are_matched_by_time(read):
    text = hours(7, 8, 9, 10, start="2024-03-01 01:00", header="time,rain")
    series = read(BASE, **{"covariates.csv": text.replace("02:00:00,8", "02:00:00,")})
    np.testing.assert_array_equal(series.past["rain"], np.float32([NAN, 7, NAN]))
    assert series.past["rain"].dtype == np.float32


def test_covariates_of_each_sensor_are_in_their_order(read):
    text = "time,sensor,rain,wind\n2024-03-01 02:00,b,1,2\n2024-03-01 00:00,b,3,4\n"
    past = read(BASE, **{"covariates.csv": text}).past
    np.testing.assert_array_equal(past["rain"], [[NAN, 3], [NAN, NAN], [NAN, 1]])
    np.testing.assert_array_equal(past["wind"], [[NAN, 4], [NAN, NAN], [NAN, 2]])


def test_what_is_known_ahead_holds_for_its_step(read):
    text = "date,term\n2024-03-30,1\n2024-03-31,2\n2024-04-01,3\n"
    series = read(hours(*range(30), start="2024-03-30 20:00"), **{"known.csv": text})
    np.testing.assert_array_equal(series.known["term"], [1] * 4 + [2] * 24 + [3] * 2)


def test_an_hour_that_spring_leaves_out_is_known_by_the_one_before(read):
    zone = ["2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00", "2024-03-31T04:00+02:00"]
    text = "".join(f"{time},{k}\n" for k, time in enumerate(zone))
    series = read("time,a\n" + text, **{"known.csv": "time,k\n" + text})
    assert series.known["k"].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("covariates.csv", hours(1, 2, start="2020-01-01 00:00"), "no row lies in the time"),
        (
            "covariates.csv",
            hours(1, 2, start="2024-03-01 00:30"),
            "row 2: 2024-03-01 00:30:00",
        ),
        ("covariates.csv", hours("x", 2), "covariates.csv, row 2, column 'a': 'x' is no number"),
        ("covariates.csv", hours("a,1", "z,1", header="time,sensor,x"), "'z' not in the values"),
        ("known.csv", hours(1, 2), "no row tells what was known at 2024-03-01 02:00:00"),
        ("known.csv", hours(1, "", 3), "column 'a': has no value at 2024-03-01 01:00:00"),
        (
            "known.csv",
            hours("a,1", "a,1", "a,1", header="time,sensor,x"),
            "column 'x': has no value of 'b' at 2024-03-01 00:00:00",
        ),
    ],
)
def test_covariates_that_do_not_fit_are_refused(refused, name, text, part):
    assert part in refused(BASE, **{name: text})


def test_one_name_has_one_covariate(refused):
    two = {"covariates.csv": hours(1, 2, 3), "sensor_covariates.csv": hours(1, 2, 3)}
    assert "'a' is in covariates.csv too" in refused(BASE, **two)
    two = {"covariates.csv": hours(1, 2, 3), "known.csv": hours(1, 2, 3)}
    message = refused(BASE, **{**two, "sensor_covariates.csv": hours(1, 2, 3, header="time,b")})
    assert "'a' is both measured and known ahead" in message


def test_holidays_are_whole_days(read, refused):
    text = hours(*range(72), start="2024-07-03 00:00")
    days = np.repeat([0, 1, 0], 24)
    fourth = {"holidays.csv": "date,name\n2024-07-04,Fourth\n"}
    np.testing.assert_array_equal(read(text, **fourth).known["holiday"], days)
    early = {"holidays.csv": "date,name\n1924-07-04,Fourth\n"}
    assert "holidays.csv: no day lies in the years of the values" in refused(text, **early)
    bad = {"holidays.csv": "date,name\n2024-07-04,x\n2024-07-32,y\n"}
    assert "holidays.csv, row 3, column 'date': '2024-07-32' does not exist" in refused(text, **bad)
    known = {"known.csv": "date,holiday\n2024-07-03,0\n2024-07-04,1\n2024-07-05,0\n"}
    assert "known has a column holiday too" in refused(text, **fourth, **known)
    measured = {"covariates.csv": known["known.csv"].replace("date", "time")}
    message = refused(text, **fourth, **measured)
    assert "holidays.csv: it makes a covariate holiday, which is measured too: keep one" in message


def test_a_week_has_the_share_of_its_days_that_are_off(read):
    weeks = "date,ward\n" + "".join(f"2024-12-{day:02},1\n" for day in (9, 16, 23, 30))
    off = read(weeks, **{"city.yaml": "country: DE"}).known["holiday"]
    # 25 and 26 December in the third week, 1 January in the last, which ends in the next year.
    np.testing.assert_allclose(off, [0, 0, 2 / 7, 1 / 7], rtol=1e-6)


def test_what_is_known_between_two_steps_is_refused(read, refused):
    days = "date,a\n2024-03-01,1\n2024-03-02,2\n2024-03-03,3\n"
    finer = "time,term\n" + "".join(
        f"2024-03-0{day} {hour:02}:00,{hour}\n" for day in (1, 2, 3) for hour in range(24)
    )
    message = refused(days, **{"known.csv": finer})
    assert "known.csv, row 3: 2024-03-01 01:00:00 lies between the steps of 86400 s" in message
    assert message.endswith("give one row a step")
    midnights = "time,term\n" + "".join(f"2024-03-0{day} 00:00,{day}\n" for day in (1, 2, 3))
    assert read(days, **{"known.csv": midnights}).known["term"].tolist() == [1, 2, 3]


def test_the_times_of_a_parquet_table_may_be_told_by_their_type(read):
    times = [datetime.datetime(2024, 3, 1, hour) for hour in range(3)]
    # As pandas writes an index that has a name: last.
    frame = pl.DataFrame({"a": [1.0, None, 3.0], "b": [4.0, 5.0, 6.0], "Datum": times})
    series = read({"values.parquet": frame})
    assert series.sensors == ("a", "b") and series.step == 3600
    np.testing.assert_array_equal(series.values, [[1, 4], [NAN, 5], [3, 6]])
    two = frame.with_columns(time=pl.col("Datum"))
    with pytest.raises(DataError, match="column 'Datum'"):  # a name goes before, and it is no value
        read({"values.parquet": two})


def test_public_holidays_are_those_of_the_country_and_its_part(read):
    # Good Friday is free in all of Germany, Epiphany in Bavaria but not in Westphalia.
    days = "date,a\n2024-01-05,1\n2024-01-06,1\n2024-03-29,1\n"
    for part, epiphany in (("BY", 1), ("NW", 0)):
        series = read(days, **{"city.yaml": f"country: DE\nsubdivision: {part}"})
        off = dict(zip(series.time.astype(str), series.known["holiday"], strict=True))
        assert off["2024-01-06T00:00:00"] == epiphany and off["2024-03-29T00:00:00"] == 1
        assert sum(off.values()) == 1 + epiphany
    table = {"holidays.csv": "date\n2024-01-05\n"}
    both = read(days, **table, **{"city.yaml": "country: DE"}).known["holiday"]
    assert both[0] == 1 and both.sum() == 2


# Writing.


def city(steps=30, sensors=("b", "00123", 'a, "é"')):
    """A series with everything that a series can have."""
    drawn = np.random.default_rng(0)
    values = drawn.normal(size=(steps, len(sensors))).astype(np.float32) * 1e-3
    values[steps // 3, -1], values[-1] = NAN, NAN
    return Series(
        values,
        np.datetime64("2024-03-30T00:00:00") + np.arange(steps) * np.timedelta64(3600, "s"),
        3600,
        sensors,
        unit="µg/m³: yes",
        past={"temp": values[:, 0] * 3, "wind": values * 7},
        known={"term": np.float32(np.arange(steps) % 3), "limit": np.nan_to_num(values) * 1e9},
        adjacency=drawn.uniform(size=(len(sensors),) * 2).astype(np.float32),
        coordinates=drawn.normal(size=(len(sensors), 2)) * 30,
    )


@pytest.mark.parametrize(
    "series",
    [
        city(),
        city(4, ("a",)),
        city()._replace(past={}, known={}, adjacency=None, coordinates=None, unit=""),
        city()._replace(step=1800, unit="NO"),
    ],
)
def test_a_written_series_reads_back_to_the_bit(tmp_path, series):
    write_series(series, tmp_path / "new" / "city")
    expected = series
    if series.step == 1800:  # what a gap leaves out is written too
        expected = read_series(tmp_path / "new" / "city")
        assert len(expected.time) == 59
        np.testing.assert_array_equal(expected.values[::2], series.values)
        write_series(expected, tmp_path / "again")
        same(read_series(tmp_path / "again"), expected)
    same(read_series(tmp_path / "new" / "city"), expected)


def test_writing_destroys_nothing_and_refuses_what_no_table_can_hold(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="is not empty: name a new folder"):
        write_series(city(), tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        write_series(city(), tmp_path / "mine.txt" / "city")
    for name in ("", " a", "a\nb", "Time", "station id"):
        series = city(sensors=("a", name, "b"))
        with pytest.raises(DataError, match="cannot name a column"):
            write_series(series, tmp_path / "city")
    assert os.listdir(tmp_path) == ["mine.txt"]


# The page of documentation.


PAGE = (Path(__file__).parent.parent / "docs" / "own_data.md").read_text()


def test_the_example_of_the_page_fills_gaps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gaps = hours("1,2", ",4", "3,6", "4,", "5,10", header="time,a,b")
    put(tmp_path / "city", {"values.csv": gaps})
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(block, {})
    filled = read_series("filled").values
    assert not np.isnan(filled).any() and filled[[0, 2, 4], 1].tolist() == [2, 6, 10]


def test_the_examples_of_the_page_read(read):
    blocks = re.findall(r"```\w+ (\S+)\n(.*?)```", PAGE, re.DOTALL)
    wide, long, *others = blocks
    expected = [[12, 7.5], [9, NAN], [11, 8]]
    for name, text in (wide, long):
        assert name == "values.csv"
        np.testing.assert_array_equal(read(text).values, expected)
    assert len(others) == 8
    for left_out in ({"edges.csv", "distances.csv"}, {"adjacency.csv", "distances.csv"}):
        files = {name: text for name, text in others if name not in left_out}
        for path in (wide, long):
            series = read({"values.csv": path[1], **files})
            assert series.unit == "vehicles/h" and set(series.known) == {"school term", "holiday"}
            assert series.coordinates is not None and series.coordinates[1, 1] == 13.42
            assert series.adjacency is not None and series.adjacency[0, 1] == np.float32(0.4)
            np.testing.assert_array_equal(series.past["temperature"], np.float32([3.5, 3.1, NAN]))
    series = read({"values.csv": wide[1], "distances.csv": dict(others)["distances.csv"]})
    assert series.adjacency is not None and series.adjacency.diagonal().tolist() == [1, 1]


# Nothing but DataError.

TOKENS = (
    b'"', b",", b";", b"\n", b"\r\n", b"\t", b"\0", b"\xff", b"NA", b"inf", b"1e99", b"Z", b"time",
    b"2024-02-30", b"2024-03-30T05:00:00", b"9999-12-31", b"0001-01-01", b"+25:00", b"sensor",
    b"\x1e", b"\xef\xbb\xbf", b"9" * 20, b"&a", b"*a", b"[", b"{", b": ", b"!!python/object:x",
)  # fmt: skip


def mutated(data, draw):
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5])):
        at, kind = draw.randrange(len(data) + 1), draw.randrange(5)
        if kind == 0 and data:
            data[at % len(data)] = draw.randrange(256)
        elif kind == 1:
            del data[at : at + draw.choice([1, 3, 30])]
        elif kind == 2:
            data[at : at + draw.randrange(8)] = draw.choice(TOKENS)
        elif kind == 3:
            data[at:at] = data[at // 2 : at // 2 + draw.randrange(60)]
        else:
            lines = bytes(data).split(b"\n")
            lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
            data = bytearray(b"\n".join(lines))
    return bytes(data)


def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(tmp_path):
    draw = random.Random(0)
    write_series(city(), tmp_path / "city")
    files = {path.name: path.read_bytes() for path in (tmp_path / "city").iterdir()}
    files["city.yaml"] = b"unit: m\nstep: 3600\ntimezone: UTC\ncountry: DE\n"
    files["holidays.csv"] = b"date,name\n2024-03-30,x\n"
    put(tmp_path / "city", files)
    long = LONG.replace(",", ";").replace("2024-03-01T", "13.03.2024 ").encode()
    tables = {"long.csv": long, "offsets.csv": OFFSETS.encode()}
    tables["packed.csv.gz"] = gzip.compress(long)
    frame = pl.read_csv(WIDE.encode(), null_values=["NA"])
    put(tmp_path, {"frame.parquet": frame})
    tables["frame.parquet"] = (tmp_path / "frame.parquet").read_bytes()
    outcomes = []
    for turn in range(300):
        if turn % 2:
            name = draw.choice(sorted(files))
            path, changed = tmp_path / "city", tmp_path / "city" / name
            changed.write_bytes(mutated(files[name], draw))
        else:
            name = draw.choice(sorted(tables))
            path = changed = tmp_path / name
            noise = draw.randbytes(draw.randrange(200))
            changed.write_bytes(noise if turn % 10 == 0 else mutated(tables[name], draw))
        try:
            read_series(path)
            outcomes.append("read")
        except DataError as error:
            assert str(error).isprintable(), str(error)
            outcomes.append("refused")
        if turn % 2:
            changed.write_bytes(files[name])
    assert outcomes.count("read") > 20 and outcomes.count("refused") > 100


def test_digits_that_change_beyond_those_kept_are_refused(read, refused):
    rows = [f"2024-03-{1 + i // 24:02} {i % 24:02}:00" for i in range(200)]
    meter = "time,a\n" + "".join(f"{row},{98765432.1 + i / 4}\n" for i, row in enumerate(rows))
    message = refused(meter)
    assert "column 'a'" in message and "more digits than are kept" in message
    count = "time,a\n" + "".join(f"{row},{123456789 + 3 * i}\n" for i, row in enumerate(rows))
    assert "subtract a constant" in refused(count)
    load = "time,a\n" + "".join(f"{row},{1e9 + 1e6 * (i % 24)}\n" for i, row in enumerate(rows))
    assert np.ptp(read(load).values) == pytest.approx(23e6)
    outlier = "time,a\n" + "".join(f"{row},{i % 7 / 100}\n" for i, row in enumerate(rows[:-1]))
    assert read(outlier + f"{rows[-1]},12345678.9\n").values.max() == np.float32(12345678.9)


def test_a_value_in_the_hour_that_spring_leaves_out_is_refused(read, refused):
    spring = "time,a\n" + "".join(f"2024-03-31 {hour:02}:00,{hour}\n" for hour in range(6))
    message = refused(spring, **{"city.yaml": "timezone: Europe/Berlin"})
    assert "row 4, column 'time': 2024-03-31 02:00:00 is left out in spring" in message
    assert np.isfinite(read(spring).values).all()
    empty = spring.replace("02:00,2", "02:00,")
    found = read(empty, **{"city.yaml": "timezone: Europe/Berlin"}).values
    np.testing.assert_array_equal(np.isnan(found[:, 0]), [0, 0, 1, 0, 0, 0])


def test_a_column_that_numbers_the_rows_is_no_column_of_sensors(refused):
    rows = "".join(f"{i},2024-03-{1 + i // 24:02} {i % 24:02}:00,1\n" for i in range(50))
    message = refused("id,time,value\n" + rows)
    assert "row 2, column 'id': every row has a sensor of its own" in message


@pytest.mark.parametrize(
    "name", ["year", "Month", "hour", "Day of Week", "dayofweek", "index", "row", "second"]
)
def test_parts_of_the_time_are_no_sensors(read, refused, tmp_path, name):
    message = refused(hours("1,2", "2,3", header=f"time,{name},a"))
    assert f"column '{name}': a part of the time or a count of rows, not a sensor" in message
    assert "remove the column (or rename it" in message
    with pytest.raises(DataError, match="cannot name a column"):
        series = read(hours("1,2", header="time,b,a"), **{"city.yaml": "step: 3600"})
        write_series(series._replace(sensors=(name, "a")), tmp_path / "written")
    # It may be what was measured, and it may be known ahead.
    assert read(hours(1, 2, header=f"time,{name}")).sensors == (name,)
    table = hours(1, 2, header=f"time,{name}")
    found = read(hours(1, 2), **{"covariates.csv": table.replace(name, "x"), "known.csv": table})
    assert list(found.known) == [name]


def test_a_part_of_the_time_without_times_is_no_sensor(refused):
    city = "start: 2024-03-01\nstep: 3600\n"
    assert "column 'hour'" in refused("hour,a\n0,1\n1,2\n", **{"city.yaml": city})


def test_dates_where_summer_begins_at_midnight_are_read(read, refused):
    rows = "time,a\n" + "".join(f"2017-10-{day},{day}\n" for day in range(13, 18))
    city = "timezone: America/Sao_Paulo\n"
    for text in (rows, rows.replace(",", " 00:00,").replace("time 00:00", "time")):
        found = read(text, **{"city.yaml": city, "known.csv": rows.replace(",a", ",term")})
        np.testing.assert_array_equal(found.values[:, 0], range(13, 18))
    message = refused(hours(*range(4), start="2017-10-14 22:00"), **{"city.yaml": city})
    assert "2017-10-15 00:00:00 is left out in spring" in message


def test_a_row_for_excel_counts_as_a_row(refused):
    assert "row 4, column 'a': 'x' is no number" in refused("sep=;\n" + days(1, "x", separator=";"))


def test_the_parts_of_a_date_in_columns_of_their_own_are_no_times(refused):
    message = refused("year,month,day,a\n2024,3,1,5\n2024,3,2,6\n")
    assert "column 'year': '2024' is no time" in message and "into one column" in message


@pytest.mark.parametrize("months", [range(1, 13), range(1, 13, 3)])
def test_months_are_no_step(refused, months):
    rows = [f"{year}-{month:02}-01,1\n" for year in range(2010, 2014) for month in months]
    message = refused("".join(["time,a\n", *rows]))
    assert "months and years differ in length and are no regular step" in message
    assert "give values by day or week" in message


def test_days_of_another_clock_are_helped_by_a_timezone_or_by_none(read, refused):
    starts = [datetime.datetime(2024, 3, 25, 23) + datetime.timedelta(d) for d in range(10)]
    berlin = [
        start - datetime.timedelta(hours=start.day == 31 or start.month > 3) for start in starts
    ]
    rows = "time,a\n" + "".join(f"{time}Z,1\n" for time in berlin)
    message = refused(rows)
    assert "or name the timezone of the place in city.yaml if the times are regular" in message
    city = "timezone: Europe/Berlin"
    assert read(rows, **{"city.yaml": city}).step == 86_400
    rows = "time,a\n" + "".join(f"{time}Z,1\n" for time in starts)
    message = refused(rows, **{"city.yaml": city})
    assert "or remove timezone from city.yaml if the times are regular then" in message
    assert read(rows).step == 86_400
    odd = "time,a\n" + "".join(f"2024-03-01 {time}Z,1\n" for time in ("00:00", "01:00", "02:07"))
    assert refused(odd).endswith("correct or remove the row")


@pytest.mark.parametrize("name", ["metr-la.h5", "PEMS04.NPZ"])
def test_arrays_of_ones_own_are_told_the_ways_there_are(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_series(tmp_path / name)
    for part in ("is no table: .csv, .csv.gz, .parquet", "save it as one", "DATASET", "metr_la"):
        assert part in str(caught.value)
