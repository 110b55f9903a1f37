"""Where data files are: `CITYJAX_DATA`, then the package, then the user's cache or a download.

A checksum is the sha256 of the uncompressed content, so that a plain and a compressed copy of one
file are the same file. Nothing is unpickled, ever.
"""

import contextlib
import gzip
import hashlib
import logging
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cityjax.errors import UserError

_OPENERS = {"": lambda data: data, ".gz": gzip.decompress, ".xz": lzma.decompress}


class DataError(UserError):
    """A data file is absent, altered or unreadable; the message is one line with the remedy."""


class DataFile(NamedTuple):
    """One file of a data set: its name, the sha256 of its uncompressed content, its home.

    sha256: "" where nobody could state it; `digest` then says what was read. packaged: a folder
    of the package that ships it, or None. url: where it can be fetched from, or None; source: the
    page to name to a reader when it cannot. optional: the set can be read without it. original: the
    sha256 of a copy known as the original, where sha256 is "" since a copy that was saved anew has
    the same values and other bytes; `python -m cityjax.data check` compares it.
    """

    dataset: str
    name: str
    sha256: str
    packaged: Path | None = None
    url: str | None = None
    source: str = ""
    optional: bool = False
    original: str = ""


def read(file: DataFile) -> bytes:
    """Return the uncompressed content of a data file, checked against its sha256.

    Raises DataError naming the file, where it was looked for, and the checksum.
    """
    return _checked(find(file), file, "remove or replace it")


def digest(file: DataFile) -> str:
    """Return the sha256 of the content that `read` gives."""
    return hashlib.sha256(read(file)).hexdigest()


def _checked(path: Path, file: DataFile, remedy: str) -> bytes:
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    suffix = path.name.removeprefix(file.name)
    expected = f" (its content must have sha256 {file.sha256})" if file.sha256 else ""
    try:
        content = _OPENERS[suffix](packed)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path} is truncated or damaged: {error}{expected}; {remedy}") from error
    found = hashlib.sha256(content).hexdigest()
    if file.sha256 and found != file.sha256:
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
    return locate(file) or _download(file)


def locate(file: DataFile) -> Path | None:
    """Return the path of a data file that is on this machine, else None; nothing is fetched."""
    folders = []
    if os.environ.get("CITYJAX_DATA"):
        folders.append(Path(os.environ["CITYJAX_DATA"]) / file.dataset)
    if file.packaged is not None:
        folders.append(file.packaged)
    folders.append(cache_folder() / file.dataset)
    for folder in folders:
        for suffix in _OPENERS:
            path = folder / (file.name + suffix)
            try:
                if path.is_file():
                    return path
            except OSError as error:  # a folder that may not be entered
                raise _unreadable(path, error) from error
    return None


def cache_folder() -> Path:
    """Return the folder of what can be had again: the platform's user cache, `cityjax`."""
    import pooch

    return Path(pooch.os_cache("cityjax"))


def _download(file: DataFile) -> Path:
    import pooch

    folder = cache_folder() / file.dataset
    place = f"put it into {folder} or a folder {file.dataset} of CITYJAX_DATA, plain or compressed"
    if file.sha256:
        place += f" (sha256 of the content {file.sha256})"
    if file.url is None:
        raise DataError(
            f"{file.dataset}/{file.name} is not here: get it from {file.source}, {place}"
        )
    path = folder / (file.name + next((s for s in (".gz", ".xz") if file.url.endswith(s)), ""))
    try:
        with _bar(path.name) as bar:
            # pooch's own types say bool where its documentation offers any such bar.
            downloader: Any = pooch.HTTPDownloader(chunk_size=2**16)
            downloader.progressbar = bar
            pooch.retrieve(
                file.url,
                known_hash=None,  # checked below, of the content
                fname=path.name,
                path=folder,
                downloader=downloader,
            )
    except (OSError, ValueError) as error:  # every network failure of requests is an OSError
        raise DataError(
            f"{file.dataset}/{file.name} is not here and {file.url} cannot be fetched "
            f"({type(error).__name__}): {place}"
        ) from error
    try:
        _checked(path, file, f"what {file.url} sent is not kept")
    except DataError:
        path.unlink()  # or it would be found here, and refused, by every later run
        raise
    return path


class _Bar:
    """What pooch tells of a download (the interface of tqdm), on a progress bar of rich."""

    def __init__(self, progress: Any, task: Any) -> None:
        self.progress, self.task, self.total = progress, task, 0

    def update(self, size: int) -> None:
        self.progress.update(self.task, total=self.total or None, advance=size)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        self.progress.update(self.task, completed=self.total)


@contextlib.contextmanager
def _bar(name: str) -> Iterator[_Bar]:
    """A progress bar on standard error; pooch's own lines are about a hash that is checked here."""
    import pooch
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    logger = pooch.get_logger()
    level = logger.level
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    logger.setLevel(logging.WARNING)
    try:
        with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as progress:
            yield _Bar(progress, progress.add_task(name, total=None))
    finally:
        logger.setLevel(level)
