"""PEMS04: traffic flow at 307 detectors in California, every 5 minutes, with occupancy and speed.

Bring PEMS04.npz. Zeros of the flow are missing.
"""

from cityjax.data.dataset import Dataset
from cityjax.data.files import DataFile
from cityjax.data.sets import _sensors, _traffic

HOME = "https://github.com/guoshnBJTU/ASTGNN"
FILE = DataFile("pems04", "PEMS04.npz", "", source=f"{HOME} (data/PEMS04)")


def load():
    """Read vehicles per 5 minutes, with the graph of roads where it is at hand."""
    return _traffic.load_flows(
        FILE, "2018-01-01", lambda sensors: _sensors.road_weights(_sensors.PEMS04, sensors)
    )


DATASET = Dataset(
    name="pems04",
    title="Traffic flow at 307 detectors in California, every 5 min, 2018-01 to 2018-02",
    domain="transport",
    licence="none stated",
    home=HOME,
    files=(FILE, _sensors.PEMS04),
    read=load,
    season=2016,
    protocols=_traffic.protocols(
        (0.6, 0.2, 0.2),
        _traffic.mae_table(
            {
                "HA": "28.92/33.73/46.97",
                "FC-LSTM": "21.42/25.83/36.41",
                "DCRNN": "20.34/23.21/29.24",
                "STGCN": "19.35/21.85/26.97",
                "Graph WaveNet": "18.15/19.12/20.69",
                "MTGNN": "18.22/19.27/20.93",
                "D2STGNN": "17.44/18.28/19.55",
            },
            {"STID": "18.29/29.82", "STAEformer": "18.22/30.18"},
        ),
    ),
    cite="S. Guo et al., ASTGCN, AAAI 2019; California PeMS",
    steps="GitHub: data/PEMS04/PEMS04.npz and PEMS04.csv of the repository; an array data "
    "[16,992, 307, 3]. The CSV (the graph) goes into traffic_sensor_graphs in CITYJAX_DATA.",
)
