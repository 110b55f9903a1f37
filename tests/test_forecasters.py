"""Forecasters over windows of many sensors: what each must hold, and its formula in numpy."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from cityjax.forecasters import linear
from cityjax.forecasters.patchtst import PatchTST
from cityjax.forecasters.seq2seq import Seq2Seq
from cityjax.forecasters.stid import STID
from cityjax.forecasters.tgcn import TGCN
from cityjax.forecasters.wavenet import GraphWaveNet
from cityjax.learner import from_linen
from cityjax.models.forecasting import neighbours, rising
from cityjax.models.rnn import Recurrent
from cityjax.names import CALENDAR
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
        HORIZON, STEPS_PER_DAY, 4, 3, 0.15, graph, 2, CALENDAR, quantiles=q
    ),
    "stid_lags": lambda graph, q: STID(
        HORIZON, STEPS_PER_DAY, 4, 1, calendar=(), sensor_identity=False, quantiles=q
    ),
    "stid_daily": lambda graph, q: STID(HORIZON, 1, 4, 1, quantiles=q),
    "seq2seq": lambda graph, q: Seq2Seq(HORIZON, STEPS_PER_DAY, 4, 2, quantiles=q),
    "seq2seq_lstm": lambda graph, q: Seq2Seq(HORIZON, STEPS_PER_DAY, 4, 1, "lstm", quantiles=q),
    "tgcn": lambda graph, q: TGCN(
        HORIZON, STEPS_PER_DAY, graph[0], 4, calendar=CALENDAR, quantiles=q
    ),
    "tgcn_alone": lambda graph, q: TGCN(HORIZON, 1, None, 4, quantiles=q),
    "wavenet": lambda graph, q: GraphWaveNet(
        HORIZON, STEPS_PER_DAY, graph, 2, 3, 4, dilations=(1, 2), quantiles=q
    ),
    "patchtst": lambda graph, q: PatchTST(HORIZON, 4, 2, 4, 2, 2, 6, quantiles=q),
}
GRAPH = ("stid_graph", "tgcn", "wavenet")  # those that read a fixed graph
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


@cache
def compiled(name, order=None, sensors=SENSORS, steps=STEPS, seed=0):
    """A model's compiled `(params, state, inputs) -> outputs`, with parameters drawn for it."""
    model = made(name, supports(None if order is None else np.array(order), sensors))
    params, state = drawn(model, window(sensors=sensors, steps=steps), seed)
    return jax.jit(lambda *given: model.apply(*given)[0]), params, state


def in_numpy(name):
    """Parameters and state of `compiled(name)` as numpy arrays."""
    return jax.tree.map(np.asarray, compiled(name)[1:])


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
def test_quantiles_never_cross(name):
    inputs = window(13)
    model = made(name, quantiles=4)
    found = np.asarray(jax.jit(model.apply)(*drawn(model, inputs), inputs)[0])
    assert (np.diff(found, axis=-1) >= 0).all() and np.ptp(found, axis=-1).max() > 1


def test_quantiles_by_hand():
    # softplus(log(e^a - 1)) = a: steps of 1, 2 down and 3, 4 up from 5.
    def step(size):
        return np.log(np.expm1(size))

    x = jnp.array([step(2.0), step(1.0), 5.0, step(3.0), step(4.0)])
    np.testing.assert_allclose(rising(x), [2, 4, 5, 8, 12], rtol=1e-6)
    np.testing.assert_allclose(rising(x[:2]), [step(1.0) - 2, step(1.0)], rtol=1e-6)
    np.testing.assert_array_equal(rising(x[2:3]), [5])
    # Hardly a step, far from zero: rounding does not make them cross.
    x = np.random.default_rng(0).normal(-12, 2, (1000, 9)).astype(np.float32)
    x[:, 4] = 1000
    assert (np.diff(rising(jnp.asarray(x))) >= 0).all()


@every_model
def test_a_forecast_is_exported_for_any_number_of_windows(name):
    apply, params, state = compiled(name)
    (batch,) = export.symbolic_shape("b")
    given = {
        key: jax.ShapeDtypeStruct((batch, *array.shape[1:]), array.dtype)
        for key, array in window().items()
    }
    exported = export.export(apply)(params, state, given)
    inputs = window(3, batch=3)
    found = exported.call(params, state, inputs)
    np.testing.assert_allclose(found, apply(params, state, inputs), rtol=1e-5, atol=1e-6)


