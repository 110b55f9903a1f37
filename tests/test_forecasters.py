"""Forecasters over windows of many sensors: what each must hold, and its formula in numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cityjax.learner import from_linen
from cityjax.models import linear
from cityjax.models.rnn import Recurrent
from cityjax.models.seq2seq import Seq2Seq
from cityjax.models.stid import STID
from cityjax.models.tgcn import TGCN
from cityjax.ops.graph import dense_matmul, normalized

BATCH, STEPS, HORIZON, SENSORS = 2, 6, 3, 5
STEPS_PER_DAY = 8


def window(seed=0, *, batch=BATCH, sensors=SENSORS, steps=STEPS, covariates=True):
    """Inputs as `data.forecast.window_batch` gathers them, a third of the history missing."""
    random = np.random.default_rng(seed)
    past, known, profiles = (1, 2, 2) if covariates else (0, 0, 0)
    both = steps + HORIZON
    observed = random.random((batch, steps, sensors)) > 0.3
    history = random.normal(size=(*observed.shape, 1 + past))
    history[..., 0] *= observed
    clock = random.integers(0, (STEPS_PER_DAY, 7, 365), (batch, both, 3))
    draws = {
        "history": history,
        "known": random.normal(size=(batch, both, sensors, known)),
        "profile": random.normal(size=(batch, both, sensors, profiles)),
    }
    inputs = {name: array.astype(np.float32) for name, array in draws.items()}
    return {**inputs, "observed": observed, "clock": clock.astype(np.int32)}


def supports(order=None, sensors=SENSORS):
    """Two fixed supports of one random graph, with the sensors in some order."""
    order = np.arange(sensors) if order is None else order
    adjacency = np.random.default_rng(9).random((sensors, sensors)).astype(np.float32)
    matrices = (normalized(adjacency, "random_walk"), normalized(adjacency.T, "random_walk"))
    return tuple(partial(dense_matmul, matrix[order][:, order]) for matrix in matrices)


# name -> make(supports, quantiles) -> module, of tiny sizes.
MODULES = {
    "nlinear": lambda graph, q: linear.NLinear(HORIZON, quantiles=q),
    "nlinear_per_sensor": lambda graph, q: linear.NLinear(HORIZON, per_sensor=True, quantiles=q),
    "dlinear": lambda graph, q: linear.DLinear(HORIZON, window=3, quantiles=q),
    "stid": lambda graph, q: STID(HORIZON, STEPS_PER_DAY, 4, 2, quantiles=q),
    "stid_graph": lambda graph, q: STID(
        HORIZON, STEPS_PER_DAY, 4, 1, supports=graph, adaptive_size=2, quantiles=q
    ),
    "stid_daily": lambda graph, q: STID(HORIZON, 1, 4, 1, quantiles=q),
    "seq2seq": lambda graph, q: Seq2Seq(HORIZON, STEPS_PER_DAY, 4, 2, quantiles=q),
    "seq2seq_lstm": lambda graph, q: Seq2Seq(HORIZON, 1, 4, cell="lstm", quantiles=q),
    "tgcn": lambda graph, q: TGCN(HORIZON, STEPS_PER_DAY, graph[0], 4, quantiles=q),
    "tgcn_alone": lambda graph, q: TGCN(HORIZON, 1, None, 4, quantiles=q),
}
every_model = pytest.mark.parametrize("name", MODULES)


def made(name, graph=None, quantiles=0):
    return from_linen(MODULES[name](supports() if graph is None else graph, quantiles))


def drawn(model, inputs, seed=0):
    """Parameters and state of a model, all drawn by numpy, in the paths of its own init."""
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        values = random.normal(size=leaf.shape).astype(np.float32) / 2
        return jnp.asarray(1 + values**2 if path[-1].key == "var" else values)

    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def permuted(tree, order):
    """Parameters with the rows of every sensor's own in another order."""

    def permute(path, leaf):
        return leaf[order] if str(path[-1].key).startswith("sensor_") else leaf

    return jax.tree_util.tree_map_with_path(permute, tree)


@every_model
def test_shapes_of_points_and_quantiles_with_any_covariates_and_one_sensor(name):
    for quantiles in (0, 4):
        for sensors, covariates in ((SENSORS, True), (1, False)):
            inputs = window(sensors=sensors, covariates=covariates)
            model = made(name, supports(sensors=sensors), quantiles)
            params, state = drawn(model, inputs)
            shape, _ = jax.eval_shape(model.apply, params, state, inputs)
            expected = (BATCH, HORIZON, sensors, *((quantiles,) if quantiles else ()))
            assert shape.shape == expected


