"""Influenza in the regions or states of the USA, 2 to 15 weeks ahead (Cola-GNN).

Run: python -m cityjax.run experiment=health_flu
Expect: a test RMSE of 445 / 733 patients 2 / 10 weeks ahead (a year ago: 876), in seconds.
`data=flu_states` has the states; `refit=true model.folds=10` trains on validation too, blocks of
both choosing the penalties (published split: 440 / 703).
"""

from dataclasses import dataclass

from cityjax.choices import tuned
from cityjax.forecasting import MODELS, ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    models = tuned(MODELS, {"ridge": {"model.hops": 2}})

    data: str = "flu_regions"
    model: str = "ridge"
    inputs: tuple[str, ...] = ("year", "past_years")
    scale: tuple[str, ...] = ("logarithm", "standard")


def build(config: Config) -> Experiment:
    return forecast(config)
