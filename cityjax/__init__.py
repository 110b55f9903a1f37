"""cityjax: functional deep learning on cities, in JAX.

Importing the package imports nothing else; take each function from the module that defines it::

    from cityjax.fit import fit
    from cityjax.learner import from_linen
    from cityjax.learners import supervised
"""

__version__ = "0.1.0"
