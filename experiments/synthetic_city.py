"""A synthetic city of 30 sensors, nothing to fetch: traffic 15 minutes to 6 hours ahead.

Run: python -m cityjax.run experiment=synthetic_city
Expect: a test RMSE of about 91 vehicles/h 15 minutes ahead, 152 six hours ahead (a typical week:
169), in seconds.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "synthetic_transport"
    model: str = "ridge"
    inputs: tuple[str, ...] = ("day", "week", "typical_day", "covariates")


def build(config: Config) -> Experiment:
    return forecast(config)
