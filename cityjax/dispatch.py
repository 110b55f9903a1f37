"""How many updates one dispatch holds, told from the program of one: the same on every machine."""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core as jax_core

from cityjax.data.sources import Source
from cityjax.learner import Learner, State, data_key

# Divisors of 50, so that intervals of 50 updates and more end where a dispatch does.
_CHOICES = (50, 25, 10, 5, 2, 1)
# What a dispatch may hold on a CPU: about two seconds of two cores. A signal waits for its end.
_MOST = 6e11
# Floating-point operations of a product in the time that one number takes to be written.
_PER_NUMBER = 80


def choose_chunk(learner: Learner, source: Source, state: State) -> int:
    """Return how many updates one dispatch should hold: 50, and fewer of heavy ones on a CPU.

    Many small updates per dispatch hide its cost, but progress is shown and a signal is heard
    between dispatches alone. It is 1 where XLA convolves on a CPU: inside a scan it does not use
    its fast convolutions (jax issue 12868). source and state: as they are, or their shapes.
    """
    if jax.default_backend() != "cpu":
        return 50

    def update(state: State) -> Any:
        return learner.step(state, source(data_key(state), state.step))

    program = jax.make_jaxpr(update)(state)
    work = 0.0
    for equation, times in _equations(program.jaxpr, "cpu"):
        if equation.primitive.name == "conv_general_dilated":
            return 1
        work += times * _operations(equation)
    return next(count for count in _CHOICES if count * work <= _MOST or count == 1)


def _equations(jaxpr: Any, platform: str, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Yield each equation of a program on a platform that holds no others, and how often it runs.

    Both branches of a condition count, and the body of a loop of unknown length once.
    """
    for equation in jaxpr.eqns:
        given = dict(equation.params)
        if of := given.get("branches_platforms"):  # `lax.platform_dependent`: None for all others
            pairs = zip(of, given["branches"], strict=True)
            fits = [branch for held, branch in pairs if held is None or platform in held]
            given["branches"] = fits[:1]
        found = jax.tree.leaves(
            list(given.values()),
            is_leaf=lambda leaf: isinstance(leaf, jax_core.Jaxpr | jax_core.ClosedJaxpr),
        )
        inner = [getattr(one, "jaxpr", one) for one in found if hasattr(one, "eqns")]
        if not inner:
            yield equation, times
        for one in inner:
            yield from _equations(one, platform, times * given.get("length", 1))


def _operations(equation: Any) -> int:
    """Return the operations of a product, or what the numbers of another equation count for."""
    size = sum(math.prod(one.aval.shape) for one in equation.outvars)
    if equation.primitive.name != "dot_general":
        return size * _PER_NUMBER
    contracted, _ = equation.params["dimension_numbers"][0]
    return 2 * size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
