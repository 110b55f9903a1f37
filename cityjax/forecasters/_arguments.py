"""What forecasters are told of a problem, and the words for options that many of them have."""

from typing import Any

import numpy as np

from cityjax.models.forecasting import Support
from cityjax.ops.graph import normalized, product
from cityjax.tasks.problem import Problem

# Keys that a model may have no use for: of training by gradients, of several members of models that
# always start from the same weights, and of what it could read beside each sensor's own history.
TRAINED = ("optimizer", "learning_rate", "schedule", "warmup_steps", "weight_decay")
TRAINED += ("gradient_clip", "steps", "eval_every", "log_every", "loss")
SAME = ("members",)
BESIDE = ("inputs", "graph")

HIDDEN = {"hidden_size": "units of a hidden layer"}
DROPOUT = {"dropout": "dropout rate, 0 to below 1"}
ADAPTIVE = {"adaptive_size": "of the vectors of a learnt graph, 0 for none"}
PER_SENSOR = {"per_sensor": "weights for each sensor, else one set for all"}


def outputs(problem: Problem) -> dict[str, Any]:
    """Return what every network is told of its outputs."""
    return {"horizon": problem.horizon, "quantiles": len(problem.quantiles)}


def timed(problem: Problem) -> dict[str, Any]:
    """Return the same, and what it may know of time."""
    steps_per_day = problem.series.steps_per_day
    return {**outputs(problem), "steps_per_day": steps_per_day, "calendar": problem.calendar}


def walks(problem: Problem, hops: int) -> list[np.ndarray]:
    """Return the random walks along the edges and against them, of 1 to `hops` steps: [N, N]."""
    if problem.graph is None:
        return []
    found = []
    ways = ["random_walk", "reverse_random_walk"]
    if np.array_equal(problem.graph, problem.graph.T):
        ways = ways[:1]
    for kind in ways:
        walk = np.asarray(normalized(problem.graph, kind))
        step = walk
        for _ in range(hops):
            found.append(step)
            step = step @ walk
    return found


def supports(problem: Problem, hops: int) -> tuple[Support, ...]:
    """Return the same as products with neighbours' features."""
    return tuple(map(product, walks(problem, hops)))
