"""Taxi rides that begin in 30 zones of New York, 1 to 24 hours ahead.

Run: python -m cityjax.run experiment=taxi_demand
Expect: a test MAE of about 22 rides an hour ahead, 28 a day ahead (a typical week: 27; with
refit=true below it), in a minute.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "taxi"
    model: str = "stid"
    inputs: tuple[str, ...] = ("day", "week", "season", "typical_day")
    steps: int = 3000


def build(config: Config) -> Experiment:
    return forecast(config)
