"""Dense GAN on MNIST: learns to draw digits in a few minutes.

Run: python -m cityjax.run experiment=gan_mnist
Expect: a Fréchet distance of 22, a digit score of 8.0, ten modes, in under three minutes.
"""

from dataclasses import dataclass

from cityjax.config import RunConfig, check_range, option
from cityjax.learner import Experiment
from cityjax.models.gan import DenseDiscriminator, DenseGenerator
from cityjax.tasks.gan import generate_digits


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 20_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    log_every: int = 200
    eval_every: int = 2_000
    checkpoint_every: int = 5_000
    discriminator_learning_rate: float | None = option(None, "above 0; null: learning_rate")
    latent_size: int = option(64, "size of the latent vector, at least 1")
    hidden_sizes: tuple[int, ...] = option((256, 256), "units of the layers of both networks")
    dropout: float = option(0.0, "dropout rate of the discriminator, 0 to below 1")
    gradient_penalty: float = option(0.3, "weight of the R1 penalty, at least 0")
    average: float = option(0.999, "decay of the generator's moving average, 0 to below 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "discriminator_learning_rate", above=0)
        check_range(self, "latent_size", at_least=1)
        check_range(self, "hidden_sizes", at_least=1)
        check_range(self, "dropout", at_least=0, below=1)
        check_range(self, "gradient_penalty", at_least=0)
        check_range(self, "average", at_least=0, below=1)


def build(config: Config) -> Experiment:
    # beta1 = 0.5: less momentum lets the pair follow each other (Radford et al. 2016).
    return generate_digits(
        DenseGenerator(config.hidden_sizes),
        DenseDiscriminator(config.hidden_sizes, dropout=config.dropout),
        config.make_optimizer(momentum=0.5),
        config.make_optimizer(learning_rate=config.discriminator_learning_rate, momentum=0.5),
        batch_size=config.batch_size,
        latent_size=config.latent_size,
        average=config.average,
        gradient_penalty=config.gradient_penalty,
    )
