"""COVID-19 in England: new cases per day in all 151 regions of the file.

The graph of `covid_england`, in which the 22 regions without known mobility have no edge.
"""

from cityjax.data.sets import _pandemic, covid_england

DATASET = _pandemic.dataset("covid_england_all", "England", covid_england.FILES, mobile=False)
