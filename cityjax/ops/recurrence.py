"""A recurrent layer's pass over the steps of a sequence, with derivatives that are fast on a CPU.

The derivative of all steps by the kernel is one product, outside the scan. Inside is what needs the
step before: one product a step, and what the pass over the values has kept to multiply it by.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Arrays = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """One step of a recurrent layer, number by number.

    gates: of x and of the recurrent product, [..., gates H] each. carry: how many arrays [B, H] go
    from step to step, the hidden state last.
    drives: (x, product) -> arrays, linear: what the step depends on.
    advance: (drives, carry) -> carry and slopes, arrays [B, H].
    change: (slopes, changes of drives and carry) -> change of carry: the derivative of `advance`.
    """

    gates: int
    carry: int
    drives: Callable[[jax.Array, jax.Array], Arrays]
    advance: Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]
    change: Callable[[Arrays, Arrays, Arrays], Arrays]


def _sum(x: jax.Array, product: jax.Array) -> Arrays:
    """All gates in one array: of a cell that only adds the two."""
    return (x + product,)


def _simple(drives: Arrays, carry: Arrays) -> tuple[Arrays, Arrays]:
    """h_t = tanh(x_t W + h_{t-1} U + b): the article's recurrent layer (Elman 1990)."""
    del carry
    hidden = jnp.tanh(drives[0])
    return (hidden,), (1 - hidden * hidden,)


def _simple_change(slopes: Arrays, drives: Arrays, carry: Arrays) -> Arrays:
    del carry
    return (slopes[0] * drives[0],)


def _gru_drives(x: jax.Array, product: jax.Array) -> Arrays:
    """Of reset and update gate the sum; x_n and h_n apart, as the reset gate acts on the latter."""
    size = x.shape[-1] // 3 * 2
    return x[..., :size] + product[..., :size], x[..., size:], product[..., size:]


def _gru(drives: Arrays, carry: Arrays) -> tuple[Arrays, Arrays]:
    """h_t = (1 - z) n + z h_{t-1} with n = tanh(x_n + r h_n) (Cho et al. 2014, cuDNN's form)."""
    (hidden,) = carry
    gates, x_new, h_new = drives
    reset, update = jnp.split(jax.nn.sigmoid(gates), 2, axis=-1)
    new = jnp.tanh(x_new + reset * h_new)
    by_new = (1 - update) * (1 - new * new)
    by_reset = by_new * h_new * reset * (1 - reset)
    by_update = (hidden - new) * update * (1 - update)
    slopes = (by_reset, by_update, by_new, by_new * reset, update)
    return ((1 - update) * new + update * hidden,), slopes


def _gru_change(slopes: Arrays, drives: Arrays, carry: Arrays) -> Arrays:
    by_reset, by_update, by_x, by_h, by_before = slopes
    gates, x_new, h_new = drives
    reset, update = jnp.split(gates, 2, axis=-1)
    hidden = by_reset * reset + by_update * update + by_x * x_new + by_h * h_new
    return (hidden + by_before * carry[0],)


