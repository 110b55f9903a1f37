"""PJM: electricity load of the AEP region, hourly, 2004-2018.

The rows are not sorted and their clock changes with daylight saving. The rule: sort; the mean of an
hour that was written twice; an hour that the clock skipped, or that nobody wrote, is missing.
"""

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile, read
from cityjax.data.readers import numbers, one_row_per_time, table, times
from cityjax.data.series import Series, checked

HOME = "https://www.kaggle.com/datasets/robikscube/hourly-energy-consumption"
FILE = DataFile(
    "pjm",
    "AEP_hourly.csv",
    "109d122f7b485555c609eecdec2cd5a03172e0a08acd358d863acc93eb452585",
    source=HOME,
)


def load() -> Series:
    """Read the load in MW, one row an hour of the local clock."""
    frame = table(read(FILE))
    time, values = one_row_per_time(times(frame["Datetime"]), numbers(frame, "AEP_MW"))
    return checked(Series(values, time, 3600, ("AEP",), "MW"))


DATASET = Dataset(
    name="pjm",
    title="Electricity load of the AEP region (Ohio, Virginia, ...), hourly, 2004-10 to 2018-08",
    domain="energy",
    licence="CC0",
    home=HOME,
    files=(FILE,),
    read=load,
    season=168,
    protocols={
        "honest": Protocol(
            history=168, horizon=24, measures=("mae", "rmse", "mape"), leads=(1, 6, 12, 24)
        )
    },
    cite="PJM Interconnection, https://dataminer2.pjm.com",
    steps="Kaggle asks for an account: download archive.zip there and unpack AEP_hourly.csv.",
)
