"""cnn_mnist, scored on the test part at every evaluation: for `benchmarks.end_to_end` alone."""

from dataclasses import dataclass

from cityjax import registry
from cityjax.learner import Experiment

_cnn_mnist = registry.load("cnn_mnist")


@dataclass(frozen=True)
class Config(_cnn_mnist.Config):
    """The keys of cnn_mnist."""


def build(config: Config) -> Experiment:
    """Return cnn_mnist with the test part in the place of validation."""
    experiment = _cnn_mnist.build(config)
    test = experiment.evaluation["test"]
    return experiment._replace(evaluation={"validation": test}, select="validation/error")