@every_model
def test_permuting_the_sensors_permutes_the_forecast(name):
    inputs, order = window(), np.array([3, 0, 4, 1, 2])
    model = made(name)
    params, state = drawn(model, inputs)
    expected, _ = model.apply(params, state, inputs)
    turned = {k: v if k == "clock" else v[:, :, order] for k, v in inputs.items()}
    found, _ = made(name, supports(order)).apply(permuted(params, order), state, turned)
    np.testing.assert_allclose(found, expected[:, :, order], rtol=1e-4, atol=1e-5)
    assert np.ptp(np.asarray(expected), axis=2).min() > 0


@every_model
def test_what_is_missing_never_matters_and_one_window_not_to_another(name):
    inputs = window(1)
    model = made(name)
    params, state = drawn(model, inputs)
    expected, _ = jax.jit(model.apply)(params, state, inputs)
    inputs["history"][..., 0][~inputs["observed"]] = np.nan
    found, _ = jax.jit(model.apply)(params, state, inputs)
    np.testing.assert_array_equal(found, expected)
    one, _ = model.apply(params, state, {k: v[:1] for k, v in inputs.items()})
    np.testing.assert_allclose(one, expected[:1], rtol=1e-4, atol=1e-5)


@every_model
@pytest.mark.parametrize("observed", [True, False])
def test_gradients_are_finite_and_reach_every_parameter(name, observed):
    inputs = window(2)
    inputs["observed"] = inputs["observed"] & observed
    inputs["history"][..., 0] *= observed
    model = made(name)
    params, state = drawn(model, inputs)

    @jax.jit
    def gradient(params):
        def loss(params):
            outputs, _ = model.apply(params, state, inputs, train=True, key=jax.random.key(1))
            return jnp.square(outputs - 1).mean()

        return jax.grad(loss)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.isfinite(leaf).all(), path
        assert not observed or np.asarray(leaf).any(), path


# The linear family.


def history(inputs):
    """The target [B, T, N] with the value before in place of a missing one, step by step."""
    values = inputs["history"][..., 0].copy()
    for t in range(1, values.shape[1]):
        gap = ~inputs["observed"][:, t]
        values[:, t][gap] = values[:, t - 1][gap]
    return values


