"""The step of cityjax, as an experiment trains it, and that of the same network in plain Flax."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.networks.in_flax import (
    PlainCNN,
    PlainDenseDiscriminator,
    PlainDenseGenerator,
    PlainDiscriminator,
    PlainGenerator,
    PlainMLP,
    PlainRNN,
    PlainSTID,
    PlainTGCN,
)
from benchmarks.networks.shared import (
    CITY_HIDDEN,
    CLASSES,
    GANS,
    HIDDEN,
    HORIZON,
    LATENT,
    LEARNING_RATE,
    STEPS_PER_DAY,
    city,
    images,
    weights,
)
from cityjax.dispatch import choose_chunk
from cityjax.forecasters.stid import STID
from cityjax.forecasters.tgcn import TGCN
from cityjax.learner import Learner, State, from_linen, step_key
from cityjax.learners import adversarial, supervised
from cityjax.losses import softmax_cross_entropy, squared_error
from cityjax.models.cnn import CNN
from cityjax.models.gan import (
    ConvDiscriminator,
    ConvGenerator,
    DenseDiscriminator,
    DenseGenerator,
)
from cityjax.models.mlp import MLP
from cityjax.models.rnn import RNN
from cityjax.ops import random
from cityjax.ops.graph import dense_matmul
from cityjax.parallel import Trainer

Train = Callable[[int], list[float]]  # so many updates -> their mean losses, or the last one's


def _digits(module: Any) -> Learner:
    return supervised(from_linen(module), softmax_cross_entropy, optax.adam(LEARNING_RATE))


def _pair(generator: Any, discriminator: Any) -> Learner:
    optimizers = [optax.adam(LEARNING_RATE, b1=0.5) for _ in range(2)]
    models = from_linen(generator), from_linen(discriminator)
    return adversarial(*models, *optimizers, latent_size=LATENT)


def forecaster(name: str, graph: np.ndarray, *, plain: bool = False) -> Learner:
    """Return the learner of "stid" or "tgcn" for so many sensors as the graph [N, N] has."""
    carried = partial(jnp.matmul if plain else dense_matmul, graph)
    if name == "stid":
        module = PlainSTID() if plain else STID(HORIZON, STEPS_PER_DAY, CITY_HIDDEN, dropout=0.0)
    else:
        module = PlainTGCN(carried) if plain else TGCN(HORIZON, STEPS_PER_DAY, carried, CITY_HIDDEN)
    return supervised(from_linen(module), squared_error, optax.adam(LEARNING_RATE))


OURS = {
    "mlp": lambda: _digits(MLP((128,), CLASSES)),
    "article_cnn": lambda: _digits(CNN((32,), (), CLASSES)),
    "lenet": lambda: _digits(CNN((32, 64), (256,), CLASSES)),
    "gru": lambda: _digits(RNN(HIDDEN, CLASSES, "gru")),
    "lstm": lambda: _digits(RNN(HIDDEN, CLASSES, "lstm")),
    "gan": lambda: _pair(DenseGenerator((128,), layer_norm=False), DenseDiscriminator((128,))),
    "dcgan": lambda: _pair(ConvGenerator((128, 64)), ConvDiscriminator((64, 128))),
}
PLAIN = {
    "mlp": lambda: _digits(PlainMLP()),
    "article_cnn": lambda: _digits(PlainCNN((32,), ())),
    "lenet": lambda: _digits(PlainCNN((32, 64), (256,))),
    "gru": lambda: _digits(PlainRNN(nn.GRUCell)),
    "lstm": lambda: _digits(PlainRNN(nn.OptimizedLSTMCell)),
    "gan": lambda: _pair(PlainDenseGenerator(), PlainDenseDiscriminator()),
    "dcgan": lambda: _pair(PlainGenerator(), PlainDiscriminator()),
}


def jax_side(name: str, plain: bool) -> tuple[Train, int, dict[str, Any]]:
    """Return what trains, updates per dispatch, and what another side needs to do the same.

    cityjax trains as its runs do, with as many updates per dispatch as it chooses itself; plain
    Flax with one. The losses of a GAN are the discriminator's and the generator's. What others
    need: "shapes" of the weights by path, and the "latent" points of a GAN's first step.
    """
    learner, state, batch, sent = start(name, plain)
    step = jax.jit(learner.step, donate_argnums=0)
    source, trainer = jax.tree_util.Partial(_same, batch), Trainer(learner)
    chunk = 1 if plain else choose_chunk(learner, source, state)
    names = ["discriminator_loss", "generator_loss"] if name in GANS else ["loss"]

    def train(updates: int) -> list[float]:
        nonlocal state
        sums: Any = None if plain else trainer.zero_sums(state, source)
        for _ in range(0, updates, chunk):
            if plain:
                state, sums = step(state, batch)
            else:
                state, sums = trainer.train(state, sums, source, min(chunk, updates))
        return [float(sums[name][0]) / float(sums[name][1]) for name in names]

    return train, chunk, sent


def _same(batch: Any, key: jax.Array, step: jax.Array) -> Any:
    """Give the same batch at every step; nothing that depends on it alone is made but once a step.

    XLA would make it once for all the updates of a dispatch.
    """
    del key
    return jax.lax.optimization_barrier((batch, step))[0]


def start(name: str, plain: bool) -> tuple[Learner, State, Any, dict[str, Any]]:
    """Return the learner, its first state, its batch, and what is sent to other sides."""
    if not plain:
        from cityjax.process import keep_freed_memory

        keep_freed_memory()  # as the command line does
    if name in OURS:
        batch, learner = images(), (PLAIN if plain else OURS)[name]()
    else:
        batch, graph = city()
        learner = forecaster(name, graph, plain=plain)
    state = jax.jit(learner.init)(jax.random.key(0), batch)
    shapes = {"/".join(path): leaf.shape for path, leaf in flatten_dict(state.params).items()}
    sent: dict[str, Any] = {"shapes": shapes}
    if name in GANS:
        key = jax.random.fold_in(step_key(state), 0)
        sent["latent"] = np.asarray(random.normal(key, (len(batch["mask"]), LATENT))).tolist()
    state = state.replace(params=_filled(name, shapes, plain))
    return learner, state, jax.device_put(batch), sent


def _filled(name: str, shapes: dict[str, tuple[int, ...]], plain: bool) -> Any:
    """Return the weights that all sides start from as parameters."""
    if plain and name in ("gru", "lstm"):
        shapes = jax.eval_shape(lambda: OURS[name]().init(jax.random.key(0), images())).params
        shapes = {"/".join(k): v.shape for k, v in flatten_dict(shapes).items()}
        return _cell(name, weights(shapes))
    params = {tuple(k.split("/")): jnp.asarray(v) for k, v in weights(shapes).items()}
    return unflatten_dict(params)


def _cell(name: str, held: dict[str, np.ndarray]) -> Any:
    """Return our recurrent weights as those of Flax's cells, which keep each gate apart."""
    gates = {"gru": "rzn", "lstm": "ifgo"}[name]
    own = {path.removeprefix("Recurrent_0/"): array for path, array in held.items()}

    def split(path: str) -> dict[str, np.ndarray]:
        return dict(zip(gates, np.split(own[path], len(gates), axis=-1), strict=True))

    kernel, bias = split("input/kernel"), split("input/bias")
    recurrent, extra = split("recurrent_kernel"), split("recurrent_bias")
    cell = {}
    for gate in gates:
        cell[f"i{gate}"] = {"kernel": kernel[gate]}
        cell[f"h{gate}"] = {"kernel": recurrent[gate]}
        if name == "lstm":
            cell[f"h{gate}"]["bias"] = bias[gate] + extra[gate]
        elif gate == "n":
            cell["in"]["bias"], cell["hn"]["bias"] = bias[gate], extra[gate]
        else:
            cell[f"i{gate}"]["bias"] = bias[gate] + extra[gate]
    head = {"kernel": own["Dense_0/kernel"], "bias": own["Dense_0/bias"]}
    return jax.tree.map(jnp.asarray, {"cell": cell, "Dense_0": head})
