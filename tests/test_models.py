"""Models: the article's formulas by hand, other implementations with the same weights, shapes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cityjax import names
from cityjax.learner import from_linen
from cityjax.models import gan
from cityjax.models.activations import activation
from cityjax.models.cnn import CNN
from cityjax.models.layers import Dropout, repeated
from cityjax.models.mlp import MLP
from cityjax.models.rnn import RNN, EncoderDecoder, GatedMixture, Recurrent
from cityjax.ops.conv import conv_general_dilated
from cityjax.ops.pool import max_pool


def logistic(x):
    return 1 / (1 + np.exp(-x))


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_variables(module, inputs):
    """Parameters and batch statistics of a module, all drawn by numpy: nothing is initialised."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        values = random.normal(size=leaf.shape).astype(np.float32) / 2
        return 1 + values**2 if path[-1].key == "var" else values

    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def random_params(module, inputs):
    return random_variables(module, inputs)["params"]


def applied(module: Any, params, *inputs, **options) -> jax.Array:
    """The outputs of a Linen module without any state, for which it has a wider type."""
    return module.apply({"params": params}, *inputs, **options)


def parameter_count(module, inputs):
    params, _ = jax.eval_shape(from_linen(module).init, jax.random.key(0), inputs)
    return sum(leaf.size for leaf in jax.tree.leaves(params))


# The article's formulas: activations.

X = np.array([-3.0, -0.5, 0.0, 1.0, 2.0], np.float32)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (2.0, 1.0), (-0.5, 3.0)])
def test_the_articles_activations_at_given_slope_and_shift(a, b):
    found = {
        "linear": activation("linear", slope=a)(jnp.asarray(X)),
        "sigmoid": activation("sigmoid", slope=a)(jnp.asarray(X)),
        "shifted_sigmoid": activation("shifted_sigmoid", slope=a, shift=b)(jnp.asarray(X)),
    }
    np.testing.assert_allclose(found["linear"], a * X)
    np.testing.assert_allclose(found["sigmoid"], 1 / (1 + np.exp(-a * X)), rtol=1e-5)
    expected = 1 / (1 + np.exp(-a * (X - b)))
    np.testing.assert_allclose(found["shifted_sigmoid"], expected, rtol=1e-5)


def test_the_other_activations_are_the_usual_ones():
    expected = {
        "relu": np.maximum(X, 0),
        "leaky_relu": np.where(X > 0, X, 0.2 * X),
        "tanh": np.tanh(X),
        "gelu": X / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3))),
        "silu": X * logistic(X),
        "elu": np.where(X > 0, X, np.exp(X) - 1),
        "softplus": np.log1p(np.exp(X)),
        "linear": X,
        "sigmoid": logistic(X),
        "shifted_sigmoid": logistic(X),
    }
    assert set(expected) == set(names.ACTIVATIONS)
    for name, values in expected.items():
        found = activation(name)(jnp.asarray(X))
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-6, err_msg=name)


def test_unknown_activations_and_parameters_are_refused_by_name():
    with pytest.raises(ValueError, match="'swish' is unknown: linear, sigmoid"):
        activation("swish")
    with pytest.raises(ValueError, match="relu has no slope"):
        activation("relu", slope=2.0)
    with pytest.raises(ValueError, match="sigmoid has no shift"):
        activation("sigmoid", shift=2.0)


# Multi-layer perceptron.


def test_mlp_by_hand():
    module = MLP((2,), 1, activation="relu")
    params = {
        "Dense_0": {"kernel": jnp.array([[1.0, -1.0], [2.0, 0.5]]), "bias": jnp.array([0.5, -1.0])},
        "Dense_1": {"kernel": jnp.array([[3.0], [-2.0]]), "bias": jnp.array([0.25])},
    }
    # (1, 2): hidden (1 + 4 + 0.5, -1 + 1 - 1) = (5.5, -1) -> (5.5, 0); output 16.5 + 0.25.
    # (-2, 0): hidden (-1.5, 1) -> (0, 1); output -2 + 0.25.
    outputs, _ = from_linen(module).apply(params, {}, jnp.array([[1.0, 2.0], [-2.0, 0.0]]))
    np.testing.assert_allclose(outputs, [[16.75], [-1.75]])


