"""Beijing air quality: PM2.5 at nine stations, hourly, with other pollutants and the weather.

The set has twelve stations; these are the nine whose checksums are stated. NA is missing.
"""

import numpy as np

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile, read
from cityjax.data.readers import every, numbers, table
from cityjax.data.series import Series, checked

HOME = "https://archive.ics.uci.edu/dataset/501/beijing+multi+site+air+quality+data"
STATIONS = {
    "Aotizhongxin": "a94fbcfc71708b6ffdc033360163d91efb7f675e496f6b5860929aa96b96351b",
    "Changping": "a2e21402a6d95fb7043f87959e6e3dcbecb957aac356a6f8028a85b047c772e7",
    "Dongsi": "9c0020214425e5ee2a64d42f97a1f632e1d8f6b53ad50edd85a686cc7999f27e",
    "Guanyuan": "59390fee3b032597b387491f5230e7edb90a8558e30217ebd6d9befbe669fbf9",
    "Gucheng": "10ae48801ea55869fee56a48b885fb1127859c130551888d71673f34216ba951",
    "Nongzhanguan": "572cf87b65ef543cd55d3a711b28474def224a46b0ec3fc8add8aaf13b67a487",
    "Shunyi": "520b59e4ead3b0cfe7f1ed673e30275de8441e999db6f413d5172d2277b8c15a",
    "Tiantan": "0743e34799cf1ee36195b73321b91baa5625276532e7263c588f68cdef3b4daa",
    "Wanshouxigong": "ab1d6a356d6997a45f6d657ad47de1e05a4a08d4a7015b38a329a90665ab74d0",
}
FILES = tuple(
    DataFile(
        "beijing_air",
        f"PRSA_Data_{station}_20130301-20170228.csv",
        sha256,
        source="https://archive.ics.uci.edu/static/public/501/"
        "beijing+multi+site+air+quality+data.zip",
    )
    for station, sha256 in STATIONS.items()
)
COVARIATES = ("PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM")
# Where the wind comes from, clockwise from north in steps of 22.5 degrees.
WINDS = "N NNE NE ENE E ESE SE SSE S SSW SW WSW W WNW NW NNW".split()


def load() -> Series:
    """Read PM2.5 in ug/m3; the wind is given by its speed and its parts from east and north."""
    frames = [table(read(file)) for file in FILES]
    measured = np.stack([numbers(frame, "PM2.5", *COVARIATES) for frame in frames], axis=1)
    angle = np.stack([_angle(frame["wd"]) for frame in frames], axis=1)
    speed = measured[..., -1]
    past = {name: measured[..., place + 1] for place, name in enumerate(COVARIATES)}
    past |= {"wind from east": speed * np.sin(angle), "wind from north": speed * np.cos(angle)}
    return checked(
        Series(
            values=measured[..., 0],
            time=every("2013-03-01", 3600, len(measured)),
            step=3600,
            sensors=tuple(STATIONS),
            unit="ug/m3",
            past=past,
        )
    )


def _angle(directions) -> np.ndarray:
    angles = {name: 2 * np.pi * place / len(WINDS) for place, name in enumerate(WINDS)}
    return np.array([angles.get(name, np.nan) for name in directions])


DATASET = Dataset(
    name="beijing_air",
    title="PM2.5 at 9 stations in Beijing, with pollutants and weather, hourly, 2013-03 to 2017-02",
    domain="environment",
    licence="CC BY 4.0",
    home=HOME,
    files=FILES,
    read=load,
    season=24,
    protocols={
        "honest": Protocol(history=24, horizon=24, measures=("mae", "rmse"), leads=(1, 6, 12, 24))
    },
    cite="S. Zhang et al., Proc. R. Soc. A 473, 2017",
    steps="Unpack the zip file of the page, and the one inside it.",
)
