"""Data: where files are, how they are read, and sources that give batches by index."""
