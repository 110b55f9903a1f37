"""The synthetic city: transport."""

from cityjax.data.sets import _synthetic

TITLE = "Vehicles a quarter of an hour at 30 places of a synthetic city, 4 weeks"
DATASET = _synthetic.make("transport", TITLE, steps=2688)
