"""Activations by name: the article's three, with their slope and shift, and the usual ones."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cityjax.names import ACTIVATIONS

Activation = Callable[[jax.Array], jax.Array]


def linear(x: jax.Array, slope: float = 1.0) -> jax.Array:
    """a x (the article's "linear" activation, slope a)."""
    return slope * x


def sigmoid(x: jax.Array, slope: float = 1.0) -> jax.Array:
    """1 / (1 + exp(-a x)) (the article's sigmoid, slope a)."""
    return jax.nn.sigmoid(slope * x)


def shifted_sigmoid(x: jax.Array, slope: float = 1.0, shift: float = 0.0) -> jax.Array:
    """1 / (1 + exp(-a (x - b))) (the article's "super sigmoid", slope a, shift b)."""
    return jax.nn.sigmoid(slope * (x - shift))


_FUNCTIONS: dict[str, Activation] = {
    "linear": linear,
    "sigmoid": sigmoid,
    "shifted_sigmoid": shifted_sigmoid,
    "relu": jax.nn.relu,
    # Slope 0.2 below zero, as in DCGAN (Radford et al. 2016), rather than JAX's 0.01.
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
}


def activation(name: str, **parameters: float) -> Activation:
    """Return an activation by name; `slope` and `shift` for those that have them.

    Raises ValueError for an unknown name or a parameter that the activation does not have.

    >>> float(activation("shifted_sigmoid", slope=2.0, shift=1.0)(jnp.float32(1.0)))
    0.5
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"activation={name!r} is unknown: {', '.join(ACTIVATIONS)}")
    allowed = {"linear": ("slope",), "sigmoid": ("slope",), "shifted_sigmoid": ("slope", "shift")}
    unknown = set(parameters) - set(allowed.get(name, ()))
    if unknown:
        raise ValueError(f"activation {name} has no {', '.join(sorted(unknown))}")
    function = _FUNCTIONS[name]
    return (lambda x: function(x, **parameters)) if parameters else function
