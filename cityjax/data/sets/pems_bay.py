"""PEMS-BAY: speeds at 325 detectors in the San Francisco Bay Area, every 5 minutes, 2017.

Bring pems-bay.h5. Zeros are missing. The hour that the clock skips in March has no rows: it is
missing under the honest protocol and passed over under the published one. The published parts are
of windows, as in `metr_la`.
"""

from cityjax.data.dataset import Dataset
from cityjax.data.files import DataFile
from cityjax.data.sets import _sensors, _traffic

HOME = "https://github.com/liyaguang/DCRNN"
FILE = DataFile(
    "pems_bay",
    "pems-bay.h5",
    "",
    source=f"{HOME} (README: Google Drive)",
    original="65d69fb0a2323dba9867179eb7af47c8b814186bc459ff0a4937d21614153c8f",
)


def load():
    """Read speeds in miles per hour, with the graph and the map where they are at hand."""
    return _traffic.load_speeds(
        FILE,
        lambda sensors: _sensors.road_weights(_sensors.BAY_ROADS, sensors, threshold=0.1),
        lambda sensors: _sensors.coordinates(_sensors.BAY, sensors),
    )


DATASET = Dataset(
    name="pems_bay",
    title="Speed at 325 detectors in the San Francisco Bay Area, every 5 min, 2017-01 to 2017-06",
    domain="transport",
    licence="none stated",
    home=HOME,
    files=(FILE, _sensors.BAY_ROADS, _sensors.BAY),
    read=load,
    season=2016,
    protocols=_traffic.protocols(
        (36477, 5209, 10430),
        _traffic.full_table(
            {
                "HA": "1.89/4.30/4.16 2.50/5.82/5.62 3.31/7.54/7.65",
                "FC-LSTM": "2.05/4.19/4.80 2.20/4.55/5.20 2.37/4.96/5.70",
                "DCRNN": "1.38/2.95/2.90 1.74/3.97/3.90 2.07/4.74/4.90",
                "STGCN": "1.36/2.96/2.90 1.81/4.27/4.17 2.49/5.69/5.79",
                "Graph WaveNet": "1.30/2.74/2.73 1.63/3.70/3.67 1.95/4.52/4.63",
                "MTGNN": "1.32/2.79/2.77 1.65/3.74/3.69 1.94/4.49/4.53",
                "D2STGNN": "1.24/2.60/2.58 1.55/3.52/3.49 1.85/4.30/4.37",
            }
        ),
    ),
    cite="Y. Li et al., DCRNN, ICLR 2018; California PeMS",
    steps="Google Drive: pems-bay.h5, as DCRNN's README links it, 52,116 rows of 325 columns, "
    "135,930,936 bytes unless saved anew.\n"
    "Graph and map: distances_bay_2017.csv and graph_sensor_locations_bay.csv (data/sensor_graph "
    "of DCRNN) in traffic_sensor_graphs of CITYJAX_DATA.",
)
