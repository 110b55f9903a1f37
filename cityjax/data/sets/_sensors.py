"""Where the detectors of METR-LA, PEMS-BAY and PEMS0x stand, and the graphs between them.

All files are optional: without them a series has no graph and no map.
"""

from collections.abc import Sequence

import numpy as np

from cityjax.data.files import DataError, DataFile, locate, read
from cityjax.data.graphs import from_edges, gaussian_kernel
from cityjax.data.readers import sparse_matrix, table


def _file(name: str, sha256: str, source: str = "https://github.com/liyaguang/DCRNN") -> DataFile:
    return DataFile("traffic_sensor_graphs", name, sha256, source=source, optional=True)


# Rows of the locations are in the order of the weights, which fall with the distance.
LOS_ANGELES = _file(
    "graph_sensor_locations.csv",
    "eb8ea96e07358b45d0e4ba3b89c2673fa20c54af50150249e627389e749ade6f",
)
BAY = _file(
    "graph_sensor_locations_bay.csv",
    "276ee01059610774d4e59572507f7e32eaac21f1f5882fcd9e3d7d426a4b7a6c",
)
LOS_ANGELES_WEIGHTS = _file(
    "metr-la_adj_scipy_sparse.npz",
    "6b8ec5e2d006b9bef512f00aaa28da3299b94f7a8c31215df68627fbfea7960c",
    "https://github.com/hazdzz/STGCN",
)
BAY_ROADS = _file(
    "distances_bay_2017.csv",
    "e5feed06bfa1ba4c554a946d0e03d99f2018365eec5a8f28fd8504dea9d082b5",
)
PEMS04 = _file(
    "PEMS04.csv",
    "68ffaa80447eb34428a9999dc28363c61406ec0fd714686d0582d2386ac6f5f7",
    "https://github.com/guoshnBJTU/ASTGNN",
)
PEMS08 = _file(
    "PEMS08.csv",
    "859d68e7583ed4e6016588eaaca494d3ece286dae361614c5c1833017f87eaa7",
    "https://github.com/guoshnBJTU/ASTGNN",
)


def locations(file: DataFile) -> dict[str, tuple[float, float]] | None:
    """Return sensor -> (latitude, longitude) in the order of the file, None where it is absent."""
    if locate(file) is None:
        return None
    frame = table(read(file), header=file is LOS_ANGELES)
    if file is LOS_ANGELES:
        frame = frame.drop("index")
    return {str(sensor): (latitude, longitude) for sensor, latitude, longitude in frame.iter_rows()}


def coordinates(file: DataFile, sensors: Sequence[str]) -> np.ndarray | None:
    """Return [N, 2] of these sensors; None where the file is absent.

    Raises DataError for a sensor that is not in the file.
    """
    places = locations(file)
    return None if places is None else np.array([places[_known(s, places)] for s in sensors])


def weights(file: DataFile, order: DataFile, sensors: Sequence[str]) -> np.ndarray | None:
    """Return the published weights [N, N] between these sensors; None where a file is absent."""
    places = locations(order)
    if places is None or locate(file) is None:
        return None
    place = {name: number for number, name in enumerate(places)}
    rows = [place[_known(sensor, place)] for sensor in sensors]
    return sparse_matrix(read(file))[np.ix_(rows, rows)]


def road_weights(
    file: DataFile, sensors: Sequence[str], *, threshold: float = 0.0
) -> np.ndarray | None:
    """Return the Gaussian kernel [N, N] of the lengths of roads; None where the file is absent.

    The file lists sensor, sensor, length; roads of other sensors are left out.
    """
    if locate(file) is None:
        return None
    frame = table(read(file), header=file is not BAY_ROADS)
    edges = [(str(int(start)), str(int(end)), length) for start, end, length in frame.iter_rows()]
    return gaussian_kernel(from_edges(sensors, edges, absent=np.inf), threshold=threshold)


def _known(sensor: str, known) -> str:
    if sensor not in known:
        raise DataError(f"sensor {sensor} is not among the {len(known)} of its graph")
    return sensor
