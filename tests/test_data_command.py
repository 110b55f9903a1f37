"""`python -m cityjax.data`, data sets of one's own, and fetching from a server on this machine."""

import contextlib
import hashlib
import http.server
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from matplotlib import image

from cityjax.data import files
from cityjax.data.__main__ import main
from cityjax.data.catalog import dataset, datasets
from cityjax.data.files import DataError
from cityjax.data.synthetic import city
from cityjax.data.tables import write_series

# Two sensors every hour from Monday on; one row is left out, one value is missing.
CONTENT = b"hour,a,b\n" + b"".join(
    b"%d,%d,%s\n" % (hour, hour, b"" if hour == 3 else b"7") for hour in range(30) if hour != 5
)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MINE = '''
"""A city of one's own."""

import numpy as np

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile, read
from cityjax.data.readers import numbers, table
from cityjax.data.series import Series, checked

FILE = DataFile(
    "mine",
    "hours.csv",
    {sha256!r},
    url={url!r},
    source="https://example.org/page",
    original={original!r},
)
PROTOCOL = Protocol(split=(0.5, 0.2, 0.3), history=3, horizon=2, leads=(1, (1, 2)))


def load():
    frame = table(read(FILE))
    hour = np.timedelta64(3600, "s")
    time = np.datetime64("2024-01-01T00:00:00") + frame["hour"].to_numpy() * hour
    return checked(Series(numbers(frame, "a", "b"), time, 3600, ("a", "b"), "km/h"))


DATASET = Dataset(
    name="mine",
    title="Two roads of a city",
    domain="transport",
    licence="CC0",
    home="https://example.org",
    files=(FILE,),
    read=load,
    season=24,
    protocols={{"honest": PROTOCOL}},
    steps="Ask for an account.\\nUnpack it.",
)
'''


@pytest.fixture(autouse=True)
def no_folder_of_the_user(monkeypatch, tmp_path):
    """Neither the tester's own data nor the user's cache plays a part, nor a proxy."""
    monkeypatch.delenv("CITYJAX_DATA", raising=False)
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def mine(tmp_path):
    """Write a data set of one's own: `mine(url=..., sha256=...)` gives its path."""

    def write(url=None, sha256=SHA256, original=""):
        path = tmp_path / "mine.py"
        path.write_text(MINE.format(url=url, sha256=sha256, original=original))
        return str(path)

    return write


def cached(tmp_path):
    return tmp_path / "cache" / "mine" / "hours.csv"


def put(tmp_path, content=CONTENT):
    cached(tmp_path).parent.mkdir(parents=True)
    cached(tmp_path).write_bytes(content)


@contextlib.contextmanager
def serving(content):
    """A server on this machine that answers every request with `content`."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format, *args):
            del format, args

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hours.csv", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refused(capsys, *arguments):
    """The one line on standard error of a command that ends with 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    line = message.splitlines()[-1]
    assert line.startswith("python -m cityjax.data") and "Traceback" not in message
    return line


# Fetching.


def test_fetch_downloads_once_with_a_bar_and_says_where(capsys, mine, tmp_path):
    with serving(CONTENT) as (url, requests):
        assert main(["fetch", mine(url)]) == 0
        first = capsys.readouterr()
        assert main(["fetch", mine(url)]) == 0
        second = capsys.readouterr()
    assert first.out == second.out == f"mine/hours.csv: {cached(tmp_path)}\n"
    assert requests == ["/hours.csv"] and cached(tmp_path).read_bytes() == CONTENT
    size = f"{len(CONTENT)}/{len(CONTENT)} bytes"  # what the bar shows at the end
    assert "hours.csv" in first.err and size in first.err
    assert second.err == ""


def test_another_file_than_the_one_promised_is_refused_and_not_kept(capsys, mine, tmp_path):
    with serving(b"moved") as (url, _):
        line = refused(capsys, "fetch", mine(url))
    for part in (url, SHA256, hashlib.sha256(b"moved").hexdigest(), "not kept"):
        assert part in line
    assert not cached(tmp_path).exists()


def test_offline_says_which_file_from_where_and_where_to_put_it(capsys, mine, tmp_path):
    with serving(CONTENT) as (url, _):
        pass  # the server is gone, its port is closed
    for command in ("fetch", "describe"):
        line = refused(capsys, command, mine(url))
        for part in ("mine/hours.csv", url, SHA256, str(cached(tmp_path).parent), "CITYJAX_DATA"):
            assert part in line


def test_what_cannot_be_fetched_prints_its_steps(capsys, mine, tmp_path):
    assert main(["fetch", mine()]) == 1
    shown = capsys.readouterr().out
    for part in ("  Ask for an account.\n  Unpack it.\n", "https://example.org/page", SHA256):
        assert part in shown
    assert str(cached(tmp_path).parent) in shown
    put(tmp_path)
    assert main(["fetch", mine()]) == 0
    assert capsys.readouterr().out == f"mine/hours.csv: {cached(tmp_path)}\n"


