"""PM2.5 at nine stations in Beijing at once, 1 to 24 hours ahead, missing values and all.

Run: python -m cityjax.run experiment=air_beijing
Expect: a test MAE of about 9.5 / 50 ug/m3 1 / 24 hours ahead (last value: 11 / 59), in a minute.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "beijing_air"
    model: str = "stid"
    inputs: tuple[str, ...] = ("day", "covariates")
    scale: tuple[str, ...] = ("root", "standard", "last")
    steps: int = 3000
    eval_every: int = 600


def build(config: Config) -> Experiment:
    return forecast(config)
