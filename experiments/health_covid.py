"""New cases of COVID-19 in 129 regions of England, 1 to 14 days ahead.

Run: python -m cityjax.run experiment=health_covid
Expect: a test MAE of about 4.9 / 5.2 cases over 3 / 14 days (last value: 6.2 / 7.9), in minutes;
`model=experts`, whose weights follow the days, 4.5 / 6.3.
"""

from dataclasses import dataclass

from cityjax.forecasting import ForecastConfig, forecast
from cityjax.learner import Experiment


@dataclass(frozen=True)
class Config(ForecastConfig):
    data: str = "covid_england"
    model: str = "tgcn"
    scale: tuple[str, ...] = ("root",)
    history: int | None = 56
    batch_size: int = 8
    steps: int = 500
    eval_every: int = 50


def build(config: Config) -> Experiment:
    return forecast(config)