def test_parameter_counts():
    image = jnp.zeros((1, 28, 28, 1))
    assert parameter_count(MLP((128,), 10), image) == 101_770
    # 3 * 3 * 32 + 32 and 14 * 14 * 32 * 10 + 10.
    assert parameter_count(CNN((32,), (), 10), image) == 320 + 62_730
    # 10 -> 5 tanh units with both biases, then 5 -> 1.
    assert parameter_count(RNN(5, 1, cell="simple"), jnp.zeros((1, 3, 10))) == 50 + 25 + 10 + 6
    article_gan = gan.DenseGenerator((128,), layer_norm=False), gan.DenseDiscriminator((128,))
    label = jnp.zeros(1, int)
    assert parameter_count(article_gan[0], (jnp.zeros((1, 100)), label)) == 12_928 + 101_136
    assert parameter_count(article_gan[1], (image, label)) == 100_480 + 129


# Convolution and pooling.


def true_convolution(x, kernel):
    """y(i, j) = sum_{p,q} x(i - p + 1, j - q + 1) k(p, q), i, j, p, q from 1; zeros outside."""
    height, width = x.shape
    y = np.zeros_like(x)
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            for p in range(1, kernel.shape[0] + 1):
                for q in range(1, kernel.shape[1] + 1):
                    row, column = i - p + 1, j - q + 1
                    if 1 <= row <= height and 1 <= column <= width:
                        y[i - 1, j - 1] += x[row - 1, column - 1] * kernel[p - 1, q - 1]
    return y


def test_the_articles_convolution_is_a_layer_with_its_kernel_flipped():
    x, kernel = normal(0, 5, 6), normal(1, 3, 3)
    flipped = jnp.asarray(kernel[::-1, ::-1, None, None])
    # The article's sum reaches back: its window ends at (i, j), which is padding before only.
    layer = nn.Conv(
        1,
        (3, 3),
        padding=((2, 0), (2, 0)),
        use_bias=False,
        conv_general_dilated=conv_general_dilated,
    )
    found = layer.apply({"params": {"kernel": flipped}}, jnp.asarray(x[None, :, :, None]))
    found = np.asarray(found)[0, :, :, 0]
    np.testing.assert_allclose(found, true_convolution(x, kernel), atol=1e-5)


def test_max_pool_by_hand():
    x = jnp.array([[1, 2, 5, 6], [3, 4, 8, 7], [0, -1, -3, -2], [-4, 0, -5, -1]], jnp.float32)
    pooled = max_pool(x[None, :, :, None], (2, 2))
    np.testing.assert_array_equal(pooled[0, :, :, 0], [[4, 8], [0, -1]])


def pooled_maps(x, kernel, bias=0):
    """3x3 correlation with zero padding, then 2x2 maxima: [B, H, W, 1] -> [B, H/2, W/2, F]."""
    count, height, width = x.shape[:3]
    padded = np.pad(x[..., 0], ((0, 0), (1, 1), (1, 1)))
    maps = np.zeros((count, height, width, kernel.shape[-1]))
    for i in range(height):
        for j in range(width):
            window = padded[:, i : i + 3, j : j + 3].reshape(count, 9)
            maps[:, i, j] = window @ kernel.reshape(9, -1) + bias
    return maps.reshape(count, height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))


