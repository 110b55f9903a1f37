"""What the traffic sets that a user brings share: readers of their two layouts, and the rows.

Nobody could state the checksums of these files here: a result names the one that was read. A zero
is missing in all of them, as in every published table; a quiet minute at night is lost with it.
"""

from collections.abc import Callable

import numpy as np

from cityjax.data.dataset import Protocol, printed
from cityjax.data.files import DataError, DataFile, read
from cityjax.data.readers import every, hdf5_frame, npz
from cityjax.data.series import Series, checked

# Shao et al., D2STGNN, VLDB 2022 (arXiv 2206.09112), table 3.
TABLE = "15, 30 and 60 min; masked zeros; windows are split, not rows"
HONEST = Protocol(
    history=12, horizon=12, measures=("mae", "rmse", "mape"), leads=(3, 6, 12, (1, 12))
)


def protocols(
    split: tuple[float, float, float], published: dict[str, dict[str, float]]
) -> dict[str, Protocol]:
    """Return the honest protocol (rows with their gaps) and the published one (rows as they come).

    split: of the published rows.
    """
    shares = (split[0] / sum(split), split[1] / sum(split), split[2] / sum(split))
    as_printed = HONEST._replace(
        split=split, gaps=False, text={"published": TABLE}, published=published
    )
    return {"honest": HONEST._replace(split=shares), "published": as_printed}


def full_table(rows: dict[str, str]) -> dict[str, dict[str, float]]:
    """Read MAE/RMSE/MAPE% at 15, 30 and 60 minutes."""
    return printed(" ".join(f"mae@{h} rmse@{h} mape@{h}" for h in (3, 6, 12)), rows)


def mae_table(at_leads: dict[str, str], averages: dict[str, str]) -> dict[str, dict[str, float]]:
    """Read MAE at 15, 30 and 60 minutes, and MAE/RMSE over all twelve steps (from memory)."""
    averages = {f"{row} (figure from memory)": text for row, text in averages.items()}
    return {
        **printed("mae@3 mae@6 mae@12", at_leads),
        **printed("mae@1-12 rmse@1-12", averages),
    }


def load_speeds(
    file: DataFile,
    graph: Callable[[tuple[str, ...]], np.ndarray | None],
    coordinates: Callable[[tuple[str, ...]], np.ndarray | None],
) -> Series:
    """Read speeds every 5 minutes from a frame of pandas in HDF5; columns are detectors."""
    values, time, sensors = hdf5_frame(read(file), file.name)
    return checked(
        Series(
            values=np.where(values == 0, np.nan, values),
            time=time,
            step=300,
            sensors=sensors,
            unit="mph",
            adjacency=graph(sensors),
            coordinates=coordinates(sensors),
        )
    )


def load_flows(
    file: DataFile, start: str, graph: Callable[[tuple[str, ...]], np.ndarray | None]
) -> Series:
    """Read flow, occupancy and speed every 5 minutes from an array `data` [T, N, 3] of numpy."""
    data = npz(read(file), "data", file.name)
    if data.ndim != 3 or data.shape[2] != 3 or data.dtype.kind not in "fiu":
        raise DataError(
            f"{file.name} holds data of shape {data.shape} and type {data.dtype}: numbers "
            "[steps, detectors, 3] (flow, occupancy, speed) are expected"
        )
    flow, occupancy, speed = np.moveaxis(data, 2, 0)
    sensors = tuple(map(str, range(flow.shape[1])))
    return checked(
        Series(
            values=np.where(flow == 0, np.nan, flow),
            time=every(start, 300, len(flow)),
            step=300,
            sensors=sensors,
            unit="vehicles/5 min",
            past={"occupancy": occupancy, "speed": speed},
            adjacency=graph(sensors),
        )
    )
