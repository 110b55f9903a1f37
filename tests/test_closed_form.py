"""Ridge regressions from sums, against a numpy solution of the same rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cityjax.fit import fit
from cityjax.learners import Plan, closed_form, early_solution
from cityjax.learners.closed_form import ONE_PASS
from cityjax.metrics import mean_absolute_error
from cityjax.models.forecasting import carried
from cityjax.models.ridge import Regression, autoregression, last_observed, mean_season
from cityjax.models.transforms import rescaled, standardise

ROWS, SENSORS, FEATURES, LEADS, TRAIN = 240, 3, 5, 4, 180
PENALTIES = (1e-4, 0.1, 1.0)
PLAIN = Regression(
    lambda inputs: inputs["x"], lambda inputs, values: values, lambda inputs, values: values
)


REFIT = ONE_PASS._replace(solution=np.array([True, True]))


def folded(folds, early):
    """Each fold judges a fit without it and its neighbours; the first `early` are one solution."""
    apart = np.abs(np.subtract.outer(np.arange(folds), np.arange(folds)))
    return Plan(apart > 1, apart == 0, np.full(folds, True), np.arange(folds) < early)


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS, SENSORS, FEATURES)).astype(np.float32)
    x[..., 0], x[..., 2] = 1, x[..., 2] + 3
    weights = generator.normal(size=(SENSORS, FEATURES, LEADS))
    noise = generator.normal(size=(ROWS, LEADS, SENSORS))
    y = (np.einsum("bnf,nfh->bhn", x, weights) + noise).astype(np.float32)
    return x, y, generator.random(y.shape) > 0.3


def batches(x, y, mask, size=60, folds=0):
    """Train and validation, or folds, in batches of one block, the last of each filled up."""
    blocks = np.arange(ROWS) * folds // ROWS if folds else (np.arange(ROWS) >= TRAIN).astype(int)
    for block in np.unique(blocks):
        rows = np.flatnonzero(blocks == block)
        for start in range(0, len(rows), size):
            real = np.arange(start, start + size) < len(rows)
            at = rows[np.minimum(np.arange(start, start + size), len(rows) - 1)]
            yield {
                "inputs": {"x": x[at]},
                "targets": y[at],
                "mask": mask[at] & real[:, None, None],
                "block": np.full(size, block, np.int32),
                "ends": np.full(size, start + size >= len(rows)),
            }


def trained(learner, x, y, mask, folds=0):
    state = None
    step = jax.jit(learner.step)
    for batch in batches(x, y, mask, folds=folds):
        state = learner.init(jax.random.key(0), batch) if state is None else state
        state, _ = step(state, batch)
    return state


def solution(x, y, penalty):
    """Ridge on standardised columns, the constant apart: x [R, F], y [R]."""
    mean, std = x[:, 1:].mean(axis=0), x[:, 1:].std(axis=0)
    z = (x[:, 1:] - mean) / std
    gram = z.T @ z / len(z) + penalty * np.eye(z.shape[1])
    slopes = np.linalg.solve(gram, z.T @ (y - y.mean()) / len(z)) / std
    return np.concatenate([[y.mean() - mean @ slopes], slopes])


def expected(x, y, mask, *, per_sensor, refit):
    """Weights [G, F, H], each lead's penalty the one with the least squared error on validation."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    groups = [[n] for n in range(SENSORS)] if per_sensor else [list(range(SENSORS))]
    weights = np.zeros((len(groups), FEATURES, LEADS))

    def picked(lead, group, part):
        held = [(x[part, n][mask[part, lead, n]], y[part, lead, n][mask[part, lead, n]])
                for n in group]  # fmt: skip
        return tuple(np.concatenate(column) for column in zip(*held, strict=True))

    early, late, both = slice(TRAIN), slice(TRAIN, None), slice(None)
    for lead in range(LEADS):
        losses = np.zeros(len(PENALTIES))
        for group in groups:
            for place, penalty in enumerate(PENALTIES):
                found = solution(*picked(lead, group, early), penalty)
                inputs, targets = picked(lead, group, late)
                losses[place] += np.sum((inputs @ found - targets) ** 2)
        best = PENALTIES[int(np.argmin(losses))]
        for number, group in enumerate(groups):
            part = both if refit else early
            weights[number, :, lead] = solution(*picked(lead, group, part), best)
    return weights