def test_cnn_is_convolution_pool_relu_dense():
    module, x = CNN((2,), (), 3), normal(2, 2, 4, 4, 1)
    params = random_params(module, x)
    convolution, dense = params["Conv_0"], params["Dense_0"]
    hidden = np.maximum(pooled_maps(x, convolution["kernel"], convolution["bias"]), 0)
    expected = hidden.reshape(2, -1) @ dense["kernel"] + dense["bias"]
    outputs, _ = from_linen(module).apply(params, {}, jnp.asarray(x))
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_batch_norm_comes_between_pooling_and_relu():
    module, x = CNN((2,), (), 3, batch_norm=True), normal(2, 5, 4, 4, 1)
    params = random_params(module, x)
    _, model_state = from_linen(module).init(jax.random.key(0), jnp.asarray(x))
    outputs, changed = from_linen(module).apply(params, model_state, jnp.asarray(x), train=True)
    pooled = pooled_maps(x, params["Conv_0"]["kernel"])
    mean, variance = pooled.mean(axis=(0, 1, 2)), pooled.var(axis=(0, 1, 2))
    np.testing.assert_allclose(changed["batch_stats"]["BatchNorm_0"]["mean"], 0.1 * mean, atol=1e-5)
    norm, dense = params["BatchNorm_0"], params["Dense_0"]
    normed = (pooled - mean) / np.sqrt(variance + 1e-5) * norm["scale"] + norm["bias"]
    expected = np.maximum(normed, 0).reshape(5, -1) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(outputs, expected, atol=1e-3)


def test_batch_norm_replaces_the_bias_before_it():
    shapes, state = jax.eval_shape(
        from_linen(CNN((4,), (8,), 3, batch_norm=True)).init,
        jax.random.key(0),
        jnp.zeros((1, 4, 4, 1)),
    )
    assert "bias" not in shapes["Conv_0"] and "bias" not in shapes["Dense_0"]
    assert "bias" in shapes["Dense_1"]
    assert set(state["batch_stats"]) == {"BatchNorm_0", "BatchNorm_1"}


# Recurrent networks.


def dense(x, layer):
    return x @ layer["kernel"] + layer.get("bias", 0)


def recur(params, x, cell):
    """Hidden states [B, T, H] of `cell(projected input, recurrent product, hidden)` by a loop."""
    hidden = np.zeros((x.shape[0], params["recurrent_kernel"].shape[0]), np.float32)
    states = []
    for t in range(x.shape[1]):
        product = hidden @ params["recurrent_kernel"] + params["recurrent_bias"]
        hidden = cell(dense(x[:, t], params["input"]), product, hidden)
        states.append(hidden)
    return np.stack(states, axis=1)


def test_a_simple_cell_for_two_steps_by_hand():
    params = {
        "input": {"kernel": jnp.array([[2.0]]), "bias": jnp.array([0.5])},
        "recurrent_kernel": jnp.array([[-1.0]]),
        "recurrent_bias": jnp.array([0.0]),
    }
    module = Recurrent(1, cell="simple")
    states, _ = applied(module, params, jnp.array([[[0.25], [-1.0]]]))
    first = np.tanh(2 * 0.25 + 0.5)
    second = np.tanh(2 * -1.0 + 0.5 - first)
    np.testing.assert_allclose(np.asarray(states).ravel(), [first, second], rtol=1e-6)


def flax_states(cell, params, carry, x):
    states = []
    for t in range(x.shape[1]):
        carry, hidden = cell.apply({"params": params}, carry, jnp.asarray(x[:, t]))
        states.append(hidden)
    return np.stack(states, axis=1)


def gates(params, count):
    """Split a layer's parameters by gate: [(input kernel, bias, recurrent kernel, bias), ...]."""
    parts = [params["input"]["kernel"], params["input"]["bias"]]
    parts += [params["recurrent_kernel"], params["recurrent_bias"]]
    return list(zip(*(np.split(part, count, axis=-1) for part in parts), strict=True))


