"""Water flow in a pipeline branch, 1 to 24 hours ahead.

Run: python -m cityjax.run experiment=water_flow
Expect: a test MAE of about 0.23 l/s an hour ahead (last value: 0.21), 0.8 at 12 and 4 at 24 hours
(same hour yesterday: 0.45), which is the work of a few windows far off. In seconds.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "water_flow"
    model: str = "stid"
    inputs: tuple[str, ...] = ("day", "typical_day", "season")
    scale: tuple[str, ...] = ("standard", "last")
    loss: str = "absolute"  # anomalies in train would rule a squared one
    steps: int = 600
    batch_size: int = 128
    eval_every: int = 100


def build(config: Config) -> Experiment:
    return forecast(config)
