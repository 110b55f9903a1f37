"""Models: one file per family, pure functions in Flax Linen, sizes as fields, no configs."""
