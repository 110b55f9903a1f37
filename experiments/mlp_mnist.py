"""MLP on MNIST: 784-512-512-10 with dropout and a cosine schedule.

Run: python -m cityjax.run experiment=mlp_mnist
Expect: a test error of about 1.4 %, in about two minutes on two CPU cores.
"""

from dataclasses import dataclass

from cityjax.config import RunConfig, check_choice, check_range, option
from cityjax.data.mnist import CLASSES
from cityjax.learner import Experiment
from cityjax.models.mlp import MLP
from cityjax.names import ACTIVATIONS
from cityjax.tasks.digits import classify_digits


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 10_000
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    eval_every: int = 1_000
    hidden_sizes: tuple[int, ...] = option((512, 512), "units of each hidden layer, at least 1")
    activation: str = option("relu", ", ".join(ACTIVATIONS))
    dropout: float = option(0.4, "dropout rate of the hidden layers, 0 to below 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "hidden_sizes", at_least=1)
        check_choice(self, "activation", ACTIVATIONS)
        check_range(self, "dropout", at_least=0, below=1)


def build(config: Config) -> Experiment:
    model = MLP(config.hidden_sizes, CLASSES, config.activation, config.dropout)
    optimizer = config.make_optimizer()
    # On validation, five seeds: 1.41 % error where the loss is least, 1.20 % at the last step.
    return classify_digits(
        model, optimizer, batch_size=config.batch_size, select="validation/error"
    )
