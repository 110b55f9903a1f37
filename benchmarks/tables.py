"""Tables of forecasts beside their floors and what was published: one command for all of them.

Run: python -m benchmarks.tables forecasting [SET ...]

Each run is one command of the framework in a run folder of its own, so that a stopped table goes on
where it was; finished runs are read, not repeated. Writes docs/results/forecasting/SET_RUN.json and
docs/results/forecasting.md. The data sets are found, or fetched, as `python -m cityjax.data` says.
"""

import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import hindsight
from benchmarks.results import DOCS, ROOT, chosen, command, measure
from cityjax.data.catalog import dataset, datasets
from cityjax.report.tables import format_value

RUNS = ROOT / "runs" / "tables"
PAGES = {"forecasting": "Forecasting"}


class Line(NamedTuple):
    """One line of a table: its runs, whose metrics together fill the columns, and its targets."""

    label: str
    runs: dict[str, tuple[str, ...]]
    targets: dict[str, float] = {}


class Table(NamedTuple):
    """One set under one protocol. metrics: the columns. note: what a reader must know.

    under: the least share by which the first line is to lie under the best naive floor at every
    metric, and it under the other lines; None where floors are not what is to be beaten.
    """

    title: str
    metrics: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str = ""
    under: float | None = None


def kept(page: str, key: str) -> Path:
    """Return where the result of a run is kept."""
    return DOCS / page / f"{key}.json"


def read(page: str, key: str) -> dict[str, Any] | None:
    """Return the kept result of a run, None where it was not measured yet."""
    path = kept(page, key)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def text(page: str, tables: dict[str, Table]) -> str:
    """Return the page of all tables, from the JSON files that are there."""
    runs = [f"{t}_{run}" for t in tables for line in tables[t].lines for run in line.runs]
    results = filter(None, (read(page, run) for run in runs))
    seconds = sum(result["timing"]["total_seconds"] for result in results)
    lines = [
        f"# {PAGES[page]}",
        "",
        "Means over seeds, with the half-width of their 95 % interval (Student's t) where a run",
        "has several: a closed form gives every seed the same. An ensemble is the mean of what the",
        "seeds forecast, scored once. Settings and epoch are chosen on validation. The interval of",
        "a coverage is over ten stretches of the test part: what other days like these would give.",
        f"`python -m benchmarks.tables {page}` makes every run and this page; it goes on where it",
        "was stopped. Floors and published rows are of the same windows, unless they say so. The",
        f"files in [{page}]({page}) have the protocol, every seed, data hashes, versions, commit,",
        f"and date; all runs together took {seconds / 60:.0f} minutes. A set of another page:",
        "[I-94](README.md#rnn_traffic).",
        "Test errors were on view while settings were chosen; where they were followed, the table",
        "says so. How far a method carries is best seen on a set that nobody tuned, such as yours.",
        "",
        "Rows in hindsight are no forecasts (`python -m benchmarks.hindsight`). From both sides:",
        "each value regressed on what lies before and after it, there and at sensors alike, learnt",
        "from the rest of the test part; what this misses is noise to a forecaster, as far as a",
        "linear regression can tell. From its own mean season: each window's own mean day; what",
        "this misses changes from day to day. Below a table stands which part of a missed target's",
        "error hindsight misses too, and how much of it seeds differ by.",
        "",
    ]
    for name, table in tables.items():
        lines += [f"## {table.title}", "", *section(page, name, table), ""]
    return "\n".join(lines)


def section(page: str, name: str, table: Table) -> list[str]:
    """Return one table, what its runs are, and their commands."""
    head = ["", *table.metrics, "90 % interval: coverage / width"]
    rows: list[list[str]] = [head, ["---"] * len(head)]
    others: dict[str, dict[str, float]] = {}
    known = hindsight.read().get(name, {}).get("rows", {})
    commands, missed, made = [], [], []
    for line in table.lines:
        found = {run: read(page, f"{name}_{run}") for run in line.runs}
        commands += [f"- {line.label}: `{command(arguments)}`" for arguments in line.runs.values()]
        results = [result for result in found.values() if result]
        if not results:
            rows.append([f"**{line.label}**", "not measured yet", *[""] * len(table.metrics)])
            continue
        rows.append(
            _row(f"**{line.label}**", [result["metrics"] for result in results], table, line)
        )
        missed += _missed(line, results, known)
        ensembles = [result["ensemble"]["metrics"] for result in results if "ensemble" in result]
        if any(ensembles):
            entries = [{k: {"mean": v, "ci95": None} for k, v in e.items()} for e in ensembles]
            rows.append(_row(f"**{line.label}**, ensemble of the seeds", entries, table, line))
        made += [(line.label, result) for result in results]
        for result in results:
            for row, values in result["baselines"].items():
                others.setdefault(row, {}).update(values)
    if name in datasets() and not any(row.startswith("published: ") for row in others):
        published = dataset(name).protocols.get("published")
        for row, values in (published.published if published else {}).items():
            others[f"published, by its own protocol: {row}"] = {
                f"test/{metric}": value for metric, value in values.items()
            }
    others |= {f"in hindsight, from {row}": values for row, values in known.items()}
    for row, values in others.items():
        cells = [values.get(f"test/{metric}") for metric in table.metrics]
        if any(cell is not None for cell in cells):
            shown = zip(table.metrics, cells, strict=True)
            rows.append([row, *("" if c is None else format_value(m, c) for m, c in shown), ""])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    missed += _under(table, made)
    lines += ["", *([table.note, ""] if table.note else []), *(missed and [*missed, ""]), *commands]
    return [*lines, "", *_protocol(made)]


