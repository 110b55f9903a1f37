"""Recurrent networks: the article's third, y_t = f(y_{t-1}, x_t; theta), with the cell a choice.

The product of the inputs with their weights does not depend on the past, so it is one matrix
product over all steps, outside the scan; only the product with the hidden state is inside.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.models.layers import Dropout
from cityjax.names import CELLS

# (projected input, recurrent product, carry) -> carry: the first two are one array [B, H] a gate,
# the hidden state is the carry's last element.
Gates = Sequence[jax.Array]
Cell = Callable[[Gates, Gates, tuple[jax.Array, ...]], tuple[jax.Array, ...]]


def simple_cell(x: Gates, h: Gates, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """h_t = tanh(x_t W + h_{t-1} U + b): the article's recurrent layer (Elman 1990)."""
    del carry
    return (jnp.tanh(x[0] + h[0]),)


def gru_cell(x: Gates, h: Gates, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """h_t = (1 - z) n + z h_{t-1} with n = tanh(x_n + r h_n) (Cho et al. 2014, cuDNN's form)."""
    (hidden,) = carry
    reset = jax.nn.sigmoid(x[0] + h[0])
    update = jax.nn.sigmoid(x[1] + h[1])
    new = jnp.tanh(x[2] + reset * h[2])
    return ((1 - update) * new + update * hidden,)


def lstm_cell(x: Gates, h: Gates, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t) (Hochreiter and Schmidhuber 1997; Gers 2000)."""
    memory, _ = carry
    input_gate, forget_gate, candidate, output_gate = (a + b for a, b in zip(x, h, strict=True))
    memory = jax.nn.sigmoid(forget_gate) * memory + jax.nn.sigmoid(input_gate) * jnp.tanh(candidate)
    return memory, jax.nn.sigmoid(output_gate) * jnp.tanh(memory)


# name -> (cell, gates, size of the carry)
_CELLS: dict[str, tuple[Cell, int, int]] = {
    "simple": (simple_cell, 1, 1),
    "gru": (gru_cell, 3, 1),
    "lstm": (lstm_cell, 4, 2),
}


class Recurrent(nn.Module):
    """One recurrent layer over a sequence.

    cell: "simple", "gru" or "lstm".
    """

    hidden_size: int
    cell: str = "gru"

    @nn.compact
    def __call__(
        self, inputs: jax.Array, carry: tuple[jax.Array, ...] | None = None
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Map inputs [B, T, C] to the hidden states [B, T, hidden_size] and the last carry.

        carry: of the step before the first, arrays [B, hidden_size]: the hidden state, and before
        it an LSTM's memory; zeros by default.
        """
        if self.cell not in _CELLS:
            raise ValueError(f"cell={self.cell!r} is unknown: {', '.join(CELLS)}")
        cell, gates, carry_size = _CELLS[self.cell]
        batch_size = inputs.shape[0]
        # Steps first before the product, not after it: what is turned round is then a fraction.
        rows = jnp.swapaxes(inputs, 0, 1).reshape(-1, inputs.shape[-1])
        projected = nn.Dense(gates * self.hidden_size, name="input")(rows)
        projected = projected.reshape(inputs.shape[1], batch_size, -1)
        # Orthogonal gate by gate, so that each gate keeps the norm of the state (Saxe et al. 2014).
        kernel = self.param(
            "recurrent_kernel",
            _orthogonal_gates(gates),
            (self.hidden_size, gates * self.hidden_size),
            inputs.dtype,
        )
        # A GRU's reset gate acts on the recurrent product, so the input's bias cannot replace this.
        bias = self.param(
            "recurrent_bias", nn.initializers.zeros, (gates * self.hidden_size,), inputs.dtype
        )
        if carry is None:
            carry = (jnp.zeros((batch_size, self.hidden_size), inputs.dtype),) * carry_size

        def step(carry: tuple[jax.Array, ...], x: Gates) -> tuple[Any, jax.Array]:
            product = carry[-1] @ kernel + bias[None]
            carry = cell(x, jnp.split(product, gates, axis=-1), carry)
            return carry, carry[-1]

        # Cut into gates before the scan: where several gates are cut from one slice of its inputs,
        # XLA on a CPU reads them one number at a time.
        projected = jnp.split(projected, gates, axis=-1)
        # Not unrolled: 1, 2, 4, 7, 14 or 28 steps of 28 at a time took an LSTM's update 23, 24, 30,
        # 44, 90 or 32 ms on two cores, a GRU's 18.7, 18.4, 19.9, 24, 21 or 23.
        # Beside its inputs only a step's product is kept for the gradient: a quarter less memory.
        policy = jax.checkpoint_policies.dots_saveable
        step = jax.checkpoint(step, policy=policy, prevent_cse=False)
        last, hidden = jax.lax.scan(step, carry, projected)
        return jnp.swapaxes(hidden, 0, 1), last


def _orthogonal_gates(gates: int) -> Callable[..., jax.Array]:
    orthogonal = nn.initializers.orthogonal()

    def initialize(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
        size = shape[0]
        keys = jax.random.split(key, gates)
        return jnp.concatenate([orthogonal(k, (size, size), dtype) for k in keys], axis=1)

    return initialize


class GatedMixture(nn.Module):
    """The article's gate, y_t = sum_i o_i h_t^i: a mixture of I hidden states, weighted by gates.

    Each of the `experts` recurrent layers has its own hidden state h^i; the gates
    o = softmax(x_t W + b), one per expert, sum to one at every step (Jacobs et al. 1991).
    """

    hidden_size: int
    experts: int
    cell: str = "simple"

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map inputs [B, T, C] to the mixed hidden states [B, T, hidden_size]."""
        hidden = jnp.stack(
            [Recurrent(self.hidden_size, self.cell)(inputs)[0] for _ in range(self.experts)],
            axis=-1,
        )
        gates = jax.nn.softmax(nn.Dense(self.experts, name="gate")(inputs), axis=-1)
        return jnp.einsum("bthi,bti->bth", hidden, gates)


class RNN(nn.Module):
    """Recurrent layers and a dense head on the last hidden state.

    experts: where above 1, every recurrent layer is a `GatedMixture` of that many. dropout: rate
    before the head, in training.
    """

    hidden_size: int
    output_size: int
    cell: str = "gru"
    layers: int = 1
    experts: int = 1
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map a sequence [B, T, ...], features flattened, to [B, output_size]."""
        x = inputs.reshape(*inputs.shape[:2], -1)
        last = x[:, -1]
        for _ in range(self.layers):
            if self.experts > 1:
                x = GatedMixture(self.hidden_size, self.experts, self.cell)(x)
                last = x[:, -1]
            else:
                x, (*_, last) = Recurrent(self.hidden_size, self.cell)(x)
        x = Dropout(self.dropout)(last, train=train, axis_name=axis_name)
        return nn.Dense(self.output_size)(x)


class EncoderDecoder(nn.Module):
    """A forecaster: one recurrent layer reads the past, another the future that is known.

    The encoder's last carry is where the decoder starts; each of its states, beside the inputs of
    that step, gives one value through a hidden layer: y_{t+h} = profile_{t+h} + scale * f(h_{t+h}).
    """

    hidden_size: int
    cell: str = "gru"
    scale: float = 1.0
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, jax.Array], *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map {"history" [B, T, C], "future" [B, H, D], "profile" [B, H]} to [B, H]."""

        def drop(x: jax.Array) -> jax.Array:
            return Dropout(self.dropout)(x, train=train, axis_name=axis_name)

        _, carry = Recurrent(self.hidden_size, self.cell, name="encoder")(inputs["history"])
        decoder = Recurrent(self.hidden_size, self.cell, name="decoder")
        hidden, _ = decoder(inputs["future"], carry)
        x = drop(jnp.concatenate([hidden, inputs["future"]], axis=-1))
        x = drop(nn.relu(nn.Dense(self.hidden_size)(x)))
        return inputs["profile"] + self.scale * nn.Dense(1)(x)[..., 0]
