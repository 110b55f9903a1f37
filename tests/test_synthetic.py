"""A synthetic city: what it says of itself is true."""

import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.sparse import csgraph

from cityjax.data import faults, graphs, synthetic
from cityjax.data.dataset import Protocol, bounds
from cityjax.data.files import DataError

ROOT = Path(__file__).parent.parent
HORIZONS = (1, 4, math.inf)


@pytest.fixture(scope="module", params=synthetic.DOMAINS)
def city(request):
    """Two months at least of every domain."""
    return synthetic.city(request.param, sensors=25, steps=6_000, seed=3)


def test_a_city_has_the_shape_asked_for(city):
    series = city.series
    assert series.values.shape == city.mean.shape == (6_000, 25)
    assert series.values.dtype == city.mean.dtype == city.clean.dtype == np.float32
    assert synthetic.quantile(city, 0.9, ahead=3).dtype == np.float32
    assert synthetic.expected(city, ahead=3).dtype == np.float32
    assert np.nanmin(series.values) >= 0
    assert len(set(np.diff(series.time))) == 1 and series.step == city.domain.step
    assert set(bounds(series, Protocol())) == {"train", "validation", "test"}
    if city.domain.counts:
        known = series.values[series.observed]
        np.testing.assert_array_equal(known, np.rint(known))


def test_streets_join_all_sensors_both_ways(city):
    adjacency = city.series.adjacency
    assert csgraph.connected_components(adjacency)[0] == 1
    np.testing.assert_array_equal(adjacency, adjacency.T)
    assert not np.diag(adjacency).any()
    assert ((adjacency > 0).sum(axis=1) >= 3).all()
    distances = graphs.haversine(city.series.coordinates)
    nearest = np.argmin(distances + 99 * np.eye(25), axis=1)
    assert (adjacency[np.arange(25), nearest] > 0).all()
    assert 0.1 < distances[adjacency > 0].mean() < 1  # km: places lie about half a km apart


def test_the_day_and_the_week_have_a_rhythm(city):
    domain, time = city.domain, city.series.time
    quiet = np.where(city.events > 0, np.nan, city.clean)
    weekend = (time.astype("datetime64[D]").astype(int) + 3) % 7 >= 5
    workday = np.nanmean(quiet[~weekend], axis=0)
    _, _, work, rest = np.array(domain.rhythm).T
    expected = np.sign((rest - work).sum()) * (np.nanmean(quiet[weekend], axis=0) - workday)
    assert (expected > 0).mean() > 0.8
    if domain.step < synthetic.DAY:
        hour = time.astype("datetime64[h]").astype(int) % 24
        loudest = max(domain.rhythm[1:], key=lambda bump: bump[2])[0]
        near = (np.abs(hour - loudest) <= 2) & ~weekend
        night = (np.abs(hour - 3) <= 2) & ~weekend
        ratio = np.nanmean(quiet[near], axis=0) / np.nanmean(quiet[night], axis=0)
        assert ratio.min() > 1 and np.median(ratio) > 1.2


@pytest.mark.parametrize("ahead", HORIZONS)
@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_true_quantiles_cover_what_they_say(city, ahead, level):
    limit = synthetic.quantile(city, level, ahead=ahead)
    # A whole number may lie on its quantile: then the level is between the two shares. Of values
    # that hang together over days there are fewer than it seems, and the share is less certain.
    below, at_most = (city.clean < limit).mean(), (city.clean <= limit).mean()
    slack = 0.01 if ahead == 1 else 0.05
    assert below - slack < level < at_most + slack
    assert at_most - below < 0.1


def test_the_expected_value_is_the_best_forecast_of_all(city):
    def error(forecast):
        return ((city.clean - forecast)[8:] ** 2).mean()

    noise = [error(synthetic.expected(city, ahead=ahead)) for ahead in (1, 2, 4, math.inf)]
    assert noise == sorted(noise)
    np.testing.assert_allclose(synthetic.expected(city), city.mean, rtol=1e-5)
    np.testing.assert_allclose(city.clean.mean(), city.mean.mean(), rtol=0.05)
    for ahead, best in zip((1, 4), (noise[0], noise[2]), strict=True):
        carried = np.roll(city.clean, ahead, axis=0)
        relative = city.mean * np.roll(city.clean / np.maximum(city.mean, 1e-3), ahead, axis=0)
        assert best < 0.97 * min(error(carried), error(relative))
        assert abs((city.clean - synthetic.expected(city, ahead=ahead)).mean()) < 0.02 * (
            city.clean.mean()
        )


