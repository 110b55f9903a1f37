"""Appliances: what the appliances of a house in Belgium used, every 10 minutes, with its climate.

Temperatures and humidities of nine rooms are measured in the house, the weather at an airport
nearby. The file's two columns of random numbers are left out. Its published table is of a random
split, in which a row of test lies between its neighbours of train: there is no published protocol.
"""

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile, read
from cityjax.data.readers import numbers, table, times
from cityjax.data.series import Series, checked

HOME = "https://archive.ics.uci.edu/dataset/374/appliances+energy+prediction"
FILE = DataFile(
    "appliances_energy",
    "minute_energy_appliance.csv",
    "2820bf712ad0275cb18b85a05250926100d8e65ebb9f4d2d016ca91ea152a25d",
    source=HOME,
)


def load() -> Series:
    """Read watt-hours per 10 minutes; lights, rooms and weather are known up to now."""
    frame = table(read(FILE))
    beside = [name for name in frame.columns if name not in ("date", "Appliances", "rv1", "rv2")]
    return checked(
        Series(
            values=numbers(frame, "Appliances"),
            time=times(frame["date"]),
            step=600,
            sensors=("house",),
            unit="Wh/10 min",
            past=dict(zip(beside, numbers(frame, *beside).T, strict=True)),
        )
    )


DATASET = Dataset(
    name="appliances",
    title="Energy of the appliances of a house in Belgium, every 10 min, 2016-01 to 2016-05",
    domain="energy",
    licence="CC BY 4.0",
    home=HOME,
    files=(FILE,),
    read=load,
    season=144,
    protocols={
        "honest": Protocol(
            history=144, horizon=6, measures=("mae", "rmse", "mape"), leads=(1, 3, 6)
        )
    },
    cite="L. Candanedo, V. Feldheim, D. Deramaix, Energy and Buildings 140, 2017",
    steps="The file is energydata_complete.csv of the page, renamed.",
)
