"""Multi-layer perceptron: the article's first network."""

from collections.abc import Sequence

import jax
from flax import linen as nn

from cityjax.models.activations import Activation, activation
from cityjax.models.layers import Dropout


class MLP(nn.Module):
    """Dense layers with an activation between them: h_{l+1} = f(h_l W_l + b_l).

    The last layer is linear: its outputs are logits or values. `article_nn` is
    MLP(hidden_sizes=(128,), output_size=10), 784 -> 128 -> 10. dropout: rate after each hidden
    layer, in training. activation: a name, or a function such as
    `activation("shifted_sigmoid", slope=2.0, shift=1.0)`.
    """

    hidden_sizes: Sequence[int]
    output_size: int
    activation: str | Activation = "relu"
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map inputs [B, ...], flattened, to [B, output_size]."""
        x = inputs.reshape(inputs.shape[0], -1)
        name = self.activation
        activate = activation(name) if isinstance(name, str) else name
        for size in self.hidden_sizes:
            x = activate(nn.Dense(size)(x))
            x = Dropout(self.dropout)(x, train=train, axis_name=axis_name)
        return nn.Dense(self.output_size)(x)
