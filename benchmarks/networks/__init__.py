"""The networks that `benchmarks.peers` times, written for each side."""
