"""Crime reports in the cells of a grid over New York, the next day.

Run: python -m cityjax.run experiment=safety_crime
Expect: a test RMSE of 0.80 reports (mean of the last 30 days: 0.81), in seconds: most of it
is noise.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "crime_nyc"
    model: str = "ridge"
    inputs: tuple[str, ...] = ("week",)


def build(config: Config) -> Experiment:
    return forecast(config)
