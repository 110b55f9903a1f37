"""Graph operators: dense, sparse and plain numpy agree, with gradients and any order of sensors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.test_util import check_grads

from cityjax.ops import graph

NODES = 7


def adjacency(seed=0, nodes=NODES, dtype=np.float32):
    """A directed weighted graph whose last node has no edge at all and whose first only arrives."""
    random = np.random.default_rng(seed)
    weights = random.random((nodes, nodes)) * (random.random((nodes, nodes)) < 0.5)
    weights[-1] = weights[:, -1] = weights[0] = 0
    return weights.astype(dtype)


def reference(weights, kind):
    """The formulas sensor by sensor, in loops."""
    weights = np.asarray(weights, np.float64)
    if kind == "reverse_random_walk":
        weights = weights.T
    if kind == "symmetric":
        weights = weights + np.eye(len(weights))
    result = np.zeros_like(weights)
    for i in range(len(weights)):
        for j in range(len(weights)):
            if weights[i, j] == 0:
                continue
            if kind.endswith("random_walk"):
                result[i, j] = weights[i, j] / weights[i].sum()
            elif weights[i].sum() > 0 and weights[j].sum() > 0:
                scale = np.sqrt(weights[i].sum() * weights[j].sum())
                result[i, j] = weights[i, j] / scale * (-1 if kind == "laplacian" else 1)
    return result


def product(matrix, x):
    """A x node by node, in loops."""
    result = np.zeros_like(x)
    for i in range(len(matrix)):
        for j in range(len(matrix)):
            result[..., i, :] += matrix[i, j] * x[..., j, :]
    return result


@pytest.mark.parametrize("edges", [0, 1, 60, 9_999])
def test_the_product_goes_by_the_edges_where_these_are_few(edges):
    random = np.random.default_rng(edges)
    matrix = np.zeros(10_000, np.float32)
    matrix[random.choice(10_000, edges, replace=False)] = random.random(edges)
    matrix = matrix.reshape(100, 100)
    found = graph.product(matrix)
    shape = jax.ShapeDtypeStruct((2, 100, 3), np.float32)
    few = edges < 100
    for platform in ("cpu", "cuda"):
        text = export.export(jax.jit(found), platforms=[platform])(shape).mlir_module()
        assert ("stablehlo.dot_general" in text) == (not few or platform == "cuda")
        if platform == "cpu":
            assert ("stablehlo.scatter" in text) == (few and edges > 0)
        # Of few edges no program holds the matrix of 40,000 bytes.
        assert (len(text) < 30_000) == few
    x = random.normal(size=(2, 100, 3)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(found)(x), product(matrix, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", graph.KINDS)
def test_normalisation_is_its_formula(kind):
    weights = adjacency()
    np.testing.assert_allclose(graph.normalized(weights, kind), reference(weights, kind), atol=1e-6)


def test_normalisation_by_hand():
    # 0 -> 1 with weight 1, 0 -> 2 with weight 3, and back.
    weights = np.array([[0, 1, 3], [1, 0, 0], [3, 0, 0]], np.float32)
    np.testing.assert_allclose(
        graph.normalized(weights, "random_walk"), [[0, 0.25, 0.75], [1, 0, 0], [1, 0, 0]]
    )
    third = 3 / np.sqrt(5 * 4)
    np.testing.assert_allclose(
        graph.normalized(weights, "symmetric"),
        [[1 / 5, 1 / np.sqrt(10), third], [1 / np.sqrt(10), 1 / 2, 0], [third, 0, 1 / 4]],
        rtol=1e-6,
    )
    values = np.linalg.eigvalsh(np.asarray(graph.normalized(weights, "laplacian")))
    np.testing.assert_allclose(values, [-1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("kind", graph.KINDS)
def test_isolated_sensors_and_their_gradients_are_finite(kind):
    weights = jnp.asarray(adjacency())
    operator, gradient = jax.jit(
        jax.value_and_grad(lambda w: jnp.sum(graph.normalized(w, kind) ** 2))
    )(weights)
    assert np.isfinite(operator) and np.isfinite(gradient).all()
    alone = graph.normalized(np.zeros((1, 1), np.float32), kind)
    np.testing.assert_array_equal(alone, [[1.0 if kind == "symmetric" else 0.0]])


def test_walks_over_a_batch_keep_a_constant():
    walk = graph.normalized(adjacency() + np.eye(NODES, dtype=np.float32), "random_walk")
    x = jnp.full((2, 3, NODES, 2), 5.0)
    np.testing.assert_allclose(graph.matmul(walk, x), x, rtol=1e-6)


@pytest.mark.parametrize("shape", [(NODES, 3), (4, NODES, 1), (2, 3, NODES, 2)])
def test_dense_sparse_and_numpy_agree(shape):
    weights, x = adjacency(), np.random.default_rng(1).normal(size=shape).astype(np.float32)
    edges = graph.from_dense(weights)
    expected = product(weights, x)
    np.testing.assert_allclose(graph.dense_matmul(weights, x), expected, atol=1e-5)
    np.testing.assert_allclose(graph.sparse_matmul(edges, x), expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(graph.matmul)(edges, x), expected, atol=1e-5)


def test_edges_go_there_and_back():
    weights = adjacency()
    edges = graph.from_dense(weights)
    assert len(edges.weights) == np.count_nonzero(weights)
    assert (np.diff(edges.receivers) >= 0).all()
    np.testing.assert_array_equal(graph.to_dense(edges, NODES), weights)


def test_a_graph_without_edges_gives_zeros():
    edges = graph.from_dense(np.zeros((3, 3), np.float32))
    x = jnp.ones((2, 3, 4))
    np.testing.assert_array_equal(graph.sparse_matmul(edges, x), jnp.zeros((2, 3, 4)))


def as_given(weights):
    return jnp.asarray(weights)


@pytest.mark.parametrize("form", [as_given, graph.from_dense], ids=["dense", "sparse"])
class TestBothForms:
    def test_powers_and_chebyshev_are_those_of_the_matrix(self, form):
        matrix = np.asarray(graph.normalized(adjacency(), "symmetric"), np.float64)
        x = np.random.default_rng(2).normal(size=(2, NODES, 3)).astype(np.float32)
        operator = form(matrix.astype(np.float32))
        expected = [np.linalg.matrix_power(matrix, k) @ x for k in range(4)]
        found = graph.powers(operator, x, 3)
        np.testing.assert_allclose(found, np.concatenate(expected, axis=-1), atol=1e-5)
        cubic = 4 * np.linalg.matrix_power(matrix, 3) - 3 * matrix
        expected = [x, matrix @ x, (2 * matrix @ matrix - np.eye(NODES)) @ x, cubic @ x]
        found = graph.chebyshev(operator, x, 3)
        np.testing.assert_allclose(found, np.concatenate(expected, axis=-1), atol=1e-5)
        np.testing.assert_array_equal(graph.powers(operator, x, 0), x)

    def test_permuting_the_sensors_permutes_the_output(self, form):
        weights = adjacency()
        order = np.random.default_rng(3).permutation(NODES)
        x = np.random.default_rng(4).normal(size=(2, NODES, 3)).astype(np.float32)
        for kind in graph.KINDS:
            here, there = (
                graph.powers(form(np.asarray(graph.normalized(w, kind))), y, 2)
                for w, y in ((weights, x), (weights[order][:, order], x[:, order]))
            )
            np.testing.assert_allclose(there, np.asarray(here)[:, order], atol=1e-6)

    def test_gradients_of_weights_and_values(self, form):
        with jax.enable_x64(True):
            operator = form(adjacency(dtype=np.float64))
            x = jnp.asarray(np.random.default_rng(5).normal(size=(2, NODES, 3)))

            @jax.jit
            def smooth(weights, x):
                if isinstance(operator, graph.Edges):
                    weights = operator._replace(weights=weights)
                return jnp.sum(jnp.tanh(graph.powers(weights, x, 2)))

            weights = getattr(operator, "weights", operator)
            check_grads(smooth, (jnp.asarray(weights), x), order=1, modes=["fwd", "rev"])

    def test_vmap_over_a_batch_is_the_batch(self, form):
        operator = form(adjacency())
        x = np.random.default_rng(6).normal(size=(4, NODES, 2)).astype(np.float32)
        mapped = jax.vmap(lambda one: graph.matmul(operator, one))(x)
        np.testing.assert_allclose(mapped, graph.matmul(operator, x), atol=1e-6)


def test_vmap_over_graphs():
    stack = np.stack([adjacency(seed) for seed in range(3)])
    x = jnp.ones((NODES, 2))
    walks = jax.vmap(lambda w: graph.normalized(w, "random_walk"))(stack)
    found = jax.vmap(graph.dense_matmul, in_axes=(0, None))(walks, x)
    expected = [product(reference(weights, "random_walk"), np.asarray(x)) for weights in stack]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="'row' is none of symmetric, random_walk"):
        graph.normalized(np.eye(3, dtype=np.float32), "row")
    with pytest.raises(ValueError, match=r"of shape \(2, 3\) is not"):
        graph.normalized(np.zeros((2, 3), np.float32), "symmetric")
