"""Generators and discriminators: the article's fourth network, y = G(z; theta), y = D(x; theta).

Dense and convolutional, conditional or not. All take a tuple: a generator (latent [B, Z], labels
[B]), a discriminator (images [B, 28, 28, 1] in 0..1, labels [B]); with `classes=0` labels are
ignored. Discriminators return logits [B], to which the losses apply their own sigmoid.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.models.layers import Dropout, batch_norm
from cityjax.ops.conv import conv_general_dilated, conv_transpose

Inputs = tuple[jax.Array, jax.Array]


def leaky_relu(x: jax.Array) -> jax.Array:
    """Slope 0.2 below zero, as in DCGAN (Radford et al. 2016)."""
    return nn.leaky_relu(x, 0.2)


def with_label(x: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """Append the label one-hot to x [B, F]; with classes=0 return x (Mirza, Osindero 2014)."""
    if classes == 0:
        return x
    return jnp.concatenate([x, jax.nn.one_hot(labels, classes, dtype=x.dtype)], axis=-1)


def dense_layers(
    x: jax.Array, sizes: Sequence[int], dropout: float, *, train: bool, axis_name: str | None
) -> jax.Array:
    """Apply a discriminator's dense layers to x [B, F], in the scope of the module that calls."""
    for size in sizes:
        x = leaky_relu(nn.Dense(size)(x))
        x = Dropout(dropout)(x, train=train, axis_name=axis_name)
    return x


class DenseGenerator(nn.Module):
    """Dense layers with layer norm, then a sigmoid image: the article's 100 -> 784, with depth.

    `hidden_sizes=(128,)` without norm is the article's listing repaired. Layer norm rather than
    batch norm: a sample then does not depend on the others drawn with it.
    """

    hidden_sizes: Sequence[int]
    image_shape: tuple[int, ...] = (28, 28, 1)
    classes: int = 0
    layer_norm: bool = True

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map (latent [B, Z], labels [B]) to images [B, *image_shape] in 0..1."""
        x = with_label(*inputs, self.classes)
        for size in self.hidden_sizes:
            x = nn.Dense(size)(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = leaky_relu(x)
        x = nn.Dense(math.prod(self.image_shape))(x)
        return nn.sigmoid(x).reshape(-1, *self.image_shape)


class DenseDiscriminator(nn.Module):
    """Dense layers with dropout, one logit: the article's 784 -> 128 -> 1, with depth."""

    hidden_sizes: Sequence[int]
    classes: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map (images [B, ...], labels [B]) to logits [B]."""
        images, labels = inputs
        x = with_label(centred(images).reshape(images.shape[0], -1), labels, self.classes)
        x = dense_layers(x, self.hidden_sizes, self.dropout, train=train, axis_name=axis_name)
        return nn.Dense(1)(x)[:, 0]


class ConvTranspose(nn.Module):
    """Transposed convolution, `nn.ConvTranspose` with a weight gradient that is fast on a CPU.

    Same parameters and values; without a bias.
    """

    features: int
    kernel_size: tuple[int, int] = (4, 4)
    strides: tuple[int, int] = (2, 2)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] to [B, 2H, 2W, features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, x.dtype)
        return conv_transpose(x, kernel, self.strides, "SAME")


class ConvGenerator(nn.Module):
    """DCGAN's generator for 28 x 28: a dense layer to 7 x 7, two 4x4 transposed convolutions.

    channels: at 7 x 7 and at 14 x 14 (Radford et al. 2016). hidden_sizes: units of dense layers
    that come first; without any, each part of a digit is a linear function of the latent vector
    before it is drawn, and fewer digits come out whole.
    """

    channels: tuple[int, int] = (128, 64)
    classes: int = 0
    hidden_sizes: Sequence[int] = ()

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map (latent [B, Z], labels [B]) to images [B, 28, 28, 1] in 0..1."""
        x = with_label(*inputs, self.classes)
        for size in self.hidden_sizes:
            x = nn.relu(batch_norm(train, axis_name)(nn.Dense(size)(x)))
        x = nn.Dense(7 * 7 * self.channels[0])(x).reshape(-1, 7, 7, self.channels[0])
        x = nn.relu(batch_norm(train, axis_name)(x))
        x = ConvTranspose(self.channels[1])(x)
        x = nn.relu(batch_norm(train, axis_name)(x))
        x = ConvTranspose(1)(x)
        bias = self.param("bias", nn.initializers.zeros, (), x.dtype)
        return nn.sigmoid(x + bias)


class ConvDiscriminator(nn.Module):
    """DCGAN's discriminator for 28 x 28: two 4x4 convolutions of stride 2, dropout, one logit.

    hidden_sizes: units of dense layers before the logit; without any, a logit adds up what patches
    of 10 pixels look like, and no digit is seen whole. With classes, the label enters as a
    projection: + <embedding(label), features> (Miyato and Koyama 2018).
    """

    channels: tuple[int, int] = (64, 128)
    classes: int = 0
    dropout: float = 0.0
    hidden_sizes: Sequence[int] = ()

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map (images [B, 28, 28, 1], labels [B]) to logits [B]."""
        images, labels = inputs
        x = centred(images)
        for channels in self.channels:
            x = nn.Conv(channels, (4, 4), (2, 2), conv_general_dilated=conv_general_dilated)(x)
            x = Dropout(self.dropout)(leaky_relu(x), train=train, axis_name=axis_name)
        x = x.reshape(x.shape[0], -1)
        x = dense_layers(x, self.hidden_sizes, self.dropout, train=train, axis_name=axis_name)
        logits = nn.Dense(1)(x)[:, 0]
        if self.classes == 0:
            return logits
        embedded = nn.Embed(self.classes, x.shape[-1])(labels)
        return logits + jnp.sum(embedded * x, axis=-1) / math.sqrt(x.shape[-1])


def centred(images: jax.Array) -> jax.Array:
    """Move pixels from 0..1 to -1..1."""
    return 2 * images - 1