def test_gru_equals_flax():
    module, x = Recurrent(4, "gru"), normal(0, 2, 3, 5)
    params, theirs = random_params(module, x), {}
    for gate, parts in zip("rzn", gates(params, 3), strict=True):
        kernel, bias, recurrent, recurrent_bias = parts
        own = {"bias": recurrent_bias} if gate == "n" else {}
        joint = bias if gate == "n" else bias + recurrent_bias  # they are only added, but for n
        theirs[f"i{gate}"] = {"kernel": kernel, "bias": joint}
        theirs[f"h{gate}"] = {"kernel": recurrent, **own}
    expected = flax_states(nn.GRUCell(4), theirs, jnp.zeros((2, 4)), x)
    found, _ = applied(module, params, jnp.asarray(x))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lstm_equals_flax():
    module, x = Recurrent(4, "lstm"), normal(1, 2, 3, 5)
    params, theirs = random_params(module, x), {}
    for gate, parts in zip("ifgo", gates(params, 4), strict=True):
        kernel, bias, recurrent, recurrent_bias = parts
        theirs[f"i{gate}"] = {"kernel": kernel}
        theirs[f"h{gate}"] = {"kernel": recurrent, "bias": bias + recurrent_bias}
    carry = (jnp.zeros((2, 4)), jnp.zeros((2, 4)))
    expected = flax_states(nn.OptimizedLSTMCell(4), theirs, carry, x)
    found, _ = applied(module, params, jnp.asarray(x))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_carry_continues_a_sequence():
    x = normal(2, 2, 5, 4)
    for cell in names.CELLS:
        module = Recurrent(3, cell)
        apply = functools.partial(applied, module, random_params(module, x))
        whole, last = apply(x)
        before, carry = apply(x[:, :2])
        after, end = apply(x[:, 2:], carry)
        np.testing.assert_allclose(np.concatenate([before, after], axis=1), whole, atol=1e-6)
        np.testing.assert_allclose(end, last, atol=1e-6)
        np.testing.assert_array_equal(last[-1], whole[:, -1])


def test_recurrent_kernels_start_orthogonal_gate_by_gate(key):
    params = jax.jit(Recurrent(4, "gru").init)(key, jnp.zeros((1, 1, 2)))["params"]
    for kernel in np.split(np.asarray(params["recurrent_kernel"]), 3, axis=1):
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(4), atol=1e-5)


def test_every_cell_is_listed_and_others_are_refused():
    x = jnp.zeros((2, 3, 4))
    for cell in names.CELLS:
        module = Recurrent(5, cell)
        (states, _), _ = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
        assert states.shape == (2, 3, 5)
    with pytest.raises(ValueError, match="'elman' is unknown: simple, gru, lstm"):
        Recurrent(5, "elman").init(jax.random.key(0), x)


def test_the_articles_gated_mixture_against_a_loop():
    module, x = GatedMixture(3, experts=2, cell="simple"), normal(3, 2, 4, 5)
    params = random_params(module, x)
    states = [recur(params[f"Recurrent_{i}"], x, lambda a, b, _: np.tanh(a + b)) for i in range(2)]
    expected = np.zeros((2, 4, 3))
    for b in range(2):
        for t in range(4):
            weights = np.exp(dense(x[b, t], params["gate"]))
            weights /= weights.sum()
            expected[b, t] = sum(weights[i] * states[i][b, t] for i in range(2))
    found = applied(module, params, jnp.asarray(x))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_gates_of_a_mixture_sum_to_one():
    # Three experts of one and the same state mix to that state, whatever the gates.
    module, x = GatedMixture(3, experts=3, cell="gru"), jnp.asarray(normal(4, 2, 4, 5))
    params = random_params(module, x)
    params |= {f"Recurrent_{i}": params["Recurrent_0"] for i in range(3)}
    alone, _ = applied(Recurrent(3, "gru"), params["Recurrent_0"], x)
    np.testing.assert_allclose(applied(module, params, x), alone, atol=1e-6)


def test_rnn_reads_images_row_by_row_and_answers_from_the_last_state():
    module, x = RNN(4, 3, cell="simple", layers=2), normal(5, 2, 5, 6, 1)
    params = random_params(module, x)
    rows = x.reshape(2, 5, 6)
    for layer in ("Recurrent_0", "Recurrent_1"):
        rows = recur(params[layer], rows, lambda a, b, _: np.tanh(a + b))
    found = applied(module, params, jnp.asarray(x))
    np.testing.assert_allclose(found, dense(rows[:, -1], params["Dense_0"]), atol=1e-5)


