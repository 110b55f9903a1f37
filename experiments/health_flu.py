"""Influenza in the regions or states of the USA, 2 to 15 weeks ahead (Cola-GNN).

Run: python -m cityjax.run experiment=health_flu
Expect: a test RMSE of 457 / 801 patients 2 / 10 weeks ahead (a year ago: 876), in seconds.
`data=flu_states` has the states.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "flu_regions"
    model: str = "ridge"
    inputs: tuple[str, ...] = ("year", "year_ago")
    scale: tuple[str, ...] = ("root", "standard")


def build(config: Config) -> Experiment:
    return forecast(config)
