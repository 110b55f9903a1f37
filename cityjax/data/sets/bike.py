"""Capital Bikeshare: rented bicycles per hour in Washington DC, two years, with the weather.

Hours without a row had no rental or no record, which the file does not tell apart: they are
missing. `casual` and `registered` add up to the target and are not read. Weather is as in the file:
temperatures, humidity and wind on scales of 0 to 1, the situation from 1 (clear) to 4 (storm).
"""

import numpy as np

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile, read
from cityjax.data.readers import numbers, table
from cityjax.data.series import Series, checked, regular

FILE = DataFile(
    "uci_bike",
    "hour.csv",
    "b03a2d02e8c10f435c43c7f0b358b7e34a003afea53dbc37f0183f2763295133",
    source="https://archive.ics.uci.edu/static/public/275/bike+sharing+dataset.zip",
)
WEATHER = ("weathersit", "temp", "atemp", "hum", "windspeed")
DAYS = ("holiday", "workingday")


def load() -> Series:
    """Read rentals of every hour; holidays and working days are known ahead."""
    frame = table(read(FILE))
    day = frame["dteday"].cast(str).to_numpy().astype("datetime64[D]")
    series = regular(
        Series(
            values=numbers(frame, "cnt"),
            time=day.astype("datetime64[s]") + frame["hr"].to_numpy() * np.timedelta64(3600, "s"),
            step=3600,
            sensors=("Washington DC",),
            unit="bicycles/h",
            past=dict(zip(WEATHER, numbers(frame, *WEATHER).T, strict=True)),
        )
    )
    # Of the day, not of the last row before: a night without rows may begin another day.
    days, first = np.unique(day, return_index=True)
    row = first[np.searchsorted(days, series.time.astype("datetime64[D]"))]
    known = dict(zip(DAYS, numbers(frame, *DAYS)[row].T, strict=True))
    return checked(series._replace(known=known))


DATASET = Dataset(
    name="bike",
    title="Bicycles rented per hour in Washington DC, with weather and holidays, 2011-2012",
    domain="transport",
    licence="CC BY 4.0",
    home="https://archive.ics.uci.edu/dataset/275/bike+sharing+dataset",
    files=(FILE,),
    read=load,
    season=168,
    protocols={
        "honest": Protocol(
            history=168, horizon=24, measures=("mae", "rmse", "mape"), leads=(1, 6, 12, 24)
        )
    },
    cite="H. Fanaee-T, J. Gama, Progress in Artificial Intelligence 2, 2014",
    steps="Unpack hour.csv from the zip file of the page; its line ends must be LF (dos2unix).",
)
