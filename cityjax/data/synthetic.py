"""A synthetic city with known truth: sensors on streets, rhythms, events, anomalies, missing cells.

The value of sensor n at step t is m exp(s z - s^2 / 2), log-normal with mean m. The mean m [T, N]
is what the clock and the scheduled events make of the place. z [T, N], of variance 1, is a
disturbance that lasts and spreads along the streets W:
    y_t = A y_t-1 + e_t,   A = r ((1 - q) I + q D^-1/2 (W + I) D^-1/2),   z = y / std(y),
with independent normal e_t, r = exp(-step / memory) and q = SPREADING. A is symmetric: its
eigenvectors give the distribution of z any number of steps ahead in closed form. That is what the
best forecast would say, and how much of an error is noise.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csgraph
from scipy.special import ndtri

from cityjax.data import faults, graphs
from cityjax.data.files import DataError
from cityjax.data.series import Series, checked
from cityjax.ops.graph import normalized

HOUR, DAY, WEEK, YEAR = 3_600, 86_400, 7 * 86_400, 365.25 * 86_400  # seconds
SPREADING = 0.5  # the share of a disturbance that the neighbours have a step later
REACH = 0.5  # km along the streets at which an event has 1 / e of its effect
PLACE = (50.0, 10.0)  # degrees, the middle of the city
KM_PER_DEGREE = np.array([111.2, 111.2 * math.cos(math.radians(PLACE[0]))])


class Domain(NamedTuple):
    """What is measured, and its habits.

    step: seconds. level: the value where the rhythm is 1. spread: s above. memory: seconds until a
    disturbance has faded to 1 / e. event: share by which one moves the mean at its place. counts:
    whether values are whole. season: share by which the year moves the level, day of its peak.
    rhythm: bumps that add up, (hour, width in hours, height on a workday, height at a weekend).
    """

    unit: str
    step: int
    level: float
    spread: float
    memory: float
    event: float
    counts: bool
    season: tuple[float, float]
    rhythm: tuple[tuple[float, float, float, float], ...]


FLAT = math.inf
COMMUTE = ((0, FLAT, 0.15, 0.15), (8, 1.5, 0.9, 0.1), (13.5, 3.5, 0.5, 0.7), (17.5, 2, 1.0, 0.3))
POWER = ((0, FLAT, 0.6, 0.55), (10, 3.5, 0.3, 0.15), (19, 2.5, 0.35, 0.3))
WARDS = ((0, FLAT, 1.0, 0.6),)
EVENINGS = ((0, FLAT, 0.4, 0.4), (15, 4, 0.4, 0.3), (22, 3, 0.4, 0.9))
SMOKE = ((0, FLAT, 0.7, 0.65), (8, 2, 0.3, 0.1), (21, 3, 0.4, 0.4))
DOMAINS = {
    "transport": Domain("vehicles/h", 900, 600, 0.2, 4 * HOUR, 0.6, True, (0.05, 160), COMMUTE),
    "energy": Domain("kW", HOUR, 800, 0.1, 12 * HOUR, 0.2, False, (0.2, 15), POWER),
    "health": Domain("admissions/day", DAY, 60, 0.3, 10 * DAY, 0.5, True, (0.4, 30), WARDS),
    "safety": Domain("calls/4 h", 4 * HOUR, 40, 0.3, DAY // 2, 0.8, True, (0.15, 200), EVENINGS),
    "environment": Domain("ug/m3", HOUR, 20, 0.5, DAY, 0.7, False, (0.3, 15), SMOKE),
}


class City(NamedTuple):
    """A series and the truth behind it: float32 [T, N] in the series' unit unless said.

    series: with anomalies and missing cells; the streets are its adjacency, exp(-d / mean d) both
    ways, and `known["event"]` is how near an event is that is on, 0 to 1. clean: the values without
    anomalies, none missing. mean: expected by the clock and the events. events: the share by which
    these move the mean, 0 where there is none. anomalies: bool, where values are not the clean
    ones, missing or not. latent: z. modes [N, N], decay [N]: eigenvectors and eigenvalues of A.
    """

    series: Series
    domain: Domain
    clean: np.ndarray
    mean: np.ndarray
    events: np.ndarray
    anomalies: np.ndarray
    latent: np.ndarray
    modes: np.ndarray
    decay: np.ndarray


def city(
    domain: str = "transport",
    *,
    sensors: int = 30,
    steps: int = 4_032,
    seed: int = 0,
    missing: float = 0.05,
    anomalies: float = 0.002,
    events: float = 2.0,
    start: str = "2024-01-01",
) -> City:
    """Generate a city; on one platform the same arguments give the same one, bit by bit.

    domain: transport, energy, health, safety or environment. missing: the share of cells, met
    exactly, half of it in outages of half a day; every sensor keeps a value. anomalies: about the
    share of cells in spikes, stuck values and shifts. events: how many a week. start: the first
    step, in the clock of the place.

    Raises:
        DataError: an argument is out of its range.
    """
    if domain not in DOMAINS:
        raise DataError(f"domain={domain!r} is none of {', '.join(DOMAINS)}")
    if sensors < 1 or steps < 2:
        raise DataError(f"sensors={sensors}, steps={steps}: take at least 1 and 2")
    if not (0 <= missing <= 0.9 and 0 <= anomalies <= 0.5 and 0 <= events <= 1000):
        raise DataError(f"{missing=}, {anomalies=}, {events=}: take up to 0.9, 0.5 and 1000")
    kind, count = DOMAINS[domain], round(events * steps * DOMAINS[domain].step / WEEK)
    draw_key, latent_key, odd_key, gap_key = jax.random.split(jax.random.key(seed), 4)
    shapes = (sensors, 2), (len(kind.rhythm) + 1, sensors), (3, count)
    place, habits, event = map(np.asarray, faults.uniform(draw_key, shapes))
    time = np.datetime64(start, "s") + np.arange(steps) * np.timedelta64(kind.step, "s")
    coordinates, adjacency, along = _streets(place)
    nearness, moved = _events(event, kind, steps, along)
    mean = (kind.level * _rhythm(habits, kind, time) * (1 + moved)).astype(np.float32)
    around = np.asarray(jax.jit(normalized, static_argnums=1)(adjacency, "symmetric"), np.float64)
    lazy = (1 - SPREADING) * np.eye(sensors) + SPREADING * around
    decay, modes = np.linalg.eigh(math.exp(-kind.step / kind.memory) * lazy)
    loadings = modes / _deviation(modes, decay, math.inf)[:, None]
    latent = np.asarray(_latent(latent_key, loadings, decay, steps=steps))
    clean = _values(kind, mean, latent)
    lasting = max(2, DAY // 2 // kind.step)
    values = faults.with_anomalies(odd_key, clean, share=anomalies, lasting=lasting)
    values = np.rint(values) if kind.counts else values
    strange = values != clean
    values[faults.missing(gap_key, values.shape, share=missing, lasting=lasting)] = np.nan
    names = tuple(f"{domain}_{index:03d}" for index in range(sensors))
    series = Series(values, time, kind.step, names, kind.unit, {}, {"event": nearness})
    series = checked(series._replace(adjacency=adjacency, coordinates=coordinates))
    return City(series, kind, clean, mean, moved, strange, latent, modes, decay)


def quantile(city: City, level: float, *, ahead: float = math.inf) -> np.ndarray:
    """Return the true quantiles [T, N] of the clean values, given all sensors `ahead` steps before.

    By default, and where there is no step that far before, given the clock and the events only.
    """
    centre, width = _seen_before(city, ahead)
    return _values(city.domain, city.mean, centre + width * np.float32(ndtri(level)))


def expected(city: City, *, ahead: float = math.inf) -> np.ndarray:
    """Return the true mean [T, N], given what `quantile` is given: the best forecast.

    Its squared error is the noise that no model undercuts. Of counts: before rounding.
    """
    centre, width = _seen_before(city, ahead)
    s = city.domain.spread
    return city.mean * np.exp(s * centre + s**2 * (width**2 - 1) / 2)


def _seen_before(city: City, ahead: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation [T, N] of z_t, given z_t-ahead where there is one."""
    if ahead < 1:
        raise DataError(f"ahead={ahead} steps: take 1 or more")
    centre, width = np.zeros_like(city.latent), np.ones_like(city.latent)
    if ahead < len(centre):
        ahead = int(ahead)
        scale = _deviation(city.modes, city.decay, math.inf)
        power = (city.modes * city.decay**ahead) @ city.modes.T * scale / scale[:, None]
        centre[ahead:] = city.latent[:-ahead] @ power.T.astype(np.float32)
        width[ahead:] = _deviation(city.modes, city.decay, ahead) / scale
    return centre, width


