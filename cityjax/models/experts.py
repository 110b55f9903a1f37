"""Experts weighted online by their past errors: smoothing, damped trends, seasons."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cityjax.models.forecasting import Inputs, rising, values
from cityjax.models.ridge import filled

LEVELS = (0.05, 0.2, 0.4, 0.7, 0.95)  # rates of smoothing to begin with
TRENDS = ((0.5, 0.2, 0.7), (0.5, 0.3, 0.9))  # of level and trend, and how the trend is damped


class Experts(nn.Module):
    """Every expert forecasts from every step of the history; those that were right weigh more.

    Experts are exponential smoothing at several rates and damped trends (Holt 1957; Gardner and
    McKenzie 1985), each without a season, with one that adds up (the smoothed difference, a whole
    number of seasons back, from the season's mean) and with the mean of all sensors' seasons; and
    the mean of the last season. Where the
    target of a past forecast lies in the history, its absolute error is known; the weights are
    softmax(b - a e), of each lead and sensor, over experts, e the discounted mean of these errors
    by the sensor and by all of them, in units of the experts' mean. Rates, a, b and the discount
    are learnt, a few dozen numbers for any number of sensors. (Exponential weights: Cesa-Bianchi
    and Lugosi 2006, ch. 2.)

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
        x = jnp.moveaxis(filled(values(inputs), inputs["observed"]), 1, 0)
        # Before the first value, that one: smoothing begins where the sensor does.
        began = jnp.maximum.accumulate(observed, axis=0)
        first = jnp.take_along_axis(x, jnp.argmax(began, axis=0)[None], axis=0)
        x = jnp.where(began, x, first)
        rates = [self._rates("level", LEVELS)]
        rates += [
            self._rates(name, start)
            for name, start in zip(("a", "b", "damping"), zip(*TRENDS, strict=True), strict=True)
        ]
        steps, ahead = len(x), jnp.arange(1, self.horizon + 1)
        targets = jnp.arange(steps)[:, None] + ahead[None]  # [T, H]
        forecasts = smoothed(x, self.horizon, *rates)  # [E, T, H, B, N]
        if 1 < self.season < steps:
            cycle = seasonal_part(x, self.season, self._rates("cycle", (0.5,))[0])
            # Of the first season ahead, which is known at the origin, also for later ones.
            phase = jnp.arange(steps)[:, None] + 1 + (ahead - 1)[None] % self.season
            mean = season_mean(x, self.season)[None, :, None]
            found = [forecasts, jnp.broadcast_to(mean, (1, *forecasts.shape[1:]))]
            # The sensors' own seasons, and the one they share, which has less noise.
            common = jnp.broadcast_to(cycle.mean(axis=-1, keepdims=True), cycle.shape)
            for season in (cycle, common):
                rest = smoothed(x - season[:steps], self.horizon, *rates)
                found.append(rest + season[phase][None])
            forecasts = jnp.concatenate(found)
        # What the past forecasts missed, where their targets lie in the history.
        known = targets < steps
        at = jnp.minimum(targets, steps - 1)
        miss = jnp.abs(forecasts - x[at][None])
        fade = nn.sigmoid(self._scalar("fade", 2.0))
        weight = (known * fade ** (steps - 1 - at))[..., None, None] * observed[at]
        total, count = (weight[None] * miss).sum(axis=1), weight.sum(axis=0)[None]
        mine = total / jnp.maximum(count, 1e-6)  # [E, H, B, N]
        ours = total.sum(axis=-1, keepdims=True) / jnp.maximum(count.sum(-1, keepdims=True), 1e-6)
        share = nn.sigmoid(self._scalar("share", 0.0))
        error = share * mine + (1 - share) * ours
        error = error / jnp.maximum(error.mean(axis=0, keepdims=True), 1e-6)
        shape = (len(forecasts), self.horizon)
        slope = nn.softplus(self.param("slope", nn.initializers.constant(5.0), shape[1:]))
        bias = self.param("bias", nn.initializers.zeros, shape)
        scores = bias[..., None, None] - slope[None, :, None, None] * error
        y = (jax.nn.softmax(scores, axis=0) * forecasts[:, -1]).sum(axis=0)  # [H, B, N]
        y = jnp.moveaxis(y, 0, 1)
        if not self.quantiles:
            return y
        spread = self.param("spread", nn.initializers.zeros, (self.horizon, self.quantiles))
        size = jnp.moveaxis((mine.min(axis=0) + ours.min(axis=0)), 0, 1)[..., None]
        return y[..., None] + size * rising(spread)[None, :, None]

    def _scalar(self, name: str, value: float) -> jax.Array:
        return self.param(name, nn.initializers.constant(value), ())

    def _rates(self, name: str, rates: tuple[float, ...]) -> jax.Array:
        rate = jnp.asarray(rates)
        return nn.sigmoid(self.param(name, lambda key: jnp.log(rate / (1 - rate))))


def smoothed(
    x: jax.Array,
    horizon: int,
    level: jax.Array,
    a: jax.Array,
    b: jax.Array,
    damping: jax.Array,
) -> jax.Array:
    """Return what smoothing and damped trends forecast from each step of x: [E, T, H, B, N].

    x: [T, B, N].

    l_t = l_t-1 + r (x_t - l_t-1) for each rate of `level`; for each of a, b, damping d
    l_t = f + a (x_t - f) with f = l_t-1 + d g_t-1, g_t = d g_t-1 + b (l_t - f); the forecast h
    steps ahead is l_t + (d + ... + d^h) g_t.
    """
    wide = (slice(None), None, None)
    rates = jnp.concatenate([level, a])[wide]
    gains = jnp.concatenate([jnp.zeros_like(level), b])[wide]
    damped = jnp.concatenate([jnp.zeros_like(level), damping])[wide]

    def step(carry: tuple[jax.Array, jax.Array], now: jax.Array) -> tuple[Any, Any]:
        before, slope = carry
        guess = before + damped * slope
        after = guess + rates * (now[None] - guess)
        slope = damped * slope + gains * (after - guess)
        return (after, slope), (after, slope)

    start = jnp.broadcast_to(x[0], (len(rates), *x.shape[1:]))
    _, (levels, slopes) = jax.lax.scan(step, (start, jnp.zeros_like(start)), x)
    reach = jnp.cumsum(damped ** jnp.arange(1, horizon + 1)[None, :, None], axis=1)  # [E, H, 1]
    levels, slopes = jnp.moveaxis(levels, 0, 1), jnp.moveaxis(slopes, 0, 1)  # [E, T, B, N]
    return levels[:, :, None] + reach[:, None, :, :, None] * slopes[:, :, None]


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
