"""The synthetic city: safety."""

from cityjax.data.sets import _synthetic

TITLE = "Emergency calls in 30 districts of a synthetic city, 4-hourly, a year"
DATASET = _synthetic.make("safety", TITLE, steps=2190)
