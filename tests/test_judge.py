"""The judge of generated digits: scores by hand, distances in closed form, its weights."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from cityjax.data import mnist
from cityjax.tasks import judge


def test_digit_score_is_ten_for_sure_and_varied_digits():
    np.testing.assert_allclose(judge.digit_score(np.eye(10)), 10.0, rtol=1e-9)
    np.testing.assert_allclose(judge.digit_score(np.tile(np.eye(10), (7, 1))), 10.0, rtol=1e-9)


def test_digit_score_is_one_where_all_rows_are_equal():
    for row in (np.full(10, 0.1), np.eye(10)[3], np.random.default_rng(0).dirichlet(np.ones(10))):
        np.testing.assert_allclose(judge.digit_score(np.tile(row, (20, 1))), 1.0, rtol=1e-9)


def test_digit_score_counts_equally_likely_sure_classes_and_by_hand():
    np.testing.assert_allclose(judge.digit_score(np.eye(10)[[2, 5, 2, 5]]), 2.0, rtol=1e-9)
    rows = np.zeros((2, 10))
    rows[0, :2], rows[1, :2] = (0.9, 0.1), (0.3, 0.7)
    marginal = [0.6, 0.4]
    divergences = [
        p * np.log(p / marginal[0]) + (1 - p) * np.log((1 - p) / marginal[1]) for p in (0.9, 0.3)
    ]
    np.testing.assert_allclose(judge.digit_score(rows), np.exp(np.mean(divergences)), rtol=1e-9)


def confident(labels, confidence):
    rows = np.full((len(labels), 10), (1 - confidence) / 9)
    rows[np.arange(len(labels)), labels] = confidence
    return rows


def test_covered_modes_by_hand():
    labels = np.repeat([0, 1, 2, 3], [400, 500, 95, 5])  # 40, 50, 9.5 and half a per cent
    assert judge.covered_modes(confident(labels, 0.95)) == 3
    assert judge.covered_modes(confident(labels, 0.9)) == 0  # confident is above 0.9
    assert judge.covered_modes(confident(np.arange(1000) % 10, 0.95)) == 10
    # Shares are of all samples: ten confident ones among a thousand are just one per cent.
    rows = np.concatenate([confident([7] * 10, 0.99), np.full((990, 10), 0.1)])
    assert judge.covered_modes(rows) == 1
    assert judge.covered_modes(np.concatenate([rows, np.full((1, 10), 0.1)])) == 0


def gaussian(seed, mean, deviation, count=60):
    """A sample whose mean and covariance are exactly `mean` and diag(deviation^2)."""
    sample = np.random.default_rng(seed).normal(size=(count, len(mean)))
    sample -= sample.mean(axis=0)
    whitened = sample @ np.linalg.inv(np.linalg.cholesky(np.cov(sample, rowvar=False))).T
    return whitened * deviation + mean


def test_frechet_distance_of_diagonal_gaussians_in_closed_form():
    means = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 0.5])
    deviations = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.25, 0.5])
    samples = [gaussian(i, means[i], deviations[i]) for i in range(2)]
    expected = sum(((part[0] - part[1]) ** 2).sum() for part in (means, deviations))
    np.testing.assert_allclose(judge.frechet_distance(*samples), expected, rtol=1e-9)


def test_frechet_distance_against_the_matrix_root():
    random = np.random.default_rng(0)
    samples = [random.normal(size=(40, 6)) @ random.normal(size=(6, 6)) + i for i in range(2)]
    covariances = [np.cov(sample, rowvar=False) for sample in samples]
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    difference = samples[0].mean(axis=0) - samples[1].mean(axis=0)
    expected = difference @ difference + np.trace(sum(covariances) - 2 * np.real(root))
    np.testing.assert_allclose(judge.frechet_distance(*samples), expected, rtol=1e-6)
    np.testing.assert_allclose(
        judge.frechet_distance(*samples), judge.frechet_distance(*samples[::-1]), rtol=1e-6
    )


@pytest.mark.parametrize("count", [60, 8])
def test_frechet_distance_of_a_sample_to_itself_is_zero(count):
    # Also where there are fewer examples than features, and the covariances have no inverse.
    sample = np.random.default_rng(1).normal(size=(count, 12))
    assert 0 <= judge.frechet_distance(sample, sample) < 1e-5
    shuffled = np.random.default_rng(2).permutation(sample)
    assert 0 <= judge.frechet_distance(sample, shuffled) < 1e-5


def test_the_weights_fit_the_network_and_their_hash_is_that_of_their_bytes():
    params, digest = judge.weights()
    image = jnp.zeros((1, 28, 28, 1))
    expected = jax.eval_shape(judge.NETWORK.init, jax.random.key(0), image)["params"]
    shapes = {name: {k: v.shape for k, v in parts.items()} for name, parts in params.items()}
    assert shapes == {n: {k: v.shape for k, v in parts.items()} for n, parts in expected.items()}
    content = hashlib.sha256()
    with np.load(judge.WEIGHTS, allow_pickle=False) as stored:
        for name in sorted(stored.files):
            assert stored[name].dtype == np.float16
            content.update(name.encode() + stored[name].tobytes())
    assert digest == content.hexdigest()


def test_the_hash_survives_an_export_and_tells_other_weights(monkeypatch, tmp_path):
    params, digest = judge.weights()
    path = tmp_path / "again.npz"
    monkeypatch.setattr(judge, "WEIGHTS", path)
    judge.export(params, path)
    restored, again = judge.weights.__wrapped__()  # without its cache
    assert again == digest
    jax.tree.map(np.testing.assert_array_equal, restored, params)
    dense = {**params["Dense_1"], "bias": params["Dense_1"]["bias"] + 1}
    judge.export({**params, "Dense_1": dense}, path)
    assert judge.weights.__wrapped__()[1] != digest


@pytest.fixture(scope="module")
def digits():
    """The first thousand test images, in 0..1, and their labels."""
    test = mnist.load("test")
    return test.images[:1_000, ..., None].astype(np.float32) / 255, test.labels[:1_000]


@pytest.fixture(scope="module")
def verdict(digits):
    return judge.examine(digits[0])


def test_the_judge_knows_real_digits(digits, verdict, monkeypatch):
    images, labels = digits
    assert np.mean(verdict.probabilities.argmax(axis=1) == labels) > 0.98
    monkeypatch.setattr(judge, "examine", lambda shown: verdict if shown is images else None)
    monkeypatch.setattr(judge, "test_verdict", lambda: verdict)
    assert judge.judge(images, labels)["gan_test_accuracy"] > 0.98
    assert judge.judge(images, (labels + 1) % 10)["gan_test_accuracy"] < 0.02
    assert "gan_test_accuracy" not in judge.judge(images)


def test_a_verdict_holds_features_and_the_probabilities_they_lead_to(verdict):
    assert verdict.features.shape == (1_000, 256) and (verdict.features >= 0).all()
    last = judge.weights()[0]["Dense_1"]
    logits = verdict.features @ last["kernel"] + last["bias"]
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(verdict.probabilities, expected, atol=1e-4)


def test_a_sample_is_judged_by_score_modes_and_distance_to_the_reference(
    digits, verdict, monkeypatch
):
    images, _ = digits
    monkeypatch.setattr(judge, "test_verdict", lambda: verdict)
    real = judge.judge(images)
    assert set(real) == {"digit_score", "modes", "frechet_distance"} <= set(judge.BETTER)
    assert real["digit_score"] > 9 and real["modes"] == 10
    assert real["frechet_distance"] < 1e-3
    # One digit again and again: sure, but neither varied nor close.
    collapsed = judge.judge(np.repeat(images[:1], 500, axis=0))
    assert collapsed["digit_score"] < 1.001 and collapsed["modes"] == 1
    assert collapsed["frechet_distance"] > 10


def test_a_diverged_sample_has_no_number():
    images = np.zeros((500, 28, 28, 1), np.float32)
    images[7, 3, 4] = np.nan
    labels = np.zeros(500, np.int32)
    for found, count in ((judge.judge(images), 3), (judge.judge(images, labels), 4)):
        assert len(found) == count and np.isnan(list(found.values())).all()
    assert set(judge.judge(images, labels)) == set(judge.judge(np.nan_to_num(images), labels))
