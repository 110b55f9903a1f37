"""One PeMS detector: vehicles per 5 minutes on some working days of the first months of 2016.

train.csv has 27 days of January and February, test.csv 15 of March. Days that the files leave out
are missing here; the published models take the rows as they come, across those gaps. One row that
the detector did not observe (2016-02-29) keeps the value that PeMS put there.
"""

import numpy as np

from cityjax.data.dataset import Dataset, Protocol, printed
from cityjax.data.files import DataFile, read
from cityjax.data.readers import numbers, table, times
from cityjax.data.series import Series, checked

_HOME = "https://github.com/xiaochus/TrafficFlowPrediction"
_RAW = (
    "https://raw.githubusercontent.com/xiaochus/TrafficFlowPrediction/"
    "dec8243eb4ebe728d44d1ac73f38c2d3aaa9fd81/data/"
)
FILES = tuple(
    DataFile("pems_single", name, sha256, url=_RAW + name, source=_HOME)
    for name, sha256 in {
        "train.csv": "cf46f219b4595fa214d99d42a85ccd5e7137499efaa54e4705eaf25653b09f14",
        "test.csv": "c3abee88094bb733e04c74812ae6b749ac5f21f6ccedf53120b5e3d8df2fc7ba",
    }.items()
)
HONEST = Protocol(
    split=(21 / 42, 6 / 42, 15 / 42),  # days: train.csv is 27 of them, test.csv 15
    history=12,
    horizon=12,
    measures=("rmse", "mae", "mape"),
    leads=(1, 3, 6, 12),
)


def load() -> Series:
    """Read vehicles per 5 minutes, the days of both files one after the other."""
    frames = [table(read(file)) for file in FILES]
    values = [numbers(frame, "Lane 1 Flow (Veh/5 Minutes)") for frame in frames]
    time = [times(frame["5 Minutes"], "%d/%m/%Y %H:%M") for frame in frames]
    return checked(
        Series(np.concatenate(values), np.concatenate(time), 300, ("detector",), "vehicles/5 min")
    )


DATASET = Dataset(
    name="pems_single",
    title="Traffic flow at one detector in California, every 5 min of 42 working days of 2016",
    domain="transport",
    licence="MIT (repository); Caltrans PeMS",
    home=_HOME,
    files=FILES,
    read=load,
    season=2016,
    protocols={
        "honest": HONEST,
        "published": HONEST._replace(
            horizon=1,
            measures=("rmse", "mae", "mse", "mape"),
            leads=(1,),
            gaps=False,
            inside=True,
            text={"published": "rows as they come, 12 lags, the next step; min-max of train"},
            # The README of the repository.
            published=printed(
                "mae@1 mse@1 rmse@1 mape@1",
                {
                    "LSTM": "7.21/98.05/9.90/16.56",
                    "GRU": "7.20/99.32/9.97/16.78",
                    "SAEs": "7.06/92.08/9.60/17.80",
                },
            ),
        ),
    },
    cite="https://github.com/xiaochus/TrafficFlowPrediction; California PeMS",
)
