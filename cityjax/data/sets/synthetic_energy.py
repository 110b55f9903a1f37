"""The synthetic city: energy."""

from cityjax.data.sets import _synthetic

TITLE = "Load of 30 districts of a synthetic city, hourly, 16 weeks"
DATASET = _synthetic.make("energy", TITLE, steps=2688)