def test_a_set_that_lacks_only_what_is_optional_is_there(capsys, mine, tmp_path):
    put(tmp_path)
    path = mine()
    text = (
        Path(path)
        .read_text()
        .replace("files=(FILE,)", 'files=(FILE, FILE._replace(name="map.csv", optional=True))')
    )
    Path(path).write_text(text)
    assert main(["fetch", path]) == 0
    shown = capsys.readouterr().out
    assert "mine is there" in shown and "map.csv (optional) from https://example.org" in shown
    assert "cannot" not in shown and "account" not in shown


@pytest.mark.parametrize("name", ["ili", "pjm", "metr_la", "pems_bay", "pems04", "pems08"])
def test_sets_behind_an_account_or_a_drive_print_their_steps(capsys, name):
    assert main(["fetch", name]) == 1
    shown = capsys.readouterr().out
    assert dataset(name).steps.splitlines()[0] in shown and "cache" in shown


def test_every_file_can_be_fetched_or_comes_with_steps():
    for name in datasets():
        one = dataset(name)
        by_hand = [file for file in one.files if not (file.url or file.packaged or file.optional)]
        assert bool(one.steps) == bool(by_hand), name
        for file in one.files:
            assert file.source.startswith("https://") and "\n" not in file.source
            assert re.fullmatch("([0-9a-f]{64})?", file.sha256)
            assert re.fullmatch("([0-9a-f]{64})?", file.original)
            # A bare checksum would accept whatever a server sends.
            assert file.sha256 or not file.url


# Checking.


