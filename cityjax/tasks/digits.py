"""Classifying digits: one experiment for every network of images -> logits [B, 10]."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from cityjax import metrics
from cityjax.data import mnist, mnist_floors
from cityjax.learner import Experiment, Learner, State, from_linen
from cityjax.learners import supervised
from cityjax.losses import softmax_cross_entropy
from cityjax.report import figures


def classify_digits(
    module: Any,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    augment: str = "none",
) -> Experiment:
    """Return the experiment that trains a Linen module on MNIST and scores its test error.

    augment: "none", or "shift" by up to 2 pixels.
    """
    measured = {"error": metrics.error()}
    learner = supervised(from_linen(module), softmax_cross_entropy, optimizer, measured)
    return Experiment(
        learner,
        train=mnist.train_source(batch_size, augment=augment),
        evaluation=mnist.evaluation(),
        metrics=measured,
        baselines=mnist_floors.baselines,
        figures=classifier_figures(learner),
        select="validation/error",
        protocol=mnist.PROTOCOL,
        data=mnist.hashes(),
    )


def classifier_figures(learner: Learner) -> dict[str, Callable[[State], Any]]:
    """Return the test part's most confident mistakes and its confusion matrix, as figures."""

    def misclassified(state: State) -> Any:
        test, rows = mnist.load("test"), predict_test(learner, state)
        images = test.images / np.float32(255)
        return figures.misclassified(images, test.labels, rows.argmax(1), rows.max(1))

    def confusion(state: State) -> Any:
        rows = predict_test(learner, state)
        return figures.confusion(mnist.load("test").labels, rows.argmax(1))

    return {"misclassified": misclassified, "confusion": confusion}


def predict_test(learner: Learner, state: State) -> np.ndarray:
    """Return the probabilities [10000, 10] of the test images."""

    @jax.jit
    def probabilities(state: State, source: Any, number: Any) -> jax.Array:
        batch = source(state.key, number)
        return jax.nn.softmax(learner.predict(state, batch["inputs"]))

    count, source = mnist.evaluation()["test"]
    rows = [probabilities(state, source, number) for number in range(count)]
    return np.concatenate(jax.device_get(rows))[: len(mnist.load("test").labels)]
