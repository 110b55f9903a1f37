"""A perceptron of 17 parameters: what its updates take is mostly the host's."""

from dataclasses import dataclass

import jax.numpy as jnp

from cityjax.config import RunConfig
from cityjax.data.sources import in_order, shuffled
from cityjax.learner import Experiment, from_linen
from cityjax.learners import supervised
from cityjax.losses import squared_error
from cityjax.models.mlp import MLP


@dataclass(frozen=True)
class Config(RunConfig):
    """The keys of every run."""

    batch_size: int = 8


def build(config: Config) -> Experiment:
    """Return the experiment of 64 equal rows."""
    rows = {"inputs": jnp.ones((64, 2)), "targets": jnp.ones((64, 1))}
    learner = supervised(from_linen(MLP((4,), 1)), squared_error, config.make_optimizer())
    test = in_order(rows, config.batch_size)
    return Experiment(learner, shuffled(rows, config.batch_size), {"test": test}, {})
