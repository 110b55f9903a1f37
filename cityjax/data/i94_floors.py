"""What a forecast of the I-94 series must beat: naive floors and one ridge per hour of day."""

from collections.abc import Sequence

import numpy as np

from cityjax.data import i94, windows

PENALTIES = (0.1, 1.0, 10.0, 100.0)


def floors(
    series: i94.Series, *, horizons: Sequence[int] = (1, i94.HORIZON)
) -> dict[str, dict[str, float]]:
    """Return the mean absolute error in vehicles per hour of every floor, on the test origins.

    {row: {"test/mae@h": at each of `horizons`, "test/mae@1-6": over all hours ahead}}.
    """
    at = i94.forecast_origins(series, "test")
    values, mask = series.volume, series.observed
    targets = at[:, None] + np.arange(1, i94.HORIZON + 1)
    profile = i94.typical_week(series)
    week_ago = windows.seasonal_value(values, mask, at, i94.HORIZON, period=i94.WEEK)
    forecasts = {
        "last value": windows.last_value(values, mask, at, i94.HORIZON),
        "same hour last week": week_ago,
        "hour-of-week median": profile[targets],
        "ridge per hour of day": ridge_forecasts(series, at),
    }
    rows = {}
    for row, forecast in forecasts.items():
        error = np.where(mask[targets], np.abs(forecast - values[targets]), np.nan)
        rows[row] = {f"test/mae@{h}": float(np.nanmean(error[:, h - 1])) for h in horizons}
        rows[row][f"test/mae@1-{i94.HORIZON}"] = float(np.nanmean(error))
    return rows


def ridge_forecasts(
    series: i94.Series, at: np.ndarray, *, penalties: Sequence[float] = PENALTIES
) -> np.ndarray:
    """Forecast by one ridge regression per hour of day of the target and per horizon, [B, 6].

    Features, standardised on train: the last 24 volumes, the volume a week before the target
    (missing ones from the typical week), day of week, holiday. Fitted on train; the penalty of each
    horizon is the one of `penalties` with the least absolute error on validation.

    Args:
        series: as loaded.
        at: origins [B].
        penalties: added to the diagonal of the Gram matrix, whose entries grow with the rows.
    """
    volume = np.where(series.observed, series.volume, i94.typical_week(series))
    train, check = (i94.forecast_origins(series, split) for split in ("train", "validation"))
    columns = []
    for ahead in range(1, i94.HORIZON + 1):
        fitted = train[series.observed[train + ahead]]
        parts = [_features(series, volume, part, ahead) for part in (fitted, check, at)]
        hours = [series.hour[part + ahead] % i94.DAY for part in (fitted, check, at)]
        checked, asked = _ridge_per_group(parts, hours, volume[fitted + ahead], penalties)
        error = np.nanmean(np.abs(checked - series.volume[check + ahead]), axis=1)
        columns.append(asked[np.argmin(error)])
    return np.stack(columns, axis=1)


def _ridge_per_group(
    features: Sequence[np.ndarray],
    groups: Sequence[np.ndarray],
    targets: np.ndarray,
    penalties: Sequence[float],
) -> list[np.ndarray]:
    """Fit the first part's rows group by group; forecast the other parts: [penalties, rows] each.

    features: per part [rows, F]; groups: per part [rows]; targets: of the first part [rows].
    """
    results = [np.full((len(penalties), len(part)), np.nan) for part in features[1:]]
    for group in np.unique(groups[0]):
        rows = groups[0] == group
        mean, std = features[0][rows].mean(axis=0), features[0][rows].std(axis=0)
        std = np.where(std > 0, std, 1)
        inputs, level = (features[0][rows] - mean) / std, targets[rows].mean()
        # One eigendecomposition of the Gram matrix serves every penalty.
        values, vectors = np.linalg.eigh(inputs.T @ inputs)
        moment = vectors.T @ (inputs.T @ (targets[rows] - level))
        weights = vectors @ (moment[:, None] / (values[:, None] + np.asarray(penalties)))
        for part, of, result in zip(features[1:], groups[1:], results, strict=True):
            wanted = of == group
            result[:, wanted] = (((part[wanted] - mean) / std) @ weights + level).T
    return results


def _features(series: i94.Series, volume: np.ndarray, at: np.ndarray, ahead: int) -> np.ndarray:
    history = volume[at[:, None] + np.arange(1 - i94.HISTORY, 1)]
    target = at + ahead
    week_ago = windows.lagged(volume, i94.WEEK)[target]
    day = np.eye(7)[windows.hour_of_week(series.hour[target]) // i94.DAY]
    off = i94.days_off(series)[target]
    return np.concatenate([history, np.stack([week_ago, off], axis=1), day], axis=1)