def forecast_inputs(seed=0):
    return {
        "history": jnp.asarray(normal(seed, 2, 4, 3)),
        "future": jnp.asarray(normal(seed + 1, 2, 5, 2)),
        "profile": jnp.asarray(normal(seed + 2, 2, 5)),
    }


def test_a_forecaster_gives_one_value_per_future_step_around_its_profile():
    inputs = forecast_inputs()
    for cell in names.CELLS:
        module = EncoderDecoder(3, cell, scale=10.0)
        shapes = jax.eval_shape(module.init_with_output, jax.random.key(0), inputs)[0]
        assert shapes.shape == (2, 5)
    module = EncoderDecoder(3, "simple", scale=10.0)
    params = random_params(module, inputs)
    found = applied(module, params, inputs)
    bare = applied(EncoderDecoder(3, "simple"), params, inputs)
    np.testing.assert_allclose(
        found - inputs["profile"], 10 * (bare - inputs["profile"]), rtol=1e-4, atol=1e-4
    )


def test_a_forecast_does_not_see_further_ahead_than_its_hour():
    inputs = forecast_inputs()
    module = EncoderDecoder(3, "gru")
    apply = jax.jit(functools.partial(module.apply, {"params": random_params(module, inputs)}))
    before = np.asarray(apply(inputs))
    later = {**inputs, "future": inputs["future"].at[:, 3].add(5.0)}
    after = np.asarray(apply(later))
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert (after[:, 3:] != before[:, 3:]).all()
    earlier = {**inputs, "history": inputs["history"].at[:, 0].add(5.0)}
    assert (np.asarray(apply(earlier)) != before).any(axis=0).all()


# Generators and discriminators.

LABELS = np.array([0, 1, 2], np.int32)
GENERATORS = {
    "dense": lambda classes: gan.DenseGenerator((8,), classes=classes),
    "convolutional": lambda classes: gan.ConvGenerator((4, 2), classes=classes),
    "convolutional, deeper": lambda classes: gan.ConvGenerator((4, 2), classes, (8, 8)),
}
DISCRIMINATORS = {
    "dense": lambda classes: gan.DenseDiscriminator((8,), classes=classes),
    "convolutional": lambda classes: gan.ConvDiscriminator((2, 4), classes=classes),
    "convolutional, deeper": lambda classes: gan.ConvDiscriminator((2, 4), classes, 0.0, (8,)),
}


def with_and_without_label(make, x, classes):
    """Outputs of one input with two different sets of labels."""
    module = make(classes)
    apply = jax.jit(functools.partial(module.apply, random_variables(module, (x, LABELS))))
    return np.asarray(apply((x, LABELS))), np.asarray(apply((x, (LABELS + 1) % 3)))


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_draw_images_and_heed_the_label_if_they_have_classes(name, classes):
    images, others = with_and_without_label(GENERATORS[name], normal(0, 3, 6), classes)
    assert images.shape == (3, 28, 28, 1)
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.01
    different = np.abs(images - others).max(axis=(1, 2, 3)) > 1e-4
    assert different.all() if classes else not different.any()


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_give_a_logit_and_heed_the_label_if_they_have_classes(name, classes):
    x = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    logits, others = with_and_without_label(DISCRIMINATORS[name], x, classes)
    assert logits.shape == (3,)
    assert np.ptp(logits) > 1e-3  # examples are told apart
    assert (np.abs(logits - others) > 1e-5).all() if classes else (logits == others).all()


def test_a_generated_example_does_not_depend_on_those_drawn_with_it():
    latent, others = normal(1, 3, 6), normal(2, 3, 6)
    others[0] = latent[0]
    for make in GENERATORS.values():
        module = make(0)
        variables = random_variables(module, (latent, LABELS))
        apply = jax.jit(functools.partial(module.apply, variables))
        first, second = (np.asarray(apply((z, LABELS))) for z in (latent, others))
        np.testing.assert_array_equal(first[0], second[0])
        assert (first[1:] != second[1:]).any()


