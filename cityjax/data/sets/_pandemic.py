"""COVID-19 in the regions of a country, daily, and how many people moved between them.

Repository pandemic_tgnn: a CSV of new cases per region and day, and one CSV of movements per day,
from, to, people, as a map of Facebook Data for Good had them.
"""

import csv
import io
import tarfile

import numpy as np

from cityjax.data.dataset import Dataset, Protocol, printed
from cityjax.data.files import DataFile, read
from cityjax.data.readers import numbers, table
from cityjax.data.series import Series, checked

HOME = "https://github.com/geopanag/pandemic_tgnn"
_RAW = (
    "https://raw.githubusercontent.com/geopanag/pandemic_tgnn/"
    "2451cda75b8b5de3f254e70cb8fb9e06445da588/data/"
)
# The graph is the mean of these first days, which every protocol knows before its first forecast.
GRAPH_DAYS = 14
HONEST = Protocol(
    split=(0.5, 0.2, 0.3),
    history=7,
    horizon=14,
    measures=("mae", "rmse"),
    leads=((1, 3), (1, 7), (1, 14)),
    whole=False,
)


def labels(country: str, sha256: str) -> DataFile:
    """The file of new cases: `England` gives data/England/england_labels.csv."""
    name = f"{country.lower()}_labels.csv"
    url = f"{_RAW}{country}/{name}"
    return DataFile("pandemic_tgnn", name, sha256, url=url, source=HOME)


def graphs(country: str, sha256: str) -> DataFile:
    """The daily movements, the repository's folder in one archive."""
    return DataFile("pandemic_tgnn", f"{country}_graphs.tar", sha256, source=f"{HOME} (data)")


def load(cases: DataFile, movements: DataFile, *, mobile: bool) -> Series:
    """Read new cases per day. mobile: only the regions whose movements are known, as published.

    adjacency: people who moved from the row's region to the column's, a day, the mean of the first
    `GRAPH_DAYS` days; those who stayed are on its diagonal.
    """
    frame = table(read(cases))
    regions, days = frame["name"].to_list(), frame.columns[1:]
    values = numbers(frame, *days).T
    moved = _movements(read(movements), regions)
    known = np.flatnonzero((moved.sum(axis=0) + moved.sum(axis=1) > 0) | (not mobile))
    return checked(
        Series(
            values=values[:, known],
            time=np.array(days, "datetime64[s]"),
            step=86_400,
            sensors=tuple(regions[place] for place in known),
            unit="cases/day",
            adjacency=moved[np.ix_(known, known)],
        )
    )


def _movements(content: bytes, regions: list[str]) -> np.ndarray:
    place = {region: number for number, region in enumerate(regions)}
    total = np.zeros((len(regions), len(regions)))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name in sorted(m.name for m in archive.getmembers() if m.isfile())[:GRAPH_DAYS]:
            day = archive.extractfile(name)
            assert day is not None
            for start, end, people in csv.reader(io.TextIOWrapper(day, "utf-8")):
                total[place[start], place[end]] += float(people)
    return total / GRAPH_DAYS


def dataset(
    name: str,
    country: str,
    files: tuple[DataFile, DataFile],
    *,
    mobile: bool = True,
    published: dict[str, str] | None = None,
) -> Dataset:
    """Return the data set of one country.

    published: rows of the mean absolute error over the next 3 days.
    """
    protocols = {"honest": HONEST}
    if published is not None:
        protocols["published"] = HONEST._replace(
            split=(10, 5, 46),
            refit=1,
            text={
                "published": "from the 15th day on a new model before each day and for each lead,"
                " on all days before it; the mean of the leads' means"
            },
            published=printed("mae@1-3", published),
        )
    regions = "with known mobility" if mobile else "of the file"
    return Dataset(
        name=name,
        title=f"New COVID-19 cases per day in the regions {regions}, {country}, spring 2020",
        domain="health",
        licence="MIT (repository); open case data, Facebook Data for Good",
        home=HOME,
        files=files,
        read=lambda: load(*files, mobile=mobile),
        season=7,
        protocols=protocols,
        cite="G. Panagopoulos, G. Nikolentzos, M. Vazirgiannis, AAAI 2021",
        steps="The archive of movements has this checksum when it is packed in the folder data of "
        "the repository by GNU tar:\n  tar --sort=name --owner=root --group=root "
        f"--mode=ug=rwX,o=rX --mtime=2021-01-01Z -cf {country}_graphs.tar {country}/graphs",
    )
