"""Readers of public formats, on small files: HDF5 frames, npz archives, CSV, clocks, graphs."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from cityjax.data import files, readers
from cityjax.data.catalog import dataset
from cityjax.data.dataset import arranged, bounds
from cityjax.data.files import DataError, DataFile
from cityjax.data.forecast import origins
from cityjax.data.series import Series
from cityjax.data.sets import _sensors

USERS = os.environ.get("CITYJAX_DATA")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Neither the tester's own data nor the user's cache plays a part; this folder does."""
    monkeypatch.setenv("CITYJAX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "data"


def put(folder, dataset, name, content):
    path = folder / dataset / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def hdf5(columns, time, values, *, kind=b"datetime64", blocks=1, group="df"):
    """A frame as pandas stores it with PyTables, its columns spread over some blocks."""
    h5py = pytest.importorskip("h5py")
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        frame = file.create_group(group)
        frame["axis0"] = columns
        frame["axis1"] = time.astype("datetime64[ns]").astype(np.int64)
        frame["axis1"].attrs["kind"] = kind
        for number in range(blocks):
            frame[f"block{number}_items"] = columns[number::blocks]
            frame[f"block{number}_values"] = values[:, number::blocks]
    return content.getvalue()


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


SPEEDS = np.arange(60.0, 60 + 2 * 40).reshape(40, 2)
SPEEDS[3, 1] = 0
TIME = np.datetime64("2012-03-01T00:00:00") + np.arange(40) * np.timedelta64(300, "s")
IDS = np.array([b"773869", b"767541"])


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize(
    ("name", "file", "columns", "kind"),
    [
        ("metr_la", "metr-la.h5", IDS, b"datetime64"),
        ("pems_bay", "pems-bay.h5", np.array([400001, 400017]), "datetime64[ns]"),
    ],
)
def test_speeds_of_a_frame_in_hdf5(folder, name, file, columns, kind, blocks):
    content = hdf5(columns, TIME, SPEEDS, kind=kind, blocks=blocks, group="speed")
    put(folder, name, file, content)
    series = dataset(name).read()
    np.testing.assert_array_equal(series.values, np.where(SPEEDS == 0, np.nan, SPEEDS))
    np.testing.assert_array_equal(series.time, TIME)
    assert series.sensors == tuple(str(int(column)) for column in columns)
    assert (series.step, series.unit, series.adjacency) == (300, "mph", None)
    assert list(dataset(name).hashes()) == [f"{name}/{file}"]
    for protocol in dataset(name).protocols.values():  # a short copy is split in proportion
        assert bounds(arranged(series, protocol), protocol)["test"][1] == 40


def test_the_hour_that_a_clock_skips_is_missing_or_passed_over(folder):
    late = np.concatenate([TIME[:20], TIME[20:] + np.timedelta64(3600, "s")])
    put(folder, "pems_bay", "pems-bay.h5", hdf5(np.array([1, 2]), late, SPEEDS))
    one = dataset("pems_bay")
    honest = arranged(one.read(), one.protocols["honest"])
    assert len(honest.values) == 52 and np.isnan(honest.values[20:32]).all()
    assert len(arranged(one.read(), one.protocols["published"]).values) == 40


def test_without_h5py_the_error_says_what_to_install(monkeypatch, folder):
    put(folder, "metr_la", "metr-la.h5", b"anything")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"metr-la.h5 is an HDF5 .* pip install 'cityjax\[h5\]'"):
        dataset("metr_la").read()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: b"<html>sign in</html>", "no frame of pandas"),
        (lambda: hdf5(IDS, TIME, SPEEDS)[:600], "no frame of pandas"),
        (lambda: hdf5(IDS, TIME, SPEEDS, kind=b"integer"), "rows by integer: times are expected"),
        (lambda: hdf5(IDS, TIME, SPEEDS[:30]), "no frame of pandas"),
    ],
)
def test_a_file_that_is_no_frame_is_refused_in_one_line(folder, content, words):
    pytest.importorskip("h5py")
    put(folder, "metr_la", "metr-la.h5", content())
    with pytest.raises(DataError) as caught:
        dataset("metr_la").read()
    assert "metr-la.h5" in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "start"), [("pems04", "2018-01-01"), ("pems08", "2016-07-01")])
def test_flows_of_an_npz(folder, name, start):
    data = np.arange(1.0, 1 + 50 * 3 * 3).reshape(50, 3, 3)
    data[7, 2, 0] = 0
    put(folder, name, f"{name.upper()}.npz", npz(data=data))
    series = dataset(name).read()
    flow = np.where(data[..., 0] == 0, np.nan, data[..., 0])
    np.testing.assert_array_equal(series.values, flow)
    np.testing.assert_array_equal(series.past["occupancy"], data[..., 1])
    np.testing.assert_array_equal(series.past["speed"], data[..., 2])
    assert str(series.time[1]) == f"{start}T00:05:00" and series.adjacency is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK", "no .npz archive of plain arrays"),
        (npz(flow=np.zeros(3)), r"holds ['flow']: an array 'data' is expected"),
        (npz(data=np.ones((4, 3))), "data of shape (4, 3)"),
        (npz(data=np.array([[[{}] * 3]])), "no .npz archive of plain arrays"),  # a pickle
    ],
)
def test_another_archive_is_refused_in_one_line(folder, content, words):
    put(folder, "pems04", "PEMS04.npz", content)
    with pytest.raises(DataError) as caught:
        dataset("pems04").read()
    assert "PEMS04.npz" in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_published_parts_of_metr_la_and_its_kin_are_those_of_windows():
    # DCRNN cuts the windows, of 12 steps in and 12 out, 70/10/20 by rounding: so many of test.
    for name, steps, test in (("metr_la", 34272, 6850), ("pems_bay", 52116, 10419)):
        protocol = dataset(name).protocols["published"]
        windows = steps - 23
        assert test == round(0.2 * windows)
        values = np.ones((steps, 1), np.float32)
        series = Series(values, readers.every("2012-03-01", 300, steps), 300, ("a",), "mph")
        found = origins(series, protocol, history=12, horizon=12)["test"]
        assert (len(found), found[-1]) == (test, steps - 13)


