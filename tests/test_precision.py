"""What is measured or solved, rather than trained, asks for products in full single precision.

GPUs and TPUs round the operands of float32 products to 11 or 8 bits, unless they are told not to.
"""

import functools

import jax
import numpy as np
from jax import lax
from jax.extend import core

from cityjax.data import impute
from cityjax.forecast_metrics import crps
from cityjax.learners.closed_form import closed_form
from cityjax.models.ridge import autoregression

BATCH, HISTORY, HORIZON, SENSORS = 4, 5, 2, 3
FULL = (lax.Precision.HIGHEST, lax.Precision.HIGHEST)


def products(function, *arguments):
    """Return the precision of every matrix product in the program of a function."""
    found = []

    def visit(program):
        for equation in program.eqns:
            if equation.primitive.name == "dot_general":
                found.append(equation.params["precision"])
            for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
                if is_program(value):
                    visit(getattr(value, "jaxpr", value))

    def is_program(value):
        return isinstance(value, core.Jaxpr | core.ClosedJaxpr)

    visit(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


def windows():
    """A batch as `data.forecast` gathers it, without covariates."""
    draw = np.random.default_rng(0)
    steps = HISTORY + HORIZON
    inputs = {
        "history": draw.normal(size=(BATCH, HISTORY, SENSORS, 1)).astype(np.float32),
        "observed": np.ones((BATCH, HISTORY, SENSORS), bool),
        "clock": np.zeros((BATCH, steps, 3), np.int32),
        "known": np.zeros((BATCH, steps, SENSORS, 0), np.float32),
        "profile": np.zeros((BATCH, steps, SENSORS, 0), np.float32),
    }
    targets = draw.normal(size=(BATCH, HORIZON, SENSORS)).astype(np.float32)
    mask, block = np.ones(targets.shape, bool), np.zeros(BATCH, np.int32)
    return {"inputs": inputs, "targets": targets, "mask": mask, "block": block}


def test_a_regression_with_neighbours():
    walk = np.full((SENSORS, SENSORS), 1 / SENSORS, np.float32)
    regression = autoregression(horizon=HORIZON, supports=[walk])
    batch = windows()
    learner = closed_form(regression, steps=1, penalties=[0.1, 1.0])
    state = learner.init(jax.random.key(0), batch)
    assert products(regression.features, batch["inputs"]) == [FULL]
    for program in (learner.step, learner.evaluate):
        found = products(program, state, batch)
        assert len(found) > 1 and set(found) == {FULL}


def test_a_score_of_quantiles():
    batch = windows()
    outputs = np.zeros((*batch["targets"].shape, 3), np.float32)
    assert products(crps([0.1, 0.5, 0.9]).accumulate, outputs, batch) == [FULL]


def test_missing_values_filled_by_a_factorisation(monkeypatch):
    factorise, found = impute._factorise, []

    def seen(*arguments, **sizes):
        found.extend(products(functools.partial(factorise, **sizes), *arguments))
        return factorise(*arguments, **sizes)

    monkeypatch.setattr(impute, "_factorise", seen)
    values = np.random.default_rng(0).normal(size=(12, 3))
    impute.low_rank(values, np.arange(36).reshape(12, 3) % 5 > 0, default=0, rank=2)
    assert len(found) >= 4 and set(found) == {FULL}
