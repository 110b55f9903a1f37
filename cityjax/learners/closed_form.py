"""The learner of what has a closed form: ridge regression from sums over one pass of the data."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.learner import Batch, Learner, State, Sums, new_state
from cityjax.learners.supervised import sum_over
from cityjax.metrics import Metric, masked_difference, masked_sum
from cityjax.models.ridge import Regression


class Moments(NamedTuple):
    """Second moments of some rows: gram [L, G, F, F], moment [L, G, F, H], square [G, H].

    G: the sensors with weights of their own, or 1. L: H where each lead has its own rows (targets
    are missing), else 1.
    """

    gram: jax.Array
    moment: jax.Array
    square: jax.Array


class Plan(NamedTuple):
    """Which blocks of the data a closed form fits and is judged by: true or false, of P blocks.

    fits, judges: [K, P], trials: each fits some blocks, and the penalties are those whose errors on
    the blocks that judge are least, all trials together. solution: [P], the blocks that are solved
    on at those penalties. early: [P], those of one more solution, of `early_solution`; or None.
    later: how many blocks, numbered from P on, are learnt from as they come and choose nothing:
    solution r is of `solution`'s and of the first r of them.
    """

    fits: np.ndarray
    judges: np.ndarray
    solution: np.ndarray
    early: np.ndarray | None = None
    later: int = 0


# Block 0, train, is fitted, and block 1, validation, judges.
ONE_PASS = Plan(
    fits=np.array([[True, False]]),
    judges=np.array([[False, True]]),
    solution=np.array([True, False]),
)


def closed_form(
    regression: Regression,
    *,
    steps: int,
    penalties: Sequence[float],
    plan: Plan = ONE_PASS,
    per_sensor: bool = False,
    complete: bool = True,
    importance: jax.Array | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> Learner:
    """Make a learner that solves a ridge regression after one pass of `steps` batches.

    Each step adds second moments of a batch, all of one block, the one that `batch["block"]` [B]
    says; the last one solves, and so does the one that `batch["ends"]` [B] calls the last of a
    block, where there are later ones. Features are centred and scaled by what is fitted; a
    penalty is a share of the number of rows, and the one of each lead has the least squared error
    on what judges, which is a quadratic form of the moments: nothing is read twice.
    per_sensor: weights for each sensor, else one set for all. complete: no target is missing, so
    that all leads share their rows. importance: what the squared error of a sensor counts [N], 1 by
    default. Of several solutions a forecast is by the one that `inputs["solution"]` [B] names, by
    the last without.

    The moments are kept in the state (extra), so that a forecast can go on learning: a step after
    the last one adds its batch and solves again.
    """
    metrics, count = metrics or {}, len(plan.solution)
    strengths = jnp.asarray(penalties, jnp.float32)

    def shapes(batch: Batch) -> tuple[int, int, int, int]:
        encoded = jax.eval_shape(regression.encode, batch["inputs"], batch["targets"])
        _, horizon, sensors = encoded.shape
        size = jax.eval_shape(regression.features, batch["inputs"]).shape[-1]
        return (1 if complete else horizon), (sensors if per_sensor else 1), size, horizon

    def init(key: jax.Array, batch: Batch) -> State:
        leads, groups, size, horizon = shapes(batch)
        without = jnp.zeros((groups, size, horizon))
        several = (plan.later + 1,) if plan.later else ()
        weights = jnp.zeros((*several, *without.shape))
        _, run_key = jax.random.split(key)  # the key itself stays the caller's: states are donated
        state = new_state(run_key, {"weights": weights}, {}, {})

        def nothing(*count: int) -> Moments:
            return Moments(
                jnp.zeros((*count, leads, groups, size, size)),
                jnp.zeros((*count, leads, groups, size, horizon // leads)),
                jnp.zeros((*count, groups, horizon)),
            )

        known = {} if plan.early is None else {"early": without}
        if plan.later:
            known |= {"total": nothing(), "penalty": jnp.zeros(horizon, jnp.int32)}
        return state.replace(extra={"blocks": nothing(count), **known})

    def moments(batch: Batch, rows: jax.Array) -> Moments:
        """Add up a batch; rows [B, H, N] are those that count."""
        x = regression.features(batch["inputs"])
        y = regression.encode(batch["inputs"], batch["targets"])
        rows = jnp.tile(rows, (1, y.shape[1] // rows.shape[1], 1))  # of each thing that is encoded
        y = jnp.where(rows, y, 0)
        y = jnp.moveaxis(y, 1, 2)  # [B, N, H]
        weight = jnp.moveaxis(rows, 1, 2).astype(x.dtype)
        if complete:
            weight = weight.min(axis=-1, keepdims=True)
        if importance is not None:
            weight = weight * importance[None, :, None]
        square = y * weight * y
        y = y * weight
        # One sensor a group, or all of them in one: [G, rows, ...].
        x, y, weight, square = (
            jnp.moveaxis(a, 1, 0) if per_sensor else a.reshape(1, -1, a.shape[-1])
            for a in (x, y, weight, square)
        )
        with jax.default_matmul_precision("highest"):
            if complete:
                gram = jnp.einsum("grf,grk->gfk", x * weight, x)[None]
                moment = jnp.einsum("grf,grh->gfh", x, y)[None]
            else:
                gram = jnp.einsum("grf,grk,grl->lgfk", x, x, weight)
                moment = jnp.einsum("grf,grl->lgf", x, y)[..., None]
        return Moments(gram, moment, jnp.sum(square, axis=1))

    def step(state: State, batch: Batch, *, axis_name: str | None = None) -> tuple[State, Sums]:
        mask = jnp.broadcast_to(batch["mask"].astype(bool), batch["targets"].shape)
        new = sum_over(axis_name, moments(batch, mask))

        def largest(rows: jax.Array) -> jax.Array:
            most = rows.astype(jnp.int32).max()
            return most if axis_name is None else jax.lax.pmax(most, axis_name)

        block, last = largest(batch["block"]), state.step + 1 >= steps
        if plan.later:
            last |= (largest(batch["ends"]) > 0) & (block >= count - 1)
        extra = dict(state.extra)
        extra["blocks"] = jax.tree.map(  # a later block has no sums of its own
            lambda sums, more: sums.at[block].add(more, mode="drop"), extra["blocks"], new
        )
        if plan.later:
            come = block >= count
            extra["total"] = jax.tree.map(
                lambda sums, more: sums + jnp.where(come, more, 0), extra["total"], new
            )
        weights = state.params["weights"]
        known = {name: extra[name] for name in extra if name != "blocks"}
        weights, known = jax.lax.cond(
            last,
            lambda: solve(block, extra["blocks"], weights, known),
            lambda: (weights, known),
        )
        state = state.replace(
            step=state.step + 1, params={"weights": weights}, extra={**extra, **known}
        )
        # Of windows that have any: what fills up a batch has none.
        real = jnp.sum(mask.any(axis=(1, 2)), dtype=jnp.float32)
        share = jnp.sum(mask, dtype=jnp.float32), real * (mask.size // len(mask))
        return state, sum_over(axis_name, {"observed_targets": share})

    def solve(
        block: jax.Array, blocks: Moments, weights: jax.Array, known: Mapping[str, Any]
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Return the weights with the solution that a block completes, and what is known by then.

        known: the early weights; where there are later blocks, the sums that the last solution is
        of and each lead's penalty [H], as its place among the penalties.
        """

        def errors(trial: tuple[jax.Array, jax.Array]) -> jax.Array:
            fit, judge = (together(blocks, which) for which in trial)
            candidates = ridge(fit, strengths[:, None])  # [S, G, F, H]
            return jax.vmap(lambda weights: squared_error(judge, weights))(candidates).sum(axis=1)

        def chosen() -> dict[str, Any]:
            found = jax.lax.map(errors, (jnp.asarray(plan.fits), jnp.asarray(plan.judges)))
            best = jnp.argmin(found.sum(axis=0), axis=0)  # [H]: one for all sensors of a lead
            now = {"total": together(blocks, jnp.asarray(plan.solution)), "penalty": best}
            if plan.early is not None:
                early = together(blocks, jnp.asarray(plan.early))
                now["early"] = ridge(early, strengths[best][None])[0]
            return now

        if not plan.later:
            now = chosen()
            return solution(now), {name: now[name] for name in known}
        now = jax.lax.cond(block < count, chosen, lambda: dict(known))
        return weights.at[jnp.maximum(block - count + 1, 0)].set(solution(now)), now

    def solution(now: Mapping[str, Any]) -> jax.Array:
        return ridge(now["total"], strengths[now["penalty"]][None])[0]

    def predict(state: State, inputs: Any, *, key: jax.Array | None = None) -> jax.Array:
        del key
        x, weights = regression.features(inputs), state.params["weights"]
        each = ""  # of the windows may have a solution of its own
        if weights.ndim == 4 and "solution" in inputs:
            each, weights = "b", weights[inputs["solution"]]
        elif weights.ndim == 4:
            weights = weights[-1]
        sensor = "n" if per_sensor else ""
        with jax.default_matmul_precision("highest"):
            weights = weights if per_sensor else weights[..., 0, :, :]
            outputs = jnp.einsum(f"bnf,{each}{sensor}fh->bhn", x, weights)
        return regression.decode(inputs, outputs)

    def evaluate(state: State, batch: Batch, *, axis_name: str | None = None) -> Sums:
        outputs = predict(state, batch["inputs"])
        difference, mask = masked_difference(outputs, batch)
        sums = {name: metric.accumulate(outputs, batch) for name, metric in metrics.items()}
        sums["loss"] = masked_sum(jnp.square(difference), mask)
        return sum_over(axis_name, sums)

    return Learner(init, step, evaluate, predict)


