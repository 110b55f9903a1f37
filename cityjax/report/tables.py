"""The numbers of a run as text, and as tables for the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cityjax.report.record import is_number
from cityjax.report.text_table import Cell, TextTable

# No plain space: an arrow stays with its name.
ARROWS = {"lower": "\u00a0↓", "higher": "\u00a0↑"}
LONGEST = 1e7  # from which a number would take more room than a table has
SPELLED = {name: name.upper() for name in ("mae", "mse", "rmse", "mape", "wape", "crps", "gan")}
SPELLED |= {"frechet": "Fréchet", "ci95": "± (95 %, by stretches of test)"}


def is_fraction(key: str) -> bool:
    """True when the metric is a share of examples, shown in percent (accuracy, coverage, error)."""
    name = key.rpartition("/")[2].partition("@")[0]
    if name.startswith("coverage"):
        return True
    return name in ("error", "gan_train", "gan_test") or name.endswith(("accuracy", "error_rate"))


def metric_label(key: str) -> str:
    """A metric key in words: "test/mae@6" is "MAE, 6 steps ahead"; another split stays visible."""
    split, _, rest = key.rpartition("/")
    name, _, horizon = rest.partition("@")
    first, *words = [SPELLED.get(word, word) for word in name.split("_")]
    text = " ".join([first[:1].upper() + first[1:], *words])
    if horizon:
        steps = "step" if horizon == "1" else "steps"
        text += f", {horizon.replace('-', '–')} {steps} ahead"
    return text if split in ("test", "") else f"{text} ({split})"


def _decimals(value: float, ci95: float | None, percent: bool) -> int:
    """Decimals worth printing: two digits of an interval below 355, else one; without it, four."""
    if ci95:
        exponent = math.floor(math.log10(ci95))
        digits = 2 if ci95 / 10**exponent < 3.55 else 1
        return max(0, digits - 1 - exponent)
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    if percent:
        return max(2, 1 - magnitude)
    return 0 if float(value).is_integer() else max(0, 3 - magnitude)


def format_value(key: str, mean: float | None, ci95: float | None = None) -> str:
    """A metric's mean and its 95 % half width with sensible digits.

    ("test/digit_score", 9.8524, 0.0071) gives "9.852 ± 0.007", ("test/accuracy", 0.9852, 0.0007)
    gives "98.52 ± 0.07 %". Rounding follows the Particle Data Group: two digits of the interval
    when it starts below 355, else one. Without an interval at most four digits; None is "–".
    From ten million on, and below a millionth, it is in powers of ten.
    """
    if mean is None:
        return "–"
    percent = is_fraction(key)
    unit = " %" if percent else ""
    scale = 100.0 if percent else 1.0
    if not math.isfinite(mean * scale):
        return "not finite"
    # Floating point makes 0.57 * 100 not quite 57: twelve digits are more than a metric has.
    value = float(f"{mean * scale:.12g}")
    half = None
    if ci95 is not None and math.isfinite(ci95 * scale):
        half = float(f"{ci95 * scale:.12g}")
    decimals = _decimals(value, half, percent)
    if decimals > 6 or abs(value) >= LONGEST:
        interval = "" if half is None else f" ± {half:.2g}"
        return f"{value:.4g}{interval}{unit}"
    separator = "," if abs(value) >= 10_000 else ""
    interval = "" if half is None else f" ± {half:,.{decimals if half else 0}f}"
    shown = f"{value:{separator}.{decimals}f}"
    if half is None and decimals and not percent:
        shown = shown.rstrip("0").rstrip(".")
    return f"{shown}{interval}{unit}"


def format_duration(seconds: float) -> str:
    """Seconds for people: "0.42 s", "41.2 s", "2 min 41 s", "3 h 05 min"."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def headline(result: Mapping[str, Any], limit: int = 6) -> list[str]:
    """Metric keys worth showing first, at most `limit`.

    Test metrics other than the loss, those with a baseline first; of a metric at many single
    horizons only the first and the last.
    """
    keys = [key for key in result["metrics"] if key.startswith("test/")] or list(result["metrics"])
    keys = [key for key in keys if not key.endswith("loss")] or keys
    horizons: dict[str, list[str]] = {}
    for key in keys:
        name, _, steps = key.partition("@")
        horizons.setdefault(name if steps.isdigit() else key, []).append(key)
    ends = {key for group in horizons.values() for key in (group[0], group[-1])}
    rows = result.get("baselines", {}).values()
    with_baseline = [key for key in keys if any(key in row for row in rows)]
    ordered = with_baseline + [key for key in keys if key not in with_baseline]
    return [key for key in ordered if key in ends][:limit]


