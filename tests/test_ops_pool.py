"""Pooling: the values and gradients of Flax's, ties included, in every mode of differentiation."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.test_util import check_grads

from cityjax.ops.pool import avg_pool, max_pool

SWEEP = [
    ((2, 6, 6, 3), (2, 2)),
    ((2, 7, 9, 3), (2, 2)),
    ((3, 9, 7, 1), (3, 2)),
    ((1, 5, 8, 4), (5, 3)),
    ((2, 4, 5, 2), (1, 1)),
    ((4, 11, 3), (3,)),
    ((2, 4, 5, 6, 2), (2, 2, 3)),
]


# Windows that overlap, leave rows out between them, or reach beyond the edges.
OTHERS = [
    ((2, 7, 8, 3), (3, 3), (2, 2), "SAME"),
    ((2, 7, 8, 3), (2, 3), (1, 2), "VALID"),
    ((2, 9, 9, 2), (2, 2), (3, 4), "VALID"),
    ((2, 5, 5, 2), (2, 2), (2, 2), "SAME"),
    ((1, 6, 6, 2), (3, 2), (1, 1), ((2, 0), (1, 1))),
    ((3, 11, 2), (4,), (3,), ((1, 3),)),
]


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def ours_and_flax(x, window, strides=None, padding="VALID", average=False):
    """Return (value, gradient) of our pooling and of Flax's, for one and the same cotangent."""
    ours, theirs = (avg_pool, nn.avg_pool) if average else (max_pool, nn.max_pool)
    results = []
    for function in (
        lambda x: ours(x, window, strides, padding),
        lambda x: theirs(x, window, strides or window, padding),
    ):
        value, pullback = jax.vjp(function, x)
        cotangent = jnp.cos(jnp.arange(value.size, dtype=x.dtype)).reshape(value.shape)
        results.append((value, pullback(cotangent)[0]))
    return results


@pytest.mark.parametrize(("shape", "window"), SWEEP)
@pytest.mark.parametrize("levels", [None, 3.0, 1.0, 0.1])
def test_max_pool_equals_flax_with_gradients_and_ties(shape, window, levels):
    x = jax.random.normal(jax.random.key(len(shape)), shape)
    if levels is not None:
        x = jnp.round(x * levels)  # 0.1 leaves zeros only: every window is one tie
    ours, flax = ours_and_flax(x, window)
    np.testing.assert_array_equal(ours[0], flax[0])
    np.testing.assert_array_equal(ours[1], flax[1])


