"""The judge of generated digits: a fixed classifier, and what its outputs say of a sample.

Its weights are those of the experiment `digit_judge`, shipped as float16 in one .npz without
pickle; its hash goes into every result, since numbers of two judges cannot be compared. In
particular a Fréchet distance in its features is no FID: that is defined on ImageNet features.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data import mnist
from cityjax.models.cnn import CNN

NETWORK = CNN((32, 64), (256,), mnist.CLASSES, dropout=0.5)
WEIGHTS = Path(__file__).parent.parent / "data" / "digit_judge.npz"
SAMPLES = 10_000
# A class counts as covered with this share of the samples, seen with more than this confidence.
COVERED_SHARE, CONFIDENT = 0.01, 0.9


class Verdict(NamedTuple):
    """What the judge sees: features [N, 256] before its last layer, probabilities [N, 10]."""

    features: np.ndarray
    probabilities: np.ndarray


def digit_score(probabilities: np.ndarray) -> float:
    """exp(mean KL(p(y|x) || p(y))), from 1 to 10: sharp and varied digits score high.

    probabilities: [N, 10]. The Inception score (Salimans et al. 2016) on a digit classifier.
    """
    marginal = probabilities.mean(axis=0)
    tiny = np.finfo(np.float64).tiny
    ratio = np.log(np.maximum(probabilities, tiny)) - np.log(np.maximum(marginal, tiny))
    return float(np.exp(np.mean(np.sum(probabilities * ratio, axis=1))))


def covered_modes(probabilities: np.ndarray) -> int:
    """Count the classes with at least 1 % of the samples [N, 10] at confidence above 0.9."""
    confident = probabilities.argmax(axis=1)[probabilities.max(axis=1) > CONFIDENT]
    shares = np.bincount(confident, minlength=mnist.CLASSES) / len(probabilities)
    return int(np.sum(shares >= COVERED_SHARE))


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two samples [N, F], as Gaussians.

    The squared 2-Wasserstein distance of Gaussians (Dowson and Landau 1982), as in Heusel et al.
    2017. The trace of the root is that of a symmetric matrix, so nothing complex appears.
    """
    means = features.mean(axis=0), others.mean(axis=0)
    first, second = (np.cov(sample, rowvar=False) for sample in (features, others))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ second @ root)
    trace = np.trace(first) + np.trace(second) - 2 * np.sum(np.sqrt(np.maximum(cross, 0)))
    return max(0.0, float(np.sum((means[0] - means[1]) ** 2) + trace))


@functools.cache
def weights() -> tuple[dict[str, Any], str]:
    """Return the judge's parameters and the sha256 of their bytes."""
    digest, params = hashlib.sha256(), {}
    with np.load(WEIGHTS, allow_pickle=False) as file:
        for name in sorted(file.files):
            layer, part = name.split(".")
            digest.update(name.encode() + file[name].tobytes())
            params.setdefault(layer, {})[part] = file[name].astype(np.float32)
    return params, digest.hexdigest()


def examine(images: Any, *, batch_size: int = 500) -> Verdict:
    """Look at images [N, 28, 28, 1] in 0..1, a batch at a time."""
    params, _ = weights()
    parts = [
        # One batch at a time: dispatched ahead, their scratch memory would add up.
        jax.device_get(_see(params, images[i : i + batch_size]))
        for i in range(0, len(images), batch_size)
    ]
    features, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
    probabilities = jax.device_get(jax.nn.softmax(logits.astype(np.float32)))
    return Verdict(features.astype(np.float64), probabilities.astype(np.float64))


@jax.jit
def _see(params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    options: dict[str, Any] = {"capture_intermediates": True, "mutable": "intermediates"}
    logits, layers = NETWORK.apply({"params": params}, jnp.asarray(images), **options)
    hidden: Any = layers["intermediates"]["Dense_0"]["__call__"][0]
    return jax.nn.relu(hidden), logits


@functools.cache
def test_verdict() -> Verdict:
    """What the judge sees in the 10,000 test images: the reference of every distance."""
    return examine(mnist.load("test").images[..., None].astype(np.float32) / 255)


def judge(images: Any, labels: np.ndarray | None = None) -> dict[str, float]:
    """Return digit score, covered modes and Fréchet distance to the test images of a sample.

    labels: what each image was asked to be, [N]; with them, the share in which the judge sees it
    as well (GAN-test, Shmelkov et al. 2018). NaN throughout where an image has no finite features:
    a pair that diverged has no number.
    """
    verdict = examine(images)
    if not np.isfinite(verdict.features).all():
        names = ["digit_score", "modes", "frechet_distance"]
        return dict.fromkeys(names if labels is None else [*names, "gan_test_accuracy"], np.nan)
    values = {
        "digit_score": digit_score(verdict.probabilities),
        "modes": covered_modes(verdict.probabilities),
        "frechet_distance": frechet_distance(verdict.features, test_verdict().features),
    }
    if labels is not None:
        seen = verdict.probabilities.argmax(axis=1)
        values["gan_test_accuracy"] = float(np.mean(seen == labels))
    return values


# Direction of every number that is measured on a sample.
BETTER = {
    "digit_score": "higher",
    "modes": "higher",
    "frechet_distance": "lower",
    "gan_train_accuracy": "higher",
    "gan_test_accuracy": "higher",
}


def export(params: Any, path: Path = WEIGHTS) -> None:
    """Write the judge's weights as float16, {layer.part: array}, in one .npz."""
    arrays: dict[str, Any] = {
        f"{layer}.{part}": np.asarray(value, np.float16)
        for layer, parts in params.items()
        for part, value in parts.items()
    }
    np.savez_compressed(path, **arrays)
