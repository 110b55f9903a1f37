"""Bicycles rented per hour in Washington, 1 to 24 hours ahead.

Run: python -m cityjax.run experiment=bike_demand
Expect: a test MAE of about 27 bicycles an hour ahead, 48 a day ahead (same hour last week: 64), in
half a minute.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "bike"
    model: str = "stid"
    inputs: tuple[str, ...] = ("day", "week", "season", "typical_day", "covariates")
    scale: tuple[str, ...] = ("root", "standard", "last")
    steps: int = 1200
    batch_size: int = 256  # of one sensor, windows are small


def build(config: Config) -> Experiment:
    return forecast(config)
