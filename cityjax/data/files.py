"""Where data files are: `CITYJAX_DATA`, then the package, then the user's cache or a download.

A checksum is the sha256 of the uncompressed content, so that a plain and a compressed copy of one
file are the same file. Nothing is unpickled, ever.
"""

import gzip
import hashlib
import lzma
import os
import zlib
from pathlib import Path
from typing import NamedTuple

from cityjax.errors import UserError

_OPENERS = {"": lambda data: data, ".gz": gzip.decompress, ".xz": lzma.decompress}


class DataError(UserError):
    """A data file is absent, altered or unreadable; the message is one line with the remedy."""


class DataFile(NamedTuple):
    """One file of a data set: its name, the sha256 of its uncompressed content, its home.

    packaged: a folder of the package that ships it, or None. url: where it can be fetched from, or
    None; source: the page to name to a reader when it cannot.
    """

    dataset: str
    name: str
    sha256: str
    packaged: Path | None = None
    url: str | None = None
    source: str = ""


def read(file: DataFile) -> bytes:
    """Return the uncompressed content of a data file, checked against its sha256.

    Raises DataError naming the file, where it was looked for, and the checksum.
    """
    return _checked(find(file), file, "remove or replace it")


def _checked(path: Path, file: DataFile, remedy: str) -> bytes:
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    suffix = path.name.removeprefix(file.name)
    try:
        content = _OPENERS[suffix](packed)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{path} is truncated or damaged ({error}): its content must have sha256 "
            f"{file.sha256}; {remedy}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{path} is not the file it should be: sha256 {found}, expected {file.sha256}; {remedy}"
        )
    return content


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path} cannot be read ({error.strerror}): allow reading it, or name another folder in "
        "CITYJAX_DATA"
    )


def find(file: DataFile) -> Path:
    """Return the path of a data file, downloading it when it is nowhere and has a home."""
    folders = []
    if os.environ.get("CITYJAX_DATA"):
        folders.append(Path(os.environ["CITYJAX_DATA"]) / file.dataset)
    if file.packaged is not None:
        folders.append(file.packaged)
    cache = cache_folder() / file.dataset
    folders.append(cache)
    for folder in folders:
        for suffix in _OPENERS:
            path = folder / (file.name + suffix)
            try:
                if path.is_file():
                    return path
            except OSError as error:  # a folder that may not be entered
                raise _unreadable(path, error) from error
    return _download(file, cache)


def cache_folder() -> Path:
    """Return the folder of downloaded data: the platform's user cache, `cityjax`."""
    import pooch

    return Path(pooch.os_cache("cityjax"))


def _download(file: DataFile, folder: Path) -> Path:
    import pooch

    place = (
        f"put it into {folder} or a folder {file.dataset} of CITYJAX_DATA, plain or compressed "
        f"(sha256 of the content {file.sha256})"
    )
    if file.url is None:
        raise DataError(
            f"{file.dataset}/{file.name} is not here: get it from {file.source}, {place}"
        )
    suffix = next((s for s in (".gz", ".xz") if file.url.endswith(s)), "")
    try:
        pooch.retrieve(
            file.url, known_hash=None, fname=file.name + suffix, path=folder, progressbar=False
        )
    except (OSError, ValueError) as error:  # every network failure of requests is an OSError
        raise DataError(
            f"{file.dataset}/{file.name} is not here and {file.url} cannot be fetched "
            f"({type(error).__name__}): {place}"
        ) from error
    path = folder / (file.name + suffix)
    try:
        _checked(path, file, f"what {file.url} sent is not kept")
    except DataError:
        path.unlink()  # or it would be found here, and refused, by every later run
        raise
    return path