def _deviation(modes: np.ndarray, decay: np.ndarray, ahead: float) -> np.ndarray:
    """Return the standard deviation [N] of y_t given y_t-ahead: of all e since then."""
    return np.sqrt(modes**2 @ ((1 - decay ** (2 * ahead)) / (1 - decay**2)))


def _values(domain: Domain, mean: np.ndarray, z: np.ndarray) -> np.ndarray:
    values = mean * np.exp(domain.spread * z - domain.spread**2 / 2)
    return np.rint(values) if domain.counts else values


@functools.partial(jax.jit, static_argnames="steps")
def _latent(key: jax.Array, loadings: jax.Array, decay: jax.Array, *, steps: int) -> jax.Array:
    """Return z [T, N]: an autoregression along each eigenvector, stationary from the start."""

    def step(y: jax.Array, shock: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = decay * y + shock
        return y, y

    shocks = jax.random.normal(key, (steps + 1, len(decay)))
    _, along = jax.lax.scan(step, shocks[0] / jnp.sqrt(1 - decay**2), shocks[1:])
    return jnp.matmul(along, loadings.T, precision="highest")


def _streets(place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coordinates [N, 2], streets [N, N] and km along them [N, N] of places in 0 .. 1."""
    km = 0.5 * math.sqrt(len(place)) * (place.astype(np.float64) - 0.5)  # as dense at any size
    coordinates = np.array(PLACE) + km / KM_PER_DEGREE
    distances = graphs.haversine(coordinates)
    # To the nearest three, and along the shortest tree, which joins all.
    tree = csgraph.minimum_spanning_tree(distances).toarray()
    joined = (graphs.nearest(distances, 3) > 0) | (tree > 0)
    joined |= joined.T
    typical = distances.sum(where=joined) / max(joined.sum(), 1) or 1.0
    adjacency = np.where(joined, np.exp(-distances / typical), 0).astype(np.float32)
    return coordinates, adjacency, csgraph.shortest_path(np.where(joined, distances, 0))


def _rhythm(habits: np.ndarray, domain: Domain, time: np.ndarray) -> np.ndarray:
    """Return the rhythm of day, week and year, averaged over each step: [T, N]."""
    seconds = time.astype(np.int64)[:, None]
    hour, width, workday, weekend = np.array(domain.rhythm).T
    parts = max(1, min(domain.step, DAY) // 900)
    bumps = np.zeros((len(time), len(hour)))
    for part in range(parts):
        now = seconds + domain.step * part // parts
        angle = 2 * np.pi * (now % DAY / HOUR - hour) / 24
        shape = np.exp((np.cos(angle) - 1) * (24 / (2 * np.pi * width)) ** 2)
        resting = (now // DAY + 3) % 7 >= 5  # 1970-01-01 was a Thursday
        bumps += shape * np.where(resting, weekend, workday) / parts
    share, peak = domain.season
    year = 1 + share * np.cos(2 * np.pi * (seconds - peak * DAY) / YEAR)
    # Sensors differ in how high each bump is, and in how large their values are.
    return bumps @ (0.6 + 0.8 * habits[:-1]) * np.exp(2 * habits[-1] - 1) * year


def _events(
    event: np.ndarray, domain: Domain, steps: int, along: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearness of events and the shares by which they move the mean: float32 [T, N].

    event: [3, K] in 0 .. 1: when, where and how much. Each lasts 4 hours, but at least 3 steps.
    """
    length = max(3, 4 * HOUR // domain.step)
    swell = np.sin(np.pi * (np.arange(length) + 0.5) / length)[:, None]
    nearness, moved = np.zeros((2, steps, len(along)), np.float32)
    for when, where, much in event.astype(np.float64).T:
        first = int(when * steps)
        near = np.exp(-along[int(where * len(along))] / REACH)
        near[near < 0.05] = 0  # so that it ends somewhere
        span = slice(first, first + length)
        nearness[span] = np.maximum(nearness[span], near)
        moved[span] += (domain.event * (0.5 + much) * swell * near)[: steps - first]
    return nearness, moved