@pytest.mark.parametrize(("shape", "window", "strides", "padding"), OTHERS)
def test_other_strides_and_paddings_equal_flax(shape, window, strides, padding):
    x = jax.random.normal(jax.random.key(len(shape)), shape)
    for pooled in (jnp.round(x), x):  # with ties, and without
        ours, flax = ours_and_flax(pooled, window, strides, padding)
        np.testing.assert_array_equal(ours[0], flax[0])
        np.testing.assert_allclose(ours[1], flax[1], atol=1e-6)  # in sums the order may differ
    ours, flax = ours_and_flax(x, window, strides, padding, average=True)
    np.testing.assert_allclose(ours[0], flax[0], atol=1e-6)
    np.testing.assert_allclose(ours[1], flax[1], atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_a_random_max_pool_equals_flax(seed):
    random = np.random.default_rng(seed)
    rank = int(random.integers(1, 3))
    space = tuple(map(int, random.integers(3, 12, rank)))
    window = tuple(int(random.integers(1, extent + 1)) for extent in space)
    batch, channels = map(int, random.integers(1, 6, 2))
    x = jnp.asarray(random.integers(0, 4, (batch, *space, channels)), jnp.float32)  # many ties
    ours, flax = ours_and_flax(x, window)
    np.testing.assert_array_equal(ours[0], flax[0])
    np.testing.assert_array_equal(ours[1], flax[1])


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_random_strides_and_padding_equal_flax(seed, average):
    random = np.random.default_rng(100 + seed)
    rank = 1 + seed % 2
    space, window = (tuple(map(int, random.integers(*ends, rank))) for ends in ((4, 12), (1, 5)))
    strides = tuple(map(int, random.integers(1, 4, rank)))
    padding = [tuple(map(int, random.integers(0, size, 2))) for size in window]
    padding = ("SAME", "VALID", tuple(padding))[seed % 3]
    x = jnp.asarray(random.integers(-3, 4, (3, *space, 2)), jnp.float32)
    for ours, flax in zip(*ours_and_flax(x, window, strides, padding, average), strict=True):
        np.testing.assert_allclose(ours, flax, atol=1e-5)


@pytest.mark.parametrize(("shape", "window"), SWEEP)
def test_avg_pool_equals_flax_with_gradients(shape, window):
    ours, flax = ours_and_flax(jax.random.normal(jax.random.key(1), shape), window, average=True)
    np.testing.assert_allclose(ours[0], flax[0], atol=1e-6)
    np.testing.assert_allclose(ours[1], flax[1], atol=1e-6)


def test_by_hand():
    x = jnp.array([[1.0, 5.0, 2.0], [5.0, 5.0, 9.0], [9.0, 9.0, 9.0]]).reshape(1, 3, 3, 1)
    assert max_pool(x).tolist() == [[[[5.0]]]]
    assert avg_pool(x).tolist() == [[[[4.0]]]]
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    assert gradient.reshape(3, 3).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_the_first_of_a_tie_is_the_first_row_then_the_first_column():
    x = jnp.array([[0.0, 1.0], [1.0, 0.0]]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    assert gradient.reshape(2, 2).tolist() == [[0, 1], [0, 0]]


def test_infinities_and_not_a_number_pass_through():
    x = jnp.array([-jnp.inf, -jnp.inf, jnp.nan, 1.0]).reshape(1, 4, 1)
    pooled = max_pool(x, (2,)).ravel()
    assert pooled[0] == -jnp.inf
    assert jnp.isnan(pooled[1])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_the_type_is_kept(dtype):
    x = jnp.ones((1, 4, 4, 1), dtype)
    assert max_pool(x).dtype == avg_pool(x).dtype == dtype


def test_under_jit_vmap_and_scan():
    x = jnp.round(2 * jax.random.normal(jax.random.key(2), (3, 2, 6, 5, 2)))

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(max_pool(x) ** 2))(x)

    def flax_gradient(x):
        return jax.grad(lambda x: jnp.sum(nn.max_pool(x, (2, 2), (2, 2)) ** 2))(x)

    expected = jnp.stack([jax.jit(flax_gradient)(one) for one in x])
    scanned = jax.jit(lambda x: jax.lax.scan(lambda carry, one: (carry, gradient(one)), None, x))(
        x
    )[1]
    np.testing.assert_array_equal(jax.jit(jax.vmap(gradient))(x), expected)
    np.testing.assert_array_equal(scanned, expected)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
@pytest.mark.parametrize("form", ["alone", "vmap", "scan"])
@pytest.mark.parametrize("given", [(), ((3, 3), (2, 2), "SAME")])
def test_no_window_is_reduced_one_by_one(pool, form, given):
    # What is slow on a CPU, and what XLA makes of windows: neither is left in any form.
    gradient = jax.grad(lambda x: jnp.sum(pool(x, *given) ** 2))
    forms = {
        "alone": lambda x: gradient(x[0]),
        "vmap": jax.vmap(gradient),
        "scan": lambda x: jax.lax.scan(lambda _, one: (0, gradient(one)), 0, x)[1],
    }
    program = jax.jit(forms[form]).lower(jnp.ones((3, 2, 6, 6, 2)))
    for text in (program.as_text(), program.compile().as_text()):
        assert not re.search("(reduce|select).(window|and.scatter)|scatter", text)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_other_platforms_get_what_xla_makes_of_windows(pool, monkeypatch):
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(pool(x, (3, 2), (2, 2), "SAME") ** 2)))
    x = jnp.round(2 * jax.random.normal(jax.random.key(5), (2, 7, 6, 3)))
    for platform in ("cuda", "tpu"):
        text = export.export(gradient, platforms=[platform])(x).mlir_module()
        assert "reduce_window" in text and ("select_and_scatter" in text) == (pool is max_pool)
        assert "dynamic_slice" not in text
    everywhere = export.export(gradient, platforms=["cpu", "cuda", "tpu"])(x)
    np.testing.assert_array_equal(everywhere.call(x), gradient(x))
    # The branch of the other platforms, executed here.
    monkeypatch.setattr(lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    for shape, window, strides, padding in OTHERS:
        x = jnp.round(2 * jax.random.normal(jax.random.key(len(shape)), shape))
        average = pool is avg_pool
        ours, flax = ours_and_flax.__wrapped__(x, window, strides, padding, average)
        np.testing.assert_allclose(ours[0], flax[0], atol=1e-6)
        np.testing.assert_allclose(ours[1], flax[1], atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.bool_])
