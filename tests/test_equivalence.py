"""One step function, the same numbers however it is compiled: jit, scan, vmap, pmap, a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cityjax import losses
from cityjax.learner import data_key, from_linen
from cityjax.learners import adversarial, average, moving_average, supervised
from cityjax.models.cnn import CNN
from cityjax.models.mlp import MLP
from cityjax.ops import random
from cityjax.parallel import AXIS, Trainer

STEPS, BATCH = 20, 16


class Generator(nn.Module):
    """A dense generator with batch norm, so that statistics cross devices as well."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        latent, _ = inputs
        x = nn.Dense(8)(latent)
        x = nn.BatchNorm(use_running_average=not train, axis_name=axis_name)(x)
        return nn.Dense(6)(nn.relu(x))


class Discriminator(nn.Module):
    """A dense discriminator with dropout."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        x, _ = inputs
        return MLP((8,), 1, dropout=0.3)(x, train=train, axis_name=axis_name)[:, 0]


def source_of(dtype, targets):
    """Batches drawn by example, so that they are a function of (key, step)."""

    def source(key, step):
        key = jax.random.fold_in(key, step)
        keys = jax.random.split(key, 3)
        return {
            "inputs": random.normal(keys[0], (BATCH, 4, 4, 1), dtype=dtype),
            "targets": targets(keys[1], dtype),
            "mask": random.bernoulli(keys[2], 0.7, (BATCH,)),
        }

    return jax.tree_util.Partial(source)


def labels(key, dtype):
    del dtype
    return random.randint(key, (BATCH,), 0, 3)


def values(key, dtype):
    return random.normal(key, (BATCH, 3), dtype=dtype)


def flat(source):
    """The same source with inputs [B, 6] for the GAN."""

    def flattened(key, step):
        batch = source(key, step)
        return {**batch, "inputs": batch["inputs"].reshape(BATCH, -1)[:, :6]}

    return jax.tree_util.Partial(flattened)


def case(name, dtype):
    """Return (learner, source)."""
    sgd = optax.sgd(0.05)
    if name == "masked regression":
        model = from_linen(MLP((8,), 3, activation="tanh"))
        return supervised(model, losses.squared_error, sgd), source_of(dtype, values)
    if name == "cnn with batch norm":
        model = from_linen(CNN((4,), (8,), 3, batch_norm=True))
        return supervised(model, losses.softmax_cross_entropy, sgd), source_of(dtype, labels)
    if name == "mlp with dropout":
        model = from_linen(MLP((8,), 3, activation="tanh", dropout=0.5))
        learner = supervised(model, losses.softmax_cross_entropy, sgd)
        return moving_average(learner, 0.9), source_of(dtype, labels)
    if name == "mean of two":
        model = from_linen(MLP((8,), 3, activation="tanh", dropout=0.5))
        learner = supervised(model, losses.squared_error, sgd)
        members = [learner, moving_average(learner, 0.9)]
        return average(members, losses.squared_error), source_of(dtype, values)
    learner = adversarial(
        from_linen(Generator()),
        from_linen(Discriminator()),
        sgd,
        sgd,
        latent_size=5,
        gradient_penalty=0.1 if name == "gan with penalty" else 0.0,
    )
    return learner, flat(source_of(dtype, labels))


def start(learner, source, dtype):
    state = learner.init(jax.random.key(1), source(jax.random.key(2), 0))
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )


def run_jit(learner, source, state, chunk=1):
    trainer = Trainer(learner)
    sums = trainer.zero_sums(state, source)
    for _ in range(STEPS // chunk):
        state, sums = trainer.train(state, sums, source, chunk)
    return state, sums


def run_scan(learner, source, state):
    return run_jit(learner, source, state, chunk=10)


def run_pmap(learner, source, state, chunk):
    trainer = Trainer(learner, parallel="pmap")
    state, source = trainer.place(state), trainer.place(source)
    sums = trainer.zero_sums(state, source)
    for _ in range(STEPS // chunk):
        state, sums = trainer.train(state, sums, source, chunk)
    return state, sums


def _accumulate(step, source, state, place=lambda batch: batch):
    draw = jax.jit(lambda state: source(data_key(state), state.step))
    sums = None
    for _ in range(STEPS):
        # Programs with collectives deadlock on forced CPU devices when several are in flight.
        state, new = jax.block_until_ready(step(state, place(draw(state))))
        sums = new if sums is None else jax.tree.map(jnp.add, sums, new)
    return state, sums


def run_mesh(learner, source, state):
    """Global view: the batch sharded over eight devices, the compiler inserts what is summed."""
    mesh = Mesh(np.asarray(jax.devices()), (AXIS,))
    split = NamedSharding(mesh, PartitionSpec(AXIS))
    whole = NamedSharding(mesh, PartitionSpec())
    state = jax.device_put(state, whole)
    return _accumulate(
        jax.jit(learner.step), source, state, lambda batch: jax.device_put(batch, split)
    )


def run_shard_map(learner, source, state):
    """Per-device view with checked axes, where averaging per-device gradients would be wrong."""
    mesh = Mesh(np.asarray(jax.devices()), (AXIS,))
    step = jax.jit(
        jax.shard_map(
            functools.partial(learner.step, axis_name=AXIS),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
        )
    )
    return _accumulate(step, source, state)


def run_vmap_axis(learner, source, state):
    """Per-device view under vmap: eight shards on one device."""
    step = jax.jit(
        jax.vmap(
            functools.partial(learner.step, axis_name=AXIS),
            in_axes=(None, 0),
            out_axes=None,
            axis_name=AXIS,
        )
    )

    def shards(batch):
        return jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), batch)

    return _accumulate(step, source, state, shards)


def run_vmap_seeds(learner, source, state):
    """Two copies of the state side by side, the first of which is compared."""

    @jax.jit
    @jax.vmap
    def run(state):
        def update(state, _):
            return learner.step(state, source(data_key(state), state.step))

        state, sums = jax.lax.scan(update, state, length=STEPS)
        return state, jax.tree.map(lambda x: x.sum(0), sums)

    return jax.tree.map(lambda x: x[0], run(jax.tree.map(lambda x: jnp.stack([x, x]), state)))


FORMS = {
    "scan": run_scan,
    "pmap": functools.partial(run_pmap, chunk=10),
    "mesh": run_mesh,
    "shard_map": run_shard_map,
    "vmap over shards": run_vmap_axis,
    "vmap over seeds": run_vmap_seeds,
}
CASES = ("masked regression", "cnn with batch norm", "mlp with dropout", "mean of two", "gan")
CASES += ("gan with penalty",)


@pytest.mark.parametrize("name", CASES)
def test_every_form_gives_the_same_numbers(name):
    compare(name, "float64", 1e-12, FORMS)


@pytest.mark.parametrize("name", CASES[:-1])
def test_single_precision_agrees_to_its_own_rounding(name):
    compare(name, "float32", 1e-5, {form: FORMS[form] for form in ("pmap", "mesh")})


def compare(name, precision, tolerance, forms):
    with jax.enable_x64(precision == "float64"):
        dtype = jnp.dtype(precision)
        learner, source = case(name, dtype)
        expected = run_jit(learner, source, start(learner, source, dtype))
        assert int(expected[0].step) == STEPS
        for form, run in forms.items():
            actual = run(learner, source, start(learner, source, dtype))
            for (path, left), right in zip(
                jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(actual), strict=True
            ):
                if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
                    left, right = jax.random.key_data(left), jax.random.key_data(right)
                assert left.dtype == right.dtype, (form, path)
                np.testing.assert_allclose(
                    left, right, rtol=tolerance, atol=tolerance, err_msg=f"{form} {path}"
                )
