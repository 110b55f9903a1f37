"""The article's listing 4.4, repaired: noise 100 -> 128 -> 784 against 784 -> 128 -> 1.

Run: python -m cityjax.run experiment=article_gan
Expect: a Fréchet distance of 595, a digit score of 1.03 and no digit, in a quarter of a minute.

As printed the generator is one linear map; a sigmoid comes before a loss that applies it again; the
labels are swapped, so that the discriminator learns to call fakes real; no real image is ever shown
and the generator is fed its own output. Here both see what they should, the generator has a hidden
layer, and the non-saturating loss works on logits. Settings are the article's: 1000 updates by Adam
at 2e-4. They are too few for digits: see `gan_mnist`.
"""

from dataclasses import dataclass

from cityjax.config import RunConfig
from cityjax.learner import Experiment
from cityjax.models.gan import DenseDiscriminator, DenseGenerator
from cityjax.tasks.gan import generate_digits

LATENT, HIDDEN = 100, 128


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 1000
    learning_rate: float = 2e-4
    eval_every: int = 250


def build(config: Config) -> Experiment:
    return generate_digits(
        DenseGenerator((HIDDEN,), layer_norm=False),
        DenseDiscriminator((HIDDEN,)),
        config.make_optimizer(),
        config.make_optimizer(),
        batch_size=config.batch_size,
        latent_size=LATENT,
    )
