"""PatchTST: attention over patches of each sensor's history (Nie et al. 2023)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cityjax.choices import RATE, SIZE, Choice
from cityjax.data.files import DataError
from cityjax.forecasters._arguments import BESIDE, DROPOUT, outputs
from cityjax.learner import Model, from_linen
from cityjax.models.forecasting import Head, Inputs, carried
from cityjax.models.layers import Dropout, batch_norm
from cityjax.tasks.problem import Problem


class PatchTST(nn.Module):
    """The history in patches, each a token; an encoder over the tokens of one sensor; a flat head.

    Every sensor goes through the same weights and sees no other. The last value is repeated for one
    more patch. Encoder layers are post-norm, with batch normalisation. A history shorter than a
    patch is one patch. The paper's instance normalisation is `transforms.instance`.

    hidden_size: of a token, shared among the heads. feedforward_size: of the layer in between.
    dropout: after the embedding, of attention's and the layers' outputs. quantiles: how many; 0 for
    a point.
    """

    horizon: int
    patch: int = 16
    stride: int = 8
    hidden_size: int = 16
    heads: int = 4
    layers: int = 3
    feedforward_size: int = 128
    dropout: float = 0.3
    quantiles: int = 0

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map windows to forecasts [B, H, N] or [B, H, N, Q].

        Raises ValueError where the heads do not divide the hidden size.
        """
        if self.hidden_size % self.heads:
            raise ValueError(f"heads={self.heads} do not divide hidden_size={self.hidden_size}")

        def drop(x: jax.Array) -> jax.Array:
            return Dropout(self.dropout)(x, train=train, axis_name=axis_name)

        x = jnp.swapaxes(carried(inputs), 1, 2)  # [B, N, T]
        x = nn.Dense(self.hidden_size, name="patch")(self._patches(x))  # [B, N, L, D]
        place = self.param("place", nn.initializers.normal(0.02), x.shape[2:])
        x = drop(x + place[None, None])
        for layer in range(self.layers):
            attended = drop(Attention(self.heads, name=f"attention_{layer}")(x))
            x = batch_norm(train, axis_name)(x + attended)
            y = drop(nn.gelu(nn.Dense(self.feedforward_size)(x)))
            x = batch_norm(train, axis_name)(x + drop(nn.Dense(self.hidden_size)(y)))
        x = x.reshape(*x.shape[:2], -1)
        return Head(self.horizon, self.quantiles, name="head")(x)

    def _patches(self, x: jax.Array) -> jax.Array:
        """[B, N, T] as overlapping patches [B, N, L, patch]."""
        size = min(self.patch, x.shape[-1])
        x = jnp.concatenate([x, jnp.repeat(x[..., -1:], self.stride, axis=-1)], axis=-1)
        starts = np.arange(0, x.shape[-1] - size + 1, self.stride)
        return x[..., starts[:, None] + np.arange(size)[None]]


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v of several heads, all tokens to all (Vaswani et al. 2017)."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map tokens [..., L, D] to [..., L, D]."""
        size = x.shape[-1]
        split = (*x.shape[:-1], 3, self.heads, size // self.heads)
        query, key, value = jnp.moveaxis(nn.Dense(3 * size)(x).reshape(split), -3, 0)
        scores = jnp.einsum("...lhd,...mhd->...hlm", query, key) / np.sqrt(split[-1])
        mixed = jnp.einsum("...hlm,...mhd->...lhd", jax.nn.softmax(scores, axis=-1), value)
        return nn.Dense(size)(mixed.reshape(x.shape))


def patchtst(
    problem: Problem,
    *,
    patch: int = 16,
    stride: int = 8,
    hidden_size: int = 16,
    heads: int = 4,
    layers: int = 3,
    feedforward_size: int = 128,
    dropout: float = 0.3,
) -> Model:
    """Return PatchTST; DataError where its heads do not divide a token."""
    if hidden_size % heads:
        raise DataError(f"model.heads={heads} does not divide model.hidden_size={hidden_size}")
    return from_linen(
        PatchTST(
            patch=patch,
            stride=stride,
            hidden_size=hidden_size,
            heads=heads,
            layers=layers,
            feedforward_size=feedforward_size,
            dropout=dropout,
            **outputs(problem),
        )
    )


MODELS = {
    "patchtst": Choice(
        patchtst,
        {
            "patch": "steps of a patch",
            "stride": "steps from one patch to the next",
            "hidden_size": "of a token, which the heads divide",
            "heads": "of attention",
            "layers": "of the encoder",
            "feedforward_size": "of the layer in between",
            **DROPOUT,
        },
        unused=BESIDE,
        allowed={
            "patch": SIZE,
            "stride": SIZE,
            "hidden_size": SIZE,
            "heads": SIZE,
            "feedforward_size": SIZE,
            "dropout": RATE,
        },
    )
}
