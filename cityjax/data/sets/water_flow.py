"""Water flow in a branch of a pipeline in Italy, hourly, spring 2022.

Times have their offset (+01:00, +02:00); people draw water by the clock on the wall, so that is the
time here. The rule: sort; the mean of an hour that the clock repeats; an hour that it skips, or
that nobody wrote, is missing. Three drops and a small peak are anomalies of the pipeline.
"""

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile, read
from cityjax.data.readers import numbers, one_row_per_time, table, times
from cityjax.data.series import Series, checked

HOME = "https://github.com/online-ml/river"
FILE = DataFile(
    "waterflow",
    "water-flow.csv",
    "6c84efeb8b148dd2ace656f11f5bd90de22dad014b094e3baafd8dbca69c83dc",
    source=f"{HOME} (river/datasets)",
)


def load() -> Series:
    """Read litres per second, one row an hour of the local clock."""
    frame = table(read(FILE))
    clock = times(frame["Time"].str.slice(0, 19), "%Y-%m-%dT%H:%M:%S")
    time, values = one_row_per_time(clock, numbers(frame, "Water flow [l/s]"))
    return checked(Series(values, time, 3600, ("branch",), "l/s"))


DATASET = Dataset(
    name="water_flow",
    title="Water flow in a pipeline branch in Italy, hourly, 2022-03 to 2022-05, with anomalies",
    domain="environment",
    licence="BSD 3-Clause (river); donated by Tecnojest s.r.l.",
    home=HOME,
    files=(FILE,),
    read=load,
    season=24,
    protocols={"honest": Protocol(history=48, horizon=24, leads=(1, 6, 12, 24))},
    cite="J. Montiel et al., River, JMLR 22, 2021",
    steps="The file is part of the Python package river: river/datasets/water-flow.csv.",
)
