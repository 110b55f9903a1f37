"""Learners: supervised, adversarial and closed-form training, and transformations of learners."""

from cityjax.learners.adversarial import adversarial as adversarial
from cityjax.learners.average import average as average
from cityjax.learners.closed_form import Plan as Plan
from cityjax.learners.closed_form import closed_form as closed_form
from cityjax.learners.closed_form import early_solution as early_solution
from cityjax.learners.moving_average import moving_average as moving_average
from cityjax.learners.supervised import supervised as supervised
