"""Generating digits: one experiment for every pair of networks, judged by the fixed classifier."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cityjax.data import mnist
from cityjax.data.sources import shuffled
from cityjax.learner import Experiment, Learner, State, from_linen
from cityjax.learners import adversarial, moving_average
from cityjax.models.mlp import MLP
from cityjax.report import figures
from cityjax.tasks import judge
from cityjax.tasks.digits import taught_error

# GAN-train: a small network of this size and schedule learns digits from generated ones only.
PUPIL = MLP((512,), mnist.CLASSES, dropout=0.2)
PUPIL_SAMPLES, PUPIL_STEPS, PUPIL_BATCH = 30_000, 2_000, 128


def generate_digits(
    generator: Any,
    discriminator: Any,
    generator_optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    latent_size: int,
    conditional: bool = False,
    average: float = 0.0,
    gradient_penalty: float = 0.0,
) -> Experiment:
    """Return the experiment that trains a pair of Linen modules on MNIST and judges its samples.

    average: decay of a moving average of the generator, which then does the sampling; 0 for none.
    gradient_penalty: as in `adversarial`. conditional: the modules use the labels, and GAN-train
    and GAN-test accuracies are measured as well (Shmelkov et al. 2018).
    """
    learner = adversarial(
        from_linen(generator),
        from_linen(discriminator),
        generator_optimizer,
        discriminator_optimizer,
        latent_size=latent_size,
        gradient_penalty=gradient_penalty,
    )
    if average:
        learner = moving_average(learner, average, of=lambda tree: {"generator": tree["generator"]})
    _, judge_hash = judge.weights()

    def final(state: State, key: jax.Array) -> dict[str, float]:
        labels = np.arange(judge.SAMPLES, dtype=np.int32) % mnist.CLASSES
        images = sample(learner, state, labels, key)
        values = judge.judge(images, labels if conditional else None)
        if conditional:
            lessons = np.arange(PUPIL_SAMPLES, dtype=np.int32) % mnist.CLASSES
            pupil_key = jax.random.fold_in(key, judge.SAMPLES)
            taught = gan_train_accuracy(sample(learner, state, lessons, pupil_key), lessons)
            values["gan_train_accuracy"] = taught
        return values

    return Experiment(
        learner,
        train=mnist.train_source(batch_size),
        baselines=functools.partial(floors, conditional),
        figures=digit_figures(learner),
        snapshots={"digits": lambda state: digit_sheet(learner, state, rows=5)},
        protocol={
            **mnist.PROTOCOL,
            "judge": f"digit classifier {judge_hash[:12]}, {judge.SAMPLES:,} samples; distance to "
            "the test images in its 256 features (no ImageNet FID)",
        },
        final=final,
        better=judge.BETTER,
        data={**mnist.hashes(), "digit_judge": judge_hash},
    )


def sample(learner: Learner, state: State, labels: np.ndarray, key: jax.Array) -> np.ndarray:
    """Draw one image per label, [N, 28, 28, 1] in 0..1, in batches of at most 1,000."""
    predict = jax.jit(learner.predict)
    parts = []
    for number, start in enumerate(range(0, len(labels), 1_000)):
        part = jnp.asarray(labels[start : start + 1_000])
        parts.append(predict(state, part, key=jax.random.fold_in(key, number)))
    return np.concatenate(jax.device_get(parts))


def digit_sheet(learner: Learner, state: State, *, rows: int) -> np.ndarray:
    """Return one image [28 rows, 280]: the same latent points at every call, a digit a column."""
    labels = np.arange(10 * rows, dtype=np.int32) % mnist.CLASSES
    images = sample(learner, state, labels, jax.random.key(0))[..., 0]
    return images.reshape(rows, 10, 28, 28).swapaxes(1, 2).reshape(28 * rows, 280)


def digit_figures(learner: Learner) -> Callable[[State], dict[str, Any]]:
    """Return what draws a grid of a hundred digits."""

    def draw(state: State) -> dict[str, Any]:
        labels = np.arange(100, dtype=np.int32) % mnist.CLASSES
        images = sample(learner, state, labels, jax.random.key(0))[..., 0]
        return {"generated_digits": figures.image_grid(images, columns=10)}

    return draw


def gan_train_accuracy(images: np.ndarray, labels: np.ndarray) -> float:
    """Train a small classifier on these images and return its accuracy on the test images.

    images: [N, 28, 28, 1] in 0..1; labels: [N]. What a sample teaches (GAN-train, Shmelkov et al.
    2018): it falls when digits are unlike real ones, and when they lack variety.
    """
    source = shuffled({"inputs": images, "targets": labels}, PUPIL_BATCH)
    return 1 - taught_error(PUPIL, source, steps=PUPIL_STEPS)


@functools.cache
def floors(conditional: bool) -> dict[str, dict[str, float]]:
    """Judge what needs no GAN: real images, and the mean image of each class, repeated.

    Real images give the floor of the distance and the ceiling of the rest; the means show that
    the digit score alone can be gamed.
    """
    train = mnist.load("train")
    count = PUPIL_SAMPLES if conditional else judge.SAMPLES
    classes = np.arange(count, dtype=np.int32) % mnist.CLASSES
    means = np.stack([train.images[train.labels == k].mean(axis=0) for k in range(mnist.CLASSES)])
    samples = {
        "real train images": (train.images[:count], train.labels[:count]),
        "ten class means": (means[classes], classes),
    }
    rows = {}
    for name, (shown, labels) in samples.items():
        images = shown[..., None].astype(np.float32) / 255
        few = slice(judge.SAMPLES)
        values = judge.judge(images[few], labels[few] if conditional else None)
        if conditional:
            values["gan_train_accuracy"] = gan_train_accuracy(images, labels)
        rows[name] = {f"test/{key}": value for key, value in values.items()}
    return rows
