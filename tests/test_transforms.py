"""Scales of forecasting models: by hand, there and back, missing histories, quantiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cityjax.learner import Model
from cityjax.models import transforms
from cityjax.models.transforms import transformed

STEPS, HORIZON, SENSORS = 5, 3, 4


def window(seed=0, *, batch=2, profiles=2, missing=0.3):
    """Inputs as `data.forecast.window_batch` gathers them: counts, some of them missing."""
    random = np.random.default_rng(seed)
    observed = random.random((batch, STEPS, SENSORS)) >= missing
    values = random.poisson(20.0, observed.shape).astype(np.float32)
    both = (batch, STEPS + HORIZON, SENSORS)
    return {
        "history": np.where(observed, values, 0)[..., None].astype(np.float32),
        "observed": observed,
        "clock": np.zeros((*both[:2], 3), np.int32),
        "known": np.zeros((*both, 0), np.float32),
        "profile": random.poisson(20.0, (*both, profiles)).astype(np.float32),
    }


MEAN = np.linspace(5, 30, SENSORS).astype(np.float32)
STD = np.array([2.0, 0.0, 7.0, 1.5], np.float32)  # a sensor that never moved in training
ALL = {
    "standardise": transforms.standardise(MEAN, STD),
    "square_root": transforms.square_root(),
    "logarithm": transforms.logarithm(2.0),
    "instance": transforms.instance(),
    "last": transforms.last(),
    "profile_residual": transforms.profile_residual(),
}
CHAINS = [
    *((name,) for name in ALL),
    ("square_root", "standardise", "instance"),
    ("profile_residual", "logarithm", "last"),
    ("standardise", "profile_residual", "instance", "last"),
]
every_chain = pytest.mark.parametrize("names", CHAINS, ids="-".join)


def chain(names):
    return [ALL[name] for name in names]


def seen(names, inputs):
    """What a model behind transforms reads."""
    found = []

    def init(key, inputs):
        found.append(inputs)
        return {}, {}

    transformed(Model(init, None), *chain(names)).init(jax.random.key(0), inputs)
    return found[0]


def ahead(read):
    """A model that returns what `read` makes of its scaled inputs."""
    return Model(lambda key, inputs: ({}, {}), lambda p, s, inputs, **options: (read(inputs), s))


@every_chain
def test_a_forecast_in_the_models_scale_comes_back_in_its_unit(names):
    # The second profile, read back as the forecast, must be what it was.
    inputs = window()
    copy = ahead(lambda scaled: scaled["profile"][:, STEPS:, :, 1])
    found, _ = transformed(copy, *chain(names)).apply({}, {}, inputs)
    np.testing.assert_allclose(found, inputs["profile"][:, STEPS:, :, 1], rtol=2e-5, atol=2e-5)


@every_chain
def test_history_keeps_its_scale_beside_the_profile(names):
    # A history equal to a profile stays equal to it: both are scaled alike, step by step.
    inputs = window(missing=0)
    inputs["history"] = inputs["profile"][:, :STEPS, :, 1:]
    scaled = seen(names, inputs)
    np.testing.assert_allclose(
        scaled["history"][..., 0], scaled["profile"][:, :STEPS, :, 1], rtol=1e-5, atol=1e-5
    )


@every_chain
def test_quantiles_stay_quantiles(names):
    levels = np.array([-1.5, -0.2, 0.0, 0.4, 2.0], np.float32)
    model = ahead(lambda scaled: jnp.broadcast_to(levels, (2, HORIZON, SENSORS, 5)))
    found, _ = transformed(model, *chain(names)).apply({}, {}, window())
    assert found.shape == (2, HORIZON, SENSORS, 5)
    assert (np.diff(found, axis=-1) > 0).all()
    for column in range(5):
        one = ahead(lambda scaled, c=column: jnp.full((2, HORIZON, SENSORS), levels[c]))
        alone, _ = transformed(one, *chain(names)).apply({}, {}, window())
        np.testing.assert_allclose(found[..., column], alone, rtol=1e-6)


@every_chain
def test_missing_history_is_zero_and_never_matters(names):
    inputs = window(1)
    scaled = seen(names, inputs)
    assert (np.asarray(scaled["history"])[~inputs["observed"]] == 0).all()
    inputs["history"][~inputs["observed"]] = 1e6
    again = seen(names, inputs)
    for name, array in scaled.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


@every_chain
@pytest.mark.parametrize("kind", ["missing", "constant"])
def test_missing_and_constant_histories_have_finite_values_and_gradients(names, kind):
    inputs = window(2)
    inputs["observed"][:] = kind == "constant"
    inputs["history"][:] = 7.0 if kind == "constant" else 0.0
    model = ahead(
        lambda scaled: scaled["profile"][:, STEPS:, :, 0] + scaled["history"][:, -1:, :, 0]
    )

    def total(history, profile):
        given = {**inputs, "history": history, "profile": profile}
        outputs, _ = transformed(model, *chain(names)).apply({}, {}, given)
        return outputs.sum()

    value, gradients = jax.value_and_grad(total, (0, 1))(inputs["history"], inputs["profile"])
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if kind == "missing":
        assert not np.asarray(gradients[0]).any()


def test_covariates_and_masks_pass_untouched():
    inputs = window()
    past = np.full((*inputs["history"].shape[:3], 2), 9.0, np.float32)
    inputs["history"] = np.concatenate([inputs["history"], past], axis=-1)
    scaled = seen(("standardise", "last"), inputs)
    np.testing.assert_array_equal(scaled["history"][..., 1:], past)
    for name in ("observed", "clock", "known"):
        assert scaled[name] is inputs[name]


def test_the_scales_by_hand():
    inputs = window(missing=0, batch=1)
    inputs["history"][0, :, 0, 0] = [2, 4, 6, 8, 5]
    inputs["observed"][0, 4, 0] = False  # 2 4 6 8: mean 5, variance 5, last 8
    columns = {name: np.asarray(seen((name,), inputs)["history"])[0, :, 0, 0] for name in ALL}
    profile = inputs["profile"][0, :4, 0, 0]
    known = np.array([2.0, 4, 6, 8])
    np.testing.assert_allclose(columns["standardise"][:4], (known - 5) / 2, rtol=1e-6)
    np.testing.assert_allclose(columns["square_root"][:4], np.sqrt(1 + known) - 1, rtol=1e-6)
    np.testing.assert_allclose(columns["logarithm"][:4], np.log(1 + known / 2), rtol=1e-6)
    np.testing.assert_allclose(columns["instance"][:4], (known - 5) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(columns["last"][:4], known - 8)
    np.testing.assert_allclose(columns["profile_residual"][:4], known - profile)


@pytest.mark.parametrize("name", ["square_root", "logarithm"])
def test_roots_and_logarithms_are_odd_and_steep_at_zero(name):
    transform = ALL[name]
    x = jnp.array([1e-6, 0.3, 50.0, 3e6]).reshape(1, 1, 1, -1)
    there = transform.forward((), x, slice(0, 1))
    np.testing.assert_allclose(transform.forward((), -x, slice(0, 1)), -there)
    np.testing.assert_allclose(transform.backward((), there, slice(0, 1)), x, rtol=1e-4)
    for function in (transform.forward, transform.backward):
        slope = jax.grad(lambda v, f=function: f((), v.reshape(1, 1, 1, 1), slice(0, 1)).sum())
        assert slope(jnp.float32(0.0)) > 0.4


def test_a_profile_that_is_not_there_and_an_offset_of_zero_are_refused():
    with pytest.raises(ValueError, match="needs a profile"):
        seen(("profile_residual",), window(profiles=0))
    with pytest.raises(ValueError, match="offset=0 is out of range: above 0"):
        transforms.logarithm(0)