@pytest.mark.parametrize("per_sensor", [True, False])
@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("refit", [True, False])
def test_weights_equal_a_direct_solution(rows, per_sensor, complete, refit):
    x, y, mask = rows
    mask = np.ones_like(mask) if complete else mask
    hidden = np.where(mask, y, np.nan)  # what is masked may be anything
    learner = closed_form(
        PLAIN,
        steps=4,
        penalties=PENALTIES,
        plan=REFIT._replace(early=np.array([True, False])) if refit else ONE_PASS,
        per_sensor=per_sensor,
        complete=complete,
    )
    state = trained(learner, x, hidden, mask)
    wanted = expected(x, y, mask, per_sensor=per_sensor, refit=refit)
    np.testing.assert_allclose(state.params["weights"], wanted, atol=5e-5)
    early = expected(x, y, mask, per_sensor=per_sensor, refit=False)  # at the same penalties
    forecasts = {learner: wanted} | ({early_solution(learner): early} if refit else {})
    for one, weights in forecasts.items():
        outputs = one.predict(state, {"x": x[:2]})
        wide = np.broadcast_to(weights, (SENSORS, FEATURES, LEADS))
        np.testing.assert_allclose(outputs, np.einsum("bnf,nfh->bhn", x[:2], wide), atol=5e-4)


@pytest.mark.parametrize("complete", [True, False])
def test_folds_choose_by_blocks_without_their_neighbours_and_solve_on_all(rows, complete):
    x, y, mask = rows
    mask = np.ones_like(mask) if complete else mask
    learner = closed_form(
        PLAIN, steps=5, penalties=PENALTIES, plan=folded(5, early=3), complete=complete
    )
    state = trained(learner, x, np.where(mask, y, np.nan), mask, 5)
    found, early = state.params["weights"], state.extra["early"]
    block = np.arange(ROWS) // 48

    def picked(lead, chosen):
        held = [(x[chosen, n][mask[chosen, lead, n]], y[chosen, lead, n][mask[chosen, lead, n]])
                for n in range(SENSORS)]  # fmt: skip
        return (np.concatenate(column).astype(np.float64) for column in zip(*held, strict=True))

    for lead in range(LEADS):
        losses = np.zeros(len(PENALTIES))
        for left in range(5):
            inputs, targets = picked(lead, block == left)
            fitted = tuple(picked(lead, np.abs(block - left) > 1))
            for place, penalty in enumerate(PENALTIES):
                losses[place] += np.sum((inputs @ solution(*fitted, penalty) - targets) ** 2)
        best = PENALTIES[int(np.argmin(losses))]
        wanted = solution(*picked(lead, block >= 0), best)
        np.testing.assert_allclose(found[0, :, lead], wanted, atol=5e-5)
        wanted = solution(*picked(lead, block < 3), best)
        np.testing.assert_allclose(early[0, :, lead], wanted, atol=5e-5)


@pytest.mark.parametrize("per_sensor", [True, False])
@pytest.mark.parametrize("complete", [True, False])
def test_what_comes_later_is_learnt_from_one_block_after_another(rows, per_sensor, complete):
    x, y, mask = rows
    mask = np.ones_like(mask) if complete else mask
    options = {"steps": 5, "per_sensor": per_sensor, "complete": complete}
    learner = closed_form(PLAIN, penalties=(0.1,), plan=REFIT._replace(later=3), **options)
    state = trained(learner, x, np.where(mask, y, np.nan), mask, 5)
    found = np.asarray(state.params["weights"])
    for later, weights in enumerate(found):
        known = slice(48 * (2 + later))  # of five blocks the first two are there from the start
        for number in range(len(weights)):
            group = [number] if per_sensor else list(range(SENSORS))
            for lead in range(LEADS):
                at = mask[known, lead][:, group]
                inputs, targets = x[known][:, group][at], y[known, lead][:, group][at]
                wanted = solution(inputs.astype(np.float64), targets.astype(np.float64), 0.1)
                np.testing.assert_allclose(weights[number, :, lead], wanted, atol=5e-5)
    which = np.array([3, 0])
    for inputs in ({"x": x[:2], "solution": which}, {"x": x[:2]}):
        wide = found[which] if "solution" in inputs else found[[3, 3]]
        wide = np.broadcast_to(wide, (2, SENSORS, FEATURES, LEADS))
        expected = np.einsum("bnf,bnfh->bhn", x[:2], wide)
        np.testing.assert_allclose(learner.predict(state, inputs), expected, atol=5e-4)


