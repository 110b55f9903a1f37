"""NYC taxi: rides that begin in each of 30 zones, hourly, May and June 2018.

The file counts rides from zone to zone; a sensor is the zone of pick-up, all drop-offs together. A
zero is an hour without a ride, not a missing value. The zones have no names in it.
"""

from cityjax.data.dataset import Dataset, Protocol
from cityjax.data.files import DataFile, read
from cityjax.data.readers import every, matlab
from cityjax.data.series import Series, checked

HOME = "https://github.com/xinychen/transdim"
RAW = (
    "https://raw.githubusercontent.com/xinychen/transdim/"
    "99a31275f12504f59b0c3d3debd50fea92b2e973/datasets/"
)
FILE = DataFile(
    "transdim",
    "nyc_tensor.mat",
    "3514ad3922083176215590c4a59563464833b2d889764199de3913f71fff47be",
    url=f"{RAW}NYC-data-set/tensor.mat",
    source=HOME,
)


def load() -> Series:
    """Read rides per hour; adjacency: rides per hour from zone to zone in the first four weeks."""
    rides = matlab(read(FILE), "tensor").astype(float)  # from, to, hour
    values = rides.sum(axis=1).T
    zones = tuple(f"zone {number}" for number in range(1, len(rides) + 1))
    graph = rides[..., : 4 * 168].mean(axis=2)
    time = every("2018-05-01", 3600, len(values))
    return checked(Series(values, time, 3600, zones, "rides/h", adjacency=graph))


DATASET = Dataset(
    name="taxi",
    title="Taxi rides that begin in 30 zones of New York City, hourly, May and June 2018",
    domain="transport",
    licence="MIT (repository); NYC TLC trip records are public",
    home=HOME,
    files=(FILE,),
    read=load,
    season=168,
    protocols={
        "honest": Protocol(history=24, horizon=24, measures=("mae", "rmse"), leads=(1, 6, 12, 24))
    },
    cite="X. Chen, Z. He, L. Sun, Transportation Research C 98, 2019",
)
