"""Influenza-like illness in the USA, 24 to 60 weeks ahead (ILI).

Run: python -m cityjax.run experiment=health_ili
Expect: a test MSE of z-scores over 24 weeks of 2.0 (a year ago: 2.6), in seconds. Validation says
little here: it has two seasons.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "ili"
    model: str = "ridge"
    scale: tuple[str, ...] = ("standard", "instance")


def build(config: Config) -> Experiment:
    return forecast(config)
