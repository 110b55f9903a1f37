"""Numerics with a formulation of their own: convolution, pooling, shuffling and random numbers."""
