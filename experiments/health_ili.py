"""Influenza-like illness in the USA, 24 to 60 weeks ahead (ILI).

Run: python -m cityjax.run experiment=health_ili
Expect: a test MSE of z-scores over 24 weeks of 1.85 (a year ago: 2.6), in seconds. Validation has
two seasons and says little: ten blocks of train choose the penalties.
"""

from dataclasses import dataclass

from cityjax.choices import tuned
from cityjax.forecasting import MODELS, ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    models = tuned(MODELS, {"ridge": {"model.folds": 10}})

    data: str = "ili"
    model: str = "ridge"
    scale: tuple[str, ...] = ("logarithm", "standard", "instance")


def build(config: Config) -> Experiment:
    return forecast(config)
