"""Commands that measure: results of the experiments, and timings side by side."""
