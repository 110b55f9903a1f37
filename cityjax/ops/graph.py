"""Graph operators over the sensors of [..., N, C]: dense matrices and lists of edges that agree.

An operator is a matrix A [N, N], or its `Edges`. Row i of A x gathers what row i of A points at:
where A[i, j] is the weight of the edge i -> j, sensor i hears the sensors that its edges lead to,
and by the transpose of A those that lead to it. Dense products are the faster ones up to some
hundred sensors; edges need memory by their number only. `product` chooses.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SPARSE = 0.01  # share of entries below which a CPU is faster by edges
KINDS = ("symmetric", "random_walk", "reverse_random_walk", "laplacian")


class Edges(NamedTuple):
    """The entries of an operator [N, N] other than 0, ordered by row: arrays [E].

    receivers: int, the row; senders: int, the column; weights: float. How many nodes there are is
    read from what the operator is applied to.
    """

    receivers: jax.Array | np.ndarray
    senders: jax.Array | np.ndarray
    weights: jax.Array | np.ndarray


Operator = jax.Array | np.ndarray | Edges


def normalized(adjacency: jax.Array | np.ndarray, kind: str) -> jax.Array:
    """Return the operator [N, N] of an adjacency [N, N] without negative weights.

    D is the diagonal of row sums; a sensor without edges has rows of 0, never NaN.
      symmetric: D^-1/2 (A + I) D^-1/2, D of A + I (Kipf, Welling 2017, equation 2);
      random_walk: D^-1 A, the mean over the edges that leave (Li et al. 2018, equation 2);
      reverse_random_walk: the same of A transposed, the mean over the edges that arrive;
      laplacian: -D^-1/2 A D^-1/2, the normalised Laplacian 2 L / lambda - I with its largest
        eigenvalue lambda bounded by 2, for `chebyshev` on an undirected graph.

    Raises:
        ValueError: the kind is another, or the adjacency is not square.
    """
    adjacency = jnp.asarray(adjacency)
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ValueError(f"an adjacency of shape {adjacency.shape} is not [N, N]")
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is none of {', '.join(KINDS)}")
    if kind == "reverse_random_walk":
        adjacency = adjacency.T
    if kind == "symmetric":
        adjacency = adjacency + jnp.eye(len(adjacency), dtype=adjacency.dtype)
    degree = adjacency.sum(axis=1)
    # Where twice, so that the gradient at degree 0 is 0 as well.
    connected = jnp.where(degree > 0, degree, 1)
    if kind.endswith("random_walk"):
        return jnp.where(degree > 0, 1 / connected, 0)[:, None] * adjacency
    root = jnp.where(degree > 0, connected**-0.5, 0)
    scaled = root[:, None] * adjacency * root[None]
    return -scaled if kind == "laplacian" else scaled


def from_dense(matrix: np.ndarray) -> Edges:
    """Return the edges of a matrix [N, N] on the host; the entries that are 0 are left out."""
    matrix = np.asarray(matrix)
    receivers, senders = np.nonzero(matrix)  # by rows, which the products rely on
    return Edges(receivers.astype(np.int32), senders.astype(np.int32), matrix[receivers, senders])


def to_dense(edges: Edges, nodes: int) -> jax.Array:
    """Return the matrix [nodes, nodes] of some edges; weights of equal edges add up."""
    weights = jnp.asarray(edges.weights)
    matrix = jnp.zeros((nodes, nodes), weights.dtype)
    return matrix.at[edges.receivers, edges.senders].add(weights)


def dense_matmul(matrix: jax.Array | np.ndarray, x: jax.Array) -> jax.Array:
    """Return A x over the nodes: matrix [M, N] and x [..., N, C] give [..., M, C]."""
    return jnp.einsum("ij,...jc->...ic", matrix, x)


def sparse_matmul(edges: Edges, x: jax.Array) -> jax.Array:
    """Return A x over the nodes for the edges of A [N, N]: x [..., N, C] gives [..., N, C]."""
    nodes_first = jnp.moveaxis(jnp.asarray(x), -2, 0)
    weights = jnp.asarray(edges.weights)
    weights = weights.reshape(weights.shape + (1,) * (nodes_first.ndim - 1))
    messages = weights * nodes_first[jnp.asarray(edges.senders)]
    total = jax.ops.segment_sum(
        messages,
        jnp.asarray(edges.receivers),
        num_segments=len(nodes_first),
        indices_are_sorted=True,
    )
    return jnp.moveaxis(total, 0, -2)


def matmul(operator: Operator, x: jax.Array) -> jax.Array:
    """Return A x over the nodes of x [..., N, C], A as a matrix [N, N] or as its edges."""
    if isinstance(operator, Edges):
        return sparse_matmul(operator, x)
    return dense_matmul(operator, x)


def product(matrix: jax.Array | np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """Return x [..., N, C] -> A x for a known matrix [N, N]: by its edges where these are few.

    On a CPU alone: a GPU sums edges in any order, equal runs would differ by rounding.
    """
    if np.count_nonzero(matrix) >= SPARSE * np.size(matrix):
        return functools.partial(dense_matmul, jnp.asarray(matrix))
    edges = jax.tree.map(jnp.asarray, from_dense(np.asarray(matrix)))

    def dense(x: jax.Array) -> jax.Array:  # no program holds the matrix, which may be large
        return dense_matmul(to_dense(edges, len(matrix)), x)

    sparse = functools.partial(sparse_matmul, edges)
    return lambda x: jax.lax.platform_dependent(x, cpu=sparse, default=dense)


def powers(operator: Operator, x: jax.Array, order: int) -> jax.Array:
    """Return x, A x, ..., A^order x side by side: x [..., N, C] gives [..., N, (order + 1) C].

    What a diffusion convolution mixes (Li et al. 2018); no power of A is ever formed.
    """
    terms = [x]
    for _ in range(order):
        terms.append(matmul(operator, terms[-1]))
    return jnp.concatenate(terms, axis=-1)


def chebyshev(operator: Operator, x: jax.Array, order: int) -> jax.Array:
    """Return T_0(A) x, ..., T_order(A) x side by side: [..., N, (order + 1) C] for [..., N, C].

    T_0 = I, T_1 = A, T_k = 2 A T_k-1 - T_k-2 (Defferrard et al. 2016); A is the scaled Laplacian,
    `normalized(adjacency, "laplacian")`.
    """
    terms = [x]
    for degree in range(1, order + 1):
        step = matmul(operator, terms[-1])
        terms.append(step if degree == 1 else 2 * step - terms[-2])
    return jnp.concatenate(terms, axis=-1)
