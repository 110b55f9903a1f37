"""RNN on I-94 traffic: a GRU reads 24 hours, another forecasts the next 1 to 6.

Run: python -m cityjax.run experiment=rnn_traffic
Expect: a mean absolute error of 138 vehicles/h at 1 h and 187 at 6 h (docs/results), in a minute.
"""

from dataclasses import dataclass

from cityjax.config import RunConfig, check_choice, check_range, option
from cityjax.data import i94
from cityjax.learner import Experiment
from cityjax.losses import absolute_error
from cityjax.models.rnn import EncoderDecoder
from cityjax.names import CELLS
from cityjax.tasks.traffic import forecast_traffic


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 1500
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warmup_steps: int = 100
    weight_decay: float = 0.01
    eval_every: int = 250
    cell: str = option("gru", ", ".join(CELLS))
    hidden_size: int = option(64, "units of each hidden state, at least 1")
    dropout: float = option(0.1, "dropout rate of the output layers, 0 to below 1")
    average: float = option(0.999, "decay of the parameters' moving average, 0 to below 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "cell", CELLS)
        check_range(self, "hidden_size", at_least=1)
        check_range(self, "dropout", at_least=0, below=1)
        check_range(self, "average", at_least=0, below=1)


def build(config: Config) -> Experiment:
    return forecast_traffic(
        EncoderDecoder(config.hidden_size, config.cell, i94.SPREAD, config.dropout),
        absolute_error,
        config.make_optimizer(),
        batch_size=config.batch_size,
        average=config.average,
    )
