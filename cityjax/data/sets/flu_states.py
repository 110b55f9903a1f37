"""Influenza-like illness in 49 states and districts of the USA, weekly.

The file has neither dates nor names. Its rows begin with week 40 of 2010: their sum follows the
national figures of those weeks with a correlation of 0.998.
"""

import functools

from cityjax.data.dataset import Dataset
from cityjax.data.sets import _flu

VALUES = _flu.file(
    "state360.txt", "364c1047dba84bc62b9011360332b679bc9cbcba1dbff1b9db210166f4289bf1"
)
ADJACENCY = _flu.file(
    "state-adj.txt", "e8b147e43035bbf59deb9114af87b8bc6b098d031d3aeb9ed38338d19eeb087c"
)

DATASET = Dataset(
    name="flu_states",
    title="Patients with influenza-like illness in 49 states of the USA, 360 weeks from 2010-W40",
    domain="health",
    licence=_flu.LICENCE,
    home=_flu.HOME,
    files=(VALUES, ADJACENCY),
    read=functools.partial(_flu.load, VALUES, ADJACENCY, "2010-10-03", _flu.names("state", 49)),
    season=52,
    protocols=_flu.protocols(
        split=(180, 71, 109),  # int(0.7 * 360) is 251
        rmse="136/167/191/202/241/232",
        pcc=".955/.933/.907/.897/.822/.859",
        later="136/167/202/241/237",
    ),
    cite=_flu.CITE,
)
