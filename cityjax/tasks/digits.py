"""Classifying digits: one experiment for every network of images -> logits [B, 10]."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from cityjax import metrics
from cityjax.data import mnist
from cityjax.data.sources import Batches, Source
from cityjax.fit import predict
from cityjax.learner import Experiment, Learner, State, from_linen
from cityjax.learners import supervised
from cityjax.losses import softmax_cross_entropy
from cityjax.models.mlp import MLP
from cityjax.report import figures


def classify_digits(
    module: Any,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    augment: str = "none",
    select: str = "validation/loss",
) -> Experiment:
    """Return the experiment that trains a Linen module on MNIST and scores its test error.

    augment: "none", or "shift" by up to 2 pixels. select: of 5,000 validation images a good network
    misses some 25, a count that is mostly noise; the loss, in which every image has a say, names
    the best checkpoint, unless it rises while the error still falls: then "validation/error".
    """
    measured = {"error": metrics.error()}
    learner = supervised(from_linen(module), softmax_cross_entropy, optimizer, measured)
    evaluation = mnist.evaluation()
    return Experiment(
        learner,
        train=mnist.train_source(batch_size, augment=augment),
        evaluation=evaluation,
        metrics=measured,
        baselines=baselines,
        figures=classifier_figures(learner, evaluation["test"]),
        select=select,
        protocol=mnist.PROTOCOL,
        data=mnist.hashes(),
    )


def classifier_figures(learner: Learner, evaluated: Batches) -> Callable[[State], dict[str, Any]]:
    """Return what draws the test part's most confident mistakes and its confusion matrix."""

    def draw(state: State) -> dict[str, Any]:
        test, rows = mnist.load("test"), test_probabilities(learner, state, evaluated)
        images = test.images / np.float32(255)
        predicted = rows.argmax(axis=1)
        return {
            "misclassified": figures.misclassified(
                images, test.labels, predicted, rows.max(axis=1)
            ),
            "confusion": figures.confusion(test.labels, predicted),
        }

    return draw


def test_probabilities(learner: Learner, state: State, evaluated: Batches) -> np.ndarray:
    """Return the probabilities [10000, 10] of the test images."""
    logits = predict(learner, state, evaluated)
    return special.softmax(logits[: len(mnist.load("test").labels)], axis=1)


@functools.cache
def baselines() -> dict[str, dict[str, float]]:
    """Return the test error of the class prior and of a logistic regression fitted on train."""
    train, test = mnist.load("train"), mnist.load("test")
    prior = np.bincount(train.labels, minlength=mnist.CLASSES).argmax()
    # softmax(x W + b); the learning rate was chosen on the validation part.
    source = mnist.train_source(128)
    regression = taught_error(MLP((), mnist.CLASSES), source, steps=4_000, learning_rate=3e-3)
    errors = {
        "class prior": float(np.mean(test.labels != prior)),
        "logistic regression": regression,
    }
    return {name: {"test/error": error} for name, error in errors.items()}


def taught_error(module: Any, source: Source, *, steps: int, learning_rate: float = 1e-3) -> float:
    """Train a small Linen module on digits from `source`; return its error on the test images.

    Adam with a cosine schedule, every update in one program: for networks of a few seconds.
    """
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    learner = supervised(from_linen(module), softmax_cross_entropy, optax.adam(schedule))

    @jax.jit
    def train(key: jax.Array, source: Source) -> State:
        def update(state: State, _: None) -> tuple[State, None]:
            return learner.step(state, source(key, state.step))[0], None

        state = learner.init(key, source(key, jnp.int32(0)))
        return jax.lax.scan(update, state, length=steps)[0]

    state = train(jax.random.key(0), source)
    rows = test_probabilities(learner, state, mnist.evaluation()["test"])
    return float(np.mean(rows.argmax(axis=1) != mnist.load("test").labels))