def _lstm(drives: Arrays, carry: Arrays) -> tuple[Arrays, Arrays]:
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t) (Hochreiter and Schmidhuber 1997; Gers 2000)."""
    before, _ = carry
    input_gate, forget_gate, candidate, output_gate = jnp.split(drives[0], 4, axis=-1)
    input_gate, forget_gate = jax.nn.sigmoid(input_gate), jax.nn.sigmoid(forget_gate)
    candidate, output_gate = jnp.tanh(candidate), jax.nn.sigmoid(output_gate)
    memory = forget_gate * before + input_gate * candidate
    shown = jnp.tanh(memory)
    slopes = (  # by input gate, forget gate, candidate, the memory before, output gate, memory
        candidate * input_gate * (1 - input_gate),
        before * forget_gate * (1 - forget_gate),
        input_gate * (1 - candidate * candidate),
        forget_gate,
        shown * output_gate * (1 - output_gate),
        output_gate * (1 - shown * shown),
    )
    return (memory, output_gate * shown), slopes


def _lstm_change(slopes: Arrays, drives: Arrays, carry: Arrays) -> Arrays:
    by_input, by_forget, by_candidate, by_before, by_output, by_memory = slopes
    input_gate, forget_gate, candidate, output_gate = jnp.split(drives[0], 4, axis=-1)
    memory = by_before * carry[0] + by_candidate * candidate
    memory += by_input * input_gate + by_forget * forget_gate
    return memory, by_output * output_gate + by_memory * memory


CELLS = {
    "simple": Cell(1, 1, _sum, _simple, _simple_change),
    "gru": Cell(3, 1, _gru_drives, _gru, _gru_change),
    "lstm": Cell(4, 2, _sum, _lstm, _lstm_change),
}


@functools.partial(jax.jit, static_argnums=0)
def recurrence(
    cell: Cell, x: jax.Array, kernel: jax.Array, bias: jax.Array, carry: Arrays
) -> tuple[jax.Array, Arrays]:
    """Return the hidden states [T, B, H] of a cell over T steps, and the last carry.

    x: [T, B, gates H], the inputs' part of the gates; kernel: [H, gates H] and bias: [gates H], of
    the recurrent product; carry: of the step before the first, arrays [B, H]. Forward mode, reverse
    mode and their compositions all work. `parallel.compiled` knows programs by this one's name.
    """
    return _recurrence(cell, x, kernel, bias, carry)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recurrence(
    cell: Cell, x: jax.Array, kernel: jax.Array, bias: jax.Array, carry: Arrays
) -> tuple[jax.Array, Arrays]:
    def step(carry: Arrays, x: jax.Array) -> tuple[Arrays, jax.Array]:
        carry, _ = _advance(cell, x, kernel, bias, carry)
        return carry, carry[-1]

    last, hidden = jax.lax.scan(step, carry, x)
    return hidden, last


# Not unrolled: 1, 2, 4, 7, 14 or 28 steps of 28 at a time took an LSTM's update 23, 24, 30, 44, 90
# or 32 ms on two cores, a GRU's 18.7, 18.4, 19.9, 24, 21 or 23.
def _advance(cell: Cell, x: Any, kernel: Any, bias: Any, carry: Arrays) -> tuple[Arrays, Arrays]:
    """Return the next carry, and slopes."""
    return cell.advance(cell.drives(x, carry[-1] @ kernel + bias[None]), carry)


@_recurrence.defjvp
def _recurrence_jvp(cell: Cell, primals: Any, tangents: Any) -> tuple[Any, Any]:
    x, kernel, bias, carry = primals
    x_change, kernel_change, bias_change, carry_change = tangents

    def pass_over(carry: Arrays, x: jax.Array) -> tuple[Arrays, Any]:
        carry, slopes = _advance(cell, x, kernel, bias, carry)
        return carry, (carry[-1], slopes)

    last, (hidden, slopes) = jax.lax.scan(pass_over, carry, x)
    before = jnp.concatenate([carry[-1][None], hidden])[:-1]
    product = before.reshape(-1, before.shape[-1]) @ kernel_change + bias_change[None]
    drives = cell.drives(x_change, product.reshape(x.shape))
    # Reverse mode multiplies by the kernel turned round: here once, and not by XLA at every step.
    turned = jax.lax.optimization_barrier(kernel.T)

    def step(change: Arrays, now: Any) -> tuple[Arrays, jax.Array]:
        drives, slopes = now
        product = jax.lax.dot_general(change[-1], turned, (((1,), (1,)), ((), ())))
        more = cell.drives(jnp.zeros_like(product), product)
        drives = tuple(a + b for a, b in zip(drives, more, strict=True))
        change = cell.change(slopes, drives, change)
        return change, change[-1]

    last_change, hidden_change = jax.lax.scan(step, carry_change, (drives, slopes))
    return (hidden, last), (hidden_change, last_change)