def _protocol(made: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Say how lines' results were made and scored; of which lines, where they differ in it."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for label, result in made:
        intervals = any(key.startswith("test/coverage_90") for key in result["metrics"])
        for key, value in result["protocol"].items():
            if key != "intervals" or intervals:
                found.setdefault(key, {}).setdefault(value, {})[label] = None
    every = {label for label, _ in made}
    return [
        f"- {key}: "
        + "; ".join(
            value if set(labels) == every else f"{value} ({' / '.join(labels)})"
            for value, labels in values.items()
        )
        for key, values in found.items()
    ]


def _row(label: str, metrics: list[dict[str, Any]], table: Table, line: Line) -> list[str]:
    entries = {key: entry for each in metrics for key, entry in each.items()}
    cells = (_cell(entries.get(f"test/{m}"), m, line.targets.get(m)) for m in table.metrics)
    return [label, *cells, "; ".join(filter(None, map(_interval, metrics)))]


def _cell(entry: dict[str, Any] | None, metric: str, target: float | None) -> str:
    if entry is None or entry["mean"] is None:
        return ""
    shown = format_value(metric, entry["mean"], entry["ci95"])
    if target is None:
        return shown
    return f"{shown} (≤ {target:g} {'met' if entry['mean'] <= target else 'missed'})"


def _missed(
    line: Line, results: list[dict[str, Any]], known: dict[str, dict[str, float]]
) -> list[str]:
    """Say of the targets that a line misses which part of its error hindsight misses too."""
    shares: dict[str, dict[str, str]] = {}
    for result in results:
        ensemble = result.get("ensemble", {}).get("metrics", {})
        for metric, target in line.targets.items():
            entry = result["metrics"].get(key := f"test/{metric}")
            if entry is None or entry["mean"] <= target:
                continue
            power = 2 if metric.startswith("rmse") else 1
            error = statistics.fmean(value**power for value in entry["per_seed"])
            for row, values in known.items():
                if key in values:
                    share = f"{100 * values[key] ** power / error:.0f} %"
                    shares.setdefault(f"in hindsight, from {row}", {})[metric] = share
            seeds = len(entry["per_seed"])
            if power == 2 and key in ensemble and seeds > 1:
                # A mean over n seeds still has an n-th of what they differ by.
                differ = (error - ensemble[key] ** 2) * seeds / (seeds - 1)
                shares.setdefault("between seeds", {})[metric] = f"{100 * differ / error:.1f} %"
    if not shares:
        return []
    metrics = next(iter(shares.values()))
    squared = "squared error" if any(m.startswith(("rmse", "mse")) for m in metrics) else "error"
    parts = "; ".join(f"{' / '.join(each.values())} {name}" for name, each in shares.items())
    return [f"- **{line.label}** misses {' / '.join(metrics)}. Of its {squared}: {parts}."]


def _under(table: Table, made: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Say by how much the first line lies under the best naive floor and the other lines."""
    if table.under is None or not made:
        return []
    keys = [f"test/{metric}" for metric in table.metrics]
    (label, first), *others = made
    own = [first["metrics"][key]["mean"] for key in keys]
    floors = [v for n, v in first["baselines"].items() if not n.startswith("published")]
    least = [min(values[key] for values in floors if key in values) for key in keys]
    parts = [("the best floor", least, table.under)]
    parts += [(n, [result["metrics"][key]["mean"] for key in keys], 0.0) for n, result in others]
    said = []
    for name, theirs, asked in parts:
        shares = [1 - ours / other for ours, other in zip(own, theirs, strict=True)]
        shown = " / ".join(f"{100 * share:.1f}" for share in shares)
        met = all(share > asked for share in shares)
        said.append(f"{name} by {shown} % (> {100 * asked:.0f} {'met' if met else 'missed'})")
    return [f"- **{label}** lies under {', '.join(said)}."]


def _interval(metrics: dict[str, Any]) -> str:
    """Coverage, its interval and width: split-conformal, and of the online one after a comma."""
    parts = []
    for kind in ("", "_online"):
        named = {key.split("@")[0]: value for key, value in metrics.items()}
        coverage, width = (named.get(f"test/{n}_90{kind}") for n in ("coverage", "width"))
        if coverage and width and coverage["mean"] is not None:
            half = named.get(f"test/coverage_90{kind}_ci95")
            ci = f" ± {100 * half['mean']:.1f}" if half and half["mean"] is not None else ""
            digits = max(0, 2 - math.floor(math.log10(width["mean"])))
            value = f"{100 * coverage['mean']:.1f}{ci} % / {width['mean']:,.{digits}f}"
            parts.append(f"{value} online" if kind else value)
    return ", ".join(parts)


def main(arguments: list[str]) -> None:
    """Measure the runs of a page, all of them by default, and write the page after each."""
    from benchmarks.forecasting import TABLES

    pages = {"forecasting": TABLES}
    if not arguments or arguments[0] not in pages:
        sys.exit(f"which table? {', '.join(pages)}")
    page, tables = arguments[0], pages[arguments[0]]
    for name in chosen("sets", arguments[1:], tables):
        for line in tables[name].lines:
            for run, given in line.runs.items():
                key = f"{name}_{run}"
                measure(given, RUNS / page / key, kept(page, key))
                (DOCS / f"{page}.md").write_text(text(page, tables))


if __name__ == "__main__":
    main(sys.argv[1:])
