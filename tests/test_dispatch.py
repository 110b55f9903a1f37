"""How many updates a dispatch holds, and that a run keeps to it."""

import os
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen as nn

from cityjax import conclude, dispatch, losses
from cityjax.data.sources import shuffled
from cityjax.dispatch import choose_chunk
from cityjax.learner import State, from_linen
from cityjax.learners import supervised
from cityjax.models.cnn import CNN
from cityjax.models.mlp import MLP
from cityjax.models.rnn import RNN
from cityjax.parallel import Trainer
from cityjax.run import run
from cityjax.tasks import digits

TINY = ["experiment=mlp_mnist", "hidden_sizes=[4]", "batch_size=16", "progress=off", "steps=12"]
TINY += ["log_every=6", "eval_every=6", "checkpoint_every=6"]


class Convolving(nn.Module):
    """A network of XLA's own convolution."""

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return nn.Dense(3)(nn.Conv(2, (3, 3))(x).reshape(x.shape[0], -1))


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (MLP((4,), 3), 50),
        (RNN(4, 3, "gru"), 50),
        (Convolving(), 1),
        (CNN((2, 12), (), 3), 1),
        (CNN((2,), (), 3), 50),  # XLA convolves on other platforms alone
    ],
)
def test_updates_of_a_dispatch_are_many_unless_a_cpu_convolves(module, expected, key, monkeypatch):
    images = jax.random.normal(key, (8, 8, 8, 1))
    source = shuffled({"inputs": images, "targets": jnp.zeros(8, jnp.int32)}, 4)
    learner = supervised(from_linen(module), losses.softmax_cross_entropy, optax.sgd(0.1))
    state = jax.eval_shape(lambda: learner.init(key, source(key, jnp.zeros((), jnp.int32))))
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert choose_chunk(learner, source, state) == expected
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_chunk(learner, source, state) == 50


@pytest.mark.parametrize(
    ("products", "expected"),
    # A product of 1,000 x 1,000 is 2 x 1000^3 operations, and its tanh writes 1000^2 numbers, each
    # of which counts for 80: 2.08e9. Two seconds are 6e11, or 288.5 such products.
    [
        (5, 50),
        (6, 25),
        (11, 25),
        (12, 10),
        (28, 10),
        (29, 5),
        (57, 5),
        (58, 2),
        (144, 2),
        (145, 1),
        (999, 1),
    ],
)
def test_heavy_updates_are_few_to_a_dispatch_on_a_cpu(products, expected, monkeypatch):
    def multiply(left, _):
        return jnp.tanh(left @ left), None

    def on_cpu(x):
        return jax.lax.scan(multiply, x, length=products)[0]

    def step(state, batch):
        elsewhere = jax.jit(lambda x: on_cpu(on_cpu(x)))
        return jax.lax.platform_dependent(batch, cpu=on_cpu, default=elsewhere), {}

    key, zero = jax.random.key(0), jnp.int32(0)
    learner, state = SimpleNamespace(step=step), State(zero, key, {}, {}, (), {})
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert choose_chunk(learner, lambda key, step: jnp.zeros((1000, 1000)), state) == expected


def test_a_resumed_run_keeps_the_updates_of_a_dispatch_that_it_began_with(tmp_path, monkeypatch):
    monkeypatch.setattr(conclude, "draw", lambda run: None)
    monkeypatch.setattr(digits, "baselines", dict)
    monkeypatch.setattr(dispatch, "choose_chunk", lambda *given: 3)
    asked = []
    train = Trainer.train

    def counted(self, state, sums, source, updates):
        asked.append(updates)
        return train(self, state, sums, source, updates)

    monkeypatch.setattr(Trainer, "train", counted)
    place = tmp_path / "run"
    whole = run([*TINY, f"workdir={place}"]).metrics
    assert asked == [3, 3, 3, 3] and "chunk: 3" in (place / "config.yaml").read_text()
    shutil.rmtree(place / "checkpoints")
    os.remove(place / "result.json")
    monkeypatch.setattr(dispatch, "choose_chunk", lambda *given: pytest.fail("chosen again"))
    assert run([*TINY, f"workdir={place}"]).metrics == whole
    assert set(asked) == {3}