def test_discriminators_centre_their_pixels():
    np.testing.assert_array_equal(gan.centred(jnp.array([0.0, 0.5, 1.0])), [-1.0, 0.0, 1.0])


def test_transposed_convolution_equals_flax():
    kernel, x = normal(0, 4, 4, 3, 2), jnp.asarray(normal(1, 2, 5, 6, 3))
    ours = applied(gan.ConvTranspose(2), {"kernel": kernel}, x)
    flax = nn.ConvTranspose(2, (4, 4), (2, 2), padding="SAME", use_bias=False)
    theirs = applied(flax, {"kernel": kernel}, x)
    assert ours.shape == (2, 10, 12, 2)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


# Dropout.


def test_dropout_keeps_the_expectation_and_the_rate(key):
    x = jnp.full((64, 100), 3.0)
    dropped = np.asarray(Dropout(0.25).apply({}, x, train=True, rngs={"dropout": key}))
    zeros = dropped == 0
    np.testing.assert_allclose(dropped[~zeros], 3.0 / 0.75)
    # 6,400 draws: the standard error of the share is 0.0054, of the mean 0.022.
    assert abs(zeros.mean() - 0.25) < 0.025
    assert abs(dropped.mean() - 3.0) < 0.1
    assert len({tuple(row) for row in zeros}) == 64  # each example has its own noise


def test_dropout_is_off_in_evaluation_and_at_rate_zero():
    x = jnp.asarray(normal(0, 4, 5))
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, train=False), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, train=True), x)  # needs no key


def test_what_is_repeated_has_the_gradient_of_what_is_broadcast():
    x, weights = jnp.asarray(normal(0, 1, 3, 4)), jnp.asarray(normal(1, 5, 3, 4))

    def of(repeat):
        return lambda x: jnp.sum(weights * jnp.sin(repeat(x)))

    ours, plain = of(lambda x: repeated(x, 5)), of(lambda x: jnp.tile(x, (5, 1, 1)))
    np.testing.assert_array_equal(ours(x), plain(x))
    for derive in (
        jax.grad,
        jax.jacfwd,
        jax.hessian,
        lambda f: jax.grad(lambda x: jax.grad(f)(x)[0, 1, 2]),
    ):
        np.testing.assert_allclose(derive(ours)(x), derive(plain)(x), atol=1e-5)
    # No sum over the first axis is left to XLA, nor a product that may round its operands.
    program = jax.jit(jax.grad(ours)).lower(x).as_text()
    assert (
        "stablehlo.reduce" not in program and program.count("precision = [HIGHEST, HIGHEST]") == 1
    )


def test_dropout_draws_by_example_whatever_the_batch(key):
    x = jnp.ones((6, 8))
    whole = Dropout(0.5).apply({}, x, train=True, rngs={"dropout": key})
    part = Dropout(0.5).apply({}, x[:2], train=True, rngs={"dropout": key})
    assert isinstance(whole, jax.Array)
    np.testing.assert_array_equal(whole[:2], part)


@pytest.mark.parametrize(
    "module",
    [
        MLP((16,), 2, dropout=0.5),
        RNN(16, 2, cell="simple", dropout=0.5),
        CNN((), (16,), 2, dropout=0.5),
    ],
    ids=lambda module: type(module).__name__,
)
def test_models_drop_in_training_only(module):
    x = jnp.asarray(normal(0, 2, 3, 4))
    model, params = from_linen(module), random_params(module, x)
    evaluated = model.apply(params, {}, x)[0]
    np.testing.assert_array_equal(evaluated, model.apply(params, {}, x, key=jax.random.key(0))[0])
    first, again, other = (
        model.apply(params, {}, x, key=jax.random.key(seed), train=True)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()
    assert (np.asarray(first) != np.asarray(evaluated)).any()