def test_what_comes_later_chooses_no_penalty(rows):
    x, y, mask = rows
    found = []
    for changed in (y, np.concatenate([y[:96], 100 - 9 * y[96:]])):
        learner = closed_form(PLAIN, steps=5, penalties=PENALTIES, plan=REFIT._replace(later=3))
        found.append(trained(learner, x, changed, np.ones_like(mask), 5).params["weights"])
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert np.abs(found[0][1] - found[1][1]).max() > 1


@pytest.mark.parametrize("size", [7, 48])
def test_later_blocks_of_any_length_have_no_sums_of_their_own(rows, size):
    x, y, mask = rows
    some = list(batches(x, y, mask, size=size, folds=5))
    plan = REFIT._replace(early=np.array([True, False]), later=3)
    learner = closed_form(PLAIN, steps=len(some), penalties=(0.1,), plan=plan, complete=False)
    state, step = learner.init(jax.random.key(0), some[0]), jax.jit(learner.step)
    for batch in some:
        state, _ = step(state, batch)
    assert len(state.extra["blocks"].gram) == 2
    once = trained(
        closed_form(PLAIN, steps=5, penalties=(0.1,), plan=plan, complete=False), *rows, 5
    )
    np.testing.assert_allclose(state.params["weights"], once.params["weights"], atol=5e-5)
    np.testing.assert_allclose(state.extra["early"], once.extra["early"], atol=5e-5)
    assert np.abs(np.diff(state.params["weights"], axis=0)).max(axis=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("complete", [True, False])
def test_a_sensor_of_importance_two_counts_as_if_it_were_there_twice(rows, complete):
    x, y, mask = rows
    mask = np.ones_like(mask) if complete else mask
    twice = [0, 1, 2, 2]
    one, two = (
        closed_form(PLAIN, steps=4, penalties=PENALTIES, complete=complete, importance=importance)
        for importance in (jnp.array([1.0, 1, 2]), None)
    )
    wanted = trained(two, x[:, twice], y[..., twice], mask[..., twice]).params["weights"]
    found = trained(one, x, y, mask).params["weights"]
    np.testing.assert_allclose(found, wanted, atol=5e-5)
    assert np.abs(trained(two, x, y, mask).params["weights"] - wanted).max() > 0.01


@pytest.mark.parametrize("complete", [True, False])
def test_features_that_follow_from_each_other_are_not_weighed_by_rounding(rows, complete):
    x, y, mask = rows
    mask = np.ones_like(mask) if complete else mask
    one, two = x[..., 1:2], x[..., 2:3]
    x = np.concatenate([x, one + 3 * two, one - 2 * two, 5 * one + two], axis=-1)
    learner = closed_form(PLAIN, steps=4, penalties=(1e-7,), complete=complete)
    found = trained(learner, x, y, mask).params["weights"]
    for lead in range(LEADS):
        seen = mask[:TRAIN, lead]
        inputs, targets = x[:TRAIN].astype(np.float64)[seen], y[:TRAIN, lead][seen]
        columns = inputs[:, 1:]
        mean, std = columns.mean(axis=0), columns.std(axis=0)
        least = np.linalg.lstsq((columns - mean) / std, targets - targets.mean(), rcond=1e-4)[0]
        np.testing.assert_allclose(found[0, 1:, lead], least / std, atol=1e-4)


def test_small_values_are_regressed_as_large_ones_are(rows):
    x, y, mask = rows
    learner = closed_form(PLAIN, steps=4, penalties=PENALTIES, complete=False)
    small = np.concatenate([x[..., :1], 1e-6 * x[..., 1:]], axis=-1)
    found = trained(learner, small, 1e-6 * y, mask).params["weights"]
    wanted = trained(learner, x, y, mask).params["weights"]
    np.testing.assert_allclose(found[:, 1:], wanted[:, 1:], atol=1e-3)
    assert np.abs(wanted[:, 1:]).max() > 0.5


def test_a_step_says_which_share_of_its_targets_is_observed(rows):
    learner = closed_form(PLAIN, steps=4, penalties=PENALTIES, complete=False)
    batch = next(batches(*rows))
    _, sums = learner.step(learner.init(jax.random.key(0), batch), batch)
    total, count = sums["observed_targets"]
    assert total / count == pytest.approx(rows[2][:60].mean()) and total < count


def test_what_fills_up_a_batch_is_no_target_that_was_not_observed(rows):
    learner = closed_form(PLAIN, steps=4, penalties=PENALTIES)
    batch = next(batches(*rows))
    batch["mask"] = np.ones_like(batch["mask"])
    batch["mask"][40:] = False
    _, sums = learner.step(learner.init(jax.random.key(0), batch), batch)
    total, count = sums["observed_targets"]
    assert total == count == 40 * LEADS * SENSORS


def test_a_state_made_outside_jit_holds_each_array_once(rows):
    x, y, mask = rows
    learner = closed_form(
        PLAIN, steps=4, penalties=PENALTIES, plan=REFIT._replace(early=np.array([True, False]))
    )
    parts = [jax.tree.map(jnp.asarray, batch) for batch in batches(x, y, np.ones_like(mask))]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *parts)
    source = jax.tree_util.Partial(
        lambda held, key, step: jax.tree.map(lambda rows: rows[step % 4], held), stacked
    )
    state = learner.init(jax.random.key(0), parts[0])
    state = fit(learner, source, state, 4)
    wanted = expected(x, y, np.ones_like(mask), per_sensor=False, refit=True)
    np.testing.assert_allclose(state.params["weights"], wanted, atol=5e-5)


