"""Convolutions: XLA's values and gradients, of first and second order, wherever they run."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from cityjax.ops import columns
from cityjax.ops.conv import conv_general_dilated, conv_transpose

NUMBERS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NHWDC", "HWDIO", "NHWDC")}

# space, channels, kernel, features, arguments
CONVOLUTIONS = [
    ((8, 7), 1, (3, 3), 5, {"padding": "SAME"}),
    ((8, 7), 6, (3, 2), 5, {"padding": "VALID"}),
    ((9, 9), 2, (4, 4), 3, {"padding": "SAME", "window_strides": (2, 2)}),
    ((9, 10), 6, (4, 3), 1, {"padding": "SAME", "window_strides": (2, 3)}),
    ((7, 8), 5, (3, 3), 2, {"padding": ((2, 0), (0, 3)), "window_strides": (3, 1)}),
    ((7, 8), 5, (3, 3), 2, {"padding": ((4, 5), (3, 3))}),
    ((9, 8), 5, (3, 3), 2, {"padding": ((-1, 0), (0, -2))}),
    # Padding that XLA on a CPU gets wrong, of the convolution or of its input's gradient:
    ((10,), 3, (5,), 4, {"padding": ((-3, 3),)}),
    ((10, 6), 3, (2, 3), 4, {"padding": ((-2, 3), (3, -1)), "window_strides": (2, 1)}),
    ((8,), 3, (2,), 4, {"padding": ((4, 0),)}),
    ((6,), 3, (3,), 4, {"padding": ((4, 0),), "lhs_dilation": (3,)}),
    ((6, 4), 3, (3, 2), 4, {"padding": ((-4, 5), (4, -5)), "lhs_dilation": (3, 2)}),
    ((3,), 2, (2,), 4, {"padding": ((-3, 5),)}),
    ((2,), 2, (2,), 4, {"padding": ((-1, -1),), "lhs_dilation": (5,)}),
    ((6, 6), 3, (1, 1), 4, {"padding": "VALID", "window_strides": (2, 2)}),
    ((6, 6), 3, (6, 6), 4, {"padding": "VALID"}),
    ((6, 6), 3, (2, 2), 4, {"padding": "VALID", "window_strides": (4, 4)}),
    ((12,), 6, (5,), 3, {"padding": "SAME"}),
    # Kernels larger than the input, and strides larger than the kernel:
    ((4, 3), 2, (5, 4), 3, {"padding": "SAME"}),
    ((3,), 2, (6,), 3, {"padding": ((4, 3),), "window_strides": (2,)}),
    ((17, 13), 2, (3, 2), 3, {"padding": "SAME", "window_strides": (5, 7)}),
    ((23,), 1, (2,), 3, {"padding": ((1, 2),), "window_strides": (6,)}),
    ((12,), 1, (4,), 3, {"padding": ((3, 0),), "window_strides": (2,)}),
    ((5, 6), 6, (3, 3), 2, {"padding": ((2, 1), (1, 2)), "lhs_dilation": (2, 3)}),
    # What falls back to XLA's own gradient:
    ((9, 9), 4, (3, 3), 6, {"padding": "SAME", "rhs_dilation": (2, 2)}),
    ((9, 9), 4, (3, 3), 6, {"padding": "SAME", "feature_group_count": 2}),
    (
        (5, 5),
        2,
        (3, 3),
        2,
        {"padding": ((1, 1), (1, 1)), "lhs_dilation": (2, 2), "window_strides": (3, 3)},
    ),
    ((12, 12), 2, (9, 9), 2, {"padding": "SAME"}),
    ((4, 5, 4), 2, (2, 2, 2), 3, {"padding": "SAME"}),
    ((2, 2), 2, (3, 3), 2, {"padding": "VALID"}),
]
TRANSPOSED = [
    ((7, 7), 6, (4, 4), 5, (2, 2), "SAME"),
    ((5, 4), 6, (4, 4), 1, (2, 2), "SAME"),
    ((5, 4), 1, (3, 5), 6, (2, 3), "SAME"),
    ((5, 4), 3, (2, 1), 2, (3, 3), "SAME"),
    ((5, 4), 3, (4, 5), 2, (2, 1), "VALID"),
    ((5, 4), 3, (2, 2), 2, (3, 4), "VALID"),
    ((5, 4), 5, (3, 3), 2, (1, 1), "SAME"),
    ((5, 4), 5, (3, 3), 6, (2, 2), ((1, 1), (2, 0))),
    ((5, 4), 5, (3, 3), 6, (2, 2), ((4, 4), (3, 5))),
    ((9,), 5, (4,), 3, (2,), "SAME"),
]


def arrays(space, channels, kernel, features, batch=3):
    """Return inputs [B, *space, C] and a kernel [*kernel, C, F]."""
    first, second = jax.random.split(jax.random.key(channels + 10 * features))
    return (
        jax.random.normal(first, (batch, *space, channels)),
        jax.random.normal(second, (*kernel, channels, features)) / 4,
    )


def convolution(function, **arguments):
    """Return convolve(x, kernel) with channels last and stride one unless told otherwise."""

    def convolve(x, kernel):
        rank = x.ndim - 2
        given = {"window_strides": (1,) * rank, "dimension_numbers": NUMBERS[rank], **arguments}
        return function(x, kernel, **given)

    return convolve


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(convolve, x, kernel):
    value, pullback = jax.vjp(convolve, x, kernel)
    cotangent = jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)
    return value, *pullback(cotangent)


def assert_equal_to_xla(ours, xla, x, kernel, tolerance=1e-5):
    found = value_and_gradients(ours, x, kernel)
    # In float32 XLA's own are wrong for some paddings (openxla/xla#48713).
    wide = x.dtype == jnp.float32
    with jax.enable_x64(wide):
        given = [array.astype(jnp.float64) if wide else array for array in (x, kernel)]
        expected = jax.device_get(value_and_gradients(xla, *given))
    shapes = jax.eval_shape(value_and_gradients, xla, x, kernel)
    for mine, its, shape in zip(found, expected, shapes, strict=True):
        assert (mine.shape, mine.dtype) == (shape.shape, shape.dtype)
        scale = np.abs(its).max(initial=1)
        np.testing.assert_allclose(mine / scale, its / scale, atol=tolerance)


@pytest.mark.parametrize(("space", "channels", "kernel", "features", "arguments"), CONVOLUTIONS)
def test_convolution_equals_xla(space, channels, kernel, features, arguments):
    x, weights = arrays(space, channels, kernel, features)
    if "feature_group_count" in arguments:
        weights = weights[..., : channels // arguments["feature_group_count"], :]
    ours = convolution(conv_general_dilated, **arguments)
    xla = convolution(lax.conv_general_dilated, **arguments)
    assert_equal_to_xla(ours, xla, x, weights)


@pytest.mark.parametrize(
    ("space", "channels", "kernel", "features", "strides", "padding"), TRANSPOSED
)
def test_transposed_convolution_equals_jax(space, channels, kernel, features, strides, padding):
    x, weights = arrays(space, channels, kernel, features)
    ours = functools.partial(conv_transpose, strides=strides, padding=padding)
    xla = functools.partial(lax.conv_transpose, strides=strides, padding=padding)
    assert_equal_to_xla(ours, xla, x, weights)


def drawn(seed):
    """Return a convolution at random: space, channels, kernel, features, arguments."""
    random = np.random.default_rng(seed)
    rank = int(random.integers(1, 3))

    def draw(low, high):
        return tuple(map(int, random.integers(low, high + 1, rank)))

    space, kernel = draw(5, 11), draw(1, 4)
    groups = int(random.choice([1, 1, 1, 2, 3]))
    channels, features = (groups * int(n) for n in random.integers(1, 12, 2))
    arguments = {
        "padding": [
            "SAME",
            "VALID",
            tuple((int(low), int(high)) for low, high in random.integers(-1, 4, (rank, 2))),
        ][random.integers(3)],
        "feature_group_count": groups,
    }
    which = random.integers(4)  # strides, dilated inputs (transposed), dilated kernel, or none
    if which == 0:
        arguments["window_strides"] = draw(1, 3)
    elif which == 1 and not isinstance(arguments["padding"], str):
        arguments["lhs_dilation"] = draw(1, 3)
    elif which == 2:
        arguments["rhs_dilation"] = draw(1, 2)
    return space, channels, kernel, features, arguments


@pytest.mark.parametrize("seed", range(24))
def test_a_random_convolution_equals_xla(seed):
    space, channels, kernel, features, arguments = drawn(seed)
    x, weights = arrays(space, channels, kernel, features, batch=1 + seed % 4)
    weights = weights[..., : channels // arguments["feature_group_count"], :]
    ours = convolution(conv_general_dilated, **arguments)
    xla = convolution(lax.conv_general_dilated, **arguments)
    assert_equal_to_xla(ours, xla, x, weights)


@pytest.mark.parametrize("blockwise", [False, True])
@pytest.mark.parametrize("seed", range(24))
def test_a_random_convolution_whose_gradient_is_ours_equals_xla(seed, blockwise, monkeypatch):
    random = np.random.default_rng(1000 + seed)
    rank = 1 + seed % 2

    def draw(low, high):
        return tuple(map(int, random.integers(low, high + 1, rank)))

    space, kernel, steps = draw(6, 11), draw(1, 4), draw(1, 3)
    pads = tuple((int(low), int(high)) for low, high in random.integers(0, 4, (rank, 2)))
    arguments = {"padding": pads, ("lhs_dilation" if seed % 3 else "window_strides"): steps}
    channels, features = (int(n) for n in random.integers(1 + blockwise, 12, 2))
    x, weights = arrays(space, channels, kernel, features, batch=7)
    if blockwise:  # the columns of one image at a time, or of a few
        monkeypatch.setattr(columns, "CACHE", int(random.choice([1, 20_000])))
    ours = convolution(conv_general_dilated, **arguments)
    text = str(jax.make_jaxpr(jax.grad(lambda w: ours(x, w).sum()))(weights))
    assert "optimization_barrier" in text  # XLA's own has none
    assert_equal_to_xla(ours, convolution(lax.conv_general_dilated, **arguments), x, weights)


@pytest.mark.parametrize(
    ("kernel", "arguments"),
    [
        ((3, 3), {"padding": ((-1, 1), (-1, 1)), "feature_group_count": 2}),
        ((9, 9), {"padding": ((-3, 3), (-3, 3))}),
        ((3, 3), {"padding": ((-2, 1), (1, -1)), "rhs_dilation": (2, 2)}),
        ((3, 3), {"padding": ((-9, 1), (-20, 30)), "feature_group_count": 2}),
        # Beyond the kernel's reach, in whose gradient XLA meets padding below zero.
        ((4, 1), {"padding": ((7, -1), (7, 6)), "feature_group_count": 2}),
        ((3, 3), {"padding": ((8, 3), (0, 9)), "rhs_dilation": (2, 1)}),
        ((3, 1), {"padding": ((8, 3), (3, 1)), "lhs_dilation": (2, 3), "feature_group_count": 2}),
        ((10, 9), {"padding": ((12, 5), (2, 10)), "window_strides": (2, 1)}),
    ],
)
def test_any_padding_is_right_where_the_gradient_is_xlas_too(kernel, arguments):
    x, weights = arrays((12, 12), 4, kernel, 4)
    weights = weights[..., : 4 // arguments.get("feature_group_count", 1), :]
    ours = convolution(conv_general_dilated, **arguments)
    assert_equal_to_xla(ours, convolution(lax.conv_general_dilated, **arguments), x, weights)


def test_any_padding_is_right_of_other_orders_of_axes(key):
    x, weights = jax.random.normal(key, (5, 4, 9)), jax.random.normal(key, (6, 4, 6))
    arguments = {"padding": ((8, 4),), "dimension_numbers": ("NCH", "OIH", "NCH")}
    ours = convolution(conv_general_dilated, **arguments)
    assert_equal_to_xla(ours, convolution(lax.conv_general_dilated, **arguments), x, weights)


@pytest.mark.parametrize("seed", range(8))
def test_a_random_transposed_convolution_equals_jax(seed):
    space, channels, kernel, features, arguments = drawn(seed)
    x, weights = arrays(space, channels, kernel, features, batch=1 + seed % 4)
    strides = tuple(map(int, np.random.default_rng(seed).integers(1, 4, len(space))))
    given = {"strides": strides, "padding": arguments["padding"]}
    ours = functools.partial(conv_transpose, **given)
    xla = functools.partial(lax.conv_transpose, **given)
    assert_equal_to_xla(ours, xla, x, weights)


def test_by_hand():
    x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    kernel = jnp.array([10.0, 1.0]).reshape(2, 1, 1)
    valid = convolution(conv_general_dilated, padding="VALID")
    assert valid(x, kernel).ravel().tolist() == [12, 23]
    gradient = jax.grad(lambda kernel: valid(x, kernel).sum())(kernel)
    assert gradient.ravel().tolist() == [3, 5]
    # Spread out to 1 0 2 0 3 and padded by one zero on each side: no flip of the kernel.
    spread = conv_transpose(x, kernel, (2,), "VALID")
    assert spread.ravel().tolist() == [1, 10, 2, 20, 3, 30]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_short_floats_stay_short(dtype):
    x, weights = arrays((6, 6), 5, (3, 3), 4)
    ours = convolution(conv_general_dilated, padding="SAME")
    xla = convolution(lax.conv_general_dilated, padding="SAME")
    assert_equal_to_xla(ours, xla, x.astype(dtype), weights.astype(dtype), tolerance=2e-2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_gradient_of_many_images_is_not_added_up_in_half_precision(dtype):
    draw = np.random.default_rng(0).random
    x, weights = draw((160, 14, 14, 64)), draw((3, 3, 64, 8)) / 1000
    convolve = convolution(conv_general_dilated, padding="SAME")

    def gradient(dtype):
        given = (jnp.asarray(each, dtype) for each in (x, weights))
        return jax.jit(jax.grad(lambda x, w: convolve(x, w).astype(jnp.float32).mean(), 1))(*given)

    short, long = gradient(dtype), gradient(jnp.float32)
    assert short.dtype == dtype
    np.testing.assert_allclose(short.astype(jnp.float32), long, rtol=1e-2)


@pytest.mark.parametrize(("dtype", "rounding"), [(jnp.bfloat16, 2**-8), (jnp.float16, 2**-11)])
def test_what_many_places_give_is_not_added_up_in_half_precision(dtype, rounding):
    x = jnp.full((1, 64, 1), 1.37, dtype)
    kernel = jax.random.uniform(jax.random.key(0), (64, 1, 2)).astype(dtype)
    convolve = jax.jit(functools.partial(conv_transpose, strides=(2,), padding="SAME"))
    short, long = convolve(x, kernel), convolve(*(a.astype(jnp.float32) for a in (x, kernel)))
    assert short.dtype == dtype
    np.testing.assert_allclose(short.astype(jnp.float32), long, rtol=rounding)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("rank", [1, 2])
def test_gradients_of_both_orders_in_float64(rank, transposed, channels):
    with jax.enable_x64(True):
        x, weights = arrays((4, 5)[:rank], channels, (3, 2)[:rank], 6 - channels, batch=2)
        assert x.dtype == jnp.float64
        if transposed:
            convolve = functools.partial(conv_transpose, strides=(2, 2)[:rank], padding="SAME")
        else:
            convolve = convolution(
                conv_general_dilated,
                window_strides=(2, 1)[:rank],
                padding=((1, 1), (0, 1))[:rank],
            )
        smooth = jax.jit(lambda x, weights: jnp.sin(convolve(x, weights)))
        check_grads(smooth, (x, weights), order=2, modes=["rev"])


def two_layers(down, up):
    """Return score(weights, x): a convolution of stride 2 and a transposed one."""

    def score(weights, x):
        hidden = jnp.tanh(down(x, weights["down"]))
        return jnp.mean(jnp.tanh(up(hidden, weights["up"])) ** 2)

    return score


OURS = two_layers(
    convolution(conv_general_dilated, window_strides=(2, 2), padding="SAME"),
    functools.partial(conv_transpose, strides=(2, 2), padding="SAME"),
)
XLA = two_layers(
    convolution(lax.conv_general_dilated, window_strides=(2, 2), padding="SAME"),
    functools.partial(lax.conv_transpose, strides=(2, 2), padding="SAME"),
)


@pytest.fixture
def weights_and_inputs(key):
    keys = jax.random.split(key, 3)
    weights = {
        "down": jax.random.normal(keys[0], (4, 4, 2, 6)) / 4,
        "up": jax.random.normal(keys[1], (4, 4, 6, 1)) / 4,
    }
    return weights, jax.random.normal(keys[2], (8, 6, 6, 2))


def assert_trees_close(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), first, second)


@pytest.mark.parametrize("by", ["inputs", "weights"])
def test_a_gradient_penalty_equals_xla(weights_and_inputs, by):
    # The R1 penalty |d score / d x|^2, and |d score / d weights|^2, differentiated by the weights.
    def penalty_gradient(score):
        def penalty(weights, x):
            inner = jax.grad(score, 1 if by == "inputs" else 0)(weights, x)
            return 100 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(inner))

        return jax.jit(jax.grad(penalty, argnums=(0, 1)))(*weights_and_inputs)

    ours = penalty_gradient(OURS)
    assert_trees_close(ours, penalty_gradient(XLA))
    assert min(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(ours)) > 1e-3


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_under_vmap_and_scan(weights_and_inputs, axes):
    weights, x = weights_and_inputs
    many = (jax.tree.map(lambda leaf: jnp.stack([leaf, -2 * leaf]), weights), jnp.stack([x, x + 1]))
    given = [
        several if axis == 0 else single
        for several, single, axis in zip(many, (weights, x), axes, strict=True)
    ]
    expected = [
        jax.jit(jax.grad(XLA))(
            *(
                jax.tree.map(lambda leaf, i=i: leaf[i], argument) if axis == 0 else argument
                for argument, axis in zip(given, axes, strict=True)
            )
        )
        for i in range(2)
    ]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected)
    assert_trees_close(jax.jit(jax.vmap(jax.grad(OURS), axes))(*given), expected)
    if axes == (0, 0):
        scanned = jax.jit(
            lambda *given: lax.scan(lambda carry, one: (carry, jax.grad(OURS)(*one)), None, given)
        )(*given)[1]
        assert_trees_close(scanned, expected)


def test_a_gradient_through_a_scan_of_updates_equals_xla(weights_and_inputs):
    def after_updates(score):
        def update(weights, x):
            gradient = jax.grad(score)(weights, x)
            return jax.tree.map(lambda leaf, slope: leaf - slope, weights, gradient), None

        def outer(weights, x):
            return score(lax.scan(update, weights, jnp.stack([x, x + 1, 2 * x]))[0], x)

        return jax.jit(jax.grad(outer, argnums=(0, 1)))(*weights_and_inputs)

    assert_trees_close(after_updates(OURS), after_updates(XLA))


@pytest.mark.parametrize("arguments", [{}, {"lhs_dilation": (2, 2)}])
def test_a_gradient_of_a_gradient_through_a_scan_equals_xla(arguments, key):
    images, kernel = jax.random.normal(key, (4, 2, 6, 6, 3)), jax.random.normal(key, (3, 3, 3, 4))

    def second(function):
        convolve = convolution(function, padding=((1, 1), (1, 1)), **arguments)

        def total(kernel, images):
            def add(carry, x):
                return carry + jnp.sin(convolve(x, kernel)).sum(), None

            return lax.scan(add, 0.0, images)[0]

        def slope(kernel, images):
            return (jax.grad(total)(kernel, images) ** 2).sum()

        return jax.jit(jax.grad(slope, argnums=(0, 1)))(kernel, images)

    for mine, its in zip(
        second(conv_general_dilated), second(lax.conv_general_dilated), strict=True
    ):
        np.testing.assert_allclose(mine / jnp.abs(its).max(), its / jnp.abs(its).max(), atol=1e-5)


def test_padding_of_fractions_is_refused_as_by_jax(key):
    x, kernel = jax.random.normal(key, (2, 6, 3)), jax.random.normal(key, (3, 3, 4))
    for function in (conv_general_dilated, lax.conv_general_dilated):
        with pytest.raises((TypeError, ValueError)):
            convolution(function, padding=((1.9, 1),))(x, kernel)


def test_precision_may_be_a_list(key):
    x, kernel = jax.random.normal(key, (2, 6, 3)), jax.random.normal(key, (3, 3, 4))
    given = {"padding": "SAME", "precision": ["high", "highest"]}
    found = convolution(conv_general_dilated, **given)(x, kernel)
    expected = convolution(lax.conv_general_dilated, **given)(x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_under_vmap_of_vmap(key):
    x, weights = jax.random.normal(key, (3, 2, 4, 6, 6, 2)), jax.random.normal(key, (3, 3, 3, 2, 5))
    for axes in ((0, 0), (None, 0), (0, None)):
        both = [
            jax.vmap(jax.vmap(convolution(convolve, padding="SAME"), axes), (0, 0))
            for convolve in (conv_general_dilated, lax.conv_general_dilated)
        ]
        given = (x if axes[0] == 0 else x[:, 0], weights[:, None].repeat(2, 1))
        given = (given[0], given[1] if axes[1] == 0 else weights)
        assert_trees_close(jax.jit(both[0])(*given), jax.jit(both[1])(*given))


@pytest.mark.parametrize(
    ("x", "kernel", "strides", "padding", "product"),
    [
        ((16, 64, 64, 32), (4, 4, 32, 64), (2, 2), "SAME", True),
        ((17, 64, 64, 32), (4, 4, 32, 64), (2, 2), "SAME", False),  # 268 MB of columns
        (("b", 64, 64, 32), (4, 4, 32, 64), (2, 2), "SAME", False),  # who knows
        ((2, 8, 8, 6), (5, 5, 6, 2), (1, 1), "SAME", True),
        ((2, 8, 8, 6), (3, 17, 6, 1), (1, 1), "SAME", False),  # 51 of each input
        ((2, 50, 6), (50, 6, 1), (1,), ((0, 0),), False),  # most of which no output takes
        ((2, 9, 9, 6), (3, 3, 6, 2), (2, 2), ((-5, -5), (-5, -5)), False),
    ],
)
def test_a_product_is_made_where_it_pays(x, kernel, strides, padding, product):
    sizes = export.symbolic_shape(", ".join(map(str, x)))
    given = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (sizes, kernel))
    up = jax.jit(functools.partial(conv_transpose, strides=strides, padding=padding))
    text = export.export(up, platforms=["cpu"])(*given).mlir_module()
    found = [text.count(f"stablehlo.{name}") for name in ("dot_general", "convolution")]
    assert found == ([1, 0] if product else [0, 1])


@pytest.mark.parametrize(("dtype", "rounding"), [(jnp.bfloat16, 2**-7), (jnp.float8_e5m2, 0.26)])
def test_types_that_jax_promotes_to_no_other_are_convolved(dtype, rounding):
    x, weights = (array.astype(dtype) for array in arrays((6, 6), 4, (3, 3), 2))
    with jax.numpy_dtype_promotion("strict"):
        found = jax.jit(convolution(conv_general_dilated, padding="SAME"))(x, weights)
    long = convolution(lax.conv_general_dilated, padding="SAME")
    expected = long(x.astype(jnp.float32), weights.astype(jnp.float32)).astype(dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), rtol=rounding)


@pytest.mark.eight_devices
@pytest.mark.parametrize("check", [True, False])
def test_devices_sum_the_gradient_of_weights_that_they_share(weights_and_inputs, check):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))

    def gradient(weights, x):
        # With check_vma JAX sums the gradients of shared arguments itself; without it does not.
        mean = jax.grad(OURS)(weights, x)
        return jax.tree.map(lambda leaf: leaf / 4 if check else lax.pmean(leaf, "batch"), mean)

    split = jax.shard_map(
        gradient,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("batch")),
        out_specs=PartitionSpec(),
        check_vma=check,
    )
    assert_trees_close(
        jax.jit(split)(*weights_and_inputs), jax.jit(jax.grad(XLA))(*weights_and_inputs)
    )


@pytest.mark.parametrize("form", ["vmap", "vmap, shared weights", "scan"])
def test_a_transformed_gradient_keeps_its_matrix_products(weights_and_inputs, form):
    weights, x = weights_and_inputs
    gradient = jax.grad(lambda weights, x: OURS(weights, x))
    forms = {
        "vmap": jax.vmap(gradient),
        "vmap, shared weights": jax.vmap(gradient, (None, 0)),
        "scan": lambda weights, x: lax.scan(lambda _, both: (0, gradient(*both)), 0, (weights, x)),
    }
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (weights, x))
    given = (weights, two[1]) if "shared" in form else two
    text = export.export(jax.jit(forms[form]), platforms=["cpu"])(*given).mlir_module()
    # None for kernels, nor for one channel or feature: the first layer alone.
    assert text.count("stablehlo.convolution") == 1
    # Nor in groups, which are slow: kernels that differ take turns.
    assert set(re.findall(r"_group_count = ([0-9]+)", text)) == {"1"}
    assert text.count("stablehlo.dot_general") >= 4


def test_many_kernels_of_the_same_images_are_one_convolution(weights_and_inputs):
    weights, x = weights_and_inputs
    kernels = jnp.stack([weights["down"]] * 3)
    convolve = convolution(conv_general_dilated, window_strides=(2, 2), padding="SAME")
    forward = jax.vmap(convolve, (None, 0))
    text = export.export(jax.jit(forward), platforms=["cpu"])(x, kernels).mlir_module()
    assert text.count("stablehlo.convolution") == 1
    assert "stablehlo.while" not in text


def test_a_gradient_is_exported_for_any_number_of_images(weights_and_inputs):
    weights, x = weights_and_inputs
    gradient = jax.jit(jax.grad(lambda weights, x: OURS(weights, x)))
    batch = jax.ShapeDtypeStruct(export.symbolic_shape("b,6,6,2"), x.dtype)
    exported = export.export(gradient, platforms=["cpu", "cuda", "tpu"])(weights, batch)
    assert_trees_close(exported.call(weights, x), gradient(weights, x))


def test_a_gradient_is_exported_for_images_of_any_size():
    x, weights = arrays((6, 6), 2, (3, 3), 4)
    convolve = convolution(conv_general_dilated, padding=((1, 1), (1, 1)))
    gradient = jax.jit(jax.grad(lambda weights, x: jnp.sum(convolve(x, weights) ** 2)))
    images = jax.ShapeDtypeStruct(export.symbolic_shape("b,h,h,2"), x.dtype)
    exported = export.export(gradient, platforms=["cpu", "cuda", "tpu"])(weights, images)
    assert_trees_close(exported.call(weights, x), gradient(weights, x))


def test_each_platform_gets_its_own_gradient(weights_and_inputs, monkeypatch):
    def program(platform):
        # A fresh function, so that no trace of another platform is found in JAX's caches.
        gradient = jax.jit(jax.grad(lambda weights, x: OURS(weights, x)))
        exported = export.export(gradient, platforms=[platform])(*weights_and_inputs)
        text = exported.mlir_module()
        return text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")

    # The first layer; the transposed one, the gradient of its input, and those of two kernels.
    convolutions, products = program("cpu")
    assert convolutions == 1
    assert products >= 4
    for platform in ("cuda", "tpu"):
        assert program(platform) == (5, 0)
    # The branch of the other platforms, executed here.
    monkeypatch.setattr(lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    ours = jax.jit(jax.grad(lambda weights, x: OURS(weights, x)))(*weights_and_inputs)
    assert_trees_close(ours, jax.jit(jax.grad(XLA))(*weights_and_inputs))


def test_one_program_serves_all_platforms(weights_and_inputs):
    gradient = jax.jit(jax.grad(OURS))
    exported = export.export(gradient, platforms=["cpu", "cuda", "tpu"])(*weights_and_inputs)
    assert_trees_close(exported.call(*weights_and_inputs), gradient(*weights_and_inputs))


def test_as_the_hook_of_flax(key):
    x = jax.random.normal(key, (2, 8, 8, 3))
    options = {"features": 4, "kernel_size": (3, 3), "strides": (2, 2), "padding": "CIRCULAR"}
    plain = nn.Conv(**options)
    hooked = nn.Conv(**options, conv_general_dilated=conv_general_dilated)
    variables = plain.init(key, x)

    def loss(module):
        square = jax.jit(lambda variables: jnp.sum(module.apply(variables, x) ** 2))
        return jax.value_and_grad(square)

    assert_trees_close(loss(hooked)(variables), loss(plain)(variables))


def test_forward_mode_says_that_it_is_not_available():
    x, weights = arrays((5, 5), 2, (3, 3), 2)
    convolve = convolution(conv_general_dilated, padding="SAME")
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(convolve, (x, weights), (x, weights))


def test_padding_by_name_of_dilated_inputs_is_refused_as_jax_does():
    x, weights = arrays((5, 5), 2, (3, 3), 2)
    with pytest.raises(ValueError, match="String padding is not implemented"):
        convolution(conv_general_dilated, padding="SAME", lhs_dilation=(2, 2))(x, weights)


def test_an_unknown_padding_is_refused():
    x, weights = arrays((5, 5), 2, (3, 3), 2)
    with pytest.raises(ValueError, match='padding="FULL" is neither'):
        conv_transpose(x, weights, (2, 2), "FULL")
