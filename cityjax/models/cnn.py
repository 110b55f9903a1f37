"""Convolutional network: the article's second, and a LeNet of today's kind."""

from collections.abc import Sequence

import jax
from flax import linen as nn

from cityjax.models.layers import Dropout, batch_norm
from cityjax.ops.conv_pool import conv_max_pool


class CNN(nn.Module):
    """Blocks of 3x3 convolution, 2x2 max-pooling and ReLU, then dense layers.

    The article's is CNN(channels=(32,), hidden_sizes=(), output_size=10); a LeNet with batch norm
    is CNN((32, 64), (256,), 10, batch_norm=True, dropout=0.5).

    The article writes a convolution y(i,j) = sum_{p,q} x(i-p+1, j-q+1) k(p,q), which flips the
    kernel; `nn.Conv`, as deep learning does, correlates: y(i,j) = sum x(i+p-1, j+q-1) k(p,q). The
    two are the same layer with kernels flipped along both axes, so learning does not notice.
    """

    channels: Sequence[int]
    hidden_sizes: Sequence[int]
    output_size: int
    batch_norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map images [B, H, W, C] to [B, output_size]."""
        x = inputs
        for channels in self.channels:
            # A bias before batch norm would be subtracted again.
            x = nn.Conv(
                channels,
                (3, 3),
                use_bias=not self.batch_norm,
                # Bias and ReLU commute with the maximum, and after it have a quarter to do.
                conv_general_dilated=conv_max_pool,
            )(x)
            if self.batch_norm:
                x = batch_norm(train, axis_name)(x)
            x = nn.relu(x)
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = nn.Dense(size, use_bias=not self.batch_norm)(x)
            if self.batch_norm:
                x = batch_norm(train, axis_name)(x)
            x = Dropout(self.dropout)(nn.relu(x), train=train, axis_name=axis_name)
        return nn.Dense(self.output_size)(x)
