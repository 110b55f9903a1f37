"""Layers whose numbers do not depend on how a batch is split over devices."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.ops import random


class Dropout(nn.Module):
    """Zero each value with probability `rate` and scale the rest by 1 / (1 - rate), in training.

    Example i of the whole batch draws from fold_in(key, i), unlike `nn.Dropout`, which draws for
    the shape it sees and so differs between one device and eight (Srivastava et al. 2014).
    """

    rate: float

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Apply to x [B, ...]."""
        if not train or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = random.bernoulli(self.make_rng("dropout"), keep, x.shape, axis_name=axis_name)
        return jnp.where(kept, x / keep, jnp.zeros((), x.dtype))


def batch_norm(train: bool, axis_name: str | None) -> nn.BatchNorm:
    """Make a batch normalisation over the whole batch, across devices (Ioffe, Szegedy 2015)."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=axis_name)
