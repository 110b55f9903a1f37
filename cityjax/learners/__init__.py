"""Learners: supervised and adversarial training, and transformations of learners."""

from cityjax.learners.adversarial import adversarial as adversarial
from cityjax.learners.moving_average import moving_average as moving_average
from cityjax.learners.supervised import supervised as supervised