def early_solution(learner: Learner) -> Learner:
    """Return a `closed_form` learner that forecasts by the early solution of its plan."""

    def predict(state: State, inputs: Any, *, key: jax.Array | None = None) -> jax.Array:
        params = {"weights": state.extra["early"]}
        return learner.predict(state.replace(params=params), inputs, key=key)

    return learner._replace(predict=predict)


def together(blocks: Moments, which: jax.Array) -> Moments:
    """Add up the moments of some blocks, each part [P, ...], those where which [P] is true."""
    # Not by a product with zeros and ones, which some devices round.
    return jax.tree.map(
        lambda part: jnp.sum(part, axis=0, where=which.reshape(-1, *[1] * (part.ndim - 1))), blocks
    )


def ridge(sums: Moments, penalties: jax.Array) -> jax.Array:
    """Solve min |y - X w|^2 + penalty n |w|^2 for several penalties: weights [S, G, F, H].

    penalties: [S, H] or [S, 1]. The first feature is the constant, which is not penalised; the
    others are centred and brought to variance 1 by the moments themselves, where they vary. Of
    features that follow from each other exactly, the combinations that never vary take no part.
    """
    gram, moment = sums.gram, sums.moment
    count = jnp.maximum(gram[..., :1, :1], 1)
    mean = gram[..., 0, :] / count[..., 0]  # [L, G, F]
    average = moment[..., 0, :] / count[..., 0]  # [L, G, H / L]
    centred = gram / count - mean[..., :, None] * mean[..., None, :]
    variance = jnp.diagonal(centred, axis1=-2, axis2=-1)
    # What hardly varies (the constant, a covariate of another season) takes no part: beside its
    # mean, or beside what is regressed where that is smaller than its usual size, about 1.
    size = jnp.minimum(1, sums.square.max(axis=-1)[None, :, None] / count[..., 0])  # [L, G, 1]
    varies = variance > 1e-6 * (size + jnp.square(mean))
    scale = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, variance, 1)), 0)
    # One at a time: on CPU devices a batched eigh hands its parts to the pool of threads that the
    # devices themselves run in, and eight of them, each in a thread, wait there for ever.
    scaled = centred * scale[..., :, None] * scale[..., None, :]
    values, vectors = (
        part.reshape(*scaled.shape[:2], *part.shape[1:])
        for part in jax.lax.map(jnp.linalg.eigh, scaled.reshape(-1, *scaled.shape[2:]))
    )
    # Of such a combination float32 keeps a variance that is rounding, of either sign, and a small
    # penalty would let it decide: 8 epsilons of the largest is what they are seen to reach.
    rounding = 8 * jnp.finfo(values.dtype).eps * values[..., -1:]
    values = jnp.where(values > rounding, values, jnp.inf)  # a weight of 0
    target = (moment / count - mean[..., :, None] * average[..., None, :]) * scale[..., None]
    with jax.default_matmul_precision("highest"):
        turned = jnp.swapaxes(vectors, -1, -2) @ target  # [L, G, F, H / L]
        leads = moment.shape[0]

        def solved(penalty: jax.Array) -> jax.Array:  # [H] or [1]
            share = penalty.reshape((leads if penalty.size > 1 else 1), 1, 1, -1)
            slopes = vectors @ (turned / (values[..., None] + share))
            slopes = slopes * scale[..., None]
            constant = average - jnp.einsum("lgf,lgfh->lgh", mean, slopes)
            weights = slopes.at[..., 0, :].set(constant)  # [L, G, F, H / L]
            return jnp.moveaxis(weights, 0, -2).reshape(*weights.shape[1:3], -1)

        return jax.lax.map(solved, penalties)


def squared_error(sums: Moments, weights: jax.Array) -> jax.Array:
    """Return the squared error [G, H] of weights [G, F, H] on the rows that the sums are of."""
    leads, horizon = sums.gram.shape[0], weights.shape[-1]
    with jax.default_matmul_precision("highest"):
        if leads == 1:
            quadratic = jnp.einsum("gfh,gfk,gkh->gh", weights, sums.gram[0], weights)
            linear = jnp.einsum("gfh,gfh->gh", weights, sums.moment[0])
        else:
            quadratic = jnp.einsum("gfl,lgfk,gkl->gl", weights, sums.gram, weights)
            linear = jnp.einsum("gfl,lgf->gl", weights, sums.moment[..., 0])
    return (quadratic - 2 * linear + sums.square).reshape(-1, horizon)
