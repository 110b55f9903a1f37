"""Sources, MNIST, data files and statistics over seeds."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import lzma
import socket
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cityjax.data import files, mnist
from cityjax.data.files import DataError, DataFile
from cityjax.data.sources import in_order, shuffled, take
from cityjax.seeds import statistics


@pytest.fixture(autouse=True)
def no_folder_of_the_user(monkeypatch, tmp_path):
    """Neither the tester's own data nor the user's cache plays a part."""
    monkeypatch.delenv("CITYJAX_DATA", raising=False)
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")


# Sources.


def rows(size):
    """Arrays whose row i holds i, so that a batch tells which rows it took."""
    return {
        "inputs": np.arange(size, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32),
        "targets": np.arange(size, dtype=np.int32),
    }


@jax.jit
def call(source, key, steps):
    return jax.vmap(lambda step: source(key, step))(steps)


def drawn(source, key, count):
    """The batches 0 .. count-1 of a source, stacked."""
    return jax.device_get(call(source, key, jnp.arange(count)))


def with_noise(key, arrays, indices):
    return {**take(key, arrays, indices), "noise": jax.random.uniform(key, indices.shape)}


def test_a_shuffled_source_gives_epochs_without_repeats(key):
    source = shuffled(rows(10), 4, gather=with_noise)
    batches = drawn(source, key, 40)
    epochs = batches["targets"].reshape(16, 10)
    np.testing.assert_array_equal(np.sort(epochs), np.broadcast_to(np.arange(10), (16, 10)))
    assert len({tuple(epoch) for epoch in epochs}) == 16  # every epoch has its own order
    np.testing.assert_array_equal(batches["inputs"][..., 0], batches["targets"])
    assert batches["mask"].shape == (40, 4) and batches["mask"].all()
    assert len(np.unique(batches["noise"])) == 160  # a new key for the gather at every step
    # A source is a function of key and step, nothing else.
    again, other = drawn(source, key, 40), drawn(source, jax.random.key(1), 40)
    jax.tree.map(np.testing.assert_array_equal, again, batches)
    assert (other["targets"] != batches["targets"]).any()


def test_a_batch_larger_than_the_data_is_refused_by_both_numbers():
    with pytest.raises(DataError, match="batch_size=11 is above the 10 training examples"):
        shuffled(rows(10), 11)
    with pytest.raises(DataError, match="batch_size=4 is above the 3"):
        shuffled(rows(10), 4, size=3)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 16])
def test_an_ordered_source_covers_everything_once_with_its_padding_masked(key, batch_size):
    count, source = in_order(rows(10), batch_size)
    assert count == -(-10 // batch_size)
    batches = drawn(source, key, count)
    assert batches["mask"].shape == (count, batch_size)
    kept = batches["targets"][batches["mask"]]
    np.testing.assert_array_equal(kept, np.arange(10))
    assert (batches["targets"][~batches["mask"]] == 9).all()  # padding repeats the last example
    assert batches["inputs"].shape == (count, batch_size, 2)


def test_the_mask_of_a_gather_is_kept_where_examples_are_real(key):
    def gather(key, arrays, indices):
        del key
        targets = arrays["targets"][indices]
        return {"targets": targets, "mask": (targets % 2 == 0)[:, None] * jnp.ones((1, 3), bool)}

    count, source = in_order(rows(5), 4, gather=gather)
    batches = drawn(source, key, count)
    assert batches["mask"].shape == (2, 4, 3)
    expected = [[True, False, True, False], [True, False, False, False]]
    for column in range(3):
        np.testing.assert_array_equal(batches["mask"][..., column], expected)


def test_arrays_reach_a_program_as_arguments(key):
    for source in (shuffled(rows(10), 4), in_order(rows(10), 4).source):
        leaves = jax.tree.leaves(source)
        assert {leaf.shape for leaf in leaves} == {(10, 2), (10,)}
        assert all(isinstance(leaf, jax.Array) for leaf in leaves)
        program = jax.make_jaxpr(lambda s, k, i: s(k, i))(source, key, jnp.int32(0))
        assert all(np.size(constant) < 10 for constant in program.consts)


def test_arrays_of_different_lengths_need_a_size():
    arrays = {"series": np.zeros(20), "origins": np.arange(5)}
    with pytest.raises(ValueError, match="20.*5.*size="):
        shuffled(arrays, 2)
    assert in_order(arrays, 2, size=5).count == 3


# MNIST.

SHIPPED = Path(mnist.__file__).parent / "mnist_files"


@functools.cache
def digits(split):
    return mnist.load(split)


def shipped(name):
    """The content of a shipped idx file after its header, read without cityjax."""
    content = gzip.decompress((SHIPPED / f"{name}.gz").read_bytes())
    return np.frombuffer(content[16 if "images" in name else 8 :], np.uint8)


def test_mnist_splits_are_the_files_in_order():
    sizes = {"train": 55_000, "validation": 5_000, "test": 10_000}
    for split, size in sizes.items():
        images, labels = digits(split)
        assert images.shape == (size, 28, 28) and images.dtype == np.uint8
        assert labels.shape == (size,) and labels.dtype == np.int32
    # Put together, train and validation are the training file: nothing is in both or missing.
    labels = np.concatenate([digits("train").labels, digits("validation").labels])
    np.testing.assert_array_equal(labels, shipped("train-labels-idx1-ubyte"))
    images = np.concatenate([digits("train").images[-10:], digits("validation").images])
    expected = shipped("train-images-idx3-ubyte").reshape(-1, 28, 28)[-5_010:]
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(digits("test").labels, shipped("t10k-labels-idx1-ubyte"))
    with pytest.raises(ValueError, match="'dev' is unknown: train, validation, test"):
        mnist.load("dev")


def test_mnist_has_its_known_label_counts():
    train = np.concatenate([digits("train").labels, digits("validation").labels])
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(digits("test").labels).tolist() == counts


def test_mnist_names_the_hash_of_every_file():
    assert set(mnist.hashes()) == {f"mnist/{name}" for name in mnist.FILES}
    assert len(set(mnist.hashes().values())) == 4


def test_mnist_batches_are_images_between_zero_and_one(key):
    arrays = digits("test")._asdict()
    batch = mnist.to_batch(key, jax.tree.map(jnp.asarray, arrays), jnp.array([7, 0]))
    assert batch["inputs"].shape == (2, 28, 28, 1) and batch["inputs"].dtype == jnp.float32
    expected = digits("test").images[[7, 0]][..., None] / np.float32(255)
    np.testing.assert_allclose(batch["inputs"], expected, rtol=1e-6)
    np.testing.assert_array_equal(batch["targets"], digits("test").labels[[7, 0]])


def test_mnist_evaluation_covers_both_parts():
    splits = mnist.evaluation(batch_size=3_000)
    assert {name: batches.count for name, batches in splits.items()} == {
        "validation": 2,
        "test": 4,
    }


@functools.cache
def shifted(seed, drawn):
    """300 images, `drawn` of them random in the middle, the others white; before and after."""
    plain = np.zeros((300, 28, 28), np.uint8)
    plain[:, 3:25, 2:26] = np.random.default_rng(0).integers(1, 256, (300, 22, 24))
    plain[drawn:] = 255
    arrays = {"images": jnp.asarray(plain), "labels": jnp.arange(300)}
    batch = SHIFT(jax.random.key(seed), arrays, jnp.arange(300))
    np.testing.assert_array_equal(batch["targets"], np.arange(300))
    return plain, np.asarray(jnp.round(batch["inputs"][..., 0] * 255)).astype(np.uint8)


SHIFT = jax.jit(mnist.to_shifted_batch)


def test_the_shift_moves_images_by_at_most_two_pixels_and_keeps_them_whole():
    images, found = shifted(0, 300)
    moves = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    candidates = np.stack([np.roll(images, move, axis=(1, 2)) for move in moves])
    same = (candidates == found).all(axis=(2, 3))
    np.testing.assert_array_equal(same.sum(axis=0), np.ones(300))  # each is exactly one move
    assert same.any(axis=1).all()  # and every move occurs
    assert (shifted(1, 300)[1] != found).any()  # the key moves them


def test_the_shift_moves_zeros_in():
    _, found = shifted(0, 0)
    assert (found[:, 2:26, 2:26] == 255).all()
    assert set(np.unique(found)) == {0, 255}


IDX = b"\x00\x00\x08\x01\x00\x00\x00\x03abc"


def test_idx_by_hand():
    np.testing.assert_array_equal(mnist.parse_idx(IDX, "f"), [97, 98, 99])
    cube = b"\x00\x00\x08\x03" + b"\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x02" + b"wxyz"
    np.testing.assert_array_equal(mnist.parse_idx(cube, "f"), [[[119, 120], [121, 122]]])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00",
        b"\x1f\x8b\x08\x00 still packed",
        IDX[:2] + b"\x0d" + IDX[3:],  # floats
        IDX[:3] + b"\x02" + IDX[4:],  # rank 2
        IDX[:6],  # ends in the sizes
        IDX[:-1],
        IDX + b"d",
    ],
)
def test_what_is_no_idx_file_is_refused_by_name(content):
    with pytest.raises(DataError, match="name is no idx file of bytes"):
        mnist.parse_idx(content, "name")


LABELS = mnist.FILES["t10k-labels-idx1-ubyte"]


def test_a_truncated_file_is_refused_with_its_path_and_checksum(monkeypatch, tmp_path):
    path = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes((SHIPPED / path.name).read_bytes()[:2_000])
    monkeypatch.setenv("CITYJAX_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        mnist.load("test")
    message = str(caught.value)
    assert str(path) in message and "truncated or damaged" in message
    assert LABELS.sha256 in message and "\n" not in message


def test_an_altered_file_is_refused_with_both_checksums(monkeypatch, tmp_path):
    content = bytearray(gzip.decompress((SHIPPED / f"{LABELS.name}.gz").read_bytes()))
    content[100] ^= 1
    path = tmp_path / "mnist" / LABELS.name
    path.parent.mkdir()
    path.write_bytes(content)
    monkeypatch.setenv("CITYJAX_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        mnist.load("test")
    message = str(caught.value)
    for part in (str(path), LABELS.sha256, hashlib.sha256(content).hexdigest()):
        assert part in message
    assert "\n" not in message


# Data files.

CONTENT = b"hour,volume\n0,17\n" * 100
PACKED = {"": CONTENT, ".gz": gzip.compress(CONTENT), ".xz": lzma.compress(CONTENT)}


def data_file(**options):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return DataFile("city", "hours.csv", sha256, source="https://example.org/city", **options)


def put(folder, suffix="", content=None):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"hours.csv{suffix}"
    path.write_bytes(PACKED[suffix] if content is None else content)
    return path


@pytest.mark.parametrize("method", ["read_bytes", "is_file"])
def test_what_may_not_be_read_is_named(monkeypatch, tmp_path, method):
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "file"
    path.write_bytes(b"content")

    def refuse(*details):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("CITYJAX_DATA", str(tmp_path))
    monkeypatch.setattr(Path, method, refuse)  # root may read anything
    with pytest.raises(DataError) as caught:
        files.read(DataFile("set", "file", "0" * 64))
    assert str(caught.value).startswith(f"{path} cannot be read (Permission denied): ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", PACKED)
def test_a_file_is_read_plain_or_compressed(tmp_path, suffix):
    put(tmp_path / "package", suffix)
    assert files.read(data_file(packaged=tmp_path / "package")) == CONTENT


def test_files_are_looked_for_in_the_users_folder_then_the_package_then_the_cache(
    monkeypatch, tmp_path
):
    file = data_file(packaged=tmp_path / "package")
    paths = [
        put(tmp_path / "cache" / "city", ".xz"),
        put(tmp_path / "package", ".gz"),
        put(tmp_path / "own" / "city"),
    ]
    assert files.find(file) == paths[1]
    monkeypatch.setenv("CITYJAX_DATA", str(tmp_path / "own"))
    assert files.find(file) == paths[2]
    paths[2].unlink()  # a folder without this file is passed over
    assert files.find(file) == paths[1]
    assert files.find(file._replace(packaged=None)) == paths[0]


@contextlib.contextmanager
def serving(content):
    """A server on this machine that answers every request with `content`, or 404 for None."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format, *args):
            del format, args

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize("suffix", PACKED)
def test_an_absent_file_is_fetched_once_into_the_cache(no_proxy, tmp_path, suffix):
    with serving(PACKED[suffix]) as (url, requests):
        file = data_file(url=f"{url}/files/hours.csv{suffix}")
        assert files.read(file) == CONTENT
        assert files.read(file) == CONTENT
    assert requests == [f"/files/hours.csv{suffix}"]
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert cached == [tmp_path / "cache" / "city" / f"hours.csv{suffix}"]


