"""Intervals from past errors: the quantile by hand, coverage with drift and without."""

import numpy as np
import pytest

from cityjax.tasks import intervals
from cityjax.tasks.conformity import LINEAR, Scale, bounds, conformity
from cityjax.tasks.intervals import (
    EDGES,
    HALF_LIFE,
    RATE,
    conformal_quantile,
    half_width,
    interval_scores,
    online_factor,
    recent_quantile,
)


def test_the_conformal_quantile_by_hand():
    scores = np.arange(1.0, 10)[:, None]  # 9 scores: the ceil(10 * 0.8) = 8th
    assert conformal_quantile(scores, 0.8) == [8]
    assert conformal_quantile(scores, 0.95) == [9]  # the 10th does not exist
    holes = np.array([[3.0, np.nan], [np.nan, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(conformal_quantile(holes, 0.5), [3, np.nan])
    assert conformal_quantile(np.array([[1.0], [np.inf], [2.0]]), 0.9) == np.inf


def test_no_direction_of_coverage_or_width_is_better():
    ways = intervals.better("1-12")
    assert {key.partition("_")[0] for key in ways} == {"coverage", "width"} and len(ways) == 6
    assert set(ways.values()) == {"none"}


def test_scores_of_points_and_of_quantiles():
    targets, mask = np.array([[[3.0, -1.0]]]), np.array([[[True, False]]])
    np.testing.assert_array_equal(conformity(np.ones((1, 1, 2)), targets, mask), [[[2, np.nan]]])
    # 3 lies twice as far above the middle, 1, as the upper quantile, 2; -1 as far as the lower.
    quantiles = np.broadcast_to([-1.0, 1.0, 2.0], (1, 1, 2, 3))
    every = np.ones_like(mask)
    np.testing.assert_array_equal(conformity(quantiles, targets, every), [[[2, 1]]])


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_forecast_that_is_no_number_leaves_the_other_scores_as_they_are(lost):
    targets, every = np.array([[[3.0, -1.0]]]), np.ones((1, 1, 2), bool)
    quantiles = np.broadcast_to([-1.0, 1.0, 2.0], (1, 1, 2, 3)).copy()
    quantiles[..., 0, :] = [1.0, 1.0, lost]
    assert conformity(quantiles, targets, every)[0, 0, 1] == 1


ROOT = Scale(np.sqrt, lambda root: np.sign(root) * np.square(root), lowest=0.0)


def test_errors_and_ends_in_the_scale_of_roots_by_hand():
    outputs, targets = np.array([[[4.0, 4.0, 4.0]]]), np.array([[[9.0, 1.0, 0.0]]])
    every = np.ones(targets.shape, bool)
    np.testing.assert_array_equal(conformity(outputs, targets, every, ROOT), [[[1, 1, 2]]])
    low, high = bounds(outputs[:, 0], np.array([[1.0, 1.0, 2.0]]), ROOT)
    np.testing.assert_array_equal([low, high], [[[1, 1, 0]], [[9, 9, 16]]])
    # Of quantiles 1, 4, 16 the middle has roots 2; below it the outer one is 1 away, above it 2.
    quantiles = np.broadcast_to([1.0, 4.0, 16.0], (1, 1, 3, 3))
    np.testing.assert_array_equal(conformity(quantiles, targets, every, ROOT), [[[0.5, 1, 2]]])
    low, high = bounds(quantiles[:, 0], np.array([[0.5, 1.0, 1.0]]), ROOT)
    np.testing.assert_array_equal([low, high], [[[2.25, 1, 1]], [[9, 16, 16]]])


def test_a_target_below_the_lowest_end_is_a_miss_however_wide_the_interval():
    scale = LINEAR._replace(lowest=0.0)
    truth = {"validation": np.full((40, 1, 1), 5.0), "test": np.full((40, 1, 1), 5.0)}
    truth["validation"][::2], truth["test"][::4] = 15.0, -1.0
    outputs = {part: np.full(values.shape, 5.0) for part, values in truth.items()}
    origins = {"validation": np.arange(40), "test": np.arange(40, 80)}
    seen = {part: (values, np.ones(values.shape, bool)) for part, values in truth.items()}
    found = interval_scores(outputs, seen, origins, scale=scale)
    assert found["coverage_90"] == 0.75 and found["width_90"] == 15  # from 0, not from -5, to 15
    assert found["coverage_90_online"] == 0.75  # its factor never falls below 1 here
    assert interval_scores(outputs, seen, origins)["coverage_90"] == 1


@pytest.mark.parametrize("quantiles", [False, True])
def test_coverage_is_what_lies_between_the_ends_where_forecasts_are_below_the_lowest(quantiles):
    generator = np.random.default_rng(8)
    outputs, truth = {}, {}
    for part in ("validation", "test"):
        centre = generator.normal(1, 4, (200, 2, 5))
        spread = np.exp(generator.normal(0, 1, (2, 200, 2, 5)))
        levels = np.stack([centre - spread[0], centre, centre + spread[1]], axis=-1)
        outputs[part] = levels if quantiles else centre
        values = np.maximum(np.round(centre + 3 * generator.normal(size=centre.shape)), 0)
        truth[part] = values, np.ones(values.shape, bool)
    truth["test"][0][::9] = -1
    origins = {"validation": np.arange(200), "test": np.arange(202, 402)}
    found = interval_scores(outputs, truth, origins, scale=ROOT)
    scores = conformity(outputs["validation"], *truth["validation"], ROOT)
    half = half_width(scores, 0.9)
    ends = [bounds(outputs["test"][:, h], np.tile(half[h], (200, 1)), ROOT) for h in range(2)]
    low, high = np.stack(ends, axis=2)
    values = truth["test"][0]
    slack = 1e-5 * np.abs(values)
    inside = (low - slack <= values) & (values <= high + slack)
    assert found["coverage_90"] == pytest.approx(inside.mean(), abs=1e-9)
    assert found["width_90"] == pytest.approx((high - low).mean())
    assert low.min() == 0 and 0.7 < found["coverage_90"] < 0.9


def test_targets_that_no_interval_reaches_widen_none():
    generator = np.random.default_rng(9)
    values = generator.gamma(4, 5, (300, 4, 1))
    outputs = {"validation": np.full((150, 4, 1), 20.0), "test": np.full((150, 4, 1), 20.0)}
    found = []
    for wrong in (0, 5):
        test = values[150:].copy()
        test[40 : 40 + wrong] = -50.0
        truth = {"validation": values[:150], "test": test}
        truth = {part: (array, np.ones(array.shape, bool)) for part, array in truth.items()}
        origins = {"validation": np.arange(150), "test": np.arange(150, 300)}
        found.append(interval_scores(outputs, truth, origins, scale=ROOT))
    assert found[1]["width_90_online"] == pytest.approx(found[0]["width_90_online"], rel=0.1)
    assert found[1]["coverage_90_online"] < found[0]["coverage_90_online"]


def test_beside_a_quantile_that_has_collapsed_the_other_side_stays_as_it_is():
    generator = np.random.default_rng(10)
    outputs, truth = {}, {}
    for part in ("validation", "test"):
        values = generator.normal(size=(400, 1, 3))
        outputs[part] = np.broadcast_to([-1e-4, 0.0, 1.5], (400, 1, 3, 3))
        truth[part] = values, np.ones(values.shape, bool)
    origins = {"validation": np.arange(400), "test": np.arange(401, 801)}
    found = interval_scores(outputs, truth, origins)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.03)
    assert found["width_90"] < 3 * 2 * 1.645


def test_rounding_parts_no_ties():
    counts = np.random.default_rng(11).poisson(30, (400, 1, 4)).astype(np.float32)
    shown = {"validation": counts[:200], "test": counts[200:]}
    origins = {"validation": np.arange(200), "test": np.arange(201, 401)}
    truth = {
        part: (np.roll(array, 1, axis=0), np.full(array.shape, True))
        for part, array in shown.items()
    }
    truth["test"][0][:, :, 3] = shown["test"][:, :, 3]
    truth["validation"][0][:, :, 3] = shown["validation"][:, :, 3]  # one that never errs
    noisy = {part: array * np.float32(1 + 2e-7) - np.float32(1e-6) for part, array in shown.items()}
    assert np.abs(noisy["test"] - shown["test"]).max() > 0
    exact, other = (interval_scores(outputs, truth, origins) for outputs in (shown, noisy))
    for name, value in exact.items():
        # A recent score may fall into the bin beside it, a twentieth away.
        assert other[name] == pytest.approx(value, rel=1e-2 if "online" in name else 1e-4), name


def test_where_errors_are_alike_in_a_scale_its_intervals_are_narrower_for_the_same_coverage():
    generator = np.random.default_rng(5)
    outputs, truth = {}, {}
    for part in ("validation", "test"):
        outputs[part] = np.square(generator.uniform(3, 30, (500, 2, 4)))
        values = np.square(np.sqrt(outputs[part]) + generator.normal(size=(500, 2, 4)) / 2)
        truth[part] = values, np.ones(values.shape, bool)
    origins = {"validation": np.arange(500), "test": np.arange(502, 1002)}
    plain, rooted = (interval_scores(outputs, truth, origins, scale=s) for s in (LINEAR, ROOT))
    for found in (plain, rooted):
        assert found["coverage_90"] == pytest.approx(0.9, abs=0.02)
    # In the scale 1.645 / 2 on either side of a root r: 4 r 1.645 / 2 wide, 16.5 in the mean.
    expected = 2 * 1.645 * np.sqrt(outputs["test"]).mean()
    assert rooted["width_90"] == pytest.approx(expected, rel=0.03)
    assert rooted["width_90"] < 0.95 * plain["width_90"]


def test_widths_are_in_the_unit_that_each_sensor_has():
    generator = np.random.default_rng(6)
    values = {part: generator.normal(size=(100, 1, 2)) for part in ("validation", "test")}
    truth = {part: (array, np.ones(array.shape, bool)) for part, array in values.items()}
    outputs = {part: np.zeros_like(array) for part, array in values.items()}
    origins = {"validation": np.arange(100), "test": np.arange(101, 201)}
    first, second = (
        interval_scores(outputs, truth, origins, unit=np.array(unit))["width_90"]
        for unit in ([1.0, 1e9], [1e9, 1.0])
    )
    both = interval_scores(outputs, truth, origins, unit=np.array([10.0, 10.0]))
    assert both["width_90"] == pytest.approx((first + second) / 10)


@pytest.mark.parametrize("quantiles", [False, True])
def test_the_interval_of_a_coverage_is_over_ten_stretches_of_test(quantiles):
    truth = {"validation": np.ones((100, 1, 1)), "test": np.ones((20, 1, 1))}
    truth["test"][:3] = 9.0  # the first stretch of two windows is missed, half of the second
    outputs = {part: np.zeros(values.shape) for part, values in truth.items()}
    if quantiles:
        outputs = {part: o[..., None] + np.array([-1.0, 0, 1]) for part, o in outputs.items()}
    seen = {part: (values, np.ones(values.shape, bool)) for part, values in truth.items()}
    origins = {"validation": np.arange(100), "test": np.arange(100, 120)}
    found = interval_scores(outputs, seen, origins)
    assert found["coverage_90"] == 0.85
    # The mean of 0, 0.5 and eight times 1, by Student's t of nine degrees.
    spread = np.std([0, 0.5, *[1] * 8], ddof=1)
    assert found["coverage_90_ci95"] == pytest.approx(2.2622 * spread / 10**0.5, rel=1e-4)
    one = {"validation": seen["validation"], "test": [part[:1] for part in seen["test"]]}
    outputs["test"], origins["test"] = outputs["test"][:1], origins["test"][:1]
    short = interval_scores(outputs, one, origins)
    assert np.isnan(short["coverage_90_ci95"]) and short["coverage_90"] == 0


def test_sensors_with_few_errors_share_theirs_in_proportion():
    generator = np.random.default_rng(0)
    scores = np.abs(generator.normal(size=(12, 2, 40))) * np.linspace(1, 9, 40)
    half = half_width(scores, 0.9)
    ratio = half / scores.mean(axis=(0, 1))
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones(40), rtol=1e-9)
    assert half.shape == (2, 40) and 1.8 < ratio.mean() < 2.4  # 1.645 / 0.798 = 2.06


@pytest.mark.parametrize("quantiles", [False, True])
def test_where_nothing_drifts_both_cover_what_they_say(quantiles):
    generator = np.random.default_rng(1)
    outputs, truth = {}, {}
    for part, windows in {"validation": 600, "test": 900}.items():
        spread = np.exp(generator.normal(size=(windows, 3, 4)))  # known to the quantiles alone
        values = (spread if quantiles else 1) * generator.normal(size=(windows, 3, 4))
        point = np.zeros((windows, 3, 4))
        levels = np.stack([-spread, point, spread], axis=-1)
        outputs[part] = levels if quantiles else point
        truth[part] = values, generator.random(values.shape) > 0.1
    origins = {"validation": np.arange(600), "test": np.arange(603, 1503)}
    found = interval_scores(outputs, truth, origins)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert found["coverage_90_online"] == pytest.approx(0.9, abs=0.02)
    mean = np.exp(0.5) if quantiles else 1  # of the spread
    assert found["width_90"] == pytest.approx(2 * 1.645 * mean, rel=0.1)
    assert found["width_90_online"] < 1.3 * found["width_90"]


@pytest.mark.parametrize("horizon", [1, 12])
def test_where_most_values_are_missing_the_online_interval_is_little_wider(horizon):
    generator = np.random.default_rng(6)
    series, seen = generator.normal(size=12100), generator.random(12100) < 0.03
    origins = {"validation": np.arange(4000), "test": np.arange(4000, 12000)}
    truth, outputs = {}, {}
    for part, of in origins.items():
        at = of[:, None, None] + 1 + np.arange(horizon)[:, None]  # [W, H, 1]
        truth[part], outputs[part] = (series[at], seen[at]), np.zeros(at.shape)
    found = interval_scores(outputs, truth, origins)
    assert 0.88 < found["coverage_90_online"] < 0.92
    assert found["width_90_online"] == pytest.approx(2 * 1.645, rel=0.15)


def test_where_errors_grow_only_the_online_interval_keeps_its_word():
    generator = np.random.default_rng(2)
    noise = {part: generator.normal(size=(400, 2, 6)) for part in ("validation", "test")}
    noise["test"] = noise["test"] * np.linspace(1, 6, 400)[:, None, None]
    truth = {part: (values, np.ones(values.shape, bool)) for part, values in noise.items()}
    outputs = {part: np.zeros(values.shape) for part, values in noise.items()}
    origins = {"validation": np.arange(400), "test": np.arange(402, 802)}
    found = interval_scores(outputs, truth, origins)
    assert found["coverage_90"] < 0.7
    assert 0.87 < found["coverage_90_online"] < 0.93
    assert found["width_90_online"] > 2 * found["width_90"]


def in_ten(windows, horizon, *largest, rest=0.25):
    """Ratios of ten sensors, the largest of them given, the others alike."""
    ratios = np.full((windows, horizon, 10), rest)
    ratios[..., : len(largest)] = largest
    return ratios


def rounded(value):
    """As the online quantile has it: the next edge of the bins."""
    return EDGES[np.searchsorted(EDGES, value)]


def test_the_recent_quantile_by_hand():
    # Always one sensor in ten misses on validation: none together, so nothing widens.
    ratios = {"validation": in_ten(3, 1, 1.2), "test": in_ten(12, 1, 3.0, 3.0)}
    origins = {"validation": np.arange(3), "test": np.arange(3, 15)}
    found = recent_quantile(ratios, origins, 0.9)[:, 0]
    # At origin 3 nine scores in ten are within 0.25. Of old and new together nine in ten are within
    # 1.2, all of the old and eight in ten of the new, until the new count more than the old.
    fade = 0.5 ** (1 / HALF_LIFE[0])
    old = (fade**2 + fade + 1) * fade ** np.arange(12)
    new = np.array([sum(fade**age for age in range(count)) for count in range(12)])
    assert found[0] == rounded(0.25) and 0 < (new > old).sum() < 11
    np.testing.assert_array_equal(found[1:], rounded(np.where(new > old, 3, 1.2))[1:])


def test_long_leads_learn_of_a_drift_from_short_ones():
    ratios = {"validation": in_ten(40, 12, 2.0), "test": 3 * in_ten(12, 12, 2.0)}
    origins = {"validation": np.arange(40), "test": np.arange(51, 63)}
    found = recent_quantile(ratios, origins, 0.9)
    np.testing.assert_array_equal(found[0], rounded(0.25))
    assert found[-1, 11] == rounded(0.75)  # though no target 12 steps ahead was known yet


def test_sensors_that_err_together_are_worth_fewer_errors():
    generator = np.random.default_rng(5)
    apart = {part: generator.exponential(size=(60, 6, 20)) / 2.3 for part in ("validation", "test")}
    alike = {part: np.repeat(values[..., :1], 20, axis=2) for part, values in apart.items()}
    origins = {"validation": np.arange(60), "test": np.arange(65, 125)}
    wide, narrow = (recent_quantile(ratios, origins, 0.9).mean() for ratios in (alike, apart))
    assert narrow == pytest.approx(1, abs=0.1) and wide > narrow + 0.05


def test_a_sensor_that_never_misses_on_validation_does_not_widen_the_others():
    random = np.random.default_rng(0)
    origins = {"validation": np.arange(60), "test": np.arange(65, 125)}
    error = {part: random.exponential(size=(60, 3, 20)) for part in origins}
    truth = {part: (y, np.ones(y.shape, bool)) for part, y in error.items()}
    found = interval_scores({p: np.zeros_like(y) for p, y in error.items()}, truth, origins)
    dead = {part: y.copy() for part, y in error.items()}
    dead["validation"][..., :3], dead["test"][..., :3] = 0, 10
    truth = {part: (y, np.ones(y.shape, bool)) for part, y in dead.items()}
    other = interval_scores({p: np.zeros_like(y) for p, y in dead.items()}, truth, origins)
    # Of 20 sensors 3 have intervals of no width; those of the others stay about as wide.
    assert other["width_90_online"] == pytest.approx(found["width_90_online"] * 17 / 20, rel=0.1)


@pytest.mark.parametrize("shared", [False, True])
def test_the_online_factor_follows_the_rule_lead_by_lead(shared):
    random = np.random.default_rng(3)
    steps = np.flatnonzero(random.random(90) < 0.8)
    origins = {"validation": steps[:30], "test": steps[26 if shared else 34 :]}
    ratios = {part: random.exponential(size=(len(of), 3, 2)) for part, of in origins.items()}
    for part in ratios:
        ratios[part][random.random(ratios[part].shape) < 0.2] = np.nan
    if shared:  # the origins of both parts have their targets in one of them
        own = steps[26:30, None] + np.arange(1, 4) < steps[30]
        ratios["validation"][26:][~own] = np.nan
        ratios["test"][:4][own] = np.nan
    miss = [
        (row[np.isfinite(row)] > 1).mean()
        for row in ratios["validation"].reshape(-1, 2)
        if np.isfinite(row).any()
    ]
    together = min(1, np.var(miss) / (np.mean(miss) * (1 - np.mean(miss))))
    judged = {
        origin + lead
        for origin, rows in zip(origins["validation"], ratios["validation"], strict=True)
        for lead, values in enumerate(rows)
        if np.isfinite(values).any()
    }
    judged = len(judged) / (max(judged) - min(judged) + 1)
    half_life = (HALF_LIFE[0] + (HALF_LIFE[1] - HALF_LIFE[0]) * together) / judged
    every = [
        (origin, lead + 1, values[np.isfinite(values)])
        for part, of in origins.items()
        for origin, rows in zip(of, ratios[part], strict=True)
        for lead, values in enumerate(rows)
        if np.isfinite(values).any()
    ]
    expected = np.ones((len(origins["test"]), 3))
    for lead in (1, 2, 3):
        for window, now in enumerate(origins["test"]):
            known = [
                (score, 0.5 ** ((now - origin - ahead) / half_life) / len(scores))
                for origin, ahead, scores in every
                if (ahead == lead and origin + lead <= now)
                or (ahead < lead and origin + ahead == now)
                for score in scores
            ]
            known.sort()
            weights = np.array([weight for _, weight in known])
            place = np.searchsorted(np.cumsum(weights), 0.9 * weights.sum() * (1 - 1e-9))
            alike = max(2 * lead * judged, 1)
            wider = 1 + min((1.6448536**2 + 1) / 4 * alike * together / weights.sum(), 1)
            logarithm = 0.0
            for before, origin in enumerate(origins["test"]):
                row = ratios["test"][before, lead - 1]
                row = row[np.isfinite(row)]
                if origin + lead <= now and len(row):
                    share = (row > expected[before, lead - 1]).mean()
                    logarithm += RATE / np.sqrt(lead) * (share - 0.1)
            expected[window, lead - 1] = rounded(known[place][0]) * wider * np.exp(logarithm)
    np.testing.assert_allclose(online_factor(ratios, origins, 0.9), expected, rtol=1e-6)


def test_no_factor_knows_of_a_target_after_its_origin():
    generator = np.random.default_rng(4)
    origins = {"validation": np.arange(20), "test": np.delete(np.arange(24, 60), [3, 4, 20])}
    ratios = {part: generator.exponential(size=(len(of), 5, 3)) for part, of in origins.items()}
    factor = online_factor(ratios, origins, 0.9)
    for now in (24, 30, 47):
        later = {part: values.copy() for part, values in ratios.items()}
        ahead = origins["test"][:, None] + np.arange(1, 6) > now
        later["test"][ahead] = 50 * generator.random((ahead.sum(), 3))
        changed = (online_factor(later, origins, 0.9) != factor).any(axis=1)
        assert not changed[origins["test"] <= now].any() and changed[-1]


def drifting(generator, windows, horizon, sensors, growth):
    """Ratios that grow with the time of the target, `growth` fold over the first steps of test."""
    before = 40
    origins = {"validation": np.arange(before)}
    origins["test"] = np.arange(windows) + before + horizon - 1
    scores = {}
    for part, of in origins.items():
        passed = of[:, None] + np.arange(1, horizon + 1) - origins["test"][0]
        size = growth ** np.clip(passed / 5, 0, 1)
        noise = generator.normal(size=(*size.shape, sensors))
        scores[part] = np.abs(noise) * size[..., None]
    half = half_width(scores["validation"], 0.9)
    return {part: values / half for part, values in scores.items()}, origins


def test_where_errors_grow_while_forecasts_are_under_way_tracking_alone_is_too_late(monkeypatch):
    ratios, origins = drifting(np.random.default_rng(6), 60, 14, 50, growth=2.5)

    def coverage():
        return (ratios["test"] <= online_factor(ratios, origins, 0.9)[..., None]).mean()

    assert (ratios["test"] <= 1).mean() < 0.65
    assert 0.86 < coverage() < 0.94
    monkeypatch.setattr(intervals, "RATE", 0.3)
    monkeypatch.setattr(intervals, "recent_quantile", lambda *given: np.ones((60, 14)))
    assert coverage() < 0.8


def test_a_lead_that_validation_never_reached_is_as_wide_as_the_one_before():
    scores = np.ones((50, 3, 2))
    scores[:, 1:] = np.nan
    np.testing.assert_array_equal(half_width(scores, 0.9), np.ones((3, 2)))
