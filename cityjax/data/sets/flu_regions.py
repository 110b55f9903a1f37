"""Influenza-like illness in the ten HHS regions of the USA, weekly.

The file has no dates. Its rows begin with week 40 of 2002, where ILINet's weekly reports for the
regions do: counted so, the wave of 2009 peaks in the week from 2009-10-18, as it did.
"""

import functools

from cityjax.data.dataset import Dataset
from cityjax.data.sets import _flu

VALUES = _flu.file(
    "region785.txt", "f6e7fdf21423dc5d43ef82cbde95eca5609c723973cb4aa4dd157de5b149a6cc"
)
ADJACENCY = _flu.file(
    "region-adj.txt", "45168c9c561f0fa28eab8e8d3b8ee740fbe63bc75935565a8c99337963510548"
)

DATASET = Dataset(
    name="flu_regions",
    title="Patients with influenza-like illness in the 10 HHS regions of the USA, 785 weeks",
    domain="health",
    licence=_flu.LICENCE,
    home=_flu.HOME,
    files=(VALUES, ADJACENCY),
    read=functools.partial(_flu.load, VALUES, ADJACENCY, "2002-09-29", _flu.names("region", 10)),
    season=52,
    protocols=_flu.protocols(
        split=(392, 157, 236),
        rmse="483/633/765/871/1126/1218",
        pcc=".944/.905/.863/.832/.719/.639",
        later="480/636/855/1134/1203",
    ),
    cite=_flu.CITE,
)
