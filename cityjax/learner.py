"""The vocabulary: State, Model, Learner, Experiment, and adapters from Flax modules.

A learner is four pure functions, as an Optax optimiser is two; whatever trains with `init`, `step`,
`evaluate` and `predict` goes through the same `fit`, the same parallel forms, checkpoints and
reports.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp

from cityjax.data.sources import Batch, Batches, Source
from cityjax.metrics import Metric

Sums = dict[str, Any]


class State(flax.struct.PyTreeNode):
    """Everything that training changes, as one pytree of arrays: data only, no functions.

    step: int32 scalar, updates done so far. key: typed PRNG key, constant through training.
    params, model_state, opt_state: of the model and its optimiser; an adversarial learner keeps
    {"generator", "discriminator"} under each. extra: moving averages, counters, by name.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    extra: dict[str, Any]


class Apply(Protocol):
    """`(params, model_state, inputs, ...) -> (outputs, model_state)`, a pure function."""

    def __call__(  # noqa: D102
        self,
        params: Any,
        model_state: Any,
        inputs: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[Any, Any]: ...


class Model(NamedTuple):
    """A pair of pure functions: `init(key, inputs) -> (params, model_state)`, and `apply`.

    Under a named axis (pmap, shard_map, vmap) `apply` sees one shard and takes its batch statistics
    over the whole axis; with `axis_name=None` it sees the whole batch.
    """

    init: Callable[[jax.Array, Any], tuple[Any, Any]]
    apply: Apply


class Step(Protocol):
    """`(state, batch) -> (state, sums)`: one pure update."""

    def __call__(  # noqa: D102
        self, state: State, batch: Batch, *, axis_name: str | None = None
    ) -> tuple[State, Sums]: ...


class Evaluate(Protocol):
    """`(state, batch) -> sums`: what is added up over batches and devices."""

    def __call__(  # noqa: D102
        self, state: State, batch: Batch, *, axis_name: str | None = None
    ) -> Sums: ...


class Predict(Protocol):
    """`(state, inputs) -> outputs`: what figures, judges and users call; a GAN samples here."""

    def __call__(self, state: State, inputs: Any, *, key: jax.Array | None = None) -> Any: ...  # noqa: D102


class Learner(NamedTuple):
    """What trains: `init(key, batch) -> State`, and a pure `step`, `evaluate` and `predict`."""

    init: Callable[[jax.Array, Batch], State]
    step: Step
    evaluate: Evaluate
    predict: Predict


class Experiment(NamedTuple):
    """What an experiment's `build(config)` returns: plain callables, sources and descriptions.

    select: the validation metric whose best value names the kept checkpoint
    ("validation/error"); None keeps the last. baselines: `() -> {row: {metric key: value}}`.
    figures: `state -> {name: matplotlib Figure}`, drawn once at the end. snapshots: name ->
    `state -> image [H, W] in 0..1`, drawn at every evaluation. final: judgements that are no sum,
    `(state, key) -> {metric key: number}`. better: direction of the keys that `final` returns.
    ensemble: `states -> {metric key: number}`, the test metrics of the mean of what several states
    predict, nothing where one predicts no numbers; asked where a run has two seeds or more.
    data: name -> sha256 of the content; a run goes on with the same alone. steps: updates, where
    the learner needs a number of its own (the batches of one pass); else those of the run. summary:
    what a run is about, where that is not what the module's docstring begins with.
    """

    learner: Learner
    train: Source
    evaluation: Mapping[str, Batches] = {}
    metrics: Mapping[str, Metric] = {}
    baselines: Callable[[], dict[str, dict[str, float]]] | None = None
    figures: Callable[[State], dict[str, Any]] | None = None
    snapshots: Mapping[str, Callable[[State], Any]] = {}
    select: str | None = None
    protocol: Mapping[str, str] = {}
    final: Callable[[State, jax.Array], dict[str, float]] | None = None
    better: Mapping[str, str] = {}
    ensemble: Callable[[Iterable[State]], dict[str, float]] | None = None
    data: Mapping[str, str] = {}
    steps: int | None = None
    summary: str | None = None


# Streams of randomness drawn from `State.key`, which itself never changes: a run that stops at any
# step goes on from (key, step) alone.
_DATA, _NOISE, _JUDGE = range(3)


def data_key(state: State) -> jax.Array:
    """Return the key a source is called with: `source(data_key(state), state.step)`."""
    return jax.random.fold_in(state.key, _DATA)


def step_key(state: State) -> jax.Array:
    """Return the key of this step's noise; models fold the example's index into it."""
    return jax.random.fold_in(jax.random.fold_in(state.key, _NOISE), state.step)


def judge_key(state: State) -> jax.Array:
    """Return the key of what is drawn to judge a trained state."""
    return jax.random.fold_in(state.key, _JUDGE)


def new_state(key: jax.Array, params: Any, model_state: Any, opt_state: Any) -> State:
    """Make the state of step 0."""
    return State(jnp.int32(0), key, params, model_state, opt_state, {})


def from_linen(module: Any) -> Model:
    """Make a Model of a Flax Linen module called as `module(inputs, train=, axis_name=)`.

    It is given those of the two that its `__call__` names. Variables outside the "params"
    collection (batch statistics) become the model state. Noise is drawn from the rng stream
    "dropout".
    """
    named = inspect.signature(type(module).__call__).parameters

    def init(key: jax.Array, inputs: Any) -> tuple[Any, Any]:
        variables = dict(module.init({"params": key}, inputs))
        params = variables.pop("params", {})
        return params, variables

    def apply(
        params: Any,
        model_state: Any,
        inputs: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[Any, Any]:
        options = {"train": train, "axis_name": axis_name}
        outputs, changed = module.apply(
            {"params": params, **model_state},
            inputs,
            **{name: value for name, value in options.items() if name in named},
            rngs=None if key is None else {"dropout": key},
            mutable=list(model_state) if train else [],
        )
        return outputs, {**model_state, **changed}

    return Model(init, apply)


def from_nnx(make: Callable[[Any], Any]) -> Model:
    """Make a Model of a Flax NNX module: `make(rngs) -> module`, called as `module(inputs)`.

    Its parameters become `params`, every other variable (batch statistics, rng counters) the model
    state; `train` switches the module by its `train()` and `eval()`, and the step's key reseeds its
    rngs. Batch statistics are taken per device unless the module names an axis itself, and its
    dropout is drawn per batch, so only networks without either are equal on any number of devices.
    """
    from flax import nnx

    def split(module: Any) -> tuple[Any, Any, Any]:
        structure, params, rest = nnx.split(module, nnx.Param, ...)
        return structure, params, rest

    def init(key: jax.Array, inputs: Any) -> tuple[Any, Any]:
        del inputs  # an NNX module knows its sizes
        _, params, rest = split(make(nnx.Rngs(key)))
        return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    def apply(
        params: Any,
        model_state: Any,
        inputs: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
        axis_name: str | None = None,
    ) -> tuple[Any, Any]:
        del axis_name
        structure, shapes, rest_shapes = split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
        nnx.replace_by_pure_dict(shapes, params)
        nnx.replace_by_pure_dict(rest_shapes, model_state)
        module = nnx.merge(structure, shapes, rest_shapes)
        if train:
            module.train()
        else:
            module.eval()
        if key is not None:
            nnx.reseed(module, default=key, dropout=key)
        outputs = module(inputs)
        return outputs, nnx.to_pure_dict(split(module)[2]) if train else model_state

    return Model(init, apply)
