"""METR-LA: speeds at 207 detectors on highways of Los Angeles, every 5 minutes, 2012.

Bring metr-la.h5. Zeros are missing. The published parts are of windows, 70/10/20; the rows here
give the same test windows, and leave out the few of train and validation that reach into the next
part.
"""

from cityjax.data.dataset import Dataset
from cityjax.data.files import DataFile
from cityjax.data.sets import _sensors, _traffic

HOME = "https://github.com/liyaguang/DCRNN"
FILE = DataFile(
    "metr_la",
    "metr-la.h5",
    "",
    source=f"{HOME} (README: Google Drive)",
    original="64784b76d6fb8ec9bff4b6decafb354da2bb37840468fdccee5044e511277c05",
)


def load():
    """Read speeds in miles per hour, with the graph and the map where they are at hand."""
    return _traffic.load_speeds(
        FILE,
        lambda sensors: _sensors.weights(
            _sensors.LOS_ANGELES_WEIGHTS, _sensors.LOS_ANGELES, sensors
        ),
        lambda sensors: _sensors.coordinates(_sensors.LOS_ANGELES, sensors),
    )


DATASET = Dataset(
    name="metr_la",
    title="Speed at 207 detectors on highways of Los Angeles, every 5 min, 2012-03 to 2012-06",
    domain="transport",
    licence="none stated",
    home=HOME,
    files=(FILE, _sensors.LOS_ANGELES_WEIGHTS, _sensors.LOS_ANGELES),
    read=load,
    season=2016,
    protocols=_traffic.protocols(
        (23986, 3425, 6861),
        {
            **_traffic.full_table(
                {
                    "HA": "4.79/10.00/11.70 5.47/11.45/13.50 6.99/13.89/17.54",
                    "FC-LSTM": "3.44/6.30/9.60 3.77/7.23/10.09 4.37/8.69/14.00",
                    "DCRNN": "2.77/5.38/7.30 3.15/6.45/8.80 3.60/7.60/10.50",
                    "STGCN": "2.88/5.74/7.62 3.47/7.24/9.57 4.59/9.40/12.70",
                    "Graph WaveNet": "2.69/5.15/6.90 3.07/6.22/8.37 3.53/7.37/10.01",
                    "MTGNN": "2.69/5.18/6.88 3.05/6.17/8.19 3.49/7.23/9.87",
                    "D2STGNN": "2.56/4.88/6.48 2.90/5.89/7.78 3.35/7.03/9.40",
                }
            ),
            "STID (figure from memory)": {"mae@12": 3.55, "rmse@12": 7.55},
            "STAEformer (figure from memory)": {"mae@12": 3.34, "rmse@12": 7.02},
        },
    ),
    cite="H. V. Jagadish et al., CACM 2014; Y. Li et al., DCRNN, ICLR 2018",
    steps="Google Drive: metr-la.h5, as DCRNN's README links it, 34,272 rows of 207 columns, "
    "57,038,056 bytes unless saved anew.\n"
    "Graph and map: graph_sensor_locations.csv (DCRNN) and metr-la_adj_scipy_sparse.npz, the "
    "adjacency of hazdzz/STGCN, in traffic_sensor_graphs of CITYJAX_DATA.",
)
