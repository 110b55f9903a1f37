"""Checkpoints: Orbax behind three functions. A folder holds one checkpoint, named by its step.

Orbax writes beside and renames, and the older checkpoint is removed only when the newer one is
whole: a run killed while saving leaves at least one that can be read.
"""

import shutil
from pathlib import Path
from typing import Any

from cityjax.errors import UserError


class CheckpointError(UserError):
    """A checkpoint cannot be read or does not fit; the message is one line naming the folder."""


def save(folder: Path, step: int, tree: Any) -> None:
    """Write a pytree of arrays as the one checkpoint of `folder`, replacing older ones."""
    import orbax.checkpoint as ocp

    folder.mkdir(parents=True, exist_ok=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve() / str(step), tree, force=True)
        checkpointer.wait_until_finished()
    for entry in folder.iterdir():
        if entry.name != str(step):
            shutil.rmtree(entry)


def latest(folder: Path) -> int | None:
    """Return the step of the checkpoint in `folder`, or None where there is none."""
    if not folder.is_dir():
        return None
    # What Orbax has not finished has a longer name than the step's digits.
    return max((int(e.name) for e in folder.iterdir() if e.name.isdigit()), default=None)


def restore(folder: Path, like: Any) -> Any:
    """Read the checkpoint of `folder` into the structure, shapes and types of `like`.

    like: a pytree of jax.ShapeDtypeStruct, as jax.eval_shape gives it. Raises CheckpointError
    where there is no checkpoint, it is damaged, or it holds other arrays than `like`.
    """
    import orbax.checkpoint as ocp

    step = latest(folder)
    if step is None:
        raise CheckpointError(f"there is no checkpoint in {folder}")
    path = folder.resolve() / str(step)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path, like)
    except (ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the checkpoint {path} cannot be read: {reason}") from error