@every_model
def test_permuting_the_sensors_permutes_the_forecast(name):
    inputs, order = window(), (3, 0, 4, 1, 2)
    apply, params, state = compiled(name)
    expected = np.asarray(apply(params, state, inputs))
    turned = {k: v if k == "clock" else v[:, :, np.array(order)] for k, v in inputs.items()}
    apply = compiled(name, order)[0] if name in GRAPH else apply
    found = apply(permuted(params, np.array(order)), state, turned)
    np.testing.assert_allclose(found, expected[:, :, order], rtol=1e-4, atol=1e-5)
    assert np.ptp(expected, axis=2).min() > 0


@every_model
def test_what_is_missing_never_matters_nor_one_window_to_another(name):
    inputs = window(1)
    apply, params, state = compiled(name)
    expected = apply(params, state, inputs)
    inputs["history"][..., 0][~inputs["observed"]] = np.nan
    np.testing.assert_array_equal(apply(params, state, inputs), expected)
    other = window(2)
    for array, another in zip(inputs.values(), other.values(), strict=True):
        array[1] = another[1]
    found = apply(params, state, inputs)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[1], expected[1])


@every_model
def test_gradients_are_finite_and_reach_every_parameter(name):
    model = made(name)
    _, params, state = compiled(name)

    @jax.jit
    def gradient(inputs):
        def loss(params):
            outputs, _ = model.apply(params, state, inputs, train=True, key=jax.random.key(1))
            return jnp.square(outputs - 1).mean()

        return jax.grad(loss)(params)

    inputs = window(2)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(inputs)):
        assert np.isfinite(leaf).all() and np.asarray(leaf).any(), path
    inputs["observed"][:], inputs["history"][..., 0] = False, 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(inputs)):
        assert np.isfinite(leaf).all(), path


TIMED = {
    "stid": lambda calendar: STID(HORIZON, STEPS_PER_DAY, 4, 1, calendar=calendar),
    "seq2seq": lambda calendar: Seq2Seq(HORIZON, STEPS_PER_DAY, 4, calendar=calendar),
    "tgcn": lambda calendar: TGCN(HORIZON, STEPS_PER_DAY, None, 4, calendar=calendar),
    "wavenet": lambda calendar: GraphWaveNet(
        HORIZON, STEPS_PER_DAY, (), 2, 3, 4, dilations=(1, 2), calendar=calendar
    ),
}
timed_model = pytest.mark.parametrize("name", TIMED)


@timed_model
def test_a_time_that_is_never_trained_says_nothing(name):
    calendar = ("day", "week") if name == "stid" else ("week",)
    model, inputs = from_linen(TIMED[name](calendar)), window(14)
    inputs["clock"][..., :2] = 2, 1

    @jax.jit
    def forecast(params, state, clock):
        return model.apply(params, state, {**inputs, "clock": clock})[0]

    params, state = model.init(jax.random.key(0), inputs)
    loss = jax.jit(lambda params: jnp.square(forecast(params, state, inputs["clock"]) - 1).mean())
    before = loss(params)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))
    assert loss(params) < before
    other = {}
    for step, weekday in ((2, 1), (3, 4), (5, 6)):
        clock = inputs["clock"].copy()
        clock[..., 0], clock[..., 1] = step, weekday
        other[weekday] = np.asarray(forecast(params, state, clock))
    np.testing.assert_array_equal(other[4], other[6])
    assert not np.allclose(other[1], other[4])


@timed_model
def test_without_a_calendar_time_is_no_input_and_an_unknown_period_is_refused(name):
    model, inputs = from_linen(TIMED[name](())), window(15)
    params, state = drawn(model, inputs)
    apply = jax.jit(model.apply)
    expected = apply(params, state, inputs)[0]
    found = apply(params, state, {**inputs, "clock": inputs["clock"][:, ::-1] // 2})[0]
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="'month'.* day, week, year"):
        drawn(from_linen(TIMED[name](("day", "month"))), inputs)


@timed_model
def test_with_nothing_known_ahead_the_history_is_enough(name):
    model, inputs = from_linen(TIMED[name](())), window(17, covariates=False)
    params, state = model.init(jax.random.key(0), inputs)
    apply = jax.jit(model.apply)
    found = apply(params, state, inputs)[0]
    assert found.shape == (BATCH, HORIZON, SENSORS)
    other = apply(params, state, window(18, covariates=False))[0]
    assert np.isfinite(found).all() and not np.allclose(found, other)


def test_lags_alone_do_not_tell_sensors_apart():
    inputs = window(16)
    for array in (inputs[key] for key in ("history", "observed", "known", "profile")):
        array[:] = array[:, :, :1]
    apply, params, state = compiled("stid_lags")
    assert not [key for key in params if "identit" in key]
    found = np.asarray(apply(params, state, inputs))
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :, :1], found.shape), rtol=1e-5)
    apply, params, state = compiled("stid")
    assert np.ptp(apply(params, state, inputs), axis=2).min() > 0


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
    params, state = in_numpy("nlinear")
    dense = params["_OverTime_0"]["Dense_0"]
    x = history(inputs)
    change = np.einsum("btn,th->bhn", x - x[:, -1:], dense["kernel"])
    expected = x[:, -1:] + change + dense["bias"][:, None]
    np.testing.assert_allclose(
        compiled("nlinear")[0](params, state, inputs), expected, rtol=1e-4, atol=1e-5
    )


