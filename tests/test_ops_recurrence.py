"""Recurrences: values of a plain loop, and derivatives of every mode and order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cityjax.names import CELLS as NAMES
from cityjax.ops.recurrence import CELLS, recurrence

STEPS, BATCH, SIZE = 4, 3, 2


def arguments(name, seed=0):
    """Return x, kernel, bias and carry, drawn for a cell in double precision."""
    draw, cell = np.random.default_rng(seed).normal, CELLS[name]
    width = cell.gates * SIZE
    carry = tuple(draw(size=(BATCH, SIZE)) for _ in range(cell.carry))
    return draw(size=(STEPS, BATCH, width)), draw(size=(SIZE, width)), draw(size=width), carry


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_a_loop(name, x, kernel, bias, carry):
    """The cells as they are defined, in numpy: hidden states [T, B, H] and the last carry."""
    hidden, memory, states = carry[-1], carry[0], []
    for row in x:
        product = hidden @ kernel + bias
        x_gates, h_gates = (np.split(part, CELLS[name].gates, axis=-1) for part in (row, product))
        if name == "simple":
            hidden = np.tanh(row + product)
        elif name == "gru":
            reset, update = (sigmoid(x_gates[i] + h_gates[i]) for i in (0, 1))
            new = np.tanh(x_gates[2] + reset * h_gates[2])
            hidden = (1 - update) * new + update * hidden
        else:
            i, f, g, o = (a + b for a, b in zip(x_gates, h_gates, strict=True))
            memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(memory)
        states.append(hidden)
    return np.stack(states), (memory, hidden) if name == "lstm" else (hidden,)


def test_every_cell_has_its_name():
    assert tuple(CELLS) == NAMES


@pytest.mark.parametrize("name", CELLS)
def test_values_are_those_of_a_loop(name):
    given = arguments(name)
    expected, last = by_a_loop(name, *given)
    with jax.enable_x64(True):
        states, carry = recurrence(CELLS[name], *jax.tree.map(jnp.asarray, given))
        np.testing.assert_allclose(states, expected, rtol=1e-12)
        np.testing.assert_allclose(carry, last, rtol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_derivatives_of_every_mode_and_order(name):
    with jax.enable_x64(True):
        given = jax.tree.map(jnp.asarray, arguments(name))
        check_grads(
            functools.partial(recurrence, CELLS[name]), given, order=2, modes=["fwd", "rev"]
        )


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_a_scan_that_jax_differentiates(name):
    cell, given = CELLS[name], jax.tree.map(np.float32, arguments(name, 1))
    weight = np.random.default_rng(2).normal(size=(STEPS, BATCH, SIZE)).astype(np.float32)

    def scanned(x, kernel, bias, carry):
        def step(carry, x):
            carry, _ = cell.advance(cell.drives(x, carry[-1] @ kernel + bias[None]), carry)
            return carry, carry[-1]

        last, hidden = jax.lax.scan(step, carry, x)
        return hidden, last

    def loss(run, *given):
        hidden, last = run(*given)
        return jnp.vdot(weight, hidden) + sum(jnp.sum(jnp.sin(each)) for each in last)

    places = (1, 2, 3, 4)
    found, expected = (
        jax.jit(jax.grad(loss, places), static_argnums=0)(run, *given)
        for run in (functools.partial(recurrence, cell), scanned)
    )
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_several_recurrences_at_once_are_each_alone():
    sets = [jax.tree.map(np.float32, arguments("gru", seed)) for seed in range(3)]
    run = functools.partial(recurrence, CELLS["gru"])

    def gradient(*given):
        return jax.grad(lambda *given: jnp.sum(run(*given)[0] ** 2), (0, 1, 2, 3))(*given)

    together = jax.vmap(gradient)(*jax.tree.map(lambda *parts: np.stack(parts), *sets))
    for number, given in enumerate(sets):
        jax.tree.map(
            lambda both, one, number=number: np.testing.assert_allclose(
                both[number], one, rtol=1e-4, atol=1e-5
            ),
            together,
            gradient(*given),
        )


@pytest.mark.parametrize("name", CELLS)
def test_of_no_steps_the_last_carry_is_the_first(name):
    x, kernel, bias, carry = jax.tree.map(jnp.float32, arguments(name))

    def total(x, kernel, carry):
        hidden, last = recurrence(CELLS[name], x, kernel, bias, carry)
        return hidden.sum() + last[-1].sum()

    by_x, by_kernel, by_carry = jax.grad(total, (0, 1, 2))(x[:0], kernel, carry)
    assert by_x.shape == (0, *x.shape[1:]) and not by_kernel.any()
    assert (by_carry[-1] == 1).all()
