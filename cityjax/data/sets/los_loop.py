"""Los-loop: speeds at 207 loop detectors on highways of Los Angeles, one week of 5 minutes.

The week of METR-LA that T-GCN was published with. The authors filled what was missing, so nothing
is here; their table is of the epoch with the least error on the test part.
"""

import io

import numpy as np

from cityjax.data.dataset import Dataset, Protocol, printed
from cityjax.data.files import DataFile, read
from cityjax.data.readers import every, numbers, table
from cityjax.data.series import Series, checked
from cityjax.data.sets import _sensors

_HOME = "https://github.com/lehaifeng/T-GCN"
_RAW = "https://raw.githubusercontent.com/lehaifeng/T-GCN/master/data/"
SPEED = DataFile(
    "los_loop",
    "los_speed.csv",
    "7b732d86ae32b2930595becba28aff39dacbfb2197e250fc0332e1744ce2cbf4",
    url=f"{_RAW}los_speed.csv",
    source=_HOME,
)
ADJACENCY = DataFile(
    "los_loop",
    "los_adj.csv",
    "7a6eb41e10677992b5af50f5ab187c6c05c5c3a92cb973950cfddbf857361e76",
    url=f"{_RAW}los_adj.csv",
    source=_HOME,
)
LEADS = ((1, 3), (1, 6), (1, 9), (1, 12))
# Zhao et al., T-GCN, IEEE T-ITS 2019, table I; A3T-GCN: Bai et al., arXiv 2006.11583.
PUBLISHED = printed(
    " ".join(f"rmse@1-{h} mae@1-{h} frobenius_accuracy@1-{h}" for _, h in LEADS),
    {
        f"{name} (epoch picked on test; figure from memory)": text
        for name, text in {
            "HA": " ".join(["7.4427/4.0145/.8733"] * 4),
            "ARIMA": "10.0439/7.6832/.8275 9.3450/7.6891/.8275 "
            "10.0508/7.6924/.8273 10.0538/7.6952/.8273",
            "SVR": "6.0084/3.7285/.8977 6.9588/3.7248/.8815 "
            "7.7504/4.1288/.8680 8.4388/4.5036/.8562",
            "GCN": "7.7922/5.3525/.8673 8.3353/5.6118/.8581 "
            "8.8036/5.9534/.8500 9.2657/6.2892/.8421",
            "GRU": "5.2182/3.0602/.9109 6.2802/3.6505/.8931 "
            "7.0343/4.0915/.8801 7.6621/4.5186/.8694",
            "T-GCN": "5.1264/3.1802/.9127 6.0598/3.7466/.8968 "
            "6.7065/4.1158/.8857 7.2677/4.6021/.8762",
            "A3T-GCN": "5.0904/3.1365/.9133 5.9974/3.6610/.8979 "
            "6.6840/4.1712/.8861 7.0990/4.2343/.8790",
        }.items()
    },
)
HONEST = Protocol(
    split=(0.7, 0.1, 0.2), history=12, horizon=12, measures=("rmse", "mae"), leads=LEADS
)


def load() -> Series:
    """Read speeds in miles per hour and the authors' weights between detectors."""
    frame = table(read(SPEED))
    return checked(
        Series(
            values=numbers(frame, *frame.columns),
            time=every("2012-03-01", 300, len(frame)),
            step=300,
            sensors=tuple(frame.columns),
            unit="mph",
            adjacency=np.loadtxt(io.BytesIO(read(ADJACENCY)), delimiter=","),
            coordinates=_sensors.coordinates(_sensors.LOS_ANGELES, frame.columns),
        )
    )


DATASET = Dataset(
    name="los_loop",
    title="Speed at 207 detectors on highways of Los Angeles, every 5 min of 1-7 March 2012",
    domain="transport",
    licence="none stated for the data",
    home=_HOME,
    files=(SPEED, ADJACENCY, _sensors.LOS_ANGELES),
    read=load,
    season=288,
    protocols={
        "honest": HONEST,
        # The authors train on 80 % without a validation part, and leave out the last window.
        "published": HONEST._replace(
            split=(1411, 201, 403),
            measures=("rmse", "mae", "frobenius_accuracy"),
            inside=True,
            text={
                "published": "80 % train, no validation, scaled by the maximum of the whole series,"
                " epoch picked on test; here the last eighth of the 80 % is validation",
            },
            published=PUBLISHED,
        ),
    },
    cite="L. Zhao et al., T-GCN, IEEE T-ITS 2019; H. V. Jagadish et al., CACM 2014",
)