def test_a_linear_model_starts_at_the_last_value_or_zero():
    inputs = window(4)
    for name, start in (("nlinear", history(inputs)[:, -1:]), ("dlinear", 0.0)):
        model = made(name)
        params, _ = model.init(jax.random.key(0), inputs)
        found, _ = model.apply(params, {}, inputs)
        np.testing.assert_allclose(found, np.broadcast_to(start, found.shape), atol=1e-6)


def test_dlinear_in_numpy():
    inputs = window(3)
    params, state = in_numpy("dlinear")
    x = history(inputs)
    ends = np.concatenate([x[:, :1], x, x[:, -1:]], axis=1)
    trend = (ends[:, :-2] + ends[:, 1:-1] + ends[:, 2:]) / 3
    expected = 0
    for name, part in (("trend", trend), ("rest", x - trend)):
        dense = params[name]["Dense_0"]
        expected += np.einsum("btn,th->bhn", part, dense["kernel"]) + dense["bias"][:, None]
    np.testing.assert_allclose(
        compiled("dlinear")[0](params, state, inputs), expected, rtol=1e-4, atol=1e-5
    )


def test_a_moving_average_keeps_a_constant_and_refuses_an_even_window():
    for steps, size in ((1, 25), (4, 25), (30, 5)):
        matrix = linear.moving_average(steps, size)
        np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="window=4"):
        linear.moving_average(6, 4)


# STID.


def dense(params, x):
    return np.asarray(x) @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


def relu(x):
    return np.maximum(x, 0)


def mean_of_neighbours(graph, x, observed):
    """The mean of x [N, T] over the observed neighbours of each sensor, by a loop."""
    mean = np.zeros_like(x)
    for n, t in np.ndindex(x.shape):
        seen = observed[:, t] & (graph[n] > 0)
        if seen.any():
            mean[n, t] = np.average(x[seen, t], weights=graph[n, seen])
    return mean


def test_a_missing_neighbour_is_left_out_of_the_mean():
    # Sensor 0 has neighbours 1 and 2, 1 has 2, and 2 has none.
    support = partial(dense_matmul, jnp.array([[0, 0.25, 0.75], [0, 0, 1.0], [0, 0, 0]]))
    x = jnp.array([[[5.0, 5.0, 5.0], [4.0, 4.0, 0.0], [8.0, 0.0, 0.0]]])
    observed = x > 0
    found = neighbours(support, x, observed)
    np.testing.assert_allclose(found, [[[7, 4, 0], [8, 0, 0], [0, 0, 0]]])


