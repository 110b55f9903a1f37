"""Backtests: rolling means by hand, re-fits against numpy, and that nothing knows what comes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cityjax.data import forecast as windows
from cityjax.data.dataset import Protocol
from cityjax.data.leaks import leaks
from cityjax.data.series import Series, checked
from cityjax.errors import UserError
from cityjax.fit import fit as train_until
from cityjax.fit import predict
from cityjax.forecasters.experts import experts
from cityjax.forecasters.floors import last_value
from cityjax.forecasters.linear import nlinear
from cityjax.learners import closed_form, supervised
from cityjax.losses import absolute_error
from cityjax.models.ridge import autoregression
from cityjax.tasks import blocks, scales
from cityjax.tasks.backtest import backtest
from cityjax.tasks.forecasting import ClosedForm, forecast_experiment
from cityjax.tasks.problem import make_problem

STEPS, HISTORY, HORIZON, HOUR = 200, 6, 3, 3600
PROTOCOL = Protocol((0.5, 0.2, 0.3), HISTORY, HORIZON, ("mae", "rmse", "pcc"), leads=(2,))


def town(steps=STEPS, holes=0):
    """Two sensors with a day of eight steps, a covariate, and a holiday known ahead."""
    generator = np.random.default_rng(3)
    day = np.sin(np.arange(steps)[:, None] * np.pi / 4) * [3, 1]
    values = 20 + day + generator.normal(size=(steps, 2)).cumsum(axis=0) / 4
    values.reshape(-1)[generator.permutation(2 * steps)[:holes]] = np.nan
    time = np.datetime64("2024-01-01", "s") + np.arange(steps) * np.timedelta64(3 * HOUR, "s")
    rain, holiday = generator.normal(size=steps), (np.arange(steps) // 8 % 7 == 0)
    return checked(
        Series(values, time, 3 * HOUR, ("a", "b"), "mph", {"rain": rain}, {"holiday": holiday})
    )


def problem_of(series, protocol=PROTOCOL, **options):
    return make_problem(series, protocol, season=8, **options)


def mean(past, last):
    """Fit: the mean of all that is known, by sensor."""
    return past.series.values.mean(axis=0)


def flat(fitted, inputs):
    """Forecast: the same at every step ahead."""
    return np.broadcast_to(fitted, (len(inputs["clock"]), HORIZON, 2))


def test_a_rolling_mean_by_hand():
    values = np.arange(20, dtype=np.float32)[:, None]
    time = np.datetime64("2024-01-01", "s") + np.arange(20) * np.timedelta64(HOUR, "s")
    series = checked(Series(values, time, HOUR, ("a",), "mph"))
    protocol = Protocol((10, 4, 6), history=1, horizon=2, measures=("mae",))
    problem = problem_of(series, protocol, graph="none")

    def forecast(fitted, inputs):
        return np.full((len(inputs["clock"]), 2, 1), fitted)

    found = backtest(problem, lambda p, last: p.series.values.mean(), forecast, every=2, span=3)
    np.testing.assert_array_equal(found.origins, [13, 14, 15, 16, 17])
    np.testing.assert_array_equal(found.fits, [13, 13, 15, 15, 17])
    # Of the three steps up to the origin of the fit: 11, 12, 13; 13, 14, 15; 15, 16, 17.
    np.testing.assert_array_equal(found.forecasts[:, 0, 0], [12, 12, 14, 14, 16])
    np.testing.assert_array_equal(found.targets[..., 0], [[t + 1, t + 2] for t in range(13, 18)])
    assert found.mask.all()
    # One step ahead the errors are 2, 3, 2, 3, 2; two steps ahead one more.
    np.testing.assert_allclose(found.by_lead["mae"], [2.4, 3.4], rtol=1e-6)
    assert found.metrics == {"mae@1-2": pytest.approx(2.9)}


def test_without_a_step_it_is_fitted_once_on_all_that_is_known():
    problem = problem_of(town())
    calls = []

    def fit(past, last):
        calls.append((len(past.series.values), last))
        return mean(past, last)

    once = backtest(problem, fit, flat)
    origin = problem.origins["test"][0]
    assert calls == [(origin + 1, None)] and set(once.fits) == {origin}
    expected = problem.series.values[: origin + 1].mean(axis=0)
    np.testing.assert_allclose(once.forecasts, flat(expected, {"clock": once.origins}), rtol=1e-6)
    long = backtest(problem, mean, flat, every=STEPS, span=STEPS, batch_size=7)
    np.testing.assert_array_equal(long.forecasts, once.forecasts)
    assert long.metrics == once.metrics


def test_metrics_by_lead_are_those_of_numpy_without_what_is_missing():
    problem = problem_of(town(holes=60))
    found = backtest(problem, lambda past, last: np.nanmean(past.series.values, axis=0), flat)
    at = found.origins[:, None] + np.arange(1, HORIZON + 1)
    truth = problem.series.values[at]
    np.testing.assert_array_equal(found.mask, np.isfinite(truth))
    np.testing.assert_array_equal(found.targets, np.nan_to_num(truth))
    error = found.forecasts - truth
    np.testing.assert_allclose(
        found.by_lead["mae"], np.nanmean(np.abs(error), axis=(0, 2)), rtol=1e-5
    )
    rmse = np.sqrt(np.nanmean(error**2, axis=(0, 2)))
    np.testing.assert_allclose(found.by_lead["rmse"], rmse, rtol=1e-5)
    for lead, forecast, target in zip(
        range(HORIZON), *(np.moveaxis(a, 1, 0) for a in (found.forecasts, truth)), strict=True
    ):
        seen = np.isfinite(target)
        expected = np.corrcoef(forecast[seen], target[seen])[0, 1]
        np.testing.assert_allclose(found.by_lead["pcc"][lead], expected, atol=5e-3)  # float32 sums
    assert found.metrics["rmse@2"] == pytest.approx(rmse[1], rel=1e-5)
    assert found.metrics["mae@1-3"] == pytest.approx(np.nanmean(np.abs(error)), rel=1e-5)


def test_quantiles_and_z_scores():
    protocol = PROTOCOL._replace(measures=("mae",), standardised=True)
    problem = problem_of(town(), protocol, quantiles=(0.1, 0.5, 0.9))
    spread = np.array([-1, 0, 2])

    def forecast(fitted, inputs):
        return flat(fitted, inputs)[..., None] + spread

    found = backtest(problem, mean, forecast, every=10)
    assert found.forecasts.shape == (*found.targets.shape, 3)
    std = problem.series.values[: problem.train_stop].std(axis=0)
    error = np.abs(found.forecasts[..., 1] - found.targets) / std
    np.testing.assert_allclose(found.by_lead["mae"], error.mean(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.by_lead["width"], np.full(3, (3 / std).mean()), rtol=1e-5)
    assert set(found.by_lead) == {"mae", "crps", "pinball", "coverage", "width"}


PENALTY = 0.01


def ridge_fit(problem, complete=True):
    """Add the moments of the windows that have come since the last fit, and solve."""
    learner = closed_form(
        autoregression(horizon=HORIZON), steps=1, penalties=(PENALTY,), complete=complete
    )

    step = jax.jit(learner.step)

    def fit(past, last):
        state, seen = (None, 0) if last is None else last
        new = past.origins["train"][seen:]
        batch = windows.window_batch(
            past.data, jnp.asarray(new), past.rows["train"], history=HISTORY, horizon=HORIZON
        )
        batch = {**batch, "block": np.zeros(len(new), np.int32)}
        state = learner.init(jax.random.key(0), batch) if state is None else state
        return step(state, batch)[0], seen + len(new)

    return fit, lambda fitted, inputs: learner.predict(fitted[0], inputs)


def solved(values, origin):
    """Weights [F, H] of the same ridge on all windows that end by an origin, in numpy."""
    at = np.arange(HISTORY - 1, origin - HORIZON + 1)
    past = values[at[:, None] + np.arange(1 - HISTORY, 1)].astype(np.float64)  # [W, T, N]
    ahead = values[at[:, None] + np.arange(1, HORIZON + 1)] - past[:, -1:]
    x = features(past).reshape(-1, HISTORY)
    y = np.moveaxis(ahead, 1, 2).reshape(-1, HORIZON)
    centre, std = x.mean(axis=0), x.std(axis=0)
    z = (x - centre) / std
    slopes = np.linalg.solve(z.T @ z / len(z) + PENALTY * np.eye(HISTORY), z.T @ y / len(z))
    slopes = slopes / std[:, None]
    return y.mean(axis=0) - centre @ slopes, slopes


def features(past):
    """The last value, and the differences of the others from it: [W, N, T] of [W, T, N]."""
    return np.moveaxis(np.concatenate([past[:, -1:], past[:, :-1] - past[:, -1:]], 1), 1, 2)


def test_a_ridge_that_goes_on_learning_equals_one_solved_anew_at_each_origin():
    series = town()
    problem = problem_of(series, graph="none")
    found = backtest(problem, *ridge_fit(problem), every=7)
    assert len(set(found.fits)) == 9
    for origin, fitted, shown in zip(found.origins, found.fits, found.forecasts, strict=True):
        constant, slopes = solved(series.values, fitted)
        past = series.values[None, origin - HISTORY + 1 : origin + 1]
        expected = past[0, -1] + (features(past)[0] @ slopes + constant).T
        np.testing.assert_allclose(shown, expected, atol=2e-3)
    once = backtest(problem, *ridge_fit(problem))
    assert np.abs(once.forecasts - found.forecasts)[7:].max() > 0.01


def learner_fit(problem, forecaster, updates=5):
    """Train a learner, from the last state on."""
    learner = supervised(forecaster, absolute_error, optax.adam(0.01), {})

    def fit(past, last):
        lengths = {"history": HISTORY, "horizon": HORIZON}
        source = windows.train_source(
            past.data, past.origins["train"], past.rows["train"], batch_size=16, **lengths
        )
        if last is None:
            last = learner.init(jax.random.key(0), source(jax.random.key(1), jnp.int32(0)))
        return train_until(learner, source, last, int(last.step) + updates, chunk=updates)

    return fit, jax.jit(learner.predict)


def test_a_learner_goes_on_from_its_last_state():
    problem = problem_of(town(), inputs=("covariates", "day"))
    forecaster = scales.scaled(nlinear(problem), problem, ("standard",))
    fit, predict = learner_fit(problem, forecaster)
    steps = []

    def counted(past, last):
        state = fit(past, last)
        steps.append(int(state.step))
        return state

    found = backtest(problem, counted, predict, every=20, span=100)
    assert steps == [5, 10, 15]
    # The last block by hand: the same fits, one after the other, and its windows.
    state = None
    for origin in np.unique(found.fits):
        view = backtest_view(problem, int(origin), 100)
        state = fit(view, state)
    last = found.fits == found.fits[-1]
    inputs = windows.window_batch(
        problem.data, found.origins[last], (0, STEPS), history=HISTORY, horizon=HORIZON
    )["inputs"]
    np.testing.assert_allclose(found.forecasts[last], predict(state, inputs), rtol=1e-5)


def backtest_view(problem, origin, span):
    """What a fit at one origin is given."""
    seen = []
    backtest(problem, lambda past, last: seen.append(past), flat_zero, origins=[origin], span=span)
    return seen[0]


def flat_zero(fitted, inputs):
    return np.zeros((len(inputs["clock"]), HORIZON, 2))


def test_what_a_fit_is_given_ends_at_the_origin_and_spans_what_was_asked_for():
    series = town()
    problem = problem_of(series, inputs=("covariates", "season"))
    for origin, span in ((150, None), (150, 40), (120, 500)):
        past = backtest_view(problem, origin, span)
        start = 0 if span is None else max(0, origin + 1 - span)
        assert past.series.time[-1] == series.time[origin]
        assert past.series.time[0] == series.time[start]
        lengths = {len(a) for a in (*past.data.values(), *past.series.past.values())}
        assert lengths == {past.rows["train"][1]} == {origin + 1 - start}
        at = past.origins["train"]
        assert at[-1] + HORIZON == origin - start  # the last target is the last known value
        assert at[0] == max(problem.origins["train"][0] - start, HISTORY - 1)


def kinds(problem):
    """Name -> fit and forecast, of every kind that a backtest is for."""
    weighted = scales.scaled(experts(problem), problem, ("standard",))
    model = supervised(weighted, absolute_error, optax.sgd(0.0), {})
    begun = functools.partial(
        windows.window_batch, history=HISTORY, horizon=HORIZON, part=(0, STEPS)
    )

    def untrained(past, last):
        return model.init(jax.random.key(0), begun(past.data, past.origins["train"][:4]))

    def season(past, last):
        phase = past.data["clock"][:, 0]
        return np.stack([past.series.values[phase == p].mean(axis=0) for p in range(8)])

    def seasonal(profile, inputs):
        return profile[np.asarray(inputs["clock"])[:, HISTORY:, 0]]

    def reckless(past, last):
        return problem.series.values.mean(axis=0)

    return {
        "seasonal mean": (season, seasonal),
        "ridge": ridge_fit(problem),
        "nlinear": learner_fit(problem, nlinear(problem), updates=2),
        "experts": (untrained, jax.jit(model.predict)),
        "reckless": (reckless, flat),
    }


def test_no_forecast_depends_on_what_comes_after_its_origin():
    start = 165  # just after a fit: what comes then is of the same batch

    def build(series):
        problem = problem_of(series, inputs=("covariates", "season", "typical_day"))
        found = {}
        for name, (fit, forecast) in kinds(problem).items():
            result = backtest(problem, fit, forecast, every=25)
            assert start - 1 in result.fits and start not in result.fits
            found[name] = result.forecasts[result.origins < start]
            found[f"{name}, later"] = result.forecasts[result.origins >= start]
        return found

    found = leaks(build, town()._replace(known={}), start)
    later = [f"{name}, later" for name in ("seasonal mean", "ridge", "nlinear", "experts")]
    assert set(found) == {"reckless", "reckless, later", *later}


def test_of_later_steps_only_what_is_known_ahead_is_shown():
    start = 171

    def build(series):
        problem = problem_of(series, inputs=("covariates", "season", "typical_day"))
        seen = []

        def forecast(fitted, inputs):
            seen.append(inputs)
            return flat(fitted, inputs)

        backtest(problem, mean, forecast, origins=[start - 1])
        return seen[0]

    assert leaks(build, town(), start) == ("known",)
    assert set(build(town())) == {"history", "observed", "clock", "known", "profile"}


def test_origins_of_ones_own_count_all_targets_that_there_are():
    problem = problem_of(town())
    first = problem.train_stop - 1
    found = backtest(problem, mean, flat, origins=[first, first + 5, STEPS - 2], every=5)
    np.testing.assert_array_equal(found.fits, found.origins)
    np.testing.assert_array_equal(
        found.mask[..., 0], [[True] * 3, [True] * 3, [True] + 2 * [False]]
    )
    assert (found.targets[-1, 1:] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0: at least 1 is expected"),
        ({"span": -3}, "span=-3: at least 1 is expected"),
        ({"batch_size": 0}, "batch_size=0: at least 1 is expected"),
        ({"origins": [98, 120]}, "origins 98 to 120: rows that rise, from the last of train, 99,"),
        ({"origins": [120, 199]}, "origins 120 to 199: rows that rise.* to 198, expected"),
        ({"origins": [130, 120]}, "origins 130 to 120: rows that rise"),
        ({"origins": [120.5]}, "origins 120.5 to 120.5: rows that rise"),
        ({"origins": []}, r"origins of shape \(0,\): rows that rise"),
        (
            {"fit": lambda past, last: np.nan},
            "348 forecasts are no number, the first of origin 139",
        ),
        (
            {"forecast": lambda fitted, inputs: np.zeros((3, 2))},
            r"forecast gave the shape \(3, 2\): \(58, 3, 2\) is expected",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, message):
    arguments = {"fit": mean, "forecast": flat, **options}
    with pytest.raises(UserError, match=message) as caught:
        backtest(problem_of(town()), **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("holes", [0, 30])
@pytest.mark.parametrize("batch_size", [4, 64])
@pytest.mark.parametrize("folds", [0, 5])
def test_an_experiment_that_is_refitted_as_time_goes_is_a_backtest(holes, batch_size, folds):
    problem = problem_of(town(holes=holes), graph="none")
    regression = autoregression(horizon=HORIZON)
    experiment = forecast_experiment(
        problem,
        ClosedForm(regression, (PENALTY,), folds=folds),
        optimizer=optax.sgd(0.1),
        batch_size=batch_size,
        refit=True,
        refit_every=7,
    )
    assert experiment.protocol["refit"].endswith("and every 7 steps on what has come by then")
    state = experiment.learner.init(jax.random.key(0), experiment.train(jax.random.key(0), 0))
    state = train_until(experiment.learner, experiment.train, state, experiment.steps)
    assert len(state.params["weights"]) == 9
    shown = predict(experiment.learner, state, experiment.evaluation["test"])
    found = backtest(problem, *ridge_fit(problem, complete=not holes), every=7)
    np.testing.assert_allclose(shown[: len(found.forecasts)], found.forecasts, atol=2e-3)


@pytest.mark.parametrize("every", [1, 4])
def test_of_masked_windows_every_target_that_has_come_is_learnt_from_once(every):
    problem = problem_of(town(), PROTOCOL._replace(whole=False), graph="none")
    base, _ = blocks.folded(problem, 5, refit=True)
    later, solution = blocks.rolled(problem, every)
    first, start = problem.origins["train"][0], problem.origins["test"][0]

    def pairs(some):
        return [
            (origin, lead)
            for block in some
            for origin in block.origins
            for lead in range(1, HORIZON + 1)
            if block.rows[0] <= origin + lead < block.rows[1]
        ]

    for fits in (1, 2, len(later)):
        now = start + fits * every
        known = max(now + 1, problem.rows["validation"][1])
        learnt = pairs([*base, *later[:fits]])
        assert len(learnt) == len(set(learnt))
        assert set(learnt) == {
            (origin, lead)
            for origin in range(first, known)
            for lead in range(1, HORIZON + 1)
            if origin + lead < known
        }
        assert solution[now] == fits and solution[now - 1] == fits - 1


def test_a_fit_as_time_goes_is_of_a_refit_of_a_closed_form():
    problem = problem_of(town(), graph="none")
    ridge = ClosedForm(autoregression(horizon=HORIZON), (PENALTY,))
    made = functools.partial(
        forecast_experiment, problem, optimizer=optax.sgd(0.1), batch_size=4, refit_every=7
    )
    for forecaster, refit in ((ridge, False), (last_value(problem), True)):
        with pytest.raises(UserError, match="refit_every=7 is for refit=true and model=ridge"):
            made(forecaster, refit=refit)


def test_too_many_fits_are_refused_with_how_many_there_may_be(monkeypatch):
    monkeypatch.setattr(blocks, "MOST_REFITS", 8)
    problem = problem_of(town(), graph="none")
    ridge = ClosedForm(autoregression(horizon=HORIZON), (PENALTY,))
    made = functools.partial(
        forecast_experiment, problem, ridge, optimizer=optax.sgd(0.1), batch_size=4, refit=True
    )
    with pytest.raises(UserError, match="refit_every=6 makes 9 fits on test.*take 8 or more"):
        made(refit_every=6)
    assert made(refit_every=8).steps