def verdict(result: Mapping[str, Any], key: str) -> tuple[str, str]:
    """How a metric stands against its strongest baseline, as (status, sentence).

    The status is "ahead", "level" (the difference is inside the 95 % interval), "between" two
    baselines (the better one is often a ceiling, such as real images), "behind" all of them, or
    "alone" when the direction is unknown or no baseline has the metric.
    """
    entry, better = result["metrics"][key], result.get("better", {}).get(key)
    baselines = result.get("baselines", {}).items()
    floors = {name: row[key] for name, row in baselines if is_number(row.get(key))}
    if not floors or better not in ARROWS or not is_number(entry["mean"]):
        return "alone", ""
    sign = 1.0 if better == "higher" else -1.0
    ranked = sorted(floors, key=lambda name: -sign * floors[name])
    best, mean = ranked[0], entry["mean"]
    shown = f"{best} ({format_value(key, floors[best])})"
    gain = sign * (mean - floors[best])
    if abs(gain) <= (entry.get("ci95") or 0.0):
        return "level", f"level with {shown}" + (", within the interval" if gain else "")
    if gain < 0:
        beaten = [name for name in ranked if sign * (mean - floors[name]) > 0]
        if not beaten:
            return "behind", f"behind {shown}"
        missed = ranked[ranked.index(beaten[0]) - 1]
        ends = [f"{name} ({format_value(key, floors[name])})" for name in (missed, beaten[0])]
        return "between", f"between {ends[0]} and {ends[1]}"
    if is_fraction(key) and better == "higher":
        return "ahead", f"{100 * gain:.2f} points above {shown}"
    direction = "higher" if better == "higher" else "lower"
    amount = f"{100 * gain / abs(floors[best]):.0f} % " if floors[best] else ""
    return "ahead", f"{amount}{direction} than {shown}"


def mark_best(
    column: Sequence[float | None], texts: Sequence[str], better: str | None
) -> list[Cell]:
    """Cells of one metric; those with the best finite value are marked, if a direction is known."""
    finite = [value for value in column if value is not None and is_number(value)]
    best = None
    if better in ARROWS and len(finite) > 1:
        best = max(finite) if better == "higher" else min(finite)
    return [
        Cell(text, best is not None and value == best)
        for value, text in zip(column, texts, strict=True)
    ]


def result_rows(
    results: Mapping[str, Mapping[str, Any]],
    baselines: Mapping[str, Mapping[str, float]],
    keys: Sequence[str],
    better: Mapping[str, str],
) -> list[tuple[str, list[Cell]]]:
    """Rows (name, one cell per key): first the results by name, then the baselines."""
    columns = []
    for key in keys:
        entries = [result["metrics"].get(key, {}) for result in results.values()]
        values = [entry.get("mean") for entry in entries]
        texts = [format_value(key, entry.get("mean"), entry.get("ci95")) for entry in entries]
        values += [row.get(key) for row in baselines.values()]
        texts += [format_value(key, row.get(key)) for row in baselines.values()]
        columns.append(mark_best(values, texts, better.get(key)))
    names = [*results, *baselines]
    return [(name, [column[index] for column in columns]) for index, name in enumerate(names)]


