"""Loads and oil temperature of a transformer, 96 to 720 hours ahead (ETTh1).

Run: python -m cityjax.run experiment=energy_ett
Expect: a test MSE of z-scores over 96 hours of 0.364 (PatchTST: 0.370), in a minute; with
`refit=true model.folds=10` 0.357, from two bases, `model.bases=[last,mean_season]`, 0.355.
`horizon=720` forecasts a month.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "ett"
    model: str = "ridge"
    scale: tuple[str, ...] = ("standard", "last")
    history: int | None = 512
    graph: str = "none"


def build(config: Config) -> Experiment:
    return forecast(config)
