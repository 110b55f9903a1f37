"""RNN on MNIST: an image read as a sequence of 28 rows by two GRU layers of 128 units.

Run: python -m cityjax.run experiment=rnn_mnist
Expect: a test error of about 0.8 %, in two to three minutes on two CPU cores.
"""

from dataclasses import dataclass

from cityjax.config import RunConfig, check_choice, check_range, option
from cityjax.data.mnist import CLASSES
from cityjax.learner import Experiment
from cityjax.models.rnn import RNN
from cityjax.names import CELLS
from cityjax.tasks.digits import classify_digits


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 3500
    batch_size: int = 64
    learning_rate: float = 3e-3
    optimizer: str = "adamw"
    schedule: str = "cosine"
    weight_decay: float = 0.03
    gradient_clip: float | None = 1.0
    cell: str = option("gru", ", ".join(CELLS))
    hidden_size: int = option(128, "units of the hidden state, at least 1")
    layers: int = option(2, "recurrent layers, at least 1")
    experts: int = option(1, "hidden states mixed by a gate; 1 for none")
    dropout: float = option(0.3, "dropout rate before the output layer, 0 to below 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "cell", CELLS)
        check_range(self, "hidden_size", at_least=1)
        check_range(self, "layers", at_least=1)
        check_range(self, "experts", at_least=1)
        check_range(self, "dropout", at_least=0, below=1)


def build(config: Config) -> Experiment:
    model = RNN(
        config.hidden_size, CLASSES, config.cell, config.layers, config.experts, config.dropout
    )
    return classify_digits(model, config.make_optimizer(), batch_size=config.batch_size)
