"""MNIST handwritten digits (LeCun, Cortes, Burges): the four idx files, shipped in the package.

60,000 training and 10,000 test images, 28 x 28, one byte per pixel, and labels 0-9. Source
http://yann.lecun.com/exdb/mnist/, licence CC BY-SA 3.0. The last 5,000 training images are the
validation part: every choice is made on them, never on the test part.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data.files import DataError, DataFile, read
from cityjax.data.sources import Batch, Batches, Source, in_order, shuffled
from cityjax.ops import random

CLASSES = 10
VALIDATION = 5_000
_SOURCE = "http://yann.lecun.com/exdb/mnist/"
_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FOLDER = Path(__file__).parent / "mnist_files"
_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FILES = {
    name: DataFile("mnist", name, sha256, _FOLDER, f"{_URL}{name}.gz", _SOURCE)
    for name, sha256 in _SHA256.items()
}
PROTOCOL = {
    "data": "MNIST, 60,000 + 10,000 images",
    "split": "first 55,000 train, last 5,000 of train validation, official test",
}


class Digits(NamedTuple):
    """images: uint8 [N, 28, 28]; labels: int32 [N]."""

    images: np.ndarray
    labels: np.ndarray


def load(split: str) -> Digits:
    """Return the digits of "train" (55,000), "validation" (5,000) or "test" (10,000)."""
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split={split!r} is unknown: train, validation, test")
    prefix = "t10k" if split == "test" else "train"
    images = parse_idx(read(FILES[f"{prefix}-images-idx3-ubyte"]), f"{prefix}-images-idx3-ubyte")
    labels = parse_idx(read(FILES[f"{prefix}-labels-idx1-ubyte"]), f"{prefix}-labels-idx1-ubyte")
    part = {"train": slice(None, -VALIDATION), "validation": slice(-VALIDATION, None)}
    rows = part.get(split, slice(None))
    return Digits(images[rows], labels[rows].astype(np.int32))


def hashes() -> dict[str, str]:
    """Return the sha256 of each file's content, for the result."""
    return {f"mnist/{name}": sha256 for name, sha256 in _SHA256.items()}


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Read an idx file of unsigned bytes: big-endian magic 0x0800 + rank, sizes, then the data."""
    rank = {b"\x00\x00\x08\x01": 1, b"\x00\x00\x08\x03": 3}.get(content[:4], 0)
    start = 4 + 4 * rank
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if rank == 0 or len(content) - start != math.prod(shape):
        raise DataError(
            f"{name} is no idx file of bytes: header {content[:4].hex()}, {len(content)} bytes"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def to_batch(key: jax.Array, arrays: Mapping[str, Any], indices: jax.Array) -> Batch:
    """Gather images as inputs [B, 28, 28, 1] in 0..1 and labels as targets [B]."""
    del key
    images = arrays["images"][indices][..., None].astype(jnp.float32) / 255
    return {"inputs": images, "targets": arrays["labels"][indices]}


def to_shifted_batch(key: jax.Array, arrays: Mapping[str, Any], indices: jax.Array) -> Batch:
    """As `to_batch`, each image moved by up to 2 pixels along both axes, zeros moving in."""
    batch = to_batch(key, arrays, indices)
    padded = jnp.pad(batch["inputs"], ((0, 0), (2, 2), (2, 2), (0, 0)))
    offsets = random.randint(key, (len(indices), 2), 0, 5)

    def window(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (28, 28, 1))

    return {**batch, "inputs": jax.vmap(window)(padded, offsets)}


def train_source(batch_size: int, *, augment: str = "none") -> Source:
    """Return the shuffled training batches, with `augment="shift"` moved by up to 2 pixels."""
    gathers = {"none": to_batch, "shift": to_shifted_batch}
    if augment not in gathers:
        raise ValueError(f"augment={augment!r} is unknown: {', '.join(gathers)}")
    return shuffled(load("train")._asdict(), batch_size, gather=gathers[augment])


def evaluation(batch_size: int = 1_000) -> dict[str, Batches]:
    """Return the validation and the test part in order."""
    return {
        split: in_order(load(split)._asdict(), batch_size, gather=to_batch)
        for split in ("validation", "test")
    }