def test_the_key_stays_the_callers(rows):
    key, batch = jax.random.key(0), next(batches(*rows))
    learner = closed_form(PLAIN, steps=1, penalties=PENALTIES)
    jax.jit(learner.step, donate_argnums=0)(learner.init(key, batch), batch)
    assert not key.is_deleted()


def test_nothing_is_solved_before_the_pass_is_over(rows):
    x, y, mask = rows
    learner = closed_form(PLAIN, steps=5, penalties=PENALTIES)
    assert not np.any(trained(learner, x, y, mask).params["weights"])


@pytest.mark.eight_devices
def test_devices_add_up_to_the_whole_batch(rows):
    x, y, mask = rows
    measured = {"mae": mean_absolute_error()}
    plan = REFIT._replace(later=3)
    learner = closed_form(
        PLAIN, steps=5, penalties=PENALTIES, plan=plan, complete=False, metrics=measured
    )
    state, whole = None, None
    each = jax.pmap(functools.partial(learner.step, axis_name="batch"), axis_name="batch")
    for batch in batches(x, y, mask, size=48, folds=5):
        if state is None:
            whole = learner.init(jax.random.key(0), batch)
            state = jax.tree.map(lambda leaf: jnp.stack([leaf] * 8), whole)
        shares = jax.tree.map(lambda leaf: jnp.reshape(leaf, (8, -1, *leaf.shape[1:])), batch)
        whole, _ = jax.jit(learner.step)(whole, batch)
        state, _ = each(state, shares)
    np.testing.assert_allclose(
        state.params["weights"][0], whole.params["weights"], rtol=1e-4, atol=1e-5
    )
    batch = {"inputs": {"x": x}, "targets": y, "mask": mask}
    sums = learner.evaluate(whole, batch)
    error = np.abs(learner.predict(whole, batch["inputs"]) - y)[mask]
    assert float(sums["mae"][0] / sums["mae"][1]) == pytest.approx(error.mean(), rel=1e-5)


def test_missing_history_is_filled_by_the_last_value_and_never_read():
    values = jnp.array([[[1.0, 9.0], [2.0, 9.0], [3.0, 4.0]]])
    observed = jnp.array([[[True, False], [False, False], [True, True]]])
    inputs = {"history": values[..., None], "observed": observed}
    np.testing.assert_array_equal(carried(inputs)[0], [[1, 0], [1, 0], [3, 4]])


