"""Numerics with a formulation of their own: convolution, pooling, recurrence, graphs, noise."""
