"""ETTh1: load and oil temperature of an electricity transformer, hourly, its 7 columns as sensors.

Months are 30 days: 12 of train, 4 of validation, 4 of test; later rows belong to no part. Metrics
are of z-scores, since load and temperature share no unit.
"""

from cityjax.data.dataset import Dataset, Protocol, printed
from cityjax.data.files import DataFile, read
from cityjax.data.readers import numbers, table, times
from cityjax.data.series import Series, checked

_HOME = "https://github.com/zhouhaoyi/ETDataset"
FILE = DataFile(
    "etth",
    "ETTh1.csv",
    "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    url="https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",
    source=_HOME,
)
HONEST = Protocol(
    split=(8640, 2880, 2880),
    history=336,
    horizon=96,
    measures=("mse", "mae"),
    standardised=True,
)
_HORIZONS = (96, 192, 336, 720)
PUBLISHED = {
    # Zeng et al., AAAI 2023 (Repeat, DLinear, NLinear); Nie et al., ICLR 2023 (PatchTST);
    # Liu et al., ICLR 2024 (iTransformer, TimesNet).
    **printed(
        " ".join(f"mse@1-{h} mae@1-{h}" for h in _HORIZONS),
        {
            "Repeat last value": "1.295/.713 1.325/.733 1.323/.744 1.339/.756",
            "DLinear": ".375/.399 .405/.416 .439/.443 .472/.490",
            "NLinear": ".374/.394 .408/.415 .429/.427 .440/.453",
            "PatchTST/64 (history 512)": ".370/.400 .413/.429 .422/.440 .447/.468",
            "PatchTST/42": ".375/.399 .414/.421 .431/.436 .449/.466",
            "iTransformer (history 96)": ".386/.405 .441/.436 .487/.458 .503/.491",
            "TimesNet (history 96)": ".384/.402 .436/.429 .491/.469 .521/.500",
        },
    ),
    **printed(
        " ".join(f"mse@1-{h}" for h in _HORIZONS),
        {
            "FITS (ICLR 2024)": ".372/.404/.427/.424",
            "Informer (figure from memory)": ".865 1.008 1.107 1.181",
            "TimeMixer (history 96; figure from memory)": ".375 .429 .484 .498",
        },
    ),
}


def load() -> Series:
    """Read the seven columns, hourly; the bytes of the file may not be changed (CC BY-ND)."""
    frame = table(read(FILE))
    sensors = tuple(frame.columns[1:])
    time = times(frame["date"])
    return checked(Series(numbers(frame, *sensors), time, 3600, sensors, "load; OT in °C"))


DATASET = Dataset(
    name="ett",
    title="ETTh1: six loads and the oil temperature of a transformer in China, hourly, 2016-2018",
    domain="energy",
    licence="CC BY-ND 4.0 (keep the bytes unchanged)",
    home=_HOME,
    files=(FILE,),
    read=load,
    season=24,
    protocols={
        "honest": HONEST,
        "published": HONEST._replace(
            drop_last=32,
            text={"published": "the last incomplete batch of 32 test windows is left out"},
            published=PUBLISHED,
        ),
    },
    cite="H. Zhou et al., Informer, AAAI 2021",
)
