"""PEMS08: traffic flow at 170 detectors in California, every 5 minutes, with occupancy and speed.

Bring PEMS08.npz. Zeros of the flow are missing.
"""

from cityjax.data.dataset import Dataset
from cityjax.data.files import DataFile
from cityjax.data.sets import _sensors, _traffic

HOME = "https://github.com/guoshnBJTU/ASTGNN"
FILE = DataFile("pems08", "PEMS08.npz", "", source=f"{HOME} (data/PEMS08)")


def load():
    """Read vehicles per 5 minutes, with the graph of roads where it is at hand."""
    return _traffic.load_flows(
        FILE, "2016-07-01", lambda sensors: _sensors.road_weights(_sensors.PEMS08, sensors)
    )


DATASET = Dataset(
    name="pems08",
    title="Traffic flow at 170 detectors in California, every 5 min, 2016-07 to 2016-08",
    domain="transport",
    licence="none stated",
    home=HOME,
    files=(FILE, _sensors.PEMS08),
    read=load,
    season=2016,
    protocols=_traffic.protocols(
        (0.6, 0.2, 0.2),
        _traffic.mae_table(
            {
                "HA": "23.52/27.67/39.28",
                "FC-LSTM": "17.38/21.22/30.69",
                "DCRNN": "15.64/17.88/22.51",
                "STGCN": "15.30/17.69/25.46",
                "Graph WaveNet": "14.02/15.24/16.67",
                "MTGNN": "14.24/15.30/16.85",
                "D2STGNN": "13.14/14.21/15.69",
            },
            {"STID": "14.20/23.49", "STAEformer": "13.46/23.25"},
        ),
    ),
    cite="S. Guo et al., ASTGCN, AAAI 2019; California PeMS",
    steps="GitHub: data/PEMS08/PEMS08.npz and PEMS08.csv of the repository; an array data "
    "[17,856, 170, 3]. The CSV (the graph) goes into traffic_sensor_graphs in CITYJAX_DATA.",
)
