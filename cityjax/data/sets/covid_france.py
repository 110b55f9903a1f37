"""COVID-19 in France: new cases per day in the 81 departments whose mobility is known.

The movements end on 2020-05-12, the cases two weeks later. The published table's rows for France
are not at hand: there is no published protocol.
"""

from cityjax.data.sets import _pandemic

FILES = (
    _pandemic.labels("France", "a122b8c64bd48754a1ad835d66e5bda7baf18bdf4e2aac6861758e5965ef7339"),
    _pandemic.graphs("France", "5202858ad3b2844e7d66a3b29ed54c436450e34358937ec8399cf7d3ea100fed"),
)

DATASET = _pandemic.dataset("covid_france", "France", FILES)
