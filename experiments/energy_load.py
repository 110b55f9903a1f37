"""Electricity load of a region of the USA, 1 to 24 hours ahead (PJM).

Run: python -m cityjax.run experiment=energy_load
Expect: a test MAE of about 100 MW an hour ahead, 650 a day ahead (last value: 410 / 920), in a
minute.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "pjm"
    model: str = "stid"
    inputs: tuple[str, ...] = ("day", "week", "year")
    scale: tuple[str, ...] = ("standard", "last")
    steps: int = 4000
    batch_size: int = 256  # of one sensor, windows are small


def build(config: Config) -> Experiment:
    return forecast(config)
