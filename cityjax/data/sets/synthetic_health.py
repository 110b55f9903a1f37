"""The synthetic city: health."""

from cityjax.data.sets import _synthetic

TITLE = "Admissions to 30 hospitals of a synthetic city, daily, 3 years"
DATASET = _synthetic.make("health", TITLE, steps=1095)
