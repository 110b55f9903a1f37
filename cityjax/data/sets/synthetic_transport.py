"""The synthetic city: transport."""

from cityjax.data.sets import _synthetic

TITLE = "Vehicles an hour at 30 places of a synthetic city, every 15 minutes, 4 weeks"
DATASET = _synthetic.make("transport", TITLE, steps=2688)
