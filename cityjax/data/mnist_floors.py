"""What a digit classifier is shown beside: the class prior and a logistic regression."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cityjax.data import mnist

ITERATIONS = 150
# Chosen on the validation part among 1e-5, 1e-4, 1e-3 and 1e-2.
RIDGE = 1e-4


@functools.cache
def baselines() -> dict[str, dict[str, float]]:
    """Return the test error of the class prior and of a logistic regression fitted on train."""
    train, test = mnist.load("train"), mnist.load("test")
    prior = np.bincount(train.labels, minlength=mnist.CLASSES).argmax()
    predicted = jax.device_get(_logistic_regression(train, test.images))
    errors = {"class prior": test.labels != prior, "logistic regression": test.labels != predicted}
    return {name: {"test/error": float(np.mean(wrong))} for name, wrong in errors.items()}


def _logistic_regression(train: mnist.Digits, images: np.ndarray) -> jax.Array:
    """Fit softmax(x W + b) by L-BFGS on all of train; return the classes of `images`."""

    @jax.jit
    def fit_and_predict(inputs: jax.Array, labels: jax.Array, others: jax.Array) -> jax.Array:
        def flat(values: jax.Array) -> jax.Array:
            return values.reshape(values.shape[0], -1).astype(jnp.float32) / 255

        def loss(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
            kernel, bias = weights
            logits = flat(inputs) @ kernel + bias[None]
            values = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return values.mean() + RIDGE * jnp.sum(jnp.square(kernel))

        optimizer = optax.lbfgs()
        value_and_grad = optax.value_and_grad_from_state(loss)

        def update(carry: Any, _: None) -> Any:
            weights, state = carry
            value, grads = value_and_grad(weights, state=state)
            updates, state = optimizer.update(
                grads, state, weights, value=value, grad=grads, value_fn=loss
            )
            return (optax.apply_updates(weights, updates), state), None

        weights: Any = (jnp.zeros((28 * 28, mnist.CLASSES)), jnp.zeros(mnist.CLASSES))
        carry = (weights, optimizer.init(weights))
        ((kernel, bias), _), _ = jax.lax.scan(update, carry, length=ITERATIONS)
        return jnp.argmax(flat(others) @ kernel + bias[None], axis=1)

    return fit_and_predict(train.images, train.labels, images)
