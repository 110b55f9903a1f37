"""Numerics with a formulation of their own: convolution, pooling, graphs, shuffling, noise."""
