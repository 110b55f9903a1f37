"""Optimisers and schedules by name: hand-computed first updates, decay, clipping, errors."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cityjax.names import OPTIMIZERS, SCHEDULES
from cityjax.optimizers import make_optimizer, make_schedule


def first_update(optimizer, params, grads):
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return updates


# With gradient g = 4 and learning rate 0.5, by the textbook formula of each rule.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", -2.0),
        ("momentum", -2.0),
        ("nesterov", -2.0 * 1.9),
        ("adam", -0.5),
        ("adamw", -0.5),
        ("lion", -0.5),
        ("rmsprop", -0.5 * 4 / np.sqrt(0.1 * 16)),
        ("adagrad", -0.5 * 4 / np.sqrt(0.1 + 16)),
        ("lamb", -0.5 * 3),
    ],
)
def test_first_update_by_hand(name, expected):
    params, grads = {"w": jnp.full((1, 1), 3.0)}, {"w": jnp.full((1, 1), 4.0)}
    updates = first_update(make_optimizer(name, 0.5), params, grads)
    np.testing.assert_allclose(updates["w"], [[expected]], rtol=1e-5)


def test_every_listed_name_is_tested_and_makes_an_optimizer():
    for name in OPTIMIZERS:
        make_optimizer(name, 0.1)
    for name in SCHEDULES:
        make_schedule(name, 0.1, 10)


def test_weight_decay_is_decoupled_and_spares_biases():
    params = {"kernel": jnp.full((1, 1), 2.0), "bias": jnp.full((1,), 2.0)}
    grads = {"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros((1,))}
    updates = first_update(make_optimizer("adamw", 0.5, weight_decay=0.1), params, grads)
    np.testing.assert_allclose(updates["kernel"], [[-0.5 * 0.1 * 2.0]], rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], [0.0])


def test_gradient_clip_bounds_the_global_norm():
    params = {"a": jnp.zeros((1, 1)), "b": jnp.zeros((1, 1))}
    grads = {"a": jnp.full((1, 1), 3.0), "b": jnp.full((1, 1), 4.0)}
    updates = first_update(make_optimizer("sgd", 1.0, gradient_clip=1.0), params, grads)
    np.testing.assert_allclose(optax.tree.norm(updates), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "warmup", "expected"),
    [
        ("constant", 0, {0: 1.0, 50: 1.0, 100: 1.0}),
        ("linear", 0, {0: 1.0, 50: 0.5, 100: 0.0}),
        ("cosine", 0, {0: 1.0, 50: 0.5, 100: 0.0}),
        ("cosine", 20, {0: 0.0, 10: 0.5, 20: 1.0, 60: 0.5, 100: 0.0}),
        ("constant", 100, {0: 0.0, 50: 0.5, 100: 1.0}),
    ],
)
def test_schedule_values_by_hand(name, warmup, expected):
    schedule = make_schedule(name, 1.0, 100, warmup_steps=warmup)
    for step, value in expected.items():
        np.testing.assert_allclose(schedule(step), value, atol=1e-6)


def test_unknown_names_and_ranges_are_refused():
    with pytest.raises(ValueError, match="adam, adamw"):
        make_optimizer("adamm", 0.1)
    with pytest.raises(ValueError, match="constant, cosine, linear"):
        make_schedule("step", 0.1, 10)
    with pytest.raises(ValueError, match="warmup_steps=11"):
        make_schedule("cosine", 0.1, 10, warmup_steps=11)
