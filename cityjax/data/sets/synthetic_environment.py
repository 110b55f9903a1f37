"""The synthetic city: environment."""

from cityjax.data.sets import _synthetic

TITLE = "Particles in the air at 30 places of a synthetic city, hourly, 16 weeks"
DATASET = _synthetic.make("environment", TITLE, steps=2688)
