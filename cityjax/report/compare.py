"""Several runs in one table and one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from cityjax.report.record import (
    RunFolderError,
    RunRecord,
    by_seed,
    flatten,
    is_number,
    load_run,
    metric_names,
)
from cityjax.report.tables import (
    ensemble_text,
    format_value,
    heading,
    headline,
    metric_label,
    protocol_text,
    result_rows,
    with_ensembles,
)
from cityjax.report.text_table import Cell, TextTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Keys that say where and how a run was kept, not what was trained.
NOT_COMPARED = ("workdir", "resume", "progress", "experiment")


@dataclass(frozen=True)
class Comparison:
    """Runs by name, the metrics they share, and what sets each apart from the first.

    `better` {metric: direction}; `baselines` {row: {metric: value}} of all runs; `settings` {run:
    config keys that differ between runs of one experiment}; `warnings` {run: protocol or data
    that differ from the first run's, as short text and full text}.
    """

    runs: dict[str, RunRecord]
    metrics: list[str]
    better: dict[str, str]
    baselines: dict[str, dict[str, float]]
    settings: dict[str, str]
    warnings: dict[str, tuple[str, str]]

    @property
    def main_metrics(self) -> list[str]:
        """The shared metrics that fit a terminal and a picture: four at most."""
        first = next(iter(self.runs.values())).result
        shared = {**first, "metrics": {key: first["metrics"][key] for key in self.metrics}}
        return headline(shared, limit=4)

    def rows(self, keys: Sequence[str]) -> list[tuple[str, list[Cell]]]:
        """Rows of these metrics: runs and their ensembles, then baselines.

        Nothing is best across protocols.
        """
        results = with_ensembles({name: run.result for name, run in self.runs.items()})
        return result_rows(results, self.baselines, keys, {} if self.warnings else self.better)


def compare_runs(folders: Sequence[str | Path]) -> Comparison:
    """Set finished runs side by side on the metrics that all of them have.

    Raises RunFolderError for a folder that is missing, unfinished or broken, for one given twice,
    and for runs that share no metric.
    """
    records = [load_run(folder) for folder in folders]
    runs = dict(zip(_names([record.folder for record in records]), records, strict=True))
    first = records[0]
    shared = [k for k in first.result["metrics"] if all(k in r.result["metrics"] for r in records)]
    if not shared:
        held = "; ".join(f"{n} has {', '.join(r.result['metrics'])}" for n, r in runs.items())
        raise RunFolderError(f"the runs share no metric: {held}")
    better = {key: way for r in reversed(records) for key, way in _part(r, "better").items()}
    warnings = {name: _warning(first, record) for name, record in runs.items()}
    return Comparison(
        runs=runs,
        metrics=shared,
        better={key: better[key] for key in shared if key in better},
        baselines=_baselines(runs, shared),
        settings=_settings(runs),
        warnings={name: texts for name, texts in warnings.items() if texts[0]},
    )


def _part(record: RunRecord, key: str) -> dict[str, Any]:
    return record.result.get(key, {})


def _names(folders: Sequence[Path]) -> list[str]:
    """As many trailing parts of each folder as tell them apart: "a/x", "b/x" stay, "r/x" is "x"."""
    places = [folder.resolve() for folder in folders]
    for place in places:
        if places.count(place) > 1:
            raise RunFolderError(f"{folders[places.index(place)]}: the same run given twice")
    for count in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-count:]) for place in places]
        if len(set(names)) == len(names):
            return names
    raise RunFolderError("the runs cannot be told apart")


def _warning(first: RunRecord, record: RunRecord) -> tuple[str, str]:
    """What makes a run's rows incomparable to the first run's, short and in full."""
    short, full = [], []
    for part, title in {"protocol": "protocol differs", "data": "data differ"}.items():
        ours, theirs = _part(first, part), _part(record, part)
        keys = [k for k in dict.fromkeys([*ours, *theirs]) if ours.get(k) != theirs.get(k)]
        if keys:
            short.append(f"{title}: {', '.join(keys)}")
            length = 12 if part == "data" else None
            pairs = ((k, str(theirs.get(k, "–"))[:length], str(ours.get(k, "–"))[:length])
                     for k in keys)  # fmt: skip
            full += [f"{k}: {here} (first run: {there})" for k, here, there in pairs]
    return "; ".join(short), "; ".join(full)


def _baselines(runs: dict[str, RunRecord], shared: list[str]) -> dict[str, dict[str, float]]:
    """Baseline rows of all runs; one name with several values is kept once for each run."""
    rows: dict[str, dict[str, float]] = {}
    for run, record in runs.items():
        for name, values in _part(record, "baselines").items():
            values = {key: values[key] for key in shared if key in values}
            if values and rows.get(name, values) != values:
                rows[f"{name} ({run})"] = values
            elif values:
                rows[name] = values
    return rows


def _settings(runs: dict[str, RunRecord]) -> dict[str, str]:
    """Config keys that differ between runs of one experiment, as "key=value key=value"."""
    configs = {
        name: {k: v for k, v in flatten(run.config).items() if k not in NOT_COMPARED}
        for name, run in runs.items()
    }
    texts = {}
    for name, run in runs.items():
        kind = run.result["experiment"]
        peers = [configs[n] for n, other in runs.items() if other.result["experiment"] == kind]
        keys = [k for k in configs[name] if any(p.get(k) != configs[name][k] for p in peers)]
        texts[name] = " ".join(f"{key}={configs[name][key]}" for key in keys)
    return texts


def comparison_table(comparison: Comparison) -> TextTable:
    """The runs and their baselines for the terminal, with the protocol or its differences under."""
    keys, runs = comparison.main_metrics, comparison.runs
    kinds = {run.result["experiment"] for run in runs.values()}
    rows = []
    for name, cells in comparison.rows(keys):
        kind = [runs[name].result["experiment"] if name in runs else ""] if len(kinds) > 1 else []
        note = Text(comparison.settings.get(name, ""))
        if name in comparison.warnings:
            note = Text(f"{comparison.warnings[name][0]} ", style="yellow") + note
        label = Text(name, style="dim" if name in comparison.baselines else "")
        rows.append(([label, *kind, note], cells))
    texts = ["run", *(["experiment"] if len(kinds) > 1 else []), "differs in"]
    title = f"{len(runs)} runs of {', '.join(sorted(kinds))}"
    numbers = [heading(key, comparison.better) for key in keys]
    caption = "\n".join(comparison_notes(comparison))
    return TextTable(title, texts, numbers, rows, caption=caption)


def comparison_notes(comparison: Comparison) -> list[str]:
    """Lines under the table: the first run's protocol, then each difference in full."""
    first, record = next(iter(comparison.runs.items()))
    protocol = protocol_text(record.result)
    notes = [f"protocol of {first}: {protocol}"] if protocol else []
    ensembles = {name: ensemble_text(run.result) for name, run in comparison.runs.items()}
    notes += [f"{name}, {text}" for name, text in ensembles.items() if text]
    notes += [f"{name}: {full}" for name, (_, full) in comparison.warnings.items()]
    if comparison.warnings:
        notes.append(
            "rows of different protocol or data are not comparable: no best value is marked"
        )
    return notes


def comparison_figure(comparison: Comparison) -> "Figure":
    """Shared test metrics as dots with 95 % intervals, then shared validation curves."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    from cityjax.report.figures import draw_seeds
    from cityjax.report.style import (
        INK,
        PALETTE,
        legend,
        number_format,
        panels,
        step_axis,
        style,
        value_axis,
    )

    runs, keys = comparison.runs, comparison.main_metrics
    colors = {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(runs)}
    sets = [metric_names(run.metrics, ["validation"]) for run in runs.values()]
    names = [name for name in sets[0] if all(name in other for other in sets)]
    figure, grid = panels(len(keys) + len(names))
    for axes, key in zip(grid, keys, strict=False):
        arrow = heading("", {"": comparison.better.get(key, "")})
        style(axes, title=metric_label(key) + arrow, grid="x")
        for row, (name, run) in enumerate(runs.items()):
            entry = run.result["metrics"][key]
            if not is_number(entry["mean"]):
                continue
            half = entry.get("ci95") or 0.0
            axes.errorbar(entry["mean"], row, xerr=half, fmt="o", color=colors[name], capsize=4)
            text = format_value(key, entry["mean"], entry.get("ci95"))
            axes.annotate(text, (entry["mean"], row), (0, 7), textcoords="offset points",
                          ha="center", fontsize=8, color=INK)  # fmt: skip
        axes.set_ylim(len(runs) - 0.4, -0.7)
        axes.set_yticks([])
        axes.margins(x=0.25)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(number_format(key))
    for axes, name in zip(grid[len(keys) :], names, strict=True):
        style(axes, title=f"{metric_label(name)} (validation)", x="step")
        values = []
        for run, record in runs.items():
            single = by_seed(record.metrics, "validation", name)
            values += [points[1] for points in single]
            draw_seeds(axes, single, colors[run])
        value_axis(axes, name, np.concatenate(values))
        step_axis(axes)
    handles = [Line2D([], [], color=c, linewidth=2, marker="o", label=n) for n, c in colors.items()]
    legend(figure, handles)
    return figure


def write_comparison(comparison: Comparison, output: str | Path) -> Path:
    """Write a self-contained HTML page of all shared metrics, and its picture as .png beside it."""
    from cityjax.report.figures import png
    from cityjax.report.page import card, metric_heading, page, picture, section, table, write_text

    path = Path(output)
    figure = png(comparison_figure(comparison))
    headings = ["", *(metric_heading(k, comparison.better.get(k)) for k in comparison.metrics)]
    rows = []
    for name, cells in comparison.rows(comparison.metrics):
        label = escape(name)
        if name in comparison.runs:
            label += f"<code>{escape(comparison.runs[name].result['experiment'])}</code>"
        note = escape(comparison.settings.get(name, ""))
        if name in comparison.warnings:
            note = f'<span class="warn">{escape(comparison.warnings[name][0])}</span> {note}'
        rows.append((label, cells, note))
    notes = [f'<p class="note">{escape(note)}</p>' for note in comparison_notes(comparison)]
    models = len(rows) - len(comparison.baselines)
    body = card(table([*headings, "Differs in"], rows, models=models), *notes)
    kinds = sorted({run.result["experiment"] for run in comparison.runs.values()})
    title = f"{len(comparison.runs)} runs of {', '.join(kinds)}"
    header = ['<p class="kicker">cityjax comparison</p>', f"<h1>{escape(title)}</h1>"]
    sections = [
        section("Results", body),
        section("Pictures", picture(figure, "Results and validation curves")),
    ]
    folders = ", ".join(str(run.folder) for run in comparison.runs.values())
    write_text(path, page("cityjax comparison", header, sections, folders))
    path.with_suffix(".png").write_bytes(figure)
    return path