def test_a_disturbance_spreads_along_the_streets_as_said():
    # Against the recursion itself: y = A y + e, with A written out.
    city = synthetic.city("energy", sensors=8, steps=20_000, missing=0, anomalies=0, events=0)
    weights = np.asarray(city.series.adjacency, float) + np.eye(8)
    root = weights.sum(axis=1) ** -0.5
    spreading, memory = synthetic.SPREADING, city.domain.memory
    matrix = spreading * root[:, None] * weights * root + (1 - spreading) * np.eye(8)
    matrix *= math.exp(-3600 / memory)
    scale = np.sqrt(np.diag(np.linalg.inv(np.eye(8) - matrix @ matrix)))
    spread = city.domain.spread
    z = (np.log(city.clean / city.mean) + spread**2 / 2) / spread
    np.testing.assert_allclose(z, city.latent, atol=1e-3)
    shocks = (z * scale)[1:] - (z * scale)[:-1] @ matrix.T
    np.testing.assert_allclose(np.cov(shocks.T), np.eye(8), atol=0.05)
    assert np.abs((shocks[1:].T @ shocks[:-1]) / len(shocks)).max() < 0.05
    assert np.abs(shocks.mean(axis=0)).max() < 0.05
    power = np.linalg.matrix_power(matrix, 3)
    ahead = (z * scale)[:-3] @ power.T / scale
    variance = np.diag(np.eye(8) + matrix @ matrix + np.linalg.matrix_power(matrix, 4)) / scale**2
    factor = np.exp(spread * ahead + spread**2 * (variance - 1) / 2)
    np.testing.assert_allclose(
        synthetic.expected(city, ahead=3)[3:], city.mean[3:] * factor, rtol=1e-4
    )


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 0.9])
def test_the_share_asked_for_is_missing_half_of_it_in_outages(share):
    city = synthetic.city("energy", sensors=10, steps=1_000, missing=share, seed=1)
    observed = city.series.observed
    assert (~observed).sum() == round(share * observed.size)
    assert observed.any(axis=0).all()
    if share == 0.05:
        out = ~observed[:996].reshape(-1, 12, 10).any(axis=1)
        assert 0.4 * 500 < 12 * out.sum() < 0.6 * 500


def test_nothing_but_the_anomalies_differs_from_the_clean_values(city):
    values, strange = city.series.values, city.anomalies
    seen = city.series.observed
    np.testing.assert_array_equal((values != city.clean) & seen, strange & seen)
    assert 0.0005 < strange.mean() <= 0.002
    assert seen[strange].mean() > 0.8


def test_anomalies_are_spikes_stuck_values_and_shifts():
    values = np.arange(1, 2_001, dtype=np.float32)[:, None] + np.zeros(4, np.float32)
    found = faults.with_anomalies(jax.random.key(0), values, share=0.01, lasting=10)
    ratio = found / values
    assert ((ratio >= 2) & (ratio <= 4)).sum() >= 3
    assert ((ratio >= 0.25) & (ratio <= 0.5)).sum() > 20
    stuck = (np.diff(found, axis=0) == 0).sum()
    assert stuck > 20
    assert 0.005 < (found != values).mean() < 0.015


def test_events_raise_the_mean_where_and_when_they_are():
    without, city = (
        synthetic.city("transport", sensors=40, steps=2_000, seed=5, events=events)
        for events in (0, 6)
    )
    assert not without.events.any() and not without.series.known["event"].any()
    np.testing.assert_allclose(city.mean / without.mean, 1 + city.events, rtol=1e-5)
    near = city.series.known["event"]
    assert ((city.events > 0) <= (near > 0)).all()
    assert near.max() == 1 and near.min() == 0
    busy = (near > 0).mean(axis=0)
    assert 0 < busy.mean() < 0.2
    rows = np.flatnonzero((near == 1).any(axis=1))
    assert len(rows) <= round(6 * 2_000 * 900 / synthetic.WEEK) * 16


def test_sensors_move_together_the_nearer_they_are():
    city = synthetic.city("environment", sensors=60, steps=4_000)
    correlation = np.corrcoef(city.latent.T)
    joined = np.asarray(city.series.adjacency) > 0
    apart = ~joined & ~np.eye(60, dtype=bool)
    assert correlation[joined].mean() > 1.5 * abs(correlation[apart].mean()) > 0


def test_the_same_seed_gives_the_same_city_in_another_process():
    # Bit by bit, on one platform.
    program = """
import hashlib
from cityjax.data import synthetic
city = synthetic.city("safety", sensors=9, steps=500, seed=11)
arrays = [city.series.values, city.series.adjacency, city.series.coordinates, city.mean,
          city.events, city.anomalies, city.latent, synthetic.quantile(city, 0.9, ahead=2)]
print(hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True)]
    runs.append(
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    )
    assert runs[0].stdout == runs[1].stdout
    one, other = (synthetic.city("safety", sensors=9, steps=500, seed=seed) for seed in (11, 12))
    assert not np.array_equal(one.clean, other.clean)
    again = synthetic.city("safety", sensors=9, steps=500, seed=11)
    np.testing.assert_array_equal(one.series.values, again.series.values)


@pytest.mark.parametrize("domain", synthetic.DOMAINS)
@pytest.mark.parametrize(("sensors", "steps"), [(1, 2), (2, 3), (3, 50)])
def test_the_smallest_cities(domain, sensors, steps):
    city = synthetic.city(domain, sensors=sensors, steps=steps, missing=0.5, events=1000)
    assert np.isfinite(city.clean).all() and np.isfinite(city.mean).all()
    assert city.series.observed.any(axis=0).all()
    assert np.isfinite(synthetic.quantile(city, 0.5, ahead=1)).all()


def test_a_large_city_takes_seconds_and_little_memory():
    program = """
import resource, time
from cityjax.data import synthetic
synthetic.city(sensors=2, steps=10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
city = synthetic.city(sensors=207, steps=34_272)
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 20
    assert kilobytes < 700e3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "sport"}, "domain='sport' is none of transport, energy"),
        ({"sensors": 0}, "sensors=0, steps=4032: take at least 1 and 2"),
        ({"missing": 0.95}, r"missing=0.95, anomalies=0.002, events=2.0: take up to 0.9, 0.5"),
        ({"anomalies": -0.1}, "anomalies=-0.1"),
        ({"events": math.nan}, "events=nan"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(DataError, match=message):
        synthetic.city(**options)
    with pytest.raises(DataError, match="ahead=0 steps"):
        synthetic.quantile(synthetic.city(sensors=2, steps=5), 0.5, ahead=0)
