"""COVID-19 in England: new cases per day in the 129 regions whose mobility is known.

These are the regions of the published table; `covid_england_all` has those without mobility too.
"""

from cityjax.data.sets import _pandemic

FILES = (
    _pandemic.labels("England", "21b895613d8205f51c6a76194f1500d45067d98d96ea0afd9264e8d1d70c9fc2"),
    _pandemic.graphs("England", "87299ad1733f735349e99b9023a4cafe398c7c0db5ef1192668fba5ca59a35cc"),
)

DATASET = _pandemic.dataset(
    "covid_england",
    "England",
    FILES,
    # Table 2 of the paper. The first three are reproduced by floors on these regions.
    published={
        f"{name} (figure from memory)": value
        for name, value in {
            "AVG": "9.75",
            "LAST_DAY": "7.11",
            "AVG_WINDOW": "6.52",
            "LSTM": "9.11",
            "ARIMA": "13.77",
            "PROPHET": "10.58",
            "TL_BASE": "9.65",
            "MPNN": "6.36",
            "MPNN+LSTM": "6.41",
            "MPNN+TL": "6.05",
        }.items()
    },
)
