"""What digit classifiers are shown beside, and what a sample of digits teaches a small network."""

import jax
import numpy as np
import pytest

from cityjax import metrics
from cityjax.data import mnist
from cityjax.data.sources import shuffled
from cityjax.fit import fit, score
from cityjax.learner import from_linen
from cityjax.learners import supervised
from cityjax.losses import softmax_cross_entropy
from cityjax.models.mlp import MLP
from cityjax.optimizers import make_optimizer
from cityjax.tasks import digits


def source_of(images, labels):
    return shuffled({"inputs": images.astype(np.float32) / 255, "targets": labels}, 128)


def test_floors_of_digits():
    rows = digits.baselines.__wrapped__()
    test = mnist.load("test").labels
    # The most frequent training digit is 1, of which the test part has 1,135.
    assert rows["class prior"]["test/error"] == pytest.approx(1 - np.mean(test == 1)) == 0.8865
    # LeCun et al. 1998 give linear classifiers 12 %, 8.4 % deslanted and 7.6 % pairwise.
    assert 0.07 < rows["logistic regression"]["test/error"] < 0.085


def test_labels_teach_and_permuted_labels_do_not():
    train = mnist.load("train")
    images, labels = train.images[:5_000, ..., None], train.labels[:5_000]
    network = MLP((32,), mnist.CLASSES)
    assert digits.taught_error(network, source_of(images, labels), steps=300) < 0.15
    permuted = (labels + 1) % mnist.CLASSES
    assert digits.taught_error(network, source_of(images, permuted), steps=300) > 0.95
    constant = np.zeros_like(labels)
    error = digits.taught_error(network, source_of(images, constant), steps=300)
    assert error == pytest.approx(1 - 0.098)  # the test part has 980 zeros


def test_a_few_steps_teach_something():
    measured = {"error": metrics.error()}
    learner = supervised(
        from_linen(MLP((32,), 10)), softmax_cross_entropy, make_optimizer("adam", 3e-3), measured
    )
    source = mnist.train_source(64)
    state = learner.init(jax.random.key(0), source(jax.random.key(0), 0))
    state = fit(learner, source, state, 300, chunk=50)
    assert score(learner, state, mnist.evaluation()["test"], measured)["error"] < 0.12