def test_autoregression_is_of_differences_and_comes_back():
    generator = np.random.default_rng(1)
    inputs = {
        "history": generator.normal(size=(2, 4, 3, 2)).astype(np.float32),
        "observed": generator.random((2, 4, 3)) > 0.3,
        "known": generator.normal(size=(2, 6, 3, 1)).astype(np.float32),
        "profile": generator.normal(size=(2, 6, 3, 1)).astype(np.float32),
        "clock": generator.integers(0, 7, (2, 6, 3)),
    }
    adjacency = np.array([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]])
    scale = standardise(np.full(3, 2.0), np.full(3, 0.5))

    def make(adjacency):
        plain = autoregression(
            horizon=2,
            supports=[adjacency],
            gaps=True,
            calendar=("day", "year"),
            steps_per_day=24,
        )
        return rescaled(plain, scale)

    regression = make(adjacency)
    features = regression.features(inputs)
    # 1, last, 3 differences, 1 age, 3 of the neighbours, 3 profiles, 1 + 2 covariates, 12 waves.
    assert features.shape == (2, 3, 27)
    np.testing.assert_array_equal(features[..., 0], 1)
    for batch, sensor in np.ndindex(2, 3):
        seen = [*inputs["observed"][batch, ::-1, sensor], True]
        assert features[batch, sensor, 5] == seen.index(True) / 4
    values = generator.normal(size=(2, 2, 3)).astype(np.float32)
    back = regression.decode(inputs, regression.encode(inputs, values))
    np.testing.assert_allclose(back, values, atol=1e-6)
    hidden = {
        **inputs,
        "history": np.where(
            np.arange(2) == 0,
            np.where(inputs["observed"][..., None], inputs["history"], 1e9),
            inputs["history"],
        ).astype(np.float32),
    }
    np.testing.assert_array_equal(regression.features(hidden), features)
    # Sensors in another order, the graph along with them.
    order = np.array([2, 0, 1])
    moved = {name: array[:, :, order] for name, array in inputs.items() if name != "clock"}
    moved["clock"] = inputs["clock"]
    again = make(adjacency[np.ix_(order, order)])
    np.testing.assert_allclose(again.features(moved), features[:, order], atol=1e-6)


@pytest.mark.parametrize("complete", [True, False])
def test_a_regression_from_two_bases_is_the_mean_of_one_from_each(complete):
    generator = np.random.default_rng(2)
    batch = {
        "inputs": {
            "history": generator.normal(3, 1, (40, 4, 2, 1)).astype(np.float32),
            "observed": np.ones((40, 4, 2), bool),
            "known": np.zeros((40, 6, 2, 0), np.float32),
            "profile": generator.normal(3, 1, (40, 6, 2, 1)).astype(np.float32),
            "clock": np.zeros((40, 6, 3), np.int32),
        },
        "targets": generator.normal(3, 1, (40, 2, 2)).astype(np.float32),
        "mask": generator.random((40, 2, 2)) > (-1 if complete else 0.3),
    }
    halves = [
        jax.tree.map(lambda leaf, part=part: leaf[part], batch)
        for part in (slice(20), slice(20, 40))
    ]

    def profile(inputs):
        return inputs["profile"][:, -2:, :, 0]

    def forecast(*bases):
        regression = autoregression(horizon=2, bases=bases)
        learner = closed_form(regression, steps=2, penalties=(0.1, 10.0), complete=complete)
        state = learner.init(jax.random.key(0), batch)
        for number, half in enumerate(halves):
            state, _ = learner.step(state, {**half, "block": np.full(20, number)})
        return np.asarray(learner.predict(state, batch["inputs"]))

    apart = [forecast(last_observed), forecast(profile)]
    assert np.abs(apart[0] - apart[1]).max() > 0.1
    found = forecast(last_observed, profile)
    np.testing.assert_allclose(found, np.mean(apart, axis=0), atol=1e-4)


def test_a_season_is_the_mean_of_the_history_at_its_phase():
    # Of a season of three, the five steps have the phases 1 2 0 1 2, those ahead 0 1 2 0.
    history = np.array([[1, 2, 3, 90, 5], [6, 0, 90, 8, 2], [90] * 5], np.float32).T
    observed = np.array([[1, 1, 1, 0, 1], [1, 1, 0, 1, 1], [0] * 5], bool).T
    inputs = {"history": history[None, ..., None], "observed": observed[None]}
    season = mean_season(inputs, season=3, horizon=4)[0]
    np.testing.assert_allclose(season[:, 0], [3, 1, 3.5, 3])
    np.testing.assert_allclose(season[:, 1], [4, 7, 1, 4])  # nothing of phase 0: the others' mean
    np.testing.assert_allclose(season[:, 2], 0)
