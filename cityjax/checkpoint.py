"""Checkpoints: Orbax behind three functions. A folder holds one checkpoint, named by its step.

A checkpoint is written under another name and read back. Only when it is what was saved does it get
the name it is found by, and only then are older ones removed: a run killed while saving leaves at
least one that can be read. It holds plain arrays, which any number of devices can read.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.errors import UserError

# Orbax and TensorStore glob their paths and read them as addresses.
_SPECIAL = re.compile(r"[]*?[\\:]")


class CheckpointError(UserError):
    """A checkpoint cannot be written, read or fitted; the message is one line with its path."""


def save(folder: Path, step: int, tree: Any) -> None:
    """Write a pytree of arrays as the one checkpoint of `folder`, replacing older ones.

    Raises CheckpointError where it cannot be written whole; the one before it then stays.
    """
    try:
        _write(folder, str(step), jax.device_get(_keys_as_data(tree)))
    except (ValueError, KeyError, OSError) as error:
        path = folder / str(step)
        raise CheckpointError(f"the checkpoint {path} cannot be written: {_line(error)}") from error


def latest(folder: Path) -> int | None:
    """Return the step of the checkpoint in `folder`, or None where there is none."""
    name = _found(folder)
    return None if name is None else int(name.removesuffix(".old"))


def _found(folder: Path) -> str | None:
    """Return the name of the checkpoint in `folder`: digits, or with .old, see `_write`."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    steps = {int(name) for name in names if name.isdigit()}
    steps = steps or {int(name[:-4]) for name in names if re.fullmatch(r"[0-9]+\.old", name)}
    if not steps:
        return None
    name = str(max(steps))
    return name if name in names else f"{name}.old"


def restore(folder: Path, like: Any) -> Any:
    """Read the checkpoint of `folder` into the structure, shapes and types of `like`.

    like: a pytree of jax.ShapeDtypeStruct, as jax.eval_shape gives it. The arrays are on the
    default device. Raises CheckpointError where there is no checkpoint, it is damaged, or it holds
    other arrays than `like`.
    """
    name = _found(folder)
    if name is None:
        raise CheckpointError(f"there is no checkpoint in {folder}")
    path = folder / name
    try:
        arrays = _read(path, jax.eval_shape(_keys_as_data, like))
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {_line(error)}") from error
    return jax.tree.map(_on_device, like, arrays)


def _write(folder: Path, name: str, arrays: Any) -> None:
    """Write numpy arrays under another name, compare them with what can be read, and rename."""
    import orbax.checkpoint as ocp

    folder.mkdir(parents=True, exist_ok=True)
    _keep_only(folder, str(_found(folder)))  # a save that was killed left something
    fresh, path = folder / f"{name}.new", folder / name
    with _plain(folder) as place, ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(place / fresh.name, arrays)
    if not jax.tree.all(jax.tree.map(_same, arrays, _read(fresh, arrays))):
        raise ValueError("it reads back as something else")
    if path.exists():  # of the same step, saved again; killed in between, it is found as .old
        path.rename(folder / f"{name}.old")
    fresh.rename(path)
    _keep_only(folder, name)


def _keep_only(folder: Path, name: str) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != name:
            shutil.rmtree(entry)


def _read(path: Path, like: Any) -> Any:
    """Read numpy arrays of the structure, shapes and types of `like`."""
    import orbax.checkpoint as ocp

    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
    with _plain(path.parent) as place, ocp.PyTreeCheckpointer() as checkpointer:
        arrays = checkpointer.restore(place / path.name, item=like, restore_args=as_numpy)
    for (name, leaf), array in zip(
        jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(arrays), strict=True
    ):
        if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
            shown = f"{array.dtype}{list(array.shape)}, not {leaf.dtype}{list(leaf.shape)}"
            raise ValueError(f"{jax.tree_util.keystr(name)} is {shown}")
    return arrays


@contextlib.contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    """Give an absolute path of `folder` that Orbax takes as it stands."""
    path = folder.absolute()
    if not _SPECIAL.search(path.relative_to(path.anchor).as_posix()):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="cityjax-") as place:
        link = Path(place) / "folder"
        link.symlink_to(path, target_is_directory=True)
        yield link


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _keys_as_data(tree: Any) -> Any:
    """Return the tree with typed PRNG keys as the integers they hold."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _on_device(like: Any, array: np.ndarray) -> jax.Array:
    if not _is_key(like):
        return jnp.array(array)  # a copy: it will be donated
    kind = jax.random.key_impl(jnp.zeros((), like.dtype))
    return jax.random.wrap_key_data(jnp.array(array), impl=kind)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Compare bytes, in which NaN is itself."""
    first, second = (np.ascontiguousarray(array).view(np.uint8) for array in (one, other))
    return np.array_equal(first, second)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