def test_the_mean_of_whole_numbers_does_not_overflow(dtype):
    x = jnp.ones((1, 2, 2, 1), dtype) * jnp.asarray(1 if dtype == jnp.bool_ else 100, dtype)
    assert avg_pool(x).dtype == jnp.float32 and avg_pool(x).item() == x.max().item()
    jax.jit(avg_pool).trace(x).lower(lowering_platforms=("tpu",))


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
@pytest.mark.parametrize("given", [((2, 3),), ((3, 2), (2, 1), "SAME")])
def test_gradients_of_both_modes_and_both_orders_in_float64(pool, given):
    with jax.enable_x64(True):
        x = jax.random.permutation(jax.random.key(3), 2 * 5 * 7 * 2).reshape(2, 5, 7, 2) / 10.0
        assert x.dtype == jnp.float64
        smooth = jax.jit(lambda x: jnp.sin(pool(x, *given)))
        check_grads(smooth, (x,), order=2, modes=["fwd", "rev"])


def test_a_gradient_penalty_differentiates_through_pooling():
    # The R1 penalty |d score / d x|^2, differentiated by the weights of a layer before the pool.
    x = jax.random.normal(jax.random.key(4), (2, 6, 6, 3))
    weights = jax.random.normal(jax.random.key(5), (3, 4))

    def penalty_gradient(pool):
        def score(x, weights):
            return jnp.sum(jnp.tanh(pool(jnp.tanh(x @ weights))) ** 2)

        penalty = jax.jit(lambda weights: jnp.sum(jax.grad(score)(x, weights) ** 2))
        return jax.grad(penalty)(weights)

    ours = penalty_gradient(max_pool)
    flax = penalty_gradient(lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    assert jnp.max(jnp.abs(ours)) > 0.1
    np.testing.assert_allclose(ours, flax, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [(2,), (2, 2, 2), (7, 2), (0, 2)])
def test_a_window_that_does_not_fit_is_refused(window):
    with pytest.raises(ValueError, match="does not fit an input of shape"):
        max_pool(jnp.zeros((1, 6, 6, 1)), window)


@pytest.mark.parametrize(
    ("strides", "padding", "message"),
    [
        ((2,), "VALID", "does not fit an input"),
        ((0, 1), "VALID", "does not fit an input"),
        ((0, 1), "SAME", "does not fit an input"),
        ((2, 2, 2), "SAME", "does not fit an input"),
        (None, ((0, 0),), "does not fit an input"),
        (None, "SAM", "padding SAM does not fit an input"),
        (2, "VALID", "strides 2 and padding VALID does not fit an input"),
        (None, 1, "does not fit an input"),
        (None, None, "does not fit an input"),
        (None, (1, 1), "does not fit an input"),
        ((1.5, 2), "VALID", "does not fit an input"),
    ],
)
def test_strides_and_padding_that_do_not_fit_are_refused(strides, padding, message):
    with pytest.raises(ValueError, match=message):
        max_pool(jnp.zeros((1, 6, 6, 1)), (2, 2), strides, padding)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.int8, jnp.bool_])
def test_whole_numbers_are_pooled_with_padding(dtype):
    low, high = {jnp.uint8: (0, 200), jnp.bool_: (0, 2)}.get(dtype, (-100, -1))
    x = jax.random.randint(jax.random.key(0), (2, 5, 7, 3), low, high).astype(dtype)
    found = max_pool(x, (3, 2), (2, 2), "SAME")
    np.testing.assert_array_equal(found, nn.max_pool(x.astype(float), (3, 2), (2, 2), "SAME"))
    assert found.dtype == dtype
