"""ILI: influenza-like illness in the USA, weekly, the 7 columns of the CDC's surveillance.

The file's dates begin at 2002-01-01, but its weeks are those of the seasons from week 40 of 2002
on: ILITOTAL is week by week the sum of the ten regions of `flu_regions`, and 2009's wave peaks in
October when counted so. Time here begins at 2002-09-29. Metrics are of z-scores.
"""

from cityjax.data.dataset import Dataset, Protocol, printed
from cityjax.data.files import DataFile, read
from cityjax.data.readers import every, numbers, table
from cityjax.data.series import Series, checked

WEEK = 7 * 86_400
FILE = DataFile(
    "ili",
    "national_illness.csv",
    "8594cecb98c6f2f9dc014eca11c4d5d1e38ad5ce6ed0592d4abe65b146fce395",
    source="https://github.com/thuml/Autoformer",
)
HONEST = Protocol(
    split=(676, 97, 193),
    history=104,
    horizon=24,
    measures=("mse", "mae"),
    standardised=True,
)
_METRICS = " ".join(f"mse@1-{h} mae@1-{h}" for h in (24, 36, 48, 60))
PUBLISHED = {
    # Zeng et al., AAAI 2023 (Repeat, DLinear, NLinear); Nie et al., ICLR 2023 (PatchTST).
    **printed(
        _METRICS,
        {
            "Repeat last value": "6.587/1.701 7.130/1.884 6.575/1.798 5.893/1.677",
            "DLinear": "2.215/1.081 1.963/.963 2.130/1.024 2.368/1.096",
            "NLinear": "1.683/.858 1.703/.859 1.719/.884 1.819/.917",
            "PatchTST/64": "1.319/.754 1.579/.870 1.553/.815 1.470/.788",
            "PatchTST/42": "1.522/.814 1.430/.834 1.673/.854 1.529/.862",
        },
    ),
    **printed(
        _METRICS,
        {
            f"{name} (figure from memory)": text
            for name, text in {
                "Informer": "5.764/1.677 4.755/1.467 4.763/1.469 5.264/1.564",
                "Autoformer": "3.483/1.287 3.103/1.148 2.669/1.085 2.770/1.125",
                "FEDformer": "3.228/1.260 2.679/1.080 2.622/1.078 2.857/1.157",
            }.items()
        },
    ),
}


def load() -> Series:
    """Read the seven columns, one row a week."""
    frame = table(read(FILE))
    sensors = tuple(frame.columns[1:])
    time = every("2002-09-29", WEEK, len(frame))
    return checked(Series(numbers(frame, *sensors), time, WEEK, sensors, "% or patients"))


DATASET = Dataset(
    name="ili",
    title="Influenza-like illness in the USA, 7 national figures a week, 966 weeks from 2002-W40",
    domain="health",
    licence="public domain (CDC ILINet)",
    home="https://gis.cdc.gov/grasp/fluview/fluportaldashboard.html",
    files=(FILE,),
    read=load,
    season=52,
    protocols={
        "honest": HONEST,
        "published": HONEST._replace(
            drop_last=32,
            text={"published": "the last incomplete batch of 32 test windows is left out"},
            published=PUBLISHED,
        ),
    },
    cite="CDC ILINet; H. Wu et al., Autoformer, NeurIPS 2021 (this file)",
    steps="national_illness.csv is in the data sets that the README of Autoformer links to "
    "(Google Drive), folder illness.",
)
