"""Chickenpox in Hungary: cases per week in 20 counties, 2005-2014, as z-scores of the whole series.

The file was standardised before it was published, with the mean and the spread of all weeks; the
counts cannot be had back from it. Its first week is taken to be that of 2005-01-03. Predicting 0,
the mean, is better than every published row: a check that a method works, not a ranking.
"""

import json

import numpy as np

from cityjax.data.dataset import Dataset, Protocol, printed
from cityjax.data.files import DataFile, read
from cityjax.data.readers import every
from cityjax.data.series import Series, checked

WEEK = 7 * 86_400
FILE = DataFile(
    "pygt_chickenpox",
    "chickenpox.json",
    "724b48cfb274b2ecbb855bdb99b970b5ef9dd3671694fa477435dc1e08293735",
    url="https://raw.githubusercontent.com/benedekrozemberczki/pytorch_geometric_temporal/"
    "master/dataset/chickenpox.json",
    source="https://github.com/benedekrozemberczki/pytorch_geometric_temporal",
)
HONEST = Protocol(history=8, horizon=4, measures=("mse", "mae"), leads=(1, 2, 4))
# Rozemberczki et al., CIKM 2021, table 3: the better of incremental and cumulative training.
PUBLISHED = {
    "DCRNN": "1.123",
    "GConvGRU": "1.128",
    "GConvLSTM": "1.119",
    "GC-LSTM": "1.115",
    "DyGrAE": "1.118",
    "EvolveGCN-H": "1.104",
    "EvolveGCN-O": "1.119",
    "A3T-GCN": "1.114",
    "T-GCN": "1.111",
    "MPNN-LSTM": "1.116",
    "AGCRN": "1.116",
}


def load() -> Series:
    """Read the z-scores and the graph of neighbouring counties, each its own neighbour."""
    content = json.loads(read(FILE))
    values = np.array(content["FX"])
    counties = tuple(sorted(content["node_ids"], key=content["node_ids"].get))
    adjacency = np.zeros((len(counties), len(counties)))
    adjacency[tuple(np.array(content["edges"]).T)] = 1
    time = every("2005-01-03", WEEK, len(values))
    return checked(Series(values, time, WEEK, counties, "z-score", adjacency=adjacency))


DATASET = Dataset(
    name="chickenpox",
    title="Chickenpox cases in 20 counties of Hungary, z-scores, 521 weeks from 2005",
    domain="health",
    licence="MIT (repository); counts CC BY 4.0",
    home="https://archive.ics.uci.edu/dataset/580/hungarian+chickenpox+cases",
    files=(FILE,),
    read=load,
    season=52,
    protocols={
        "honest": HONEST,
        "published": HONEST._replace(
            split=(0.16, 0.04, 0.8),
            history=4,
            horizon=1,
            measures=("mse",),
            leads=(1,),
            text={"published": "first 20 % train, no validation; here the last fifth of it is"},
            published=printed(
                "mse@1", {f"{row} (figure from memory)": text for row, text in PUBLISHED.items()}
            ),
        ),
    },
    cite="B. Rozemberczki et al., PyTorch Geometric Temporal, CIKM 2021",
)
