"""Checkpoints survive any folder name, a kill at any moment, and a write that went wrong."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from cityjax import checkpoint

ODD_NAMES = ["a [b]", "a*", "a?", "back\\slash", "gs:", "a [b]*\\c?"]


def tree(step):
    """A tree with what checkpoints hold: floats (a NaN among them), counters, a typed key."""
    values = np.array([step, np.nan, -0.0], np.float32)
    return {"w": values, "half": jnp.ones(2, jnp.bfloat16), "n": jnp.int32(step), "key": key(step)}


def key(step):
    return jax.random.key(step, impl="rbg")


LIKE = jax.eval_shape(lambda: tree(0))


def holds(folder, step):
    """Whether `folder` has the checkpoint of `step`, and it reads back bit for bit."""
    assert checkpoint.latest(folder) == step
    restored = checkpoint.restore(folder, LIKE)
    assert jax.tree.map(lambda leaf: leaf.dtype, restored) == jax.tree.map(
        lambda leaf: leaf.dtype, LIKE
    )
    np.testing.assert_array_equal(restored["w"], tree(step)["w"])
    assert np.signbit(restored["w"][2])
    np.testing.assert_array_equal(
        jax.random.key_data(restored["key"]), jax.random.key_data(key(step))
    )
    return restored["n"] == step


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folder_may_have_any_name(name, tmp_path):
    folder = tmp_path / name / "last"
    for step in (3, 12):
        checkpoint.save(folder, step, tree(step))
        assert holds(folder, step)
    assert [entry.name for entry in folder.iterdir()] == ["12"]


def test_a_name_with_wildcards_does_not_reach_its_neighbours(tmp_path):
    for name, step in (("ab", 1), ("a*", 2), ("a?", 3), ("a[b]", 4)):
        checkpoint.save(tmp_path / name, step, tree(step))
    for name, step in (("ab", 1), ("a*", 2), ("a?", 3), ("a[b]", 4)):
        assert holds(tmp_path / name, step)


def test_a_renamed_folder_is_read(tmp_path):
    checkpoint.save(tmp_path / "plain", 1, tree(1))
    (tmp_path / "plain").rename(tmp_path / "now [odd]")
    assert holds(tmp_path / "now [odd]", 1)


def test_the_format_before_this_one_is_read(tmp_path):
    # Typed keys were saved as such, and arrays with the devices they lay on.
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("batch",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "old" / "5", jax.device_put(tree(5), everywhere))
    assert holds(tmp_path / "old", 5)


def test_what_many_devices_saved_is_read_onto_one(tmp_path):
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("batch",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    checkpoint.save(tmp_path, 1, {"a": jax.device_put(jnp.arange(16), split)})
    restored = checkpoint.restore(tmp_path, {"a": jax.ShapeDtypeStruct((16,), jnp.int32)})["a"]
    assert restored.devices() == {jax.devices()[0]}
    np.testing.assert_array_equal(restored, np.arange(16))


def test_a_write_that_went_wrong_is_told_and_costs_nothing(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, tree(1))
    whole = ocp.PyTreeCheckpointer.save

    def nothing(self, path, arrays, **options):
        pass

    def another(self, path, arrays, **options):
        whole(self, path, {**arrays, "n": arrays["n"] + 1}, **options)

    def full(self, path, arrays, **options):
        raise OSError(28, "No space left on device")

    for save, reason in ((nothing, "cannot"), (another, "something else"), (full, "No space")):
        for step in (1, 2):
            with monkeypatch.context() as patch:
                patch.setattr(ocp.PyTreeCheckpointer, "save", save)
                with pytest.raises(checkpoint.CheckpointError, match=reason) as error:
                    checkpoint.save(tmp_path, step, tree(step))
            assert f"{tmp_path / str(step)} cannot be written" in str(error.value)
            assert "\n" not in str(error.value) and holds(tmp_path, 1)
    checkpoint.save(tmp_path, 2, tree(2))
    assert holds(tmp_path, 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["2"]


@pytest.mark.parametrize("moment", ["written", "renamed", "removed"])
def test_a_kill_while_saving_leaves_one_that_can_be_read(moment, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*details):
        raise Killed

    checkpoint.save(tmp_path, 1, tree(1))
    with monkeypatch.context() as patch:
        if moment == "written":
            patch.setattr(ocp.PyTreeCheckpointer, "close", kill)
        elif moment == "renamed":
            patch.setattr(Path, "rename", kill)
        else:
            patch.setattr(shutil, "rmtree", kill)
        with pytest.raises(Killed):
            checkpoint.save(tmp_path, 2, tree(2))
    assert holds(tmp_path, 2 if moment == "removed" else 1)
    (tmp_path / "3.new.orbax-checkpoint-tmp").mkdir()  # what a kill in Orbax leaves
    for step in (2, 3):
        checkpoint.save(tmp_path, step, tree(step))
        assert holds(tmp_path, step)
        assert [entry.name for entry in tmp_path.iterdir()] == [str(step)]


def test_a_kill_while_the_same_step_is_saved_again_leaves_it(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, tree(1))
    rename, renamed = Path.rename, []

    def second_fails(self, target):
        renamed.append(target)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", second_fails)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, 1, tree(1))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["1.new", "1.old"]
    assert holds(tmp_path, 1)
    checkpoint.save(tmp_path, 2, tree(2))
    assert holds(tmp_path, 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["2"]
