"""Compiled training and evaluation on one device or many: the only file that names pmap.

`step` is written once; here it becomes a program of k updates per dispatch, under jit or, the batch
split over the local devices, under pmap. The state is never replicated by hand: it goes in whole
and comes out whole.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.data.sources import Batch, Batches, Source, as_tree
from cityjax.errors import UserError
from cityjax.learner import Learner, State, Sums, data_key

AXIS = "batch"
# XLA on a CPU wraps its own RESOURCE_EXHAUSTED in INTERNAL.
_NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)
# An empty list cannot be written: YNNPACK keeps reductions, as it has them by default.
_NO_YNNPACK = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
# Its reductions are wrong where they are fused with what they reduce (jaxlib 0.10.2): of experts on
# 32 windows of 129 sensors a fifth of what is forecast. Asked of jaxlib 0.10.0, it crashes.
_PRODUCTS_ALONE = (
    {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}
    if version("jaxlib") == "0.10.2"
    else None
)


def choose(parallel: str, batch_size: int) -> str:
    """Resolve "auto" to "pmap" where several local devices divide the batch, else to "jit".

    Raises UserError where "pmap" is asked for and the devices do not divide the batch, and where
    several processes run: each would train alone, and write into the same folder.
    """
    if jax.process_count() > 1:
        raise UserError(
            f"this is one of {jax.process_count()} processes of JAX: a run takes the devices of one"
            " process alone: start it once, without jax.distributed"
        )
    devices = jax.local_device_count()
    if parallel == "pmap" and batch_size % devices:
        raise UserError(
            f"batch_size={batch_size} is not divisible by the {devices} local devices: begin with "
            f"a multiple of {devices} or parallel=jit, or go on where the devices divide it"
        )
    if parallel == "auto":
        return "pmap" if devices > 1 and batch_size % devices == 0 else "jit"
    return parallel


def check_memory(state: State) -> None:
    """Raise UserError where the state, of these shapes, is larger than a device's memory.

    Asked to initialise it, XLA would hang on a CPU and end in a traceback elsewhere.
    """
    leaves = [leaf for leaf in jax.tree.leaves(state) if hasattr(leaf, "dtype")]
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None and hasattr(os, "sysconf"):
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if limit is not None and needed > limit:
        raise UserError(
            f"parameters and optimiser state take {needed / 2**30:,.1f} GB, and "
            f"{device.device_kind} has {limit / 2**30:,.1f} GB: take smaller layers"
        )


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory, on a device or beside it, into a UserError."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        text = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(text):
            raise
        raise UserError(
            f"out of memory: make batch_size or the network's sizes smaller ({text[:150]})"
        ) from error


def compiled(lowered: Any) -> Any:
    """Compile a lowered program; on a CPU, convolutions and recurrences without YNNPACK.

    XLA leaves convolutions, matrix products and reductions to YNNPACK there, of which other
    programs have the products alone. Its products are mostly the faster
    ones: a step of `mlp_mnist` takes a tenth longer without it. Its convolutions keep to one
    thread, with which a step of `cnn_mnist` takes a fifth longer on two cores; and inside
    `ops.recurrence` its products are the slower ones, an LSTM's step a tenth.
    """
    if jax.default_backend() == "cpu":
        text = lowered.as_text()
        without = "stablehlo.convolution" in text or "@recurrence" in text
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # an XLA without this option
            return lowered.compile(compiler_options=_NO_YNNPACK if without else _PRODUCTS_ALONE)
    return lowered.compile()


def _padded(batch: Batch, count: int) -> Batch:
    """Repeat the last row, with mask zero, until `count` divides the batch: sums stay exact."""
    size = batch["mask"].shape[0]
    extra = -size % count
    if not extra:
        return batch
    rows = jnp.minimum(jnp.arange(size + extra), size - 1)
    repeated = jax.tree.map(lambda leaf: leaf[rows], dict(batch))
    mask = batch["mask"]
    return {**repeated, "mask": jnp.pad(mask, [(0, extra), *[(0, 0)] * (mask.ndim - 1)])}


class Trainer:
    """The compiled programs of one learner: `train` for k updates, `evaluate` for one split.

    A program is compiled once for each number of updates and shapes of arrays, and serves all seeds
    of a run; `compile_seconds` adds up what tracing and compiling for training took. devices: under
    pmap, the local ones by default.
    """

    def __init__(
        self, learner: Learner, *, parallel: str = "jit", devices: Sequence[Any] | None = None
    ) -> None:
        """Compile nothing yet; raise ValueError where `parallel` is neither "jit" nor "pmap"."""
        if parallel not in ("jit", "pmap"):
            raise ValueError(f"parallel={parallel!r} is unknown: jit, pmap")
        self.learner, self.parallel = learner, parallel
        self.devices = list(devices or jax.local_devices()) if parallel == "pmap" else None
        self.compile_seconds = 0.0
        self._programs: dict[Any, Any] = {}
        # Evaluations repeat; what they read is put on the devices once. Keyed by identity, beside
        # the source itself so that its identity stays taken.
        self._placed: dict[int, tuple[Source, Source]] = {}

    def place(self, tree: Any) -> Any:
        """Put arrays where the programs want them: on every device of the pmap, or as they are."""
        tree = as_tree(tree)
        if self.devices is None:
            return tree
        mesh = jax.sharding.Mesh(np.asarray(self.devices), (AXIS,))
        return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))

    def train(self, state: State, sums: Sums, source: Source, updates: int) -> tuple[State, Sums]:
        """Do `updates` updates in one dispatch, adding to `sums`; the state is donated."""
        function = partial(self._updates, updates)
        program = self._program(updates, function, (0,), state, sums, source)
        return self._settled(program(state, sums, source, *self._index()))

    def zero_sums(self, state: State, source: Source) -> Sums:
        """Return the sums of no update, of the shapes that `train` adds to."""
        start = time.perf_counter()
        _, sums = jax.eval_shape(self.learner.step, state, self._batch_shapes(state, source))
        self.compile_seconds += time.perf_counter() - start
        return self.zeros(sums)

    def zeros(self, shapes: Sums) -> Sums:
        """Return sums of nothing, of the shapes that others have."""
        return self.place(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))

    def evaluate(self, state: State, batches: Batches) -> Sums:
        """Add up `learner.evaluate` over all batches of a split."""
        if batches.count < 1:
            raise ValueError("a split without batches cannot be evaluated")
        original = batches.source
        shapes = jax.eval_shape(self.learner.evaluate, state, self._batch_shapes(state, original))
        sums = self.zeros(shapes)
        if self.devices is None:
            source = self.place(original)
        else:
            if id(original) not in self._placed:
                self._placed[id(original)] = original, self.place(original)
            source = self._placed[id(original)][1]
        given = state, sums, source, jnp.int32(0)
        evaluation = self._program("evaluate", self._measure, (1,), *given)
        # Each batch adds to the sums of the one before: run at once, their scratch memory adds up.
        for number in range(batches.count):
            outputs = evaluation(state, sums, source, jnp.int32(number), *self._index())
            sums = self._settled(outputs)
        return sums

    def _batch_shapes(self, state: State, source: Source) -> Batch:
        """Return the shapes of a batch; raise ValueError where devices cannot share it."""
        shapes = jax.eval_shape(source, state.key, state.step)
        if self.devices is not None:
            size = shapes["mask"].shape[0]
            for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
                if leaf.shape[:1] != (size,):
                    name = f"batch{jax.tree_util.keystr(path)} of shape {leaf.shape}"
                    message = f"{name} does not begin with the {size} examples that devices share"
                    raise ValueError(f"{message}: what all of them use belongs into the model")
        return shapes

    def _program(
        self, name: Any, function: Callable, donated: tuple[int, ...], *arguments: Any
    ) -> Any:
        """Return the program `name` for arguments of these shapes, compiled where it is new."""
        leaves, structure = jax.tree.flatten(arguments)
        shapes = [(np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves]
        key = name, structure, tuple(shapes)
        if key not in self._programs:
            jax.block_until_ready(arguments)  # updates under way take time of their own
            start = time.perf_counter()
            self._programs[key] = self._compile(function, donated, *arguments)
            if name != "evaluate":
                self.compile_seconds += time.perf_counter() - start
        return self._programs[key]

    def _compile(self, function: Callable, donated: tuple[int, ...], *arguments: Any) -> Any:
        """Compile a function for whole arguments and, under pmap, each device's index last."""
        if self.devices is None:
            program = jax.jit(function, donate_argnums=donated)
        else:
            program = jax.pmap(
                function,
                axis_name=AXIS,
                in_axes=(*[None] * len(arguments), 0),
                out_axes=None,
                devices=self.devices,
                donate_argnums=donated,
            )
        return compiled(program.lower(*arguments, *self._index()))

    def _settled(self, outputs: Any) -> Any:
        # Forced CPU devices share one pool of threads, in which two programs with collectives in
        # flight wait for each other for ever; elsewhere dispatch runs ahead.
        if self.devices is not None and self.devices[0].platform == "cpu":
            return jax.block_until_ready(outputs)
        return outputs

    def _index(self) -> tuple[jax.Array, ...]:
        # pmap wants an argument that is mapped; each device finds its own place in it.
        return () if self.devices is None else (jnp.arange(len(self.devices)),)

    def _share(self, batch: Batch, *index: jax.Array) -> tuple[Batch, str | None]:
        """Return this device's part of a batch and the axis; the whole batch where one has it."""
        if self.devices is None:
            return batch, None
        size, count = batch["mask"].shape[0], len(self.devices)
        if size % count:
            raise ValueError(f"a batch of {size} is not divisible by {count} devices")
        start = index[0] * (size // count)

        def part(leaf: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(leaf, start, size // count)

        return jax.tree.map(part, batch), AXIS

    def _updates(
        self, updates: int, state: State, sums: Sums, source: Source, *index: jax.Array
    ) -> tuple[State, Sums]:
        def update(carry: tuple[State, Sums], _: None) -> tuple[tuple[State, Sums], None]:
            state, sums = carry
            batch, axis_name = self._share(source(data_key(state), state.step), *index)
            state, new = self.learner.step(state, batch, axis_name=axis_name)
            return (state, jax.tree.map(jnp.add, sums, new)), None

        if updates == 1:
            return update((state, sums), None)[0]
        return jax.lax.scan(update, (state, sums), length=updates)[0]

    def _measure(
        self, state: State, sums: Sums, source: Source, number: jax.Array, *index: jax.Array
    ) -> Sums:
        batch = _padded(source(data_key(state), number), len(self.devices or [0]))
        batch, axis_name = self._share(batch, *index)
        new = self.learner.evaluate(state, batch, axis_name=axis_name)
        return jax.tree.map(jnp.add, sums, new)
