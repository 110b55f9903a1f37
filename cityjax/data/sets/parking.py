"""Birmingham parking: occupied places in 29 car parks, every half hour from 8:00 to 16:30.

A zero is a missing value: no car park is empty at these hours, and whole days are zero. The nights
between are no rows: a forecast of the next step at 16:30 is one of the next morning, and steps
count the hours of opening. Car park 8 has no value before the validation part and is left out.
"""

import numpy as np

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile, read
from cityjax.data.readers import every, matlab
from cityjax.data.series import Series, checked
from cityjax.data.sets.taxi import HOME, RAW

FILE = DataFile(
    "transdim",
    "birmingham_tensor.mat",
    "ebb2e47871294cb143be3549d1f618062b5327b2da7251b1bdafc145880b5e4a",
    url=f"{RAW}Birmingham-data-set/tensor.mat",
    source=HOME,
)
SPLIT = (0.7, 0.1, 0.2)
STEP = 1800


def load() -> Series:
    """Read occupied places of the car parks that are observed in the first 70 % of the days."""
    return occupied(matlab(read(FILE), "tensor"))


def occupied(places: np.ndarray) -> Series:
    """Return the series of occupied places [car park, day, half hour], 0 where missing."""
    _, days, slots = places.shape
    values = np.where(places > 0, places, np.nan).transpose(1, 2, 0)
    day = every("2016-10-04T08:00", 86_400, days)
    time = day[:, None] + np.arange(slots) * np.timedelta64(STEP, "s")
    kept = np.flatnonzero(np.isfinite(values[: int(SPLIT[0] * days)]).any(axis=(0, 1)))
    return checked(
        Series(
            values=values[..., kept].reshape(days * slots, len(kept)),
            time=time.ravel(),
            step=STEP,
            sensors=tuple(f"car park {number + 1}" for number in kept),
            unit="cars",
        )
    )


DATASET = Dataset(
    name="parking",
    title="Occupied places of 29 car parks in Birmingham, half-hourly by day, 2016-10 to 2016-12",
    domain="transport",
    licence="CC BY 4.0 (UCI 482); Birmingham City Council, OGL 3.0",
    home="https://archive.ics.uci.edu/dataset/482/parking+birmingham",
    files=(FILE,),
    read=load,
    season=7 * 48,
    protocols={
        "honest": Protocol(
            split=SPLIT,
            history=18,
            horizon=6,
            measures=("mae", "rmse", "mape"),
            leads=(1, 2, 4, 6),
            gaps=False,
            text={"steps": "half hours of opening, 8:00 to 16:30; a night is passed over"},
        )
    },
    cite="D. H. Stolfi, E. Alba, X. Yao, Smart-CT 2017; X. Chen, Z. He, L. Sun, TR-C 98, 2019",
)
