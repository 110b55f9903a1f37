"""Water flow in a pipeline branch, 1 to 24 hours ahead.

Run: python -m cityjax.run experiment=water_flow
Expect: a test MAE of about 0.18 l/s an hour ahead (last value: 0.21) and 0.48 at 24 hours (last
value: 0.39), in half a minute.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "water_flow"
    model: str = "wavenet"
    inputs: tuple[str, ...] = ("day", "typical_day", "season")
    scale: tuple[str, ...] = ("standard", "last")
    loss: str = "absolute"  # anomalies in train would rule a squared one
    steps: int = 600
    batch_size: int = 128
    eval_every: int = 100


def build(config: Config) -> Experiment:
    return forecast(config)
