"""Layers whose numbers do not depend on how a batch is split over devices."""

import functools

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


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def repeated(x: jax.Array, count: int) -> jax.Array:
    """Repeat x [1, ...] along its first axis: [count, ...].

    Its gradient, the sum over that axis, is a product with ones: of wide rows XLA's own sum takes a
    CPU up to forty times as long.
    """
    return jnp.broadcast_to(x, (count, *x.shape[1:]))


@repeated.defjvp
def _repeated_jvp(
    count: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (change,) = primals, tangents
    ones = jnp.ones((count, 1), x.dtype)
    # A sum is not rounded on devices that round the operands of products.
    rows = jnp.matmul(ones, change.reshape(1, -1), precision=jax.lax.Precision.HIGHEST)
    return repeated(x, count), rows.reshape(count, *x.shape[1:])
