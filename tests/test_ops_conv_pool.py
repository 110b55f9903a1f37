"""A convolution with its pooling: the values and gradients of one after the other, wherever."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from cityjax.ops import conv_pool
from cityjax.ops.conv_pool import conv_max_pool

NUMBERS = ("NHWC", "HWIO", "NHWC")
# images, kernel, padding, window
COVERED = [
    ((4, 8, 8, 1), (3, 3, 1, 5), "SAME", (2, 2)),
    ((4, 9, 7, 1), (3, 3, 1, 5), "VALID", (2, 2)),  # the last row and column are left out
    ((3, 8, 9, 2), (2, 2, 2, 4), "SAME", (2, 3)),
    ((5, 7, 7, 3), (1, 1, 3, 2), "VALID", (3, 3)),
    ((1, 6, 6, 1), (3, 3, 1, 1), "SAME", (2, 2)),
    ((2, 6, 8, 1), (5, 4, 1, 3), ((4, 1), (0, 3)), (1, 3)),
    ((2, 6, 6, 1), (2, 1, 1, 3), "SAME", (5, 5)),
    ((4, 3, 4, 1), (4, 5, 1, 3), "SAME", (2, 1)),  # a kernel larger than the image
    ((0, 6, 6, 1), (3, 3, 1, 2), "SAME", (2, 2)),
]


def draw(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def ours(x, kernel, padding="SAME", window=(2, 2), **more):
    given = {"dimension_numbers": NUMBERS, **more}
    return conv_max_pool(x, kernel, (1, 1), padding, window=window, **given)


def apart(x, kernel, padding="SAME", window=(2, 2)):
    """XLA's convolution, then Flax's pooling."""
    convolved = lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NUMBERS)
    return nn.max_pool(convolved, window, window)


def gradients(function, x, kernel, weights):
    return jax.grad(lambda *given: (function(*given) * weights).sum(), (0, 1))(x, kernel)


def is_fused(function, *given):
    return "_fused" in str(jax.make_jaxpr(function)(*given))


@pytest.mark.parametrize(("images", "kernel", "padding", "window"), COVERED)
def test_values_and_gradients_are_those_of_one_after_the_other(images, kernel, padding, window):
    x, kernel = draw(images), draw(kernel, 1)
    given = dict(padding=padding, window=window)
    expected = apart(x, kernel, **given)
    assert is_fused(functools.partial(ours, **given), x, kernel)
    found = jax.jit(functools.partial(ours, **given))(x, kernel)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    weights = draw(expected.shape, 2)
    both = [
        gradients(functools.partial(function, **given), x, kernel, weights)
        for function in (ours, apart)
    ]
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(16))
def test_a_random_block_equals_one_after_the_other(seed):
    random = np.random.default_rng(seed)
    height, width, rows, columns, channels, features = random.integers(1, [9, 9, 4, 4, 3, 6])
    pads = random.integers(0, 4, (2, 2))
    window = random.integers(1, 4, 2)
    size = np.array([height, width]) + pads.sum(axis=1) - [rows, columns] + 1
    window = tuple(int(step) for step in np.minimum(window, np.maximum(size, 1)))
    if (size < 1).any():
        pads += 3
    x = draw((int(random.integers(1, 6)), height, width, channels), seed)
    kernel = draw((rows, columns, channels, features), seed + 1)
    given = dict(padding=[(int(a), int(b)) for a, b in pads], window=window)
    fused = functools.partial(ours, **given)
    expected = apart(x, kernel, **given)
    np.testing.assert_allclose(fused(x, kernel), expected, rtol=1e-5, atol=1e-5)
    weights = draw(expected.shape, seed + 2)
    one, other = (
        gradients(f, x, kernel, weights) for f in (fused, functools.partial(apart, **given))
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), one, other)


@pytest.mark.parametrize(
    ("images", "kernel", "more"),
    [
        ((2, 8, 8, 8), (3, 3, 8, 4), {}),  # as many products as a matrix product is for
        ((2, 8, 8, 1), (3, 3, 1, 4), {"rhs_dilation": (2, 2)}),
        ((2, 8, 8, 2), (3, 3, 1, 4), {"feature_group_count": 2}),
        ((2, 8, 8, 1), (3, 3, 1, 4), {"padding": ((-1, 2), (0, 0))}),
        ((2, 1, 8, 8), (4, 1, 3, 3), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
    ],
)
def test_what_is_not_covered_is_convolved_and_pooled(images, kernel, more):
    x, kernel = draw(images), draw(kernel, 1)
    given = {"padding": "SAME", "dimension_numbers": NUMBERS, **more}
    assert not is_fused(functools.partial(ours, **given), x, kernel)
    convolved = lax.conv_general_dilated(x, kernel, (1, 1), **given)
    expected = nn.max_pool(convolved, (2, 2), (2, 2))
    np.testing.assert_allclose(ours(x, kernel, **given), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_added_up_as_convolutions_do(dtype):
    x, kernel = draw((2, 8, 8, 1)).astype(dtype), draw((3, 3, 1, 4), 1).astype(dtype)
    assert not is_fused(ours, x, kernel) and ours(x, kernel).dtype == dtype
    whole = ours(x.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_allclose(ours(x, kernel).astype(jnp.float32), whole, rtol=0.02, atol=0.05)


def test_by_hand_and_the_first_of_a_tie():
    x = jnp.array([[1.0, 2, 0, 0], [3, 4, 0, 0]])[None, ..., None]
    kernel = jnp.array([[[[1.0, -1.0]]]])  # the image and its negative
    np.testing.assert_array_equal(ours(x, kernel)[0, 0], [[4, -1], [0, 0]])
    gradient = jax.grad(lambda x: ours(x, kernel).sum())(x)[0, ..., 0]
    # The second window is all ties: its first place has both gradients, which cancel.
    np.testing.assert_array_equal(gradient, [[-1, 0, 0, 0], [0, 1, 0, 0]])
    # Of the kernel: what lies where the maximum was, 4 and 0, and 1 and 0.
    kernel_gradient = jax.grad(lambda kernel: ours(x, kernel).sum())(kernel)
    np.testing.assert_array_equal(kernel_gradient[0, 0, 0], [4, 1])


def test_ties_are_the_first_ones_in_gradients_of_gradients_too():
    x, kernel = jnp.ones((1, 2, 2, 1)), jnp.full((1, 1, 1, 1), 2.0)

    def twice(function):
        def slope(x):
            return jax.grad(lambda kernel: (function(x, kernel) ** 2).sum())(kernel).sum()

        return jax.grad(slope)(x)[0, ..., 0]

    # k x^2 of the first pixel, four times: by k 2 k x^2, and that by x 4 k x.
    np.testing.assert_array_equal(twice(ours), [[8, 0], [0, 0]])
    np.testing.assert_array_equal(twice(apart), twice(ours))


def test_gradients_of_both_orders_in_float64():
    with jax.enable_x64(True):
        x, kernel = draw((3, 6, 6, 1)).astype(jnp.float64), draw((3, 3, 1, 2), 1).astype(float)
        check_grads(ours, (x, kernel), order=2, modes=["rev"])


def test_forward_mode_says_that_it_is_not_available():
    x, kernel = draw((2, 6, 6, 1)), draw((3, 3, 1, 2), 1)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(ours, (x, kernel), (x, kernel))


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("scan", [False, True])
def test_under_vmap_and_scan(axes, scan):
    x, kernel = draw((3, 4, 6, 6, 1)), draw((3, 3, 3, 1, 2), 1)
    given = tuple(a if axis == 0 else a[0] for a, axis in zip((x, kernel), axes, strict=True))

    def loss(x, kernel):
        return (ours(x, kernel) ** 2).sum()

    both = jax.value_and_grad(loss, (0, 1))
    if scan:
        spread = [jnp.broadcast_to(a, (3, *a.shape[-4:])) for a in given]
        _, found = lax.scan(lambda carry, pair: (carry, both(*pair)), 0, tuple(spread))
    else:
        found = jax.vmap(both, axes)(*given)
    for number in range(3):
        pair = [a[number] if axis == 0 else a for a, axis in zip(given, axes, strict=True)]
        one = jax.value_and_grad(lambda *p: (apart(*p) ** 2).sum(), (0, 1))(*pair)
        each = jax.tree.map(lambda leaf, number=number: leaf[number], found)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), each, one)


@pytest.mark.eight_devices
def test_devices_sum_the_gradient_of_a_kernel_that_they_share():
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    x, kernel = draw((16, 6, 6, 1)), draw((3, 3, 1, 2), 1)

    def loss(kernel, x):
        return (ours(x, kernel) ** 2).sum()

    spread = jax.shard_map(
        lambda kernel, x: lax.psum(loss(kernel, x), "batch"),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("batch")),
        out_specs=PartitionSpec(),
    )
    found = jax.jit(jax.grad(spread))(kernel, x)
    np.testing.assert_allclose(found, jax.grad(loss)(kernel, x), rtol=1e-5, atol=1e-4)


def test_one_program_serves_all_platforms_and_any_number_of_images():
    kernel = draw((3, 3, 1, 2), 1)

    def gradient(x):
        return jax.grad(lambda kernel: (ours(x, kernel) ** 2).sum())(kernel)

    (count,) = export.symbolic_shape("images")
    made = export.export(jax.jit(gradient), platforms=["cpu", "cuda", "tpu"])(
        jax.ShapeDtypeStruct((count, 6, 6, 1), jnp.float32)
    )
    x = draw((5, 6, 6, 1))
    np.testing.assert_allclose(made.call(x), gradient(x), rtol=1e-5, atol=1e-5)
    text = made.mlir_module()
    assert "stablehlo.convolution" in text and "stablehlo.reduce_window" in text


def test_on_a_cpu_nothing_is_convolved():
    x, kernel = draw((4, 8, 8, 1)), draw((3, 3, 1, 2), 1)
    step = jax.jit(jax.grad(lambda kernel, x: (ours(x, kernel) ** 2).sum()))
    made = export.export(step, platforms=["cpu"])(kernel, x)
    assert "convolution" not in made.mlir_module()


def test_as_the_hook_of_flax(key):
    layer = nn.Conv(3, (3, 3), conv_general_dilated=conv_max_pool)
    x = draw((2, 8, 8, 1))
    params = layer.init(key, x)
    params = jax.tree.map(lambda leaf: leaf + 0.5, params)
    expected = nn.max_pool(nn.Conv(3, (3, 3)).apply(params, x), (2, 2), (2, 2))
    np.testing.assert_allclose(layer.apply(params, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [(2,), (9, 2), (0, 2)])
def test_a_window_that_does_not_fit_is_refused(window):
    with pytest.raises(ValueError, match=r"a window of .* does not fit"):
        ours(draw((2, 8, 8, 1)), draw((3, 3, 1, 2), 1), window=window)


def test_as_many_products_as_are_said(monkeypatch):
    x, kernel = draw((2, 8, 8, 1)), draw((4, 4, 1, 2), 1)
    assert is_fused(ours, x, kernel)
    monkeypatch.setattr(conv_pool, "MOST_PRODUCTS", 63)
    assert not is_fused(lambda *given: ours(*given), x, kernel)  # traced anew
