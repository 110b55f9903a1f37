"""Devices that do not divide an evaluation batch, and runs that change the number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cityjax import losses, metrics
from cityjax.data.sources import in_order, shuffled
from cityjax.learner import from_linen
from cityjax.learners import adversarial, supervised
from cityjax.models.gan import DenseDiscriminator, DenseGenerator
from cityjax.models.mlp import MLP
from cityjax.parallel import Trainer


def forecasts(rows, mask):
    """Inputs [rows, 5], targets [rows, 4], and a mask of any leading part of that shape."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(rows, 5)).astype(np.float32)
    targets = draw.normal(size=(rows, 4)).astype(np.float32)
    targets[-1] = 1e6  # what padding repeats: it shows in any sum that it slips into
    return {"inputs": inputs, "targets": targets} | ({} if mask is None else {"mask": mask})


@pytest.mark.parametrize(("mask_axes", "batch_size"), [(0, 4), (1, 7), (2, 2)])
def test_evaluation_is_the_same_on_devices_that_do_not_divide_its_batches(
    mask_axes, batch_size, key
):
    rows = 10
    mask = np.random.default_rng(1).random((rows, 4)[:mask_axes]) < 0.7 if mask_axes else None
    batches = in_order(forecasts(rows, mask), batch_size)
    learner = supervised(
        from_linen(MLP((3,), 4)),
        losses.squared_error,
        optax.sgd(0.1),
        {"mae": metrics.mean_absolute_error(), "mae@2": metrics.mean_absolute_error(at=2)},
    )
    state = jax.jit(learner.init)(key, batches.source(key, jnp.int32(0)))
    expected = Trainer(learner).evaluate(state, batches)
    split = Trainer(learner, parallel="pmap", devices=jax.local_devices()[:3])
    actual = split.evaluate(split.place(state), batches)
    whole = np.ones((rows, 4), bool) if mask is None else np.broadcast_to(mask.T, (4, rows)).T
    for name, (total, count) in actual.items():
        assert count == (whole[:, 1] if name == "mae@2" else whole).sum()
        np.testing.assert_allclose(total, expected[name][0], rtol=1e-5)
        assert count == expected[name][1]


def test_noise_of_a_padded_evaluation_belongs_to_the_same_examples(key):
    draw = np.random.default_rng(0)
    images = draw.normal(size=(8, 28, 28, 1)).astype(np.float32)
    batches = in_order({"inputs": images, "targets": np.arange(8, dtype=np.int32)}, 8)
    learner = adversarial(
        from_linen(DenseGenerator((4,))),
        from_linen(DenseDiscriminator((4,))),
        optax.sgd(0.1),
        optax.sgd(0.1),
        latent_size=3,
    )
    state = jax.jit(learner.init)(key, batches.source(key, jnp.int32(0)))
    expected = Trainer(learner).evaluate(state, batches)
    split = Trainer(learner, parallel="pmap", devices=jax.local_devices()[:3])
    actual = split.evaluate(split.place(state), batches)
    for name, sums in expected.items():
        np.testing.assert_allclose(actual[name], sums, rtol=1e-5, err_msg=name)


def test_training_batches_must_divide(key):
    source = shuffled(forecasts(8, None), 4)
    learner = supervised(from_linen(MLP((3,), 4)), losses.squared_error, optax.sgd(0.1))
    split = Trainer(learner, parallel="pmap", devices=jax.local_devices()[:3])
    state, source = split.place((jax.jit(learner.init)(key, source(key, jnp.int32(0))), source))
    with pytest.raises(ValueError, match="a batch of 4 is not divisible by 3 devices"):
        split.train(state, split.zero_sums(state, source), source, 1)
