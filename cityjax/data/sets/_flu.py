"""What the influenza panels of Cola-GNN share: their reader, their protocol and its table."""

from collections.abc import Sequence

import numpy as np

from cityjax.data.dataset import Protocol, printed
from cityjax.data.files import DataFile, read
from cityjax.data.readers import every, table
from cityjax.data.series import Series, checked

HOME = "https://github.com/amy-deng/colagnn"
CITE = "S. Deng et al., Cola-GNN, CIKM 2020; CDC ILINet"
LICENCE = "none stated (repository); CDC ILINet is public domain"
_RAW = (
    "https://raw.githubusercontent.com/amy-deng/colagnn/"
    "7da87d6dad05d38f914aae9224b4814743d5584e/data/"
)
WEEK = 7 * 86_400
HONEST = Protocol(
    split=(0.5, 0.2, 0.3),
    history=20,
    horizon=15,
    measures=("rmse", "mae", "pcc"),
    leads=(2, 3, 5, 10, 15),
    whole=False,
)


def file(name: str, sha256: str) -> DataFile:
    """One file of the repository's folder data."""
    return DataFile("epi_colagnn", name, sha256, url=_RAW + name, source=HOME)


def load(values: DataFile, adjacency: DataFile, start: str, sensors: Sequence[str]) -> Series:
    """Read patients per week from `start` on, and the 0/1 graph of neighbours."""
    counts = table(read(values), header=False).to_numpy()
    edges = table(read(adjacency), header=False).to_numpy()
    time = every(start, WEEK, len(counts))
    return checked(Series(counts, time, WEEK, tuple(sensors), "patients", adjacency=edges))


def protocols(split: tuple[int, int, int], rmse: str, pcc: str, later: str) -> dict[str, Protocol]:
    """Return the honest protocol, and the same with the published rows.

    split: 50/20/30 as the authors' code rounds it. rmse, pcc: at 2, 3, 4, 5, 10 and 15 weeks (arXiv
    1912.10202v2); later: rmse at 2, 3, 5, 10 and 15, as EpiGNN (ECML-PKDD 2022) gives them.
    """
    weeks = (2, 3, 4, 5, 10, 15)
    first = " ".join([f"rmse@{h}" for h in weeks] + [f"pcc@{h}" for h in weeks])
    second = " ".join(f"rmse@{h}" for h in HONEST.leads)
    published = HONEST._replace(
        split=split,
        text={"published": "a model for each lead, min-max by train, mean of 10 runs"},
        published={
            **printed(first, {"Cola-GNN (arXiv version 2)": f"{rmse} {pcc}"}),
            **printed(second, {"Cola-GNN (as EpiGNN lists it)": later}),
        },
    )
    return {"honest": HONEST, "published": published}


def names(kind: str, count: int) -> tuple[str, ...]:
    """Names of columns that the file leaves nameless: `state 1`, ..."""
    return tuple(f"{kind} {number}" for number in np.arange(count) + 1)
