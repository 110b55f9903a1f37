"""Experts: smoothing and trends in plain numpy, the season, and what the weights follow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cityjax.forecasters.experts import (
    Experts,
    Rates,
    season_factor,
    season_mean,
    seasonal_part,
    smoothed,
    smoothed_along,
)
from cityjax.parallel import compiled


def test_many_windows_and_sensors_are_forecast_as_one_window_is():
    # Where XLA on a CPU leaves reductions to YNNPACK, a fifth of the forecasts is wrong.
    draw = np.random.default_rng(0)
    values = draw.poisson(draw.gamma(2, 10, (1, 1, 129)) * np.ones((32, 56, 1))).astype(np.float32)
    inputs = {"history": values[..., None], "observed": np.ones(values.shape, bool)}
    model = Experts(14, 7)
    one = jax.tree.map(lambda array: array[:1], inputs)
    params = model.init(jax.random.key(0), one)
    program = jax.jit(model.apply)
    found = compiled(program.lower(params, inputs))(params, inputs)
    np.testing.assert_allclose(found[:1], program(params, one), rtol=1e-4, atol=1e-4)


def at_all_leads(forecasts, horizon):
    """What experts forecast from each step of every lead: [E, T, H, B, N]."""
    return jnp.stack([forecasts(lead) for lead in range(horizon)], axis=2)


def test_smoothing_and_damped_trends_in_numpy():
    x = np.random.default_rng(0).normal(size=(20, 2, 3)).cumsum(axis=0).astype(np.float32)
    rates = [jnp.array([value]) for value in (0.3, 0.5, 0.2, 0.8)]
    found = at_all_leads(smoothed(jnp.asarray(x), 4, Rates(*rates)), 4)
    assert found.shape == (2, 20, 4, 2, 3)
    level, holt, slope = x[0], x[0], np.zeros_like(x[0])
    for step, now in enumerate(x):
        level = level + 0.3 * (now - level)
        guess = holt + 0.8 * slope
        holt = guess + 0.5 * (now - guess)
        slope = 0.8 * slope + 0.2 * (holt - guess)
        for ahead in range(4):
            reach = sum(0.8 ** (power + 1) for power in range(ahead + 1))
            np.testing.assert_allclose(found[0, step, ahead], level, atol=1e-5)
            np.testing.assert_allclose(found[1, step, ahead], holt + reach * slope, atol=1e-5)


def test_the_season_by_hand():
    x = jnp.array([1.0, 5, 3, 7, 3])[:, None, None]
    np.testing.assert_allclose(season_mean(x, 2)[:, 0, 0], [1, 3, 4, 5, 5])
    # x less its season's mean is 0, 2, -1, 2, -2: one season later, at rate 1 as it is.
    found = seasonal_part(x, 2, jnp.array(1.0))[:, 0, 0]
    np.testing.assert_allclose(found, [0, 0, 0, 2, -1, 2, -2])
    halves = seasonal_part(x, 2, jnp.array(0.5))[:, 0, 0]
    np.testing.assert_allclose(halves, [0, 0, 0, 1, -0.5, 1.5, -1.25])


def test_the_factor_by_hand():
    # Of a season of 2, at rate 1: the last season whose centred mean is known, and no other.
    x = jnp.array([[1.0, 3], [3, 9], [1, 3], [2, 0], [0, 4]])[:, None]  # [T, B, N]
    seen = jnp.ones(x.shape, bool).at[2, 0, 1].set(False)
    here, later = season_factor(x, seen, 2, 3, jnp.array(1.0))
    assert here.shape == (5, 1, 1) and later.shape == (5, 3, 1, 1)

    def factor(sums, means):  # a tenth of both is added to each
        both = 0.1 * (sums + means) / 2
        return (sums + both) / (means + both)

    # At 1: step 0 of mean 2 + 6. At 2: step 1 of 2 + 6. At 3: step 2, the first sensor alone,
    # of 1.5. At 4: step 3 of 1 + 2.
    found = [1, factor(4, 8), factor(12, 8), factor(1, 1.5), factor(2, 3)]
    np.testing.assert_allclose(here[:, 0, 0], [1, 1, found[1], found[2], found[3]], rtol=1e-5)
    expected = [found[4], found[3], found[4]]
    np.testing.assert_allclose(later[-1, :, 0, 0], expected, rtol=1e-5)


def test_smoothing_along_the_shared_trend_in_numpy():
    x = np.random.default_rng(0).gamma(4, 10, size=(20, 2, 3)).astype(np.float32)
    rates = [jnp.array([value]) for value in (0.3, 0.5, 0.2, 0.8)]
    found = at_all_leads(smoothed_along(jnp.asarray(x), 4, Rates(*rates)), 4)
    assert found.shape == (1, 20, 4, 2, 3)
    total = x.sum(axis=-1, keepdims=True)
    whole, size, slope, level, growth = total[0], total[0], 0 * total[0], x[0], 0 * total[0]
    for step, now in enumerate(x):
        guess = whole + 0.8 * slope
        whole = guess + 0.5 * (total[step] - guess)
        slope = 0.8 * slope + 0.2 * (whole - guess)
        size = size + 0.5 * (total[step] - size)
        guess = level * (1 + 0.8 * growth)
        level = guess + 0.3 * (now - guess)
        growth = slope / size
        for ahead in range(4):
            reach = sum(0.8 ** (power + 1) for power in range(ahead + 1))
            expected = level * (1 + reach * growth)
            np.testing.assert_allclose(found[0, step, ahead], expected, rtol=1e-4)


def window(values, horizon):
    """Inputs of a window whose history is values [T, N]."""
    return {
        "history": jnp.asarray(values, jnp.float32)[None, ..., None],
        "observed": jnp.isfinite(jnp.asarray(values))[None],
        "profile": jnp.zeros((1, len(values) + horizon, values.shape[1], 0)),
    }


@pytest.mark.parametrize("kind", ["trend", "season", "constant"])
def test_untrained_experts_go_with_the_one_that_was_right(kind):
    steps = np.arange(40)[:, None]
    future = np.arange(40, 44)[:, None]
    shape = {
        "trend": lambda t: 3.0 * t + np.array([0.0, 50]),
        "season": lambda t: 10 * np.array([0, 1, 5, 2, 0, -3, -5.0])[t % 7] + np.array([0.0, 9]),
        "constant": lambda t: 0 * t + np.array([4.0, 9]),
    }[kind]
    model = Experts(horizon=4, season=7)
    inputs = window(shape(steps), 4)
    params = model.init(jax.random.key(0), inputs)
    outputs = model.apply(params, inputs)[0]
    assert outputs.shape == (4, 2)
    error = np.abs(outputs - shape(future)).mean()
    naive = np.abs(shape(steps)[-1] - shape(future)).mean()
    share = {"constant": 0, "season": 0.4, "trend": 0.8}[kind]  # the trends are damped
    assert error <= share * naive + 1e-4, error / naive


def test_sensors_of_one_season_learn_it_from_each_other():
    steps = np.arange(32)[:, None]
    season = 8 * np.array([0, 1, 5, 2, 0, -3, -5.0])[steps % 7]
    noise = np.random.default_rng(0).normal(size=(28, 20)) * 8
    model = Experts(horizon=4, season=7)
    together = window(season[:28] + noise, 4)
    params = model.init(jax.random.key(0), together)
    errors = []
    for number in range(20):
        alone = window(season[:28] + noise[:, number : number + 1], 4)
        errors.append(np.abs(model.apply(params, alone)[0] - season[28:]).mean())
    found = np.abs(model.apply(params, together)[0] - season[28:]).mean()
    assert found < 0.8 * np.mean(errors), (found, np.mean(errors))


def test_levels_times_one_factor_are_forecast_for_any_sensors_in_any_order():
    season = np.array([1.4, 1.2, 1.1, 1, 1, 0.8, 0.5])
    levels = np.array([3.0, 40, 500])
    values = levels * season[np.arange(53) % 7, None]
    model = Experts(horizon=4, season=7)
    inputs = window(values[:49], 4)
    params = model.init(jax.random.key(0), inputs)
    apply = jax.jit(model.apply)
    outputs = apply(params, inputs)[0]
    np.testing.assert_allclose(outputs, values[49:], rtol=0.05)
    turned = apply(params, window(values[:49, ::-1], 4))[0]
    np.testing.assert_allclose(turned, outputs[:, ::-1], rtol=1e-4)
    alone = apply(params, window(values[:49, :1], 4))[0]
    np.testing.assert_allclose(alone, values[49:, :1], rtol=0.05)


@pytest.mark.parametrize("values", ["zeros", "sudden", "ceasing"])
def test_zeros_give_numbers(values):
    history = np.zeros((40, 2))
    history[:, 0] = {"zeros": 0, "sudden": np.arange(40) > 37, "ceasing": np.arange(40) < 5}[values]
    model = Experts(horizon=4, season=7)
    inputs = window(1000 * history, 4)
    params = model.init(jax.random.key(0), inputs)
    outputs, gradient = jax.jit(
        jax.value_and_grad(lambda p: jnp.abs(model.apply(p, inputs)).max())
    )(params)
    assert outputs <= 2000
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_missing_values_are_never_read_and_their_errors_do_not_count():
    values = np.random.default_rng(1).normal(size=(30, 3)) + 5
    values[:4, 0] = np.nan
    values[10:12, 1] = np.nan
    model = Experts(horizon=3, season=7, quantiles=3)
    inputs = window(values, 3)
    params = model.init(jax.random.key(0), inputs)
    outputs = model.apply(params, inputs)
    assert outputs.shape == (1, 3, 3, 3) and np.isfinite(outputs).all()
    assert (np.diff(outputs, axis=-1) >= 0).all()
    other = {**inputs, "history": jnp.where(inputs["observed"][..., None], inputs["history"], 1e6)}
    np.testing.assert_array_equal(model.apply(params, other), outputs)
    gradient = jax.grad(lambda p: model.apply(p, inputs).sum())(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