def test_check_tells_good_from_absent_from_altered(capsys, mine, tmp_path):
    assert main(["check", mine()]) == 1
    assert capsys.readouterr().out == "absent   mine/hours.csv\n"
    put(tmp_path)
    assert main(["check", mine()]) == 0
    assert capsys.readouterr().out.split() == [
        *("ok", "mine/hours.csv:", f"{cached(tmp_path)},", "sha256", SHA256)
    ]
    assert main(["check", mine(sha256="")]) == 0
    assert capsys.readouterr().out.startswith("unknown  mine/hours.csv: ")
    assert main(["check", mine(sha256="", original=SHA256)]) == 0
    assert capsys.readouterr().out.startswith("ok       mine/hours.csv: ")
    assert main(["check", mine(sha256="", original="0" * 64)]) == 0
    assert capsys.readouterr().out.startswith("other    mine/hours.csv: ")
    cached(tmp_path).write_bytes(CONTENT + b"x")
    assert main(["check", mine()]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("altered  mine/hours.csv: ") and SHA256 in shown


@pytest.mark.parametrize("name", ["metr_la", "pems_bay"])
def test_a_copy_is_told_from_the_original_and_read_all_the_same(capsys, tmp_path, name):
    (file,) = [file for file in dataset(name).files if not file.optional]
    path = tmp_path / "cache" / name / file.name
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert main(["check", name]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line == (
        f"other    {name}/{file.name}: {path}, sha256 {SHA256}; of the original {file.original}: "
        "saved anew, or altered"
    )
    assert dataset(name).hashes() == {f"{name}/{file.name}": SHA256}


def test_a_file_that_can_be_done_without_may_be_absent(capsys, tmp_path):
    folder = tmp_path / "cache" / "pems04"
    folder.mkdir(parents=True)
    (folder / "PEMS04.npz").write_bytes(b"anything: nobody could state its checksum")
    assert main(["check", "pems04"]) == 0
    assert "absent   traffic_sensor_graphs/PEMS04.csv (optional)" in capsys.readouterr().out
    assert list(dataset("pems04").hashes()) == ["pems04/PEMS04.npz"]


# Describing.


def test_describe_says_what_a_set_holds(capsys, mine, tmp_path):
    put(tmp_path)
    assert main(["describe", mine()]) == 0
    lines = {line.strip() for line in capsys.readouterr().out.splitlines()}
    assert lines >= {
        "mine: Two roads of a city",
        "span         2024-01-01 00:00 to 2024-01-02 05:00",
        "step         1 hour, 29 rows",
        "sensors      2: a, b",
        "values       0 to 29, median 7",
        f"missing      {100 / 58:.2f} % in the rows; 1 steps without any value",
        "season       1 day",
        # 14 of the 29 rows and the one left out: validation begins at hour 15.
        "train      2024-01-01 00:00 to 2024-01-01 14:00, 15 steps",
        "windows    3 steps in, 2 out",
        "metrics    mae, rmse at 1, 1-2",
    }


def test_describe_says_what_is_missing_beside_the_values_and_in_the_graph(capsys, tmp_path):
    folder = tmp_path / "town"
    folder.mkdir()
    times = [f"2024-03-{1 + i // 96:02}T{i // 4 % 24:02}:{15 * (i % 4):02}" for i in range(480)]
    rows = [f"{time},{i % 7},{i % 5},1\n" for i, time in enumerate(times)]
    (folder / "values.csv").write_text("".join(["time,a,b,c\n", *rows]))
    hourly = [f"{time},{i % 9}\n" for i, time in enumerate(times) if i % 4 == 0]
    (folder / "covariates.csv").write_text("".join(["time,temperature\n", *hourly]))
    (folder / "edges.csv").write_text("from,to\na,b\nb,a\na,a\n")
    assert main(["describe", str(folder)]) == 0
    lines = {line.strip() for line in capsys.readouterr().out.splitlines()}
    assert "past         temperature (75.0 % missing)" in lines
    assert "graph        2 edges, 1 of 3 sensors without neighbours" in lines


def test_describe_draws_a_figure(capsys, mine, tmp_path):
    put(tmp_path)
    path = tmp_path / "figure.png"
    assert main(["describe", mine(), "--figure", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"figure: {path}\n")
    pixels = image.imread(path)
    assert pixels.shape[:2] == (780, 1500)
    colors = {tuple(color) for color in (pixels[..., :3] * 255).round().astype(int).reshape(-1, 3)}
    # Both sensors, the share missing, and the grounds of validation and test.
    assert colors >= {(0, 114, 178), (213, 94, 0), (227, 231, 235), (196, 204, 212)}


def test_a_city_of_ones_own_is_described_and_checked(capsys, tmp_path):
    folder = tmp_path / "town"
    write_series(city("energy", sensors=2, steps=504, seed=1).series, folder)
    assert main(["describe", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "town: town, a city of one's own" in text
    assert re.search(r"step +1 hour, 504 rows", text) and re.search(r"train .* 352 steps", text)
    assert main(["check", str(folder)]) == main(["fetch", str(folder)]) == 0
    assert capsys.readouterr().out == "ok       town\ntown: nothing to fetch\n"
    (folder / "values.csv").write_text("time,a\n2024-03-01,x\n")
    with pytest.raises(SystemExit):
        main(["check", str(folder)])
    assert "values.csv, row 2, column 'a'" in capsys.readouterr().err


def test_a_table_too_short_for_its_split_is_described_all_the_same(capsys, tmp_path):
    short = tmp_path / "short.csv"
    short.write_text("time,a\n2024-03-01 00:00,1\n2024-03-01 01:00,2\n2024-03-01 02:00,4\n")
    assert main(["describe", str(short)]) == 0
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()]
    said = {words[0]: words[1] for words in lines}
    assert said["span"] == "2024-03-01 00:00 to 2024-03-01 02:00" and said["step"][:6] == "1 hour"
    assert said["refused"].startswith("3 observed steps are too few for the split 0.7/0.1/0.2")
    assert said["refused"].endswith("take at least 10") and said["windows"]


def test_describe_refuses_what_it_cannot_write(capsys, mine, tmp_path):
    put(tmp_path)
    for path, reason in {"f.pdf": ".png is expected", "no/f.png": "No such file"}.items():
        assert reason in refused(capsys, "describe", mine(), "--figure", str(tmp_path / path))
    assert "one data set" in refused(capsys, "describe", mine(), "i94", "--figure", "f.png")


# The catalogue.


def test_the_list_names_every_set_and_where_it_is(capsys, tmp_path):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert main(["list"]) == 0
    assert capsys.readouterr().out == shown
    rows = {line.split()[0]: line for line in shown.splitlines() if line}
    assert set(datasets()) <= set(rows)
    for name, where in {"i94": "packaged", "ett": "to fetch", "pjm": "by hand"}.items():
        assert where in rows[name]
    for name in datasets():
        one = dataset(name)
        assert one.name == name and one.title in rows[name]
    folder = tmp_path / "cache" / "pjm"
    folder.mkdir(parents=True)
    (folder / "AEP_hourly.csv.gz").touch()
    main([])
    assert re.search("pjm +energy +found", capsys.readouterr().out)


def test_an_unknown_name_gets_the_nearest_one(capsys):
    line = refused(capsys, "describe", "pems_by")
    assert "unknown data set 'pems_by': did you mean pems_bay?" in line
    assert "there is no such file or folder" in line
    assert "invalid choice: 'get'" in refused(capsys, "get", "i94")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 +", "cannot be imported: SyntaxError"),
        ("raise ValueError('of\\nmine')", "cannot be imported: ValueError: of"),
        ("DATASET = 3", "defines no DATASET"),
        (
            MINE.format(url=None, sha256="", original="").replace('"honest"', '"mine"'),
            "no protocol named",
        ),
    ],
)
def test_a_file_that_is_no_data_set_is_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        dataset(str(path))
    assert str(path) in str(caught.value) and reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(DataError, match=r"nowhere/mine\.py is no file"):
        dataset("nowhere/mine.py")


def test_it_is_a_command():
    command = [sys.executable, "-W", "error", "-m", "cityjax.data"]
    options = {"capture_output": True, "text": True, "cwd": Path(__file__).parent.parent}
    assert "beijing_air" in subprocess.run(command, **options, check=True).stdout
    wrong = subprocess.run([*command, "check", "nowhere.py"], **options)
    assert wrong.returncode == 2
    expected = "nowhere.py is no file: a Python file that defines DATASET is expected"
    assert wrong.stderr == f"python -m cityjax.data: error: {expected}\n"
