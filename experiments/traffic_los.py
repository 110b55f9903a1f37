"""Traffic speed at 207 detectors of Los Angeles, 5 to 60 minutes ahead (Los-loop).

Run: python -m cityjax.run experiment=traffic_los
Expect: a test RMSE over 15 / 60 minutes of about 4.8 / 6.2 mph (last value: 5.6 / 8.4), in a minute
or two on two CPU cores.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "los_loop"
    model: str = "stid"
    inputs: tuple[str, ...] = ("day", "week", "typical_day")
    scale: tuple[str, ...] = ("standard", "last")
    optimizer: str = "adamw"
    weight_decay: float = 0.3  # five days to learn from
    steps: int = 600
    eval_every: int = 100


def build(config: Config) -> Experiment:
    return forecast(config)
