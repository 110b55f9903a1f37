"""Experts weighted online by their past errors: smoothing, damped trends, seasons."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.models.forecasting import Inputs, carried, rising

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
        steps, ahead = len(x), jnp.arange(1, self.horizon + 1)
        targets = jnp.arange(steps)[:, None] + ahead[None]  # [T, H]
        plain = smoothed(x, self.horizon, rates)  # [E, T, H, B, N]
        added, multiplied = [plain], []
        if 1 < self.season < steps:
            cycle = seasonal_part(x, self.season, self._rates("cycle", (0.5,))[0])
            # Of the first season ahead, which is known at the origin, also for later ones.
            phase = jnp.arange(steps)[:, None] + 1 + (ahead - 1)[None] % self.season
            mean = season_mean(x, self.season)[None, :, None]
            added.append(jnp.broadcast_to(mean, (1, *plain.shape[1:])))
            # The sensors' own seasons, and the one they share, which has less noise.
            common = jnp.broadcast_to(cycle.mean(axis=-1, keepdims=True), cycle.shape)
            for season in (cycle, common):
                rest = smoothed(x - season[:steps], self.horizon, rates)
                added.append(rest + season[phase][None])
            rate = self._rates("factor", (0.3,))[0]
            here, later = season_factor(x, observed, self.season, self.horizon, rate)
            for smooth in (smoothed, smoothed_along):
                multiplied.append(smooth(x / here, self.horizon, rates) * later[None])
        else:
            multiplied.append(smoothed_along(x, self.horizon, rates))
        forecasts = jnp.concatenate(added + multiplied)
        # Factors are of amounts: where a value is below 0, they have no say.
        amounts = (x >= 0).all(axis=(0, 2))[None, None, :, None]
        used = jnp.arange(len(forecasts)) < sum(map(len, added))
        used = used[:, None, None, None] | amounts  # [E, 1, B, 1]
        # What the past forecasts missed, where their targets lie in the history.
        known = targets < steps
        at = jnp.minimum(targets, steps - 1)
        miss = jnp.abs(forecasts - x[at][None])
        fade = nn.sigmoid(self._scalar("fade", 2.0))
        weight = (known * fade ** (steps - 1 - at))[..., None, None] * observed[at]
        total, count = (weight[None] * miss).sum(axis=1), weight.sum(axis=0)[None]
        mine = total / jnp.maximum(count, TINY)  # [E, H, B, N]
        ours = total.sum(axis=-1, keepdims=True) / jnp.maximum(count.sum(-1, keepdims=True), TINY)
        share = nn.sigmoid(self._scalar("share", 0.0))
        error = share * mine + (1 - share) * ours
        usual = (used * error).sum(axis=0) / used.sum(axis=0)
        error = error / jnp.maximum(usual, TINY)[None]
        shape = (len(forecasts), self.horizon)
        slope = nn.softplus(self.param("slope", nn.initializers.constant(5.0), shape[1:]))
        bias = self.param("bias", nn.initializers.zeros, shape)
        scores = bias[..., None, None] - slope[None, :, None, None] * error
        weights = jax.nn.softmax(jnp.where(used, scores, -jnp.inf), axis=0)
        y = (weights * forecasts[:, -1]).sum(axis=0)  # [H, B, N]
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


def smoothed(x: jax.Array, horizon: int, rates: Rates) -> jax.Array:
    """Return what smoothing and damped trends forecast from each step of x: [E, T, H, B, N].

    x: [T, B, N].

    l_t = l_t-1 + r (x_t - l_t-1) for each rate of `level`; for each of a, b, damping d
    l_t = f + a (x_t - f) with f = l_t-1 + d g_t-1, g_t = d g_t-1 + b (l_t - f); the forecast h
    steps ahead is l_t + (d + ... + d^h) g_t.
    """
    level, a, b, damping = rates
    none = jnp.zeros_like(level)
    damped = jnp.concatenate([none, damping])
    levels, slopes = _trends(x, jnp.concatenate([level, a]), jnp.concatenate([none, b]), damped)
    reach = _reach(damped, horizon)[:, None, :, None, None]
    return levels[:, :, None] + reach * slopes[:, :, None]


def smoothed_along(x: jax.Array, horizon: int, rates: Rates) -> jax.Array:
    """Return what smoothing along the trends of all sensors forecasts: [E, T, H, B, N].

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
    reach = _reach(damping, horizon)[:, None, :, None, None]
    later = jnp.maximum(1 + reach * growth[:, :, None], 0)  # [K, T, H, B, 1]
    found = jnp.moveaxis(levels, 0, 2)[:, :, :, None] * later[:, None]
    return found.reshape(-1, *found.shape[2:])


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