def with_ensembles(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Results by name, each followed by the mean of its seeds' predictions where it was scored."""
    shown: dict[str, Mapping[str, Any]] = {}
    for name, result in results.items():
        shown[name] = result
        if scores := result.get("ensemble", {}).get("metrics"):
            means = {key: {"mean": value} for key, value in scores.items()}
            shown[f"{name}, ensemble"] = {"metrics": means}
    return shown


def seeds_text(result: Mapping[str, Any]) -> str:
    """What the numbers of a result are: "5 seeds, mean ± 95 % interval" or "1 seed"."""
    count = len(result.get("seeds", []))
    return f"{count} seeds, mean ± 95 % interval" if count > 1 else "1 seed"


def judged_text(result: Mapping[str, Any]) -> str:
    """Which states were judged: "judged at step 9,000", or one step for each seed.

    A run scored before its end says how far it is: "; unfinished: seed 0 is at step 120 of 500".
    """
    steps = [f"{step:,}" for step in result.get("selected_step", [])]
    if len(set(steps)) == 1:
        text = f"judged at step {steps[0]}"
    else:
        text = f"judged at steps {', '.join(steps)}" if steps else ""
    return f"{text}; unfinished: {result['unfinished']}" if "unfinished" in result else text


def ensemble_text(result: Mapping[str, Any]) -> str:
    """What the ensemble of a result is, or why there is none: "ensemble: mean of ..."."""
    return f"ensemble: {result['ensemble']['protocol']}" if "ensemble" in result else ""


def protocol_text(result: Mapping[str, Any]) -> str:
    """The protocol in one line: "split: 54000/6000/10000; selection: validation error"."""
    return "; ".join(f"{key}: {value}" for key, value in result.get("protocol", {}).items())


def heading(key: str, better: Mapping[str, str]) -> str:
    """A metric key with an arrow towards better: "test/error ↓"."""
    return key + ARROWS.get(better.get(key, ""), "")


def result_table(result: Mapping[str, Any]) -> TextTable:
    """One run beside its baselines, with the protocol under it.

    Rows are the model, its ensemble and its baselines. More than three metrics become the rows,
    unless more than six columns would stand beside them: then the headline metrics alone are shown.
    """
    better, name = result.get("better", {}), result["experiment"]
    shown, baselines = with_ensembles({name: result}), result.get("baselines", {})
    keys, texts = list(result["metrics"]), [protocol_text(result), judged_text(result)]
    texts.append(ensemble_text(result))
    turn = len(keys) > 3 and len(shown) + len(baselines) <= 6
    if len(keys) > 3 and not turn:
        texts.append(f"{len(keys)} metrics are in report.html and result.json")
        keys = headline(result, limit=3)
    rows = result_rows(shown, baselines, keys, better)
    title, caption = f"{name}: {seeds_text(result)}", "\n".join(filter(None, texts))
    headings = [heading(key, better) for key in keys]
    if not turn:
        named = [([label], cells) for label, cells in rows]
        return TextTable(title, [""], headings, named, caption=caption)
    turned = [([text], [cells[index] for _, cells in rows]) for index, text in enumerate(headings)]
    return TextTable(title, ["metric"], [label for label, _ in rows], turned, caption=caption)


def sweep_table(rows: Sequence[tuple[Sequence[str], Mapping[str, Any]]]) -> TextTable:
    """A sweep: one row per run, from pairs (overrides like "learning_rate=0.001", result).

    Overrides that all runs share are left out; the columns are the headline metrics.
    """
    settings = [
        {name: value for name, _, value in (item.partition("=") for item in overrides)}
        for overrides, _ in rows
    ]
    names = dict.fromkeys(name for setting in settings for name in setting)
    varied = [n for n in names if len({setting.get(n) for setting in settings}) > 1]
    keys = list(dict.fromkeys(key for _, result in rows for key in headline(result, limit=3)))
    better = {key: way for _, result in rows for key, way in result.get("better", {}).items()}
    results = {str(index): result for index, (_, result) in enumerate(rows)}
    settled = [[setting.get(name, "–") for name in varied] for setting in settings]
    cells = [cells for _, cells in result_rows(results, {}, keys, better)]
    lines = list(zip(settled, cells, strict=True))
    return TextTable(f"{len(rows)} runs", varied, [heading(k, better) for k in keys], lines)
