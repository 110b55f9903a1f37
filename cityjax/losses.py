"""Losses as masked sums: `loss(outputs, batch) -> (sum, count)`; the learner divides once.

Each has the numpy twin that its test compares it with. The adversarial pairs at the end work on
logits per example and are masked by the learner.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cityjax.forecast_metrics import quantile_errors
from cityjax.metrics import class_targets, masked_difference, masked_sum

Sums = tuple[jax.Array, jax.Array]


def softmax_cross_entropy(outputs: jax.Array, batch: Mapping[str, Any]) -> Sums:
    """-log softmax(outputs)[target]: logits [B, K], integer targets [B], mask [B]."""
    targets, mask = class_targets(outputs, batch), batch["mask"].astype(bool)
    if mask.shape != targets.shape:
        raise ValueError(f"mask has shape {mask.shape}, targets {targets.shape}")
    # Masked logits are replaced as well: the gradient of a masked NaN would be NaN, not zero.
    outputs, targets = jnp.where(mask[..., None], outputs, 0), jnp.where(mask, targets, 0)
    outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
    values = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
    return masked_sum(values, mask)


def squared_error(outputs: jax.Array, batch: Mapping[str, Any]) -> Sums:
    """(outputs - targets)^2 over [B, ...]; mask [B] or any leading part of that shape."""
    difference, mask = masked_difference(outputs, batch)
    return masked_sum(jnp.square(difference), mask)


def absolute_error(outputs: jax.Array, batch: Mapping[str, Any]) -> Sums:
    """|outputs - targets| over [B, ...]; mask [B] or any leading part of that shape."""
    difference, mask = masked_difference(outputs, batch)
    return masked_sum(jnp.abs(difference), mask)


def pinball(quantiles: Sequence[float]) -> Callable[[jax.Array, Mapping[str, Any]], Sums]:
    """Return the quantile loss, a mean over levels: outputs [B, ..., Q], targets [B, ...].

    quantiles: Q levels between 0 and 1, in the outputs' order (Koenker and Bassett 1978).
    Raises ValueError for a level outside them.
    """
    wrong = [level for level in quantiles if not 0 < level < 1]
    if wrong or not len(quantiles):
        raise ValueError(f"quantiles={list(quantiles)}: levels between 0 and 1 are expected")

    def loss(outputs: jax.Array, batch: Mapping[str, Any]) -> Sums:
        errors, mask = quantile_errors(outputs, batch, quantiles)
        return masked_sum(errors.mean(axis=-1), mask)

    return loss


class AdversarialLoss(NamedTuple):
    """Two losses per example [B]: `discriminator(real, fake)`, `generator(fake)`, of logits [B]."""

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]


# Goodfellow et al. 2014, section 3: -log D(x) - log(1 - D(G(z))), and -log D(G(z)) for the
# generator ("non-saturating"); softplus(-a) = -log sigmoid(a) never takes the log of a sigmoid.
non_saturating = AdversarialLoss(
    discriminator=lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    generator=lambda fake: jax.nn.softplus(-fake),
)

# Lim and Ye 2017: hinge on both sides of the margin, linear for the generator.
hinge = AdversarialLoss(
    discriminator=lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake),
    generator=lambda fake: -fake,
)
