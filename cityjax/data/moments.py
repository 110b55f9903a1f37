"""Mean and standard deviation of what was observed, and whether it varies at all."""

import numpy as np

# A spread below this share of the largest value is the rounding of float32.
ROUNDING = 1e-7


def moments(values: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over the first axis of what was observed: float64 [...].

    values: [T, ...]; observed: bool of the same shape. The deviation of what never varies is 0, as
    both are where nothing was observed.
    """
    # In float64: a sum of many float32 loses the last digits of each, and they seem to vary.
    known = np.where(observed, values, 0).astype(np.float64)
    count = np.maximum(np.count_nonzero(observed, axis=0), 1)
    size = np.abs(known).max(axis=0, initial=0)
    mean = known.sum(axis=0) / count
    known = np.where(observed, known - mean, 0)
    spread = np.sqrt(np.square(known).sum(axis=0) / count)
    return mean, np.where(spread > ROUNDING * size, spread, 0.0)
