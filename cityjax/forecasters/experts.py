"""Experts weighted online by their past errors: smoothing, damped trends, seasons."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.choices import Choice
from cityjax.forecasters._arguments import BESIDE, SAME, outputs
from cityjax.learner import Model, from_linen
from cityjax.models.forecasting import Inputs, carried, rising
from cityjax.tasks.problem import Problem

LEVELS = (0.05, 0.2, 0.4, 0.7, 0.95)  # rates of smoothing to begin with
TRENDS = ((0.5, 0.2, 0.7), (0.5, 0.3, 0.9))  # of level and trend, and how the trend is damped
GROWTH = 0.5  # of all sensors together, a step, at most
PRIOR = 0.1  # season that says nothing, in a factor
TINY = 1e-6


class Rates(NamedTuple):
    """Rates of smoothing: level [R] alone; a and b, of level and trend, and damping, [K] each."""

    level: jax.Array
    a: jax.Array
    b: jax.Array
    damping: jax.Array


class Experts(nn.Module):
    """Every expert forecasts from every step of the history; those that were right weigh more.

    Experts are exponential smoothing at several rates and damped trends (Holt 1957; Gardner and
    McKenzie 1985), each without a season, with one that adds up (the smoothed difference, a whole
    number of seasons back, from the season's mean), with the mean of all sensors' seasons and with
    one that multiplies, a factor that all sensors share; smoothing also along the trend of the sum
    of all sensors; and the mean of the last season. Factor and shared trend are of amounts: they
    weigh nothing where a value of the history is below 0.

    Where the target of a past forecast lies in the history, its absolute error is known; the
    weights are softmax(b - a e), of each lead and sensor, over experts, e the discounted mean of
    these errors by the sensor and by all of them, in units of the experts' mean. Rates, a, b and
    the discount are learnt, for any number of sensors. (Exponential weights: Cesa-Bianchi and
    Lugosi 2006, ch. 2.)

    season: steps. quantiles: how many; 0 for a point.
    """

    horizon: int
    season: int
    quantiles: int = 0

    @nn.compact
    def __call__(
        self, inputs: Inputs, *, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Map windows to forecasts [B, H, N] or [B, H, N, Q]."""
        del train, axis_name
        observed = jnp.moveaxis(inputs["observed"], 1, 0)  # [T, B, N]
        x = jnp.moveaxis(carried(inputs), 1, 0)
        # Before the first value, that one: smoothing begins where the sensor does.
        began = jnp.maximum.accumulate(observed, axis=0)
        first = jnp.take_along_axis(x, jnp.argmax(began, axis=0)[None], axis=0)
        x = jnp.where(began, x, first)
        starts = (LEVELS, *zip(*TRENDS, strict=True))
        rates = Rates(*(self._rates(n, s) for n, s in zip(Rates._fields, starts, strict=True)))
        steps, horizon = len(x), self.horizon
        plain = smoothed(x, horizon, rates)
        added, multiplied = [plain], []
        if 1 < self.season < steps:
            cycle = seasonal_part(x, self.season, self._rates("cycle", (0.5,))[0])
            mean = season_mean(x, self.season)[None]
            added.append(lambda lead: mean)
            # The sensors' own seasons, and the one they share, which has less noise.
            common = jnp.broadcast_to(cycle.mean(axis=-1, keepdims=True), cycle.shape)
            for season in (cycle, common):
                rest = smoothed(x - season[:steps], horizon, rates)
                added.append(plus(rest, season, self.season))
            rate = self._rates("factor", (0.3,))[0]
            here, later = season_factor(x, observed, self.season, horizon, rate)
            for smooth in (smoothed, smoothed_along):
                multiplied.append(times(smooth(x / here, horizon, rates), later))
        else:
            multiplied.append(smoothed_along(x, horizon, rates))
        fade = nn.sigmoid(self._scalar("fade", 2.0))
        share = nn.sigmoid(self._scalar("share", 0.0))

        def judged(lead: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            """Return the last forecasts of a lead, and errors by sensor and by all: [E, B, N]."""
            forecasts = jnp.concatenate([each(lead) for each in added + multiplied])
            # What the past forecasts missed, where their targets lie in the history.
            target = jnp.arange(steps) + 1 + lead
            at = jnp.minimum(target, steps - 1)
            miss = jnp.abs(forecasts - x[at][None])
            weight = ((target < steps) * fade ** (steps - 1 - at))[:, None, None] * observed[at]
            total, count = (weight[None] * miss).sum(axis=1), weight.sum(axis=0)[None]
            mine = total / jnp.maximum(count, TINY)
            count = jnp.maximum(count.sum(axis=-1, keepdims=True), TINY)
            return forecasts[:, -1], mine, total.sum(axis=-1, keepdims=True) / count

        # One lead after the other, here and for the gradient: past forecasts of all of them at once
        # would be [E, T, H, B, N], which takes longer to write and to read than to make again.
        found = jax.lax.map(jax.checkpoint(judged, prevent_cse=False), jnp.arange(horizon))
        latest, mine, ours = (jnp.moveaxis(each, 0, 1) for each in found)  # [E, H, B, N]
        error = share * mine + (1 - share) * ours
        # Factors are of amounts: where a value is below 0, they have no say.
        amounts = (x >= 0).all(axis=(0, 2))[None, None, :, None]
        plus_alone = sum(jax.eval_shape(each, 0).shape[0] for each in added)
        used = (jnp.arange(len(latest)) < plus_alone)[:, None, None, None] | amounts  # [E, 1, B, 1]
        usual = (used * error).sum(axis=0) / used.sum(axis=0)
        error = error / jnp.maximum(usual, TINY)[None]
        shape = (len(latest), horizon)
        slope = nn.softplus(self.param("slope", nn.initializers.constant(5.0), shape[1:]))
        bias = self.param("bias", nn.initializers.zeros, shape)
        scores = bias[..., None, None] - slope[None, :, None, None] * error
        weights = jax.nn.softmax(jnp.where(used, scores, -jnp.inf), axis=0)
        y = (weights * latest).sum(axis=0)  # [H, B, N]
        y = jnp.moveaxis(y, 0, 1)
        if not self.quantiles:
            return y
        spread = self.param("spread", nn.initializers.zeros, (self.horizon, self.quantiles))
        least = [jnp.where(used, each, jnp.inf).min(axis=0) for each in (mine, ours)]
        size = jnp.moveaxis(least[0] + least[1], 0, 1)[..., None]
        return y[..., None] + size * rising(spread)[None, :, None]

    def _scalar(self, name: str, value: float) -> jax.Array:
        return self.param(name, nn.initializers.constant(value), ())

    def _rates(self, name: str, rates: tuple[float, ...]) -> jax.Array:
        rate = jnp.asarray(rates)
        return nn.sigmoid(self.param(name, lambda key: jnp.log(rate / (1 - rate))))


# A lead, 0 for the next step, to what experts forecast of it from each step: [E, T, B, N].
Forecasts = Callable[[jax.Array], jax.Array]


def plus(forecasts: Forecasts, season: jax.Array, length: int) -> Forecasts:
    """Return forecasts with what a season of `length` steps adds, [T + length, B, N].

    What it adds in the first season ahead is known at the origin, and taken for later ones too.
    """
    ahead = jnp.arange(len(season) - length) + 1
    return lambda lead: forecasts(lead) + season[ahead + lead % length][None]


def times(forecasts: Forecasts, factor: jax.Array) -> Forecasts:
    """Return forecasts times the factors of each step and lead, [T, H, B, 1]."""
    return lambda lead: forecasts(lead) * factor[:, lead][None]


def smoothed(x: jax.Array, horizon: int, rates: Rates) -> Forecasts:
    """Return what smoothing and damped trends forecast from each step of x [T, B, N].

    l_t = l_t-1 + r (x_t - l_t-1) for each rate of `level`; for each of a, b, damping d
    l_t = f + a (x_t - f) with f = l_t-1 + d g_t-1, g_t = d g_t-1 + b (l_t - f); the forecast h
    steps ahead is l_t + (d + ... + d^h) g_t.
    """
    level, a, b, damping = rates
    none = jnp.zeros_like(level)
    damped = jnp.concatenate([none, damping])
    levels, slopes = _trends(x, jnp.concatenate([level, a]), jnp.concatenate([none, b]), damped)
    reach = _reach(damped, horizon)
    return lambda lead: levels + reach[:, lead, None, None, None] * slopes


def smoothed_along(x: jax.Array, horizon: int, rates: Rates) -> Forecasts:
    """Return what smoothing along the trends of all sensors forecasts from each step of x.

    x: [T, B, N]. E: each trend a, b, damping d, with each rate r of level.

    q_t is the slope of the sum of all sensors, a damped trend as in `smoothed`, in units of the
    smoothed sum of |x|, and within GROWTH. l_t = f + r (x_t - f) with f = l_t-1 (1 + d q_t-1); the
    forecast h steps ahead is l_t (1 + (d + ... + d^h) q_t), and does not cross 0.
    """
    level, a, b, damping = rates
    _, slope = _trends(x.sum(axis=-1, keepdims=True), a, b, damping)
    size, _ = _trends(jnp.abs(x).sum(axis=-1, keepdims=True), a, jnp.zeros_like(b), damping)
    growth = jnp.clip(slope / (size + TINY), -GROWTH, GROWTH)  # [K, T, B, 1]
    each = level[None, :, None, None]
    grown = jnp.moveaxis(1 + damping[:, None, None, None] * growth, 1, 0)
    grown = jnp.concatenate([jnp.ones_like(grown[:1]), grown[:-1]])

    def step(before: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value, factor = now
        guess = before * factor[:, None]
        after = guess + each * (value[None, None] - guess)
        return after, after

    start = jnp.broadcast_to(x[0], (len(a), len(level), *x.shape[1:]))
    _, levels = jax.lax.scan(step, start, (x, grown))  # [T, K, R, B, N]
    levels, reach = jnp.moveaxis(levels, 0, 2), _reach(damping, horizon)

    def forecasts(lead: jax.Array) -> jax.Array:
        later = jnp.maximum(1 + reach[:, lead, None, None, None] * growth, 0)  # [K, T, B, 1]
        return (levels * later[:, None]).reshape(-1, *x.shape)

    return forecasts


def _trends(
    x: jax.Array, rate: jax.Array, gain: jax.Array, damping: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return levels and slopes of x [T, B, N] as `smoothed` has them: [E, T, B, N] each."""
    rate, gain, damping = (each[:, None, None] for each in (rate, gain, damping))

    def step(carry: tuple[jax.Array, jax.Array], now: jax.Array) -> tuple[Any, Any]:
        before, slope = carry
        guess = before + damping * slope
        after = guess + rate * (now[None] - guess)
        slope = damping * slope + gain * (after - guess)
        return (after, slope), (after, slope)

    start = jnp.broadcast_to(x[0], (len(rate), *x.shape[1:]))
    _, (levels, slopes) = jax.lax.scan(step, (start, jnp.zeros_like(start)), x)
    return jnp.moveaxis(levels, 0, 1), jnp.moveaxis(slopes, 0, 1)


def _reach(damping: jax.Array, horizon: int) -> jax.Array:
    """Return d + ... + d^h for each damping d and h up to the horizon: [E, H]."""
    return jnp.cumsum(damping[:, None] ** jnp.arange(1, horizon + 1)[None], axis=1)


def season_factor(
    x: jax.Array, observed: jax.Array, season: int, horizon: int, rate: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return what the season multiplies x by, the same for all sensors: [T, B, 1], [T, H, B, 1].

    x, observed: [T, B, N]. The first is of each step, as known a season before; the second of the
    steps ahead of it, as known at it.

    The factor of a phase is the sum of its x over that of their centred season means, over sensors
    and past seasons, each (1 - rate) of the next; both sums with PRIOR of the two added. It is
    above 0, and 1 where nothing is known. Of negative x, sums s are (sum of |s| + s) / 2.
    """
    half, first = season // 2, (jnp.arange(len(x)) >= season - 1)[:, None, None]
    mean = season_mean(x, season)
    # The mean of the season that ends at t is centred on t - half.
    x, seen = (jnp.roll(each, half, axis=0) for each in (x, observed))
    weight = seen * first
    apart = (weight * (x - mean)).sum(axis=-1, keepdims=True)
    size = (weight * (jnp.abs(x) + jnp.abs(mean))).sum(axis=-1, keepdims=True)
    apart, size = (_fading(each, season, 1 - rate) for each in (apart, size))
    rest = (1 + PRIOR) * size + TINY
    factor = (rest + apart) / (rest - apart)
    factor = jnp.concatenate([jnp.ones((season, *factor.shape[1:])), factor])
    ahead = jnp.arange(horizon + 1)[None]
    # Its last update before: a whole number of seasons back, and half a season on from there.
    last = season + jnp.arange(len(x))[:, None] - (-half - ahead) % season
    return factor[last[:, 0]], factor[last[:, 1:]]


def _fading(x: jax.Array, season: int, fade: jax.Array) -> jax.Array:
    """Return y_t = x_t + fade y_t-s: [T, ...]."""
    parts = [x[:season]]
    for start in range(season, len(x), season):
        now = x[start : start + season]
        parts.append(now + fade * parts[-1][: len(now)])
    return jnp.concatenate(parts)


def seasonal_part(x: jax.Array, season: int, rate: jax.Array) -> jax.Array:
    """Return what the season adds at each step, and at those of one more: [T + season, B, N].

    c_t = c_t-s + rate (x_t-s - m_t-s - c_t-s), m_t the mean of the season that ends at t; 0 in the
    first season. At t it reads nothing later than t - s.
    """
    steps, apart = len(x), x - season_mean(x, season)
    parts = [jnp.zeros((season, *x.shape[1:]), x.dtype)]
    for start in range(0, steps, season):
        now = apart[start : start + season]
        before = parts[-1][: len(now)]
        parts.append(before + rate * (now - before))
    return jnp.concatenate(parts)


def season_mean(x: jax.Array, season: int) -> jax.Array:
    """Return the mean of the season that ends at each step, of what there is of it: [T, B, N]."""
    total = jnp.concatenate([jnp.zeros_like(x[:1]), jnp.cumsum(x, axis=0)])
    end = jnp.arange(1, len(x) + 1)
    first = jnp.maximum(end - season, 0)
    return (total[end] - total[first]) / (end - first)[:, None, None]


def experts(problem: Problem) -> Model:
    """Return experts weighted online by their past errors."""
    return from_linen(Experts(season=problem.season, **outputs(problem)))


MODELS = {"experts": Choice(experts, {}, {"learning_rate": 0.02, "steps": 300}, (*SAME, *BESIDE))}
