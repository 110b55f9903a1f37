"""Graph operators over sensors: normalised adjacencies, sums over neighbours."""

import jax
import jax.numpy as jnp
import numpy as np


def normalized(adjacency: np.ndarray, kind: str) -> np.ndarray:
    """Return D^-1 A ("random_walk") or D^-1/2 (A + I) D^-1/2 ("symmetric") of A [N, N].

    D is the diagonal of row sums, of A + I for "symmetric"; a row without edges stays 0.
    """
    matrix = np.asarray(adjacency, np.float32)
    if kind == "symmetric":
        matrix = matrix + np.eye(len(matrix), dtype=np.float32)
    elif kind != "random_walk":
        raise ValueError(f"kind={kind!r} is unknown: symmetric, random_walk")
    degree = matrix.sum(axis=1)
    power = -0.5 if kind == "symmetric" else -1.0
    inverse = np.where(degree > 0, np.where(degree > 0, degree, 1) ** power, 0)
    return matrix * inverse[:, None] * (inverse[None] if kind == "symmetric" else 1)


def dense_matmul(matrix: jax.typing.ArrayLike, x: jax.Array) -> jax.Array:
    """Sum over neighbours: matrix [N, N] times x [..., N, C]."""
    return jnp.einsum("nm,...mc->...nc", matrix, x)