@pytest.mark.parametrize(("suffix", "sent"), [("", b"<html>moved</html>"), (".gz", b"no gzip")])
def test_a_wrong_download_is_refused_and_not_kept(no_proxy, tmp_path, suffix, sent):
    with serving(sent) as (url, _):
        file = data_file(url=f"{url}/hours.csv{suffix}")
        with pytest.raises(DataError) as caught:
            files.read(file)
    message = str(caught.value)
    assert file.sha256 in message and f"{url}/hours.csv" in message and "\n" not in message
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    with serving(PACKED[suffix]) as (url, _):  # so that the next attempt can succeed
        assert files.read(file._replace(url=f"{url}/hours.csv{suffix}")) == CONTENT


def test_absent_and_refused_says_which_file_from_where_and_what_to_do(no_proxy, tmp_path):
    with contextlib.ExitStack() as stack:
        url, _ = stack.enter_context(serving(None))
        taken = stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        for home in (f"{url}/hours.csv", f"http://127.0.0.1:{taken.getsockname()[1]}/hours.csv"):
            file = data_file(url=home)
            with pytest.raises(DataError) as caught:
                files.read(file)
            message = str(caught.value)
            for part in ("city/hours.csv", home, file.sha256, str(tmp_path / "cache" / "city")):
                assert part in message
            assert "CITYJAX_DATA" in message and "\n" not in message


def test_a_file_without_an_address_names_the_page_it_is_from(tmp_path):
    file = data_file()
    with pytest.raises(DataError) as caught:
        files.read(file)
    message = str(caught.value)
    for part in ("city/hours.csv", file.source, file.sha256, str(tmp_path / "cache" / "city")):
        assert part in message


# Statistics over seeds.


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_statistics_are_students(count):
    values = np.random.default_rng(count).normal(3.0, 2.0, count).tolist()
    mean, half_width = statistics(values)
    assert half_width is not None
    low, high = stats.t.interval(0.95, count - 1, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose([mean - half_width, mean + half_width], [low, high], rtol=1e-9)


def test_statistics_of_one_value_have_no_interval_and_of_none_are_an_error():
    assert statistics([2.5]) == (2.5, None)
    assert statistics([2.0, 2.0]) == (2.0, 0.0)
    with pytest.raises(ValueError, match="no values"):
        statistics([])
