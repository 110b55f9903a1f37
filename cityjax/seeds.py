"""Statistics over seeds: the mean and its 95 % interval."""

import math
from collections.abc import Sequence


def statistics(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the half-width of its 95 % interval, None for a single value.

    Student's t over independent seeds: t_{0.975, n-1} s / sqrt(n).

    >>> mean, half_width = statistics([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(half_width, 3)
    (2.0, 2.484)
    """
    count = len(values)
    if count == 0:
        raise ValueError("statistics of no values")
    mean = math.fsum(values) / count
    if count == 1:
        return mean, None
    from scipy.special import stdtrit

    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, float(stdtrit(count - 1, 0.975)) * math.sqrt(variance / count)
