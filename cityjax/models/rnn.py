"""Recurrent networks: the article's third, y_t = f(y_{t-1}, x_t; theta), with the cell a choice.

The product of the inputs with their weights does not depend on the past, so it is one matrix
product over all steps, before the recurrence; only the product with the hidden state is inside.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.models.layers import Dropout
from cityjax.ops.recurrence import CELLS, recurrence


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
        if self.cell not in CELLS:
            raise ValueError(f"cell={self.cell!r} is unknown: {', '.join(CELLS)}")
        cell = CELLS[self.cell]
        batch_size, width = inputs.shape[0], cell.gates * self.hidden_size
        # Steps first before the product, not after it: what is turned round is then a fraction.
        rows = jnp.swapaxes(inputs, 0, 1).reshape(-1, inputs.shape[-1])
        projected = nn.Dense(width, name="input")(rows)
        projected = projected.reshape(inputs.shape[1], batch_size, width)
        # Orthogonal gate by gate, so that each gate keeps the norm of the state (Saxe et al. 2014).
        kernel = self.param(
            "recurrent_kernel",
            _orthogonal_gates(cell.gates),
            (self.hidden_size, width),
            inputs.dtype,
        )
        # A GRU's reset gate acts on the recurrent product, so the input's bias cannot replace this.
        bias = self.param("recurrent_bias", nn.initializers.zeros, (width,), inputs.dtype)
        if carry is None:
            carry = (jnp.zeros((batch_size, self.hidden_size), inputs.dtype),) * cell.carry

        hidden, last = recurrence(cell, projected, kernel, bias, carry)
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
