"""The synthetic city as data sets: nothing to fetch, and the truth is known."""

from cityjax.data import synthetic
from cityjax.data.dataset import Dataset, Protocol

DAY = 86_400


def make(domain: str, title: str, *, steps: int) -> Dataset:
    """Return the data set of one domain, 30 sensors and this many steps of it, of seed 0."""
    per_day = max(1, DAY // synthetic.DOMAINS[domain].step)
    horizon = 14 if per_day == 1 else min(24, per_day)
    return Dataset(
        name=f"synthetic_{domain}",
        title=title,
        domain=domain,
        licence="Apache-2.0",
        home="cityjax.data.synthetic",
        files=(),
        read=lambda: synthetic.city(domain, steps=steps).series,
        season=7 * per_day,
        protocols={
            "honest": Protocol(
                history=2 * horizon,
                horizon=horizon,
                leads=tuple(sorted({1, horizon // 4, horizon // 2, horizon})),
            )
        },
    )