# Graphs.


def test_roads_become_weights_by_their_length(folder):
    file = DataFile("roads", "roads.csv", "")
    assert _sensors.road_weights(file, "012") is None
    put(folder, "roads", "roads.csv", b"from,to,cost\n0,1,1\n1,2,2\n2,0,3\n2,0,3\n9,0,1\n")
    expected = np.zeros((3, 3))
    # The standard deviation of the lengths is the root of 2/3.
    expected[[0, 1, 2], [1, 2, 0]] = np.exp([-1.5, -6, -13.5])
    found = _sensors.road_weights(file, ("0", "1", "2"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    turned = _sensors.road_weights(file, ("2", "1", "0"), threshold=0.1)
    np.testing.assert_allclose(turned, expected[::-1, ::-1] * (expected[::-1, ::-1] > 0.1))
    with pytest.raises(DataError, match="no edge of the list joins two of the sensors"):
        _sensors.road_weights(file, ("7", "8"))


@pytest.fixture
def graphs(monkeypatch):
    """The real graphs, where they are on this machine."""
    if not USERS or not (Path(USERS) / "traffic_sensor_graphs").is_dir():
        pytest.skip("traffic_sensor_graphs is not in CITYJAX_DATA")
    monkeypatch.setenv("CITYJAX_DATA", USERS)


@pytest.mark.usefixtures("graphs")
def test_weights_and_places_follow_the_order_of_the_sensors():
    files = _sensors.LOS_ANGELES_WEIGHTS, _sensors.LOS_ANGELES
    places = _sensors.locations(_sensors.LOS_ANGELES)
    assert places is not None and len(places) == 207
    names = list(places)
    whole, turned = _sensors.weights(*files, names), _sensors.weights(*files, names[::-1])
    assert whole is not None and turned is not None
    np.testing.assert_array_equal(turned, whole[::-1, ::-1])
    points = _sensors.coordinates(_sensors.LOS_ANGELES, names[::-1])
    np.testing.assert_array_equal(points, list(places.values())[::-1])
    # A weight falls with the distance only where its row is that of the place.
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    joined = turned > 0
    assert np.corrcoef(turned[joined], apart[joined])[0, 1] < -0.9
    with pytest.raises(DataError, match="sensor 1 is not among the 207 of its graph"):
        _sensors.weights(*files, ["1"])


@pytest.mark.usefixtures("graphs")
def test_the_graph_of_pems_bay_is_that_of_dcrnn():
    places = _sensors.locations(_sensors.BAY)
    assert places is not None and len(places) == 325
    found = _sensors.road_weights(_sensors.BAY_ROADS, tuple(places), threshold=0.1)
    assert found is not None and (found > 0).sum() == 2694
    np.testing.assert_array_equal(np.diag(found), 1)
    points = _sensors.coordinates(_sensors.BAY, tuple(places))
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert np.median(apart[found > 0]) < np.median(apart) / 4


@pytest.mark.parametrize(
    ("file", "count", "roads"), [(_sensors.PEMS04, 307, 338), (_sensors.PEMS08, 170, 276)]
)
@pytest.mark.usefixtures("graphs")
def test_the_roads_of_pems(file, count, roads):
    found = _sensors.road_weights(file, tuple(map(str, range(count))))
    assert found is not None and (found > 0).sum() == roads and found.max() <= 1


# Tables and clocks.


def test_empty_cells_and_na_are_missing_and_types_are_of_all_rows():
    frame = readers.table(b'a,b\n1," 7"\nNA,"8"\n,"9 "\n2.5,""\n')
    expected = np.array([[1, 7], [np.nan, 8], [np.nan, 9], [2.5, np.nan]], np.float32)
    np.testing.assert_array_equal(readers.numbers(frame, "a", "b"), expected)


def test_rows_of_one_time_become_their_mean_in_order():
    time = np.array(["2024-10-27T03", "2024-10-27T02", "2024-10-27T02"], "datetime64[s]")
    found, values = readers.one_row_per_time(time, np.array([[5.0], [1.0], [2.0]]))
    assert [str(t)[11:13] for t in found] == ["02", "03"]
    np.testing.assert_array_equal(values, [[1.5], [5.0]])


def test_written_times_are_read_by_their_format():
    frame = readers.table(b"t\n31/01/2016 23:55\n01/02/2016 0:00\n")
    found = readers.times(frame["t"], "%d/%m/%Y %H:%M")
    assert [str(time) for time in found] == ["2016-01-31T23:55:00", "2016-02-01T00:00:00"]
