"""The learnt imputer on Birmingham's car parks, beside the rules and the published figures.

Run: CITYJAX_DATA=FOLDER python -m benchmarks.imputation

30 car parks, 77 days of 18 half-hours; zeros are missing. The masks are those of the published
notebooks, random cells (RM) or whole days of a car park (NM); scored in cars on the cells that a
mask hides. Rank, penalties and lags are those with the least error on a tenth of what the mask
leaves, hidden in the same pattern and given back for the last fit: no scored cell is read.
Published: Chen, He, Sun (2019) and its notebooks, as far as known here.
"""

import io
import itertools

import numpy as np
import scipy.io

from cityjax.data import impute
from cityjax.data.files import DataFile, read

FILE = DataFile(
    "transdim",
    "birmingham_tensor.mat",
    "ebb2e47871294cb143be3549d1f618062b5327b2da7251b1bdafc145880b5e4a",
    source="https://github.com/xinychen/transdim",
)
DAY, WEEK = 48, 7 * 48  # half-hours, those of the night as missing rows
MASKS = (("RM", 0.4), ("RM", 0.6), ("NM", 0.4))
PUBLISHED = {
    "BGCP": {("RM", 0.4): (25.57, 7.70), ("RM", 0.6): (27.89, 8.41), ("NM", 0.4): (74.29, 12.16)},
    "BATF": {("RM", 0.4): (25.21, 7.32), ("RM", 0.6): (29.74, 8.39), ("NM", 0.4): (113.0, 17.75)},
}
GRID = {
    "rank": (10, 20),
    "penalty": (0.1, 1.0),
    "smoothness": (1.0, 10.0, 100.0),
    "lags": ((1,), (1, DAY, WEEK)),
}


def load() -> np.ndarray:
    """Return the occupied places, float64 [car park 30, day 77, half-hour 18], 0 where missing."""
    content = io.BytesIO(read(FILE))
    return scipy.io.loadmat(content, variable_names=["tensor"])["tensor"].astype(np.float64)


def published_mask(shape: tuple[int, int, int], pattern: str, share: float) -> np.ndarray:
    """Return where values are left, bool [car park, day, half-hour]: the notebooks' own draw."""
    draw = np.random.RandomState(1000).rand(*(shape if pattern == "RM" else shape[:2]))
    kept = np.round(draw + 0.5 - share) > 0
    return kept if pattern == "RM" else np.broadcast_to(kept[:, :, None], shape)


def rows(tensor: np.ndarray) -> np.ndarray:
    """Lay [car park, day, half-hour] out in time, [day * 48, car park], 0 at night."""
    nights = np.pad(tensor, [(0, 0), (0, 0), (0, DAY - tensor.shape[2])])
    return nights.reshape(len(tensor), -1).T


def fills(values: np.ndarray, observed: np.ndarray, **learnt) -> dict[str, np.ndarray]:
    """Return every imputer's filled rows; `learnt` are the settings of the learnt one."""
    mean = np.where(observed, values, 0).sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
    return {
        "last value": impute.last_value(values, observed, default=mean),
        "last week": impute.seasonal(values, observed, period=WEEK, default=mean),
        "linear": impute.linear(values, observed, default=mean),
        "low rank": impute.low_rank(values, observed, default=mean, **learnt),
    }


def score(filled: np.ndarray, values: np.ndarray, hidden: np.ndarray) -> tuple[float, float]:
    """Return RMSE in cars and MAPE in percent over the hidden cells."""
    error = (filled - values)[hidden]
    return float(np.sqrt(np.mean(error**2))), float(100 * np.mean(np.abs(error) / values[hidden]))


def chosen(values: np.ndarray, observed: np.ndarray, pattern: str) -> dict:
    """Return the settings with the least RMSE on a tenth of the observed cells."""
    random = np.random.default_rng(0)
    if pattern == "RM":
        tenth = random.random(observed.shape) < 0.1
    else:
        tenth = np.repeat(random.random((len(observed) // DAY, observed.shape[1])) < 0.1, DAY, 0)
    hidden, left = observed & tenth, observed & ~tenth

    def error(settings: dict) -> float:
        return score(fills(values, left, **settings)["low rank"], values, hidden)[0]

    grid = [dict(zip(GRID, choice, strict=True)) for choice in itertools.product(*GRID.values())]
    return min(grid, key=error)


def main() -> None:
    """Print RMSE and MAPE of every imputer under every mask."""
    tensor = load()
    values = rows(tensor)
    for pattern, share in MASKS:
        kept = rows(published_mask(tensor.shape, pattern, share) & (tensor != 0)) > 0
        hidden = (values != 0) & ~kept
        settings = chosen(values, kept, pattern)
        print(f"\nBirmingham {pattern} {share:.0%}, RMSE / MAPE %  (low rank: {settings})")
        for name, filled in fills(values, kept, **settings).items():
            rmse, mape = score(filled, values, hidden)
            print(f"  {name:12s} {rmse:7.2f} / {mape:5.2f}")
        for name, figures in PUBLISHED.items():
            rmse, mape = figures[pattern, share]
            print(f"  {name:12s} {rmse:7.2f} / {mape:5.2f}  published")


if __name__ == "__main__":
    main()
