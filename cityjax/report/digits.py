"""Figures of digit classifiers."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from cityjax.data import mnist
from cityjax.learner import Learner, State
from cityjax.report import figures


def classifier_figures(learner: Learner) -> dict[str, Callable[[State], Any]]:
    """Return the test part's most confident mistakes and its confusion matrix, as figures."""

    def predicted(state: State) -> tuple[mnist.Digits, np.ndarray]:
        test = mnist.load("test")
        batches = mnist.evaluation()["test"]

        @jax.jit
        def probabilities(state: State, source: Any, number: Any) -> jax.Array:
            batch = source(state.key, number)
            return jax.nn.softmax(learner.predict(state, batch["inputs"]))

        rows = [probabilities(state, batches.source, number) for number in range(batches.count)]
        return test, np.concatenate(jax.device_get(rows))[: len(test.labels)]

    def misclassified(state: State) -> Any:
        test, rows = predicted(state)
        images = test.images / np.float32(255)
        return figures.misclassified(images, test.labels, rows.argmax(1), rows.max(1))

    def confusion(state: State) -> Any:
        test, rows = predicted(state)
        return figures.confusion(test.labels, rows.argmax(1))

    return {"misclassified": misclassified, "confusion": confusion}
