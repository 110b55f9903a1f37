"""I-94: vehicles per hour past one station between Minneapolis and St Paul, with the weather.

The series that `cityjax.data.i94` ships, cleaned; hours that were not observed are missing.
"""

from pathlib import Path

import numpy as np

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile
from cityjax.data.series import Series, checked

HOME = "https://archive.ics.uci.edu/dataset/492/metro+interstate+traffic+volume"
FILE = DataFile(
    "i94",
    "hourly.csv",
    "7b3086313e1c31d1197bf34ec01bba51c30cdc167d7705ad3a7ae8e1aba7c7e4",
    packaged=Path(__file__).parents[1] / "i94_files",
    source=HOME,
)


def load() -> Series:
    """Read vehicles per hour; weather is known up to now, holidays ahead (0 or 1, all day)."""
    from cityjax.data import i94  # its windows are made in JAX

    series = i94.load()
    return checked(
        Series(
            values=np.where(series.observed, series.volume, np.nan)[:, None],
            time=(series.hour * 3600).astype("datetime64[s]"),
            step=3600,
            sensors=("I-94 west",),
            unit="vehicles/h",
            past={
                "temperature": series.temperature,
                "rain": series.rain,
                "snow": series.snow,
                "clouds": series.clouds,
            },
            known={"holiday": i94.days_off(series)},
        )
    )


DATASET = Dataset(
    name="i94",
    title="Traffic volume on I-94 at Minneapolis, with weather and holidays, hourly, 2012-2018",
    domain="transport",
    licence="CC BY 4.0",
    home=HOME,
    files=(FILE,),
    read=load,
    season=168,
    protocols={
        "honest": Protocol(history=24, horizon=6, measures=("mae", "rmse"), leads=(1, 3, 6))
    },
    cite="MN Department of Transportation; J. Hogue, UCI 492, 2019",
)
