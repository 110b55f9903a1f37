"""Traffic flow at a detector in California, 5 to 60 minutes ahead (PeMS).

Run: python -m cityjax.run experiment=traffic_pems
Expect: a test RMSE of 8.8 vehicles in the next 5 minutes, 9.9 an hour ahead (a typical week: 10.8),
in half a minute. `members=8` forecasts the mean of eight models: 8.78 and 9.8, in some ten minutes.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "pems_single"
    model: str = "seq2seq"
    inputs: tuple[str, ...] = ("day", "week", "typical_day")
    steps: int = 1500
    batch_size: int = 256  # of one sensor, windows are small
    eval_every: int = 100


def build(config: Config) -> Experiment:
    return forecast(config)
