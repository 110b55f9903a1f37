"""What all sides of a comparison start from: the batch, the weights, the names of networks."""

from typing import Any

import numpy as np

LEARNING_RATE = 0.001
DIGITS, CLASSES, HIDDEN, LATENT = 128, 10, 128, 100  # images of a batch, and sizes
WINDOWS, STEPS, HORIZON, SENSORS = 64, 12, 12, 207  # of Los-loop
CITY_HIDDEN, STEPS_PER_DAY = 64, 288
CLASSIFIERS = ("mlp", "article_cnn", "lenet", "gru", "lstm")
GANS = ("gan", "dcgan")
FORECASTERS = ("tgcn", "stid")


def images() -> dict[str, np.ndarray]:
    """Return a batch of digits: inputs [B, 28, 28, 1] in 0..1, targets [B], mask [B]."""
    random = np.random.default_rng(0)
    return {
        "inputs": random.random((DIGITS, 28, 28, 1), np.float32),
        "targets": random.integers(0, CLASSES, DIGITS).astype(np.int32),
        "mask": np.ones(DIGITS, bool),
    }


def city(windows: int = WINDOWS, sensors: int = SENSORS) -> tuple[dict[str, Any], np.ndarray]:
    """Return a batch of windows as `data.forecast` gathers them, and a graph's matrix [N, N]."""
    random = np.random.default_rng(0)
    both = STEPS + HORIZON
    shape = (windows, both, sensors, 0)
    inputs = {
        "history": random.normal(size=(windows, STEPS, sensors, 1)).astype(np.float32),
        "observed": np.ones((windows, STEPS, sensors), bool),
        "clock": random.integers(0, (STEPS_PER_DAY, 7, 365), (windows, both, 3)).astype(np.int32),
        "known": np.zeros(shape, np.float32),
        "profile": np.zeros(shape, np.float32),
    }
    targets = random.normal(size=(windows, HORIZON, sensors)).astype(np.float32)
    mask = np.ones(targets.shape, bool)
    graph = (random.random((sensors, sensors)) < 0.05) + np.eye(sensors)
    matrix = (graph / graph.sum(axis=1, keepdims=True)).astype(np.float32)
    return {"inputs": inputs, "targets": targets, "mask": mask}, matrix


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return the weights that all sides start from: parameter path -> array."""
    random = np.random.default_rng(1)
    found = {}
    for path, shape in sorted(shapes.items()):
        noise = random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]) or 1)
        found[path] = (1 + 0.1 * noise if path.endswith("scale") else noise).astype(np.float32)
    return found
