"""Losses and metrics as masked sums: numpy twins, what a mask hides, sums over any split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cityjax import forecast_metrics, losses, metrics

BATCH, CLASSES, HORIZON = 12, 5, 4


def classification(seed, mask_share=0.7):
    """Logits [B, K] and a batch of labels with a mask [B]."""
    random = np.random.default_rng(seed)
    batch = {
        "targets": random.integers(0, CLASSES, BATCH).astype(np.int32),
        "mask": random.random(BATCH) < mask_share,
    }
    return random.normal(size=(BATCH, CLASSES)).astype(np.float32) * 3, batch


def regression(seed, mask_share=0.7, mask_rank=2):
    """Outputs [B, H] and a batch of targets with a mask [B] or [B, H]."""
    random = np.random.default_rng(seed)
    shape = (BATCH, HORIZON)
    batch = {
        "targets": random.normal(size=shape).astype(np.float32),
        "mask": random.random(shape[:mask_rank]) < mask_share,
    }
    return random.normal(size=shape).astype(np.float32), batch


def cross_entropy_twin(outputs, batch):
    values = []
    for row, target, real in zip(outputs, batch["targets"], batch["mask"], strict=True):
        if real:
            row = row.astype(np.float64)
            values.append(-np.log(np.exp(row[target]) / np.exp(row).sum()))
    return values


def right_twin(outputs, batch):
    rows = zip(outputs, batch["targets"], batch["mask"], strict=True)
    return [float(row.argmax() == target) for row, target, real in rows if real]


def wrong_twin(outputs, batch):
    return [1 - right for right in right_twin(outputs, batch)]


def squared_twin(outputs, batch):
    return [d**2 for d in differences_twin(outputs, batch)]


def absolute_twin(outputs, batch):
    return [abs(d) for d in differences_twin(outputs, batch)]


def differences_twin(outputs, batch):
    found = []
    for b in range(outputs.shape[0]):
        for h in range(outputs.shape[1]):
            mask = batch["mask"][b] if batch["mask"].ndim == 1 else batch["mask"][b, h]
            if mask:
                found.append(float(outputs[b, h]) - float(batch["targets"][b, h]))
    return found


# name -> (sums of a batch, twin: the list of the values that are summed, batches)
CASES = {
    "softmax_cross_entropy": (losses.softmax_cross_entropy, cross_entropy_twin, classification),
    "squared_error": (losses.squared_error, squared_twin, regression),
    "absolute_error": (losses.absolute_error, absolute_twin, regression),
    "accuracy": (metrics.accuracy().accumulate, right_twin, classification),
    "error": (metrics.error().accumulate, wrong_twin, classification),
    "mean_absolute_error": (
        metrics.mean_absolute_error().accumulate,
        absolute_twin,
        regression,
    ),
    "root_mean_squared_error": (
        metrics.root_mean_squared_error().accumulate,
        squared_twin,
        regression,
    ),
}
LOSSES = ("softmax_cross_entropy", "squared_error", "absolute_error")
every_case = pytest.mark.parametrize("name", CASES)


@every_case
def test_sums_equal_their_numpy_twin(name):
    accumulate, twin, make = CASES[name]
    for seed in range(5):
        outputs, batch = make(seed)
        values = twin(outputs, batch)
        total, count = accumulate(jnp.asarray(outputs), jax.tree.map(jnp.asarray, batch))
        np.testing.assert_allclose(total, np.sum(values), rtol=1e-5)
        assert count == len(values)


@pytest.mark.parametrize("name", ["squared_error", "absolute_error", "mean_absolute_error"])
def test_a_mask_per_example_holds_for_every_horizon(name):
    accumulate, twin, make = CASES[name]
    outputs, batch = make(3, mask_rank=1)
    values = twin(outputs, batch)
    total, count = accumulate(jnp.asarray(outputs), batch)
    np.testing.assert_allclose(total, np.sum(values), rtol=1e-5)
    assert count == len(values) == HORIZON * batch["mask"].sum()


@every_case
def test_what_is_masked_may_be_nan_or_out_of_range(name):
    accumulate, _, make = CASES[name]
    outputs, batch = make(0)
    expected = accumulate(jnp.asarray(outputs), batch)
    hidden = ~batch["mask"]
    assert hidden.any()
    outputs[hidden] = np.nan
    integers = batch["targets"].dtype == np.int32
    batch["targets"][hidden] = 10**6 if integers else np.nan
    np.testing.assert_array_equal(accumulate(jnp.asarray(outputs), batch), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_masked_touches_no_gradient(name):
    loss, _, make = CASES[name]
    outputs, batch = make(1)
    gradient = jax.grad(lambda outputs, batch: loss(outputs, batch)[0])
    expected = np.asarray(gradient(jnp.asarray(outputs), batch))
    hidden = ~batch["mask"]
    if name != "softmax_cross_entropy":  # labels are integers
        batch["targets"][hidden] = np.nan
    found = np.asarray(gradient(jnp.asarray(outputs), batch))
    np.testing.assert_array_equal(found, expected)
    assert (found[hidden] == 0).all()
    assert (found[~hidden] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_nan_outputs_that_are_masked_leave_a_finite_gradient(name):
    loss, _, make = CASES[name]
    outputs, batch = make(2)
    outputs[~batch["mask"]] = np.nan
    gradient = np.asarray(jax.grad(lambda o: loss(o, batch)[0])(jnp.asarray(outputs)))
    assert np.isfinite(gradient).all()
    assert (gradient[~batch["mask"]] == 0).all()


@every_case
def test_a_batch_without_examples_counts_nothing(name):
    accumulate, _, make = CASES[name]
    outputs, batch = make(0, mask_share=0)
    assert not batch["mask"].any()
    total, count = accumulate(jnp.asarray(outputs), batch)
    assert (total, count) == (0, 0)
    assert np.isnan(metrics.ratio((total, count)))


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_examples_has_a_zero_gradient(name):
    loss, _, make = CASES[name]
    outputs, batch = make(0, mask_share=0)

    def mean(outputs):
        total, count = loss(outputs, batch)
        return total / jnp.maximum(count, 1)

    assert not np.asarray(jax.grad(mean)(jnp.asarray(outputs))).any()


@every_case
def test_sums_over_any_split_add_up_where_means_do_not(name):
    accumulate, _, make = CASES[name]
    outputs, batch = make(4)
    whole = np.array(accumulate(jnp.asarray(outputs), batch))
    means = []
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(BATCH)
        parts = [
            np.array(accumulate(jnp.asarray(outputs[half]), {k: v[half] for k, v in batch.items()}))
            for half in (rows[: BATCH // 2], rows[BATCH // 2 :])
        ]
        np.testing.assert_allclose(parts[0] + parts[1], whole, rtol=1e-5)
        means.append(np.mean([total / max(count, 1) for total, count in parts]))
    assert not np.allclose(means, whole[0] / whole[1], rtol=1e-3)


@pytest.mark.parametrize(
    ("at", "columns"), [(1, [0]), (3, [2]), ((1, 3), [0, 1, 2]), ((2, 2), [1])]
)
@pytest.mark.parametrize("mask_rank", [1, 2])
def test_horizons_are_counted_from_one_or_pooled(at, columns, mask_rank):
    outputs, batch = regression(6, mask_rank=mask_rank)
    mask = np.broadcast_to(batch["mask"].reshape(BATCH, -1), outputs.shape)
    differences = (outputs - batch["targets"])[:, columns][mask[:, columns]]
    for metric, expected in (
        (metrics.mean_absolute_error(at=at), np.abs(differences).mean()),
        (metrics.root_mean_squared_error(at=at), np.sqrt((differences**2).mean())),
    ):
        sums = metric.accumulate(jnp.asarray(outputs), batch)
        np.testing.assert_allclose(metric.finalize(sums), expected, rtol=1e-5)


@pytest.mark.parametrize("at", [0, 5, (1, 5), (0, 2), (3, 2)])
def test_horizons_outside_the_targets_are_refused(at):
    outputs, batch = regression(0)
    with pytest.raises(ValueError, match=r"outside 1 \.\. 4"):
        metrics.mean_absolute_error(at=at).accumulate(jnp.asarray(outputs), batch)


@pytest.mark.parametrize("name", ["squared_error", "absolute_error", "mean_absolute_error"])
def test_shapes_that_would_broadcast_are_refused_by_name(name):
    # [B, 1] - [B] broadcasts to [B, B] and trains on nonsense.
    accumulate, _, _ = CASES[name]
    batch = {"targets": jnp.zeros(3), "mask": jnp.ones(3, bool)}
    with pytest.raises(ValueError, match=r"\(3, 1\).*\(3,\)"):
        accumulate(jnp.zeros((3, 1)), batch)


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "accuracy", "error"])
def test_class_targets_that_would_broadcast_are_refused_by_name(name):
    # [B] == [B, 1] broadcasts to [B, B], a share of pairs.
    accumulate, _, _ = CASES[name]
    batch = {"targets": jnp.zeros((3, 1), int), "mask": jnp.ones(3, bool)}
    with pytest.raises(ValueError, match=r"\(3, 5\).*\(3, 1\)"):
        accumulate(jnp.zeros((3, 5)), batch)


def test_a_mask_of_other_shape_is_refused_by_name():
    with pytest.raises(ValueError, match=r"\(4,\).*\(3, 2\)"):
        metrics.masked_sum(jnp.zeros((3, 2)), jnp.ones(4, bool))
    logits, batch = jnp.zeros((3, 2)), {"targets": jnp.zeros(3, int), "mask": jnp.ones(2, bool)}
    for name in ("softmax_cross_entropy", "accuracy", "error"):
        accumulate, _, _ = CASES[name]
        with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
            accumulate(logits, batch)


def test_a_mask_of_floats_counts_like_one_of_booleans():
    for name in CASES:
        accumulate, _, make = CASES[name]
        outputs, batch = make(5)
        expected = accumulate(jnp.asarray(outputs), batch)
        batch["mask"] = batch["mask"].astype(np.float32)
        np.testing.assert_array_equal(accumulate(jnp.asarray(outputs), batch), expected)


def test_sums_of_half_precision_go_on_growing():
    # Of bfloat16, 256 + 1 is 256.
    logits = jnp.zeros((1000, 10), jnp.bfloat16).at[:, 3].set(1)
    batch = {"targets": jnp.arange(1000) % 10, "mask": jnp.ones(1000, bool)}
    for metric, share in ((metrics.accuracy(), 0.1), (metrics.error(), 0.9)):
        total, count = metric.accumulate(logits, batch)
        assert (float(count), float(metric.finalize((total, count)))) == (1000, np.float32(share))
    total, count = losses.softmax_cross_entropy(logits, batch)
    expected = losses.softmax_cross_entropy(logits.astype(jnp.float32), batch)
    assert (total, count) == expected
    outputs = jnp.zeros((1000, 1, 1, 2), jnp.bfloat16)
    targets = {"targets": jnp.zeros((1000, 1, 1)), "mask": jnp.ones(1000, bool)}
    sums = forecast_metrics.coverage().accumulate(outputs, targets)
    assert [float(part) for part in sums] == [1000, 1000]


def test_a_count_of_weights_may_be_below_one():
    assert float(metrics.mean(jnp.float32(0.1), jnp.float32(0.2))) == 0.5
    assert float(metrics.ratio((jnp.float32(0.1), jnp.float32(0.2)))) == 0.5
    assert float(metrics.mean(jnp.float32(0), jnp.float32(0))) == 0
    assert float(jax.grad(metrics.mean)(jnp.float32(0), jnp.float32(0))) == 0


def test_correlation_survives_a_level_far_above_what_it_varies_by():
    draw = np.random.default_rng(0)
    targets = 200_000 + 700 * draw.normal(size=(400, 5))
    outputs = targets + 300 * draw.normal(size=targets.shape)
    targets, outputs = targets.astype(np.float32), outputs.astype(np.float32)
    expected = np.corrcoef(targets.ravel().astype(float), outputs.ravel().astype(float))[0, 1]
    batch = {"targets": jnp.asarray(targets), "mask": jnp.ones(400, bool)}
    metric = metrics.pearson(about=200_100)
    found = metric.finalize(metric.accumulate(jnp.asarray(outputs), batch))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    named = forecast_metrics.by_name("pcc@1-5", about=200_100)
    np.testing.assert_array_equal(
        named.finalize(named.accumulate(jnp.asarray(outputs), batch)), found
    )
    # What never varies has none, wherever it is measured from.
    batch = {"targets": jnp.full((400, 5), 7.3), "mask": jnp.ones(400, bool)}
    for about in (0.0, 31.7, 7.3, -1e5):
        metric = metrics.pearson(about=about)
        assert np.isnan(metric.finalize(metric.accumulate(batch["targets"], batch)))
    metric = metrics.pearson()
    with pytest.raises(ValueError, match="'pcc' is no sum and count: give finalize"):
        metrics.finalize({"pcc": metric.accumulate(jnp.asarray(outputs), batch)}, {})


def test_finalize_divides_once_and_takes_the_metrics_own_rule():
    sums = {"loss": (6.0, 4.0), "rmse": (16.0, 4.0), "error": (1.0, 4.0), "none": (0.0, 0.0)}
    known = {"rmse": metrics.root_mean_squared_error(), "error": metrics.error()}
    values = metrics.finalize(jax.tree.map(jnp.float32, sums), known)
    assert np.isnan(values.pop("none"))
    assert values == {"loss": 1.5, "rmse": 2.0, "error": 0.25}
    known = {"rmse@6": metrics.mean_squared_error(), "rmse@24": metrics.mean_squared_error()}
    sums = {name: (jnp.float32(1), jnp.float32(1)) for name in ("rmse@24", "rmse@6", "loss")}
    assert list(metrics.finalize(sums, known)) == ["loss", "rmse@6", "rmse@24"]


def test_every_metric_says_which_way_is_better():
    assert metrics.accuracy().better == "higher"
    for lower in (
        metrics.error(),
        metrics.mean_absolute_error(),
        metrics.root_mean_squared_error(),
    ):
        assert lower.better == "lower"


def test_the_non_saturating_pair_by_hand():
    zero, two = jnp.zeros(1), jnp.full(1, 2.0)
    log2 = np.log(2)
    pair = losses.non_saturating
    np.testing.assert_allclose(pair.discriminator(zero, zero), 2 * log2, rtol=1e-6)
    np.testing.assert_allclose(pair.generator(zero), log2, rtol=1e-6)
    # A real example called real with odds e^2, a fake called real with the same odds.
    real, fake = -np.log(1 / (1 + np.exp(-2))), -np.log(1 - 1 / (1 + np.exp(-2)))
    np.testing.assert_allclose(pair.discriminator(two, two), real + fake, rtol=1e-5)
    np.testing.assert_allclose(pair.generator(two), real, rtol=1e-5)


def test_the_non_saturating_pair_keeps_its_slope_where_a_sigmoid_would_lose_it():
    pair = losses.non_saturating
    far = jnp.float32(-200.0)
    assert pair.generator(far) == 200.0
    assert jax.grad(pair.generator)(far) == -1.0
    assert pair.discriminator(far, -far) == 400.0


def test_the_hinge_pair_by_hand():
    real, fake = jnp.array([0.5, 3.0, -1.0]), jnp.array([-3.0, 0.5, 0.0])
    found = losses.hinge.discriminator(real, fake)
    np.testing.assert_allclose(found, [0.5 + 0.0, 0.0 + 1.5, 2.0 + 1.0])
    np.testing.assert_allclose(losses.hinge.generator(fake), [3.0, -0.5, 0.0])
