"""Crime reports in New York City: counts per day, category and cell of 3 km x 3 km.

A sensor is one category in one cell, of the four categories and the cells where the training part
has a report of it. The grid is that of ST-SHN and ST-HSL (degrees / 111 and / 84 are km; 16 x 16
cells), its corner the lowest latitude and longitude of the training part. Reports of the other
parts that fall outside it, or on a sensor that train never saw, are not counted.
"""

import io
import zipfile

import numpy as np

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile, read
from cityjax.data.readers import every, numbers, table, times
from cityjax.data.series import Series, checked

HOME = "https://github.com/akaxlh/ST-SHN"
FILE = DataFile(
    "crime_nyc_chi",
    "NYC_Crime.zip",
    "ed147db0acb2b8679b87e7b1de004e1bb23a24e2381fd7f0afa49dc826c766de",
    url="https://raw.githubusercontent.com/LZH-YS1998/STHSL/"
    "6f3429c07f88ada44b5c34a0a098e95eedf9cbd6/Datasets/NYC_crime/NYC_Crime.zip",
    source=HOME,
)
START, DAYS = "2014-01-01", 730
# Train and test 7:1, the last 30 days of train for validation: the last months of 2015 are tested.
SPLIT = (608, 30, 92)
CATEGORIES = ("BURGLARY", "FELONY ASSAULT", "GRAND LARCENY", "ROBBERY")
CELL = np.array([3 / 111, 3 / 84])  # degrees of latitude and of longitude


def load() -> Series:
    """Read reports per day, [730, sensors]; sensors are named `ROBBERY 3,7` (row, column)."""
    with zipfile.ZipFile(io.BytesIO(read(FILE))) as archive:
        return counts(archive.read("NYC_Crime.csv"))


def counts(content: bytes) -> Series:
    """Count the reports of a CSV (Occurrence Date, Offense, Latitude, Longitude) on the grid.

    adjacency: 1 between touching cells within a category, and between the categories of a cell.
    """
    frame = table(content)
    day = times(frame["Occurrence Date"], "%m/%d/%Y %I:%M:%S %p").astype("datetime64[D]")
    day = (day - np.datetime64(START)).astype(int)
    category = np.searchsorted(CATEGORIES, frame["Offense"].to_numpy().astype(str))
    place = numbers(frame, "Latitude", "Longitude").astype(np.float64)
    train = day < SPLIT[0]
    corner = place[train].min(axis=0)
    cell = np.floor((place - corner) / CELL).astype(int)
    rows, columns = cell[train].max(axis=0) + 1
    inside = ((cell >= 0) & (cell < (rows, columns))).all(axis=1)
    grid = np.zeros((DAYS, len(CATEGORIES), rows, columns), np.float32)
    np.add.at(grid, (day[inside], category[inside], *cell[inside].T), 1)
    seen = np.argwhere(grid[: SPLIT[0]].any(axis=0))
    apart = np.abs(seen[:, None] - seen[None])
    touching = (apart[..., 0] == 0) & (apart[..., 1:].max(axis=2) <= 1)
    return checked(
        Series(
            values=grid[:, *seen.T],
            time=every(START, 86_400, DAYS),
            step=86_400,
            sensors=tuple(f"{CATEGORIES[kind]} {row},{column}" for kind, row, column in seen),
            unit="reports/day",
            adjacency=touching | (apart[..., 1:].max(axis=2) == 0),
            coordinates=corner + (seen[:, 1:] + 0.5) * CELL,
        )
    )


DATASET = Dataset(
    name="crime_nyc",
    title="Crime reports per day in New York City by category and cell of 3 km, 2014-2015",
    domain="safety",
    licence="none stated (repository); NYC Open Data is public",
    home=HOME,
    files=(FILE,),
    read=load,
    season=7,
    protocols={
        "honest": Protocol(
            split=SPLIT,
            history=30,
            horizon=1,
            # The first selects. Most counts are 0, and so is their median: the least absolute
            # error is of forecasts of hardly any report.
            measures=("rmse", "mae", "mape"),
            leads=(1,),
            # The papers score these only; a forecast of many does well there.
            text={"null": "mape is over the cells and days with a report"},
        )
    },
    cite="L. Xia et al., ST-SHN, IJCAI 2021; Z. Li et al., ST-HSL, ICDE 2022; NYC Open Data",
)