def test_nlinear_in_numpy():
    inputs = window(3)
    model = made("nlinear")
    params, _ = drawn(model, inputs)
    dense = params["_OverTime_0"]["Dense_0"]
    x = history(inputs)
    change = np.einsum("btn,th->bhn", x - x[:, -1:], dense["kernel"])
    expected = x[:, -1:] + change + np.asarray(dense["bias"])[:, None]
    np.testing.assert_allclose(model.apply(params, {}, inputs)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_linear_model_starts_at_the_last_value_or_zero():
    inputs = window(4)
    for name, start in (("nlinear", history(inputs)[:, -1:]), ("dlinear", 0.0)):
        model = made(name)
        params, _ = model.init(jax.random.key(0), inputs)
        found, _ = model.apply(params, {}, inputs)
        np.testing.assert_allclose(found, np.broadcast_to(start, found.shape), atol=1e-6)


def test_dlinear_in_numpy():
    inputs = window(3)
    model = made("dlinear")
    params, _ = drawn(model, inputs)
    x = history(inputs)
    ends = np.concatenate([x[:, :1], x, x[:, -1:]], axis=1)
    trend = (ends[:, :-2] + ends[:, 1:-1] + ends[:, 2:]) / 3
    expected = 0
    for name, part in (("trend", trend), ("rest", x - trend)):
        dense = params[name]["Dense_0"]
        expected += (
            np.einsum("btn,th->bhn", part, dense["kernel"]) + np.asarray(dense["bias"])[:, None]
        )
    np.testing.assert_allclose(model.apply(params, {}, inputs)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_moving_average_keeps_a_constant_and_refuses_an_even_window():
    for steps, size in ((1, 25), (4, 25), (30, 5)):
        matrix = linear.moving_average(steps, size)
        np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="window=4"):
        linear.moving_average(6, 4)


# STID.


def dense(params, x):
    return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


def relu(x):
    return np.maximum(x, 0)


def test_stid_in_numpy():
    inputs = window(5)
    model = made("stid_graph")
    params, _ = drawn(model, inputs)
    found, _ = model.apply(params, {}, inputs)
    adaptive = np.exp(relu(params["sensor_source"] @ params["sensor_target"].T))
    adaptive /= adaptive.sum(axis=1, keepdims=True)
    for b in range(BATCH):
        x = inputs["history"][b, ..., 0].T  # [N, T]
        flat = [inputs["history"][b, ..., 1:], inputs["known"][b, STEPS:], inputs["profile"][b]]
        columns = [x, inputs["observed"][b].T]
        columns += [array.transpose(1, 0, 2).reshape(SENSORS, -1) for array in flat]
        columns += [np.asarray(support(x)) for support in supports()] + [adaptive @ x]
        rows = [
            params["step_identity"][inputs["clock"][b, STEPS - 1, 0]],
            params["weekday_identity"][inputs["clock"][b, STEPS - 1, 1]],
        ]
        when = np.broadcast_to(np.concatenate(rows), (SENSORS, 8))
        past = dense(params["history"], np.concatenate(columns, axis=1))
        z = np.concatenate([past, params["sensor_identity"], when], axis=1)
        z = z + dense(params["Dense_1"], relu(dense(params["Dense_0"], z)))
        expected = dense(params["head"]["Dense_0"], z).T
        np.testing.assert_allclose(found[b], expected, rtol=1e-4, atol=1e-4)


def test_dropout_of_a_forecaster_does_not_depend_on_the_split_of_a_batch():
    inputs = window(6, batch=4)
    model = made("stid")
    params, _ = drawn(model, inputs)

    def forecast(inputs, axis_name=None):
        options = {"key": jax.random.key(0), "train": True, "axis_name": axis_name}
        return model.apply(params, {}, inputs, **options)[0]

    halves = jax.tree.map(lambda a: a.reshape(2, 2, *a.shape[1:]), inputs)
    split = jax.vmap(partial(forecast, axis_name="batch"), axis_name="batch")(halves)
    whole = forecast(inputs)
    np.testing.assert_allclose(split.reshape(whole.shape), whole, rtol=1e-5, atol=1e-6)
    assert not np.allclose(whole, model.apply(params, {}, inputs)[0])


# Recurrent forecasters.


def calendar(clock):
    """The calendar of steps [B, S, 3] in numpy: sines, cosines, the weekday."""
    turns = np.stack([clock[..., 2] / 365.25, clock[..., 0] / STEPS_PER_DAY], axis=-1)
    angles = 2 * np.pi * turns
    return np.concatenate([np.sin(angles), np.cos(angles), np.eye(7)[clock[..., 1]]], axis=-1)


def columns_of(inputs, steps, n):
    """What is known ahead of each step of sensor n: [B, S, D]."""
    parts = [inputs["known"][:, steps, n], inputs["profile"][:, steps, n]]
    return np.concatenate([*parts, calendar(inputs["clock"][:, steps])], axis=-1)


def past_of(inputs, n):
    parts = [inputs["history"][:, :, n, :1], inputs["observed"][:, :, n, None]]
    parts += [inputs["history"][:, :, n, 1:], columns_of(inputs, slice(0, STEPS), n)]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def recurrent(params, *inputs):
    return np.asarray(Recurrent(4).apply({"params": params}, *inputs))


def test_an_encoder_decoder_is_that_of_each_sensor_alone():
    inputs = window(7)
    model = made("seq2seq")
    params, _ = drawn(model, inputs)
    found, _ = model.apply(params, {}, inputs)
    for n in range(SENSORS):
        read = past_of(inputs, n)
        ahead = columns_of(inputs, slice(STEPS, None), n).astype(np.float32)
        for layer in range(2):
            read = recurrent(params[f"encoder_{layer}"], read)
            ahead = recurrent(params[f"decoder_{layer}"], ahead, read[:, -1])
        expected = dense(params["head"], ahead)[..., 0]
        np.testing.assert_allclose(found[:, :, n], expected, rtol=1e-4, atol=1e-4)


def test_tgcn_in_numpy():
    inputs = window(8)
    model = made("tgcn")
    params, _ = drawn(model, inputs)
    graph = np.asarray(supports()[0](jnp.eye(SENSORS)))
    x = np.stack([past_of(inputs, n) for n in range(SENSORS)], axis=2)  # [B, T, N, C]
    x = relu(dense(params["first"], np.einsum("nm,btmc->btnc", graph, x)))
    bias = np.asarray(params["second"]["bias"])
    f = np.einsum("nm,btmc->btnc", graph, x @ np.asarray(params["second"]["kernel"]) + bias)
    f = 1 / (1 + np.exp(-f))
    found, _ = model.apply(params, {}, inputs)
    for n in range(SENSORS):
        hidden = recurrent(params["gru"], f[:, :, n].astype(np.float32))[:, -1]
        expected = dense(params["head"]["Dense_0"], hidden)
        np.testing.assert_allclose(found[:, :, n], expected, rtol=1e-4, atol=1e-4)