def test_stid_in_numpy():
    inputs = window(5)
    params, state = in_numpy("stid_graph")
    found = compiled("stid_graph")[0](params, state, inputs)
    adaptive = np.exp(relu(params["sensor_source"] @ params["sensor_target"].T))
    adaptive /= adaptive.sum(axis=1, keepdims=True)
    for b in range(BATCH):
        x = inputs["history"][b, ..., 0].T  # [N, T]
        flat = [inputs["history"][b, ..., 1:], inputs["known"][b, STEPS:], inputs["profile"][b]]
        columns = [x.copy()]
        age = np.zeros((SENSORS, 1))
        for n in range(SENSORS):
            held = 0.0
            for t in range(STEPS):
                seen = inputs["observed"][b, t, n]
                columns[0][n, t] = held = x[n, t] if seen else held
                age[n] = 0 if seen else age[n] + 1 / STEPS
        columns += [array.transpose(1, 0, 2).reshape(SENSORS, -1) for array in flat]
        graphs = [*(np.asarray(support(jnp.eye(SENSORS))) for support in supports()), adaptive]
        columns += [mean_of_neighbours(graph, x, inputs["observed"][b].T) for graph in graphs]
        rows = [
            params["day_identities"][inputs["clock"][b, STEPS - 1, 0]],
            params["week_identities"][inputs["clock"][b, STEPS - 1, 1]],
            params["year_identities"][inputs["clock"][b, STEPS - 1, 2] // 7],
        ]
        when = np.broadcast_to(np.concatenate(rows), (SENSORS, 12))
        past = dense(params["history"], np.concatenate(columns, axis=1))
        past = past + age @ params["age"]["kernel"]
        z = np.concatenate([past, params["sensor_identities"], when], axis=1)
        for layer in (0, 2, 4):
            z = z + dense(params[f"Dense_{layer + 1}"], relu(dense(params[f"Dense_{layer}"], z)))
        expected = dense(params["head"], z).T
        np.testing.assert_allclose(found[b], expected, rtol=1e-4, atol=1e-4)


def test_dropout_of_a_forecaster_does_not_depend_on_the_split_of_a_batch():
    inputs = window(6, batch=4)
    model = made("stid")
    params, _ = drawn(model, inputs)

    def forecast(inputs, axis_name=None):
        options = {"key": jax.random.key(0), "train": True, "axis_name": axis_name}
        return model.apply(params, {}, inputs, **options)[0]

    halves = jax.tree.map(lambda a: a.reshape(2, 2, *a.shape[1:]), inputs)
    split = jax.jit(jax.vmap(partial(forecast, axis_name="batch"), axis_name="batch"))(halves)
    whole = jax.jit(forecast)(inputs)
    np.testing.assert_allclose(split.reshape(whole.shape), whole, rtol=1e-5, atol=1e-6)
    assert not np.allclose(whole, jax.jit(model.apply)(params, {}, inputs)[0])


# Recurrent forecasters.


def columns_of(params, inputs, steps, n, year=False):
    """What is known ahead of each step of sensor n: [B, S, D]."""
    step, weekday, day = np.moveaxis(inputs["clock"][:, steps], -1, 0)
    parts = [inputs["known"][:, steps, n], inputs["profile"][:, steps, n]]
    for turn in [day / 365.25] * year + [step / STEPS_PER_DAY]:
        parts += [np.sin(2 * np.pi * turn)[..., None], np.cos(2 * np.pi * turn)[..., None]]
    return np.concatenate([*parts, params["weekday"][weekday]], axis=-1).astype(np.float32)


def past_of(params, inputs, n, year=False):
    parts = [inputs["history"][:, :, n, :1], inputs["observed"][:, :, n, None]]
    parts += [inputs["history"][:, :, n, 1:], columns_of(params, inputs, slice(0, STEPS), n, year)]
    return np.concatenate(parts, axis=-1).astype(np.float32)


@partial(jax.jit, static_argnums=0)
def recurrent(cell, params, *inputs):
    return Recurrent(4, cell).apply({"params": params}, *inputs)


@pytest.mark.parametrize(
    ("name", "cell", "layers"), [("seq2seq", "gru", 2), ("seq2seq_lstm", "lstm", 1)]
)
def test_an_encoder_decoder_is_that_of_each_sensor_alone(name, cell, layers):
    inputs = window(7)
    params, state = in_numpy(name)
    found = compiled(name)[0](params, state, inputs)
    for n in range(SENSORS):
        read = past_of(params, inputs, n)
        ahead = columns_of(params, inputs, slice(STEPS, None), n)
        for layer in range(layers):
            read, carry = recurrent(cell, params[f"encoder_{layer}"], read)
            ahead, _ = recurrent(cell, params[f"decoder_{layer}"], ahead, carry)
        expected = dense(params["head"], ahead)[..., 0]
        np.testing.assert_allclose(found[:, :, n], expected, rtol=1e-4, atol=1e-4)


def test_tgcn_in_numpy():
    inputs = window(8)
    params, state = in_numpy("tgcn")
    found = compiled("tgcn")[0](params, state, inputs)
    graph = np.asarray(supports()[0](jnp.eye(SENSORS)))
    x = np.stack([past_of(params, inputs, n, year=True) for n in range(SENSORS)], axis=2)
    for b in range(BATCH):
        h = np.zeros((SENSORS, 4))
        for t in range(STEPS):
            both = graph @ np.concatenate([x[b, t], h], axis=1)
            gates = 1 / (1 + np.exp(-both @ params["gates_kernel"] - params["gates_bias"]))
            r, u = gates[:, :4], gates[:, 4:]
            both = graph @ np.concatenate([x[b, t], r * h], axis=1)
            c = np.tanh(both @ params["candidate_kernel"] + params["candidate_bias"])
            h = u * h + (1 - u) * c
        expected = dense(params["head"]["Dense_0"], h).T
        np.testing.assert_allclose(found[b], expected, rtol=1e-4, atol=1e-4)


# Graph WaveNet.


def test_graph_wavenet_in_numpy():
    inputs = window(9)
    params, state = in_numpy("wavenet")
    scores = relu(params["sensor_source"] @ params["sensor_target"].T)
    adaptive = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    graphs = [np.asarray(support(jnp.eye(SENSORS))) for support in supports()] + [adaptive]
    x = np.stack([past_of(params, inputs, n) for n in range(SENSORS)], axis=2)[:, -4:]
    x = dense(params["start"], x)  # 1 + 1 + 2 steps are seen
    skips = []
    for layer, dilation in enumerate((1, 2)):
        kernel = np.asarray(params[f"convolution_{layer}"]["kernel"])
        both = x[:, :-dilation] @ kernel[:3] + x[:, dilation:] @ kernel[3:]
        both = both + np.asarray(params[f"convolution_{layer}"]["bias"])
        g = np.tanh(both[..., :3]) / (1 + np.exp(-both[..., 3:]))
        skips.append(g[:, -1])
        if layer == 0:
            powers = [np.eye(SENSORS), *(m for a in graphs for m in (a, a @ a))]
            moved = [np.einsum("nm,btmc->btnc", power, g) for power in powers]
            x = x[:, dilation:] + dense(params["diffusion_0"], np.concatenate(moved, axis=-1))
            held, norm = state["batch_stats"]["BatchNorm_0"], params["BatchNorm_0"]
            x = (x - held["mean"]) / np.sqrt(held["var"] + 1e-5) * norm["scale"] + norm["bias"]
    y = relu(dense(params["end"], relu(dense(params["skip"], np.concatenate(skips, axis=-1)))))
    expected = np.moveaxis(dense(params["head"]["Dense_0"], y), 2, 1)
    found = compiled("wavenet")[0](params, state, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_graph_wavenet_takes_histories_of_any_length():
    for steps in (1, 3, 9):
        inputs = window(10, steps=steps)
        model = made("wavenet")
        params, state = drawn(model, inputs)
        found = jax.eval_shape(model.apply, params, state, inputs)[0]
        assert found.shape == (BATCH, HORIZON, SENSORS)


# PatchTST.


def test_patchtst_in_numpy():
    inputs = window(11)
    model = from_linen(PatchTST(HORIZON, 4, 2, 4, 2, 1, 6))
    params, state = jax.tree.map(np.asarray, drawn(model, inputs))
    x = np.moveaxis(history(inputs), 1, 2)
    x = np.concatenate([x, x[..., -1:], x[..., -1:]], axis=-1)  # 6 steps and 2 more
    x = np.stack([x[..., 0:4], x[..., 2:6], x[..., 4:8]], axis=2)
    x = dense(params["patch"], x) + np.asarray(params["place"])
    queries, keys, values = np.split(dense(params["attention_0"]["Dense_0"], x), 3, axis=-1)
    mixed = []
    for head in (slice(0, 2), slice(2, 4)):
        q, k, v = queries[..., head], keys[..., head], values[..., head]
        scores = np.exp(q @ np.swapaxes(k, -1, -2) / np.sqrt(2))
        mixed.append(scores / scores.sum(axis=-1, keepdims=True) @ v)

    def normed(name, x):
        held, norm = state["batch_stats"][name], params[name]
        return (x - held["mean"]) / np.sqrt(held["var"] + 1e-5) * norm["scale"] + norm["bias"]

    attended = dense(params["attention_0"]["Dense_1"], np.concatenate(mixed, axis=-1))
    x = np.asarray(normed("BatchNorm_0", x + attended))
    y = np.asarray(jax.nn.gelu(dense(params["Dense_0"], x)))
    x = np.asarray(normed("BatchNorm_1", x + dense(params["Dense_1"], y)))
    expected = dense(params["head"]["Dense_0"], x.reshape(BATCH, SENSORS, -1))
    found, _ = jax.jit(model.apply)(params, state, inputs)
    np.testing.assert_allclose(found, np.moveaxis(expected, 2, 1), rtol=1e-3, atol=1e-3)


def test_patchtst_takes_histories_shorter_than_a_patch_and_refuses_uneven_heads():
    inputs = window(12, steps=2)
    model = made("patchtst")
    params, state = drawn(model, inputs)
    found = jax.eval_shape(model.apply, params, state, inputs)[0]
    assert found.shape == (BATCH, HORIZON, SENSORS)
    with pytest.raises(ValueError, match="heads=3 do not divide hidden_size=16"):
        drawn(from_linen(PatchTST(HORIZON, heads=3)), inputs)
