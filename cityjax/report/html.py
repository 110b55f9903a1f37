"""report.html: one run on one self-contained page."""

import re
import shlex
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from cityjax.report import figures
from cityjax.report.page import (
    card,
    definitions,
    image,
    joined,
    metric_heading,
    page,
    picture,
    read_png,
    section,
    table,
    write_text,
)
from cityjax.report.record import RunRecord, flatten, is_number, load_run
from cityjax.report.tables import (
    ensemble_text,
    format_duration,
    format_value,
    headline,
    judged_text,
    metric_label,
    result_rows,
    seeds_text,
    verdict,
    with_ensembles,
)
from cityjax.report.text_table import Cell

SYMBOLS = {"ahead": "▲ ", "level": "≈ ", "between": "◆ ", "behind": "▼ "}
SNAPSHOT = re.compile(r"seed=(\d+)/step=(\d+)\.png")
# Where a run lies is not what ran, and its folder stands in the command already.
NOT_SHOWN = ("workdir",)


def write_report(
    folder: str | Path, *, summary: str = "", defaults: Mapping[str, Any] | None = None
) -> Path:
    """Write report.html of a finished run, and draw what it has of curves.png; returns its path.

    `summary` is one line on the experiment, `defaults` its default config: keys that differ are
    highlighted. Without them result.json's "summary" and "defaults" are used if it has them.
    Raises RunFolderError for an unfinished run or a broken file.
    """
    run = load_run(folder)
    if len({line["step"] for line in run.metrics if line["split"] != "test"}) > 1:
        figures.save(figures.curves(run.metrics), run.folder / "figures" / "curves.png")
    result = run.result
    summary = summary or result.get("summary", "")
    defaults = result.get("defaults") if defaults is None else defaults
    header = [
        '<p class="kicker">cityjax run report</p>',
        f"<h1>{escape(result['experiment'])}</h1>",
        f'<p class="summary">{escape(summary)}</p>' if summary else "",
        _facts(result),
    ]
    sections = [
        _cards(result),
        section("Results", card(_results(result), _protocol(result)), _each_seed(result)),
        section("Figures", _pictures(run.folder)),
        section("While it learned", *_snapshots(run.folder)),
        section("What ran", _what_ran(run, defaults)),
        section("Run it again", _command(run.folder)),
    ]
    path = run.folder / "report.html"
    title = f"{result['experiment']} · cityjax"
    write_text(path, page(title, header, sections, f"{run.folder}"))
    return path


def _facts(result: Mapping[str, Any]) -> str:
    facts = {"": seeds_text(result).partition(",")[0]}
    if is_number(result.get("parameters")):
        facts["parameters"] = f"{result['parameters']:,}"
    if is_number(result.get("timing", {}).get("train_seconds")):
        facts["training"] = format_duration(result["timing"]["train_seconds"])
    if result.get("device"):
        facts["on"] = str(result["device"])
    items = (f"<li>{escape(name)} <b>{escape(value)}</b></li>" for name, value in facts.items())
    return f'<ul class="facts">{"".join(items)}</ul>'


def _cards(result: Mapping[str, Any]) -> str:
    cards = []
    for key in headline(result):
        entry = result["metrics"][key]
        value, plus, interval = format_value(key, entry["mean"], entry.get("ci95")).partition(" ± ")
        shown = escape(value) + (f" <small>± {escape(interval)}</small>" if plus else "")
        status, sentence = verdict(result, key)
        line = (
            f'<p class="verdict {status}">{SYMBOLS[status]}{escape(sentence)}</p>'
            if sentence
            else ""
        )
        name = f'<p class="name">{escape(metric_label(key))}</p>'
        cards.append(card(name, f'<p class="value">{shown}</p>', line))
    return f'<div class="cards">\n{joined(cards)}\n</div>' if cards else ""


def _results(result: Mapping[str, Any]) -> str:
    better, keys = result.get("better", {}), list(result["metrics"])
    name = result["experiment"]
    shown = with_ensembles({name: result})
    rows = result_rows(shown, result.get("baselines", {}), keys, better)
    headings = [metric_heading(key, better.get(key)) for key in keys]
    if len(keys) <= 5:
        lines = [(escape(label), cells, "") for label, cells in rows]
        body = table(["", *headings], lines, models=len(shown))
    else:
        lines = [(h, [cells[i] for _, cells in rows], "") for i, h in enumerate(headings)]
        body = table(["", *(escape(label) for label, _ in rows)], lines, models=0)
    texts = (seeds_text(result), judged_text(result), ensemble_text(result))
    facts = "; ".join(filter(None, texts))
    note = f"{facts}; the best value of each metric is bold." if keys else ""
    return body + f'\n<p class="note">{escape(note)}</p>'


def _protocol(result: Mapping[str, Any]) -> str:
    values = definitions(result.get("protocol", {}))
    return f'<div class="protocol">\n<h3>Protocol</h3>\n{values}\n</div>' if values else ""


def _each_seed(result: Mapping[str, Any]) -> str:
    seeds, keys = result.get("seeds", []), headline(result)
    columns = {key: result["metrics"][key].get("per_seed") or [] for key in keys}
    if len(seeds) < 2 or any(len(column) != len(seeds) for column in columns.values()):
        return ""
    rows = [
        (f"seed {escape(str(seed))}", [Cell(format_value(k, columns[k][i])) for k in keys], "")
        for i, seed in enumerate(seeds)
    ]
    headings = ["", *(escape(metric_label(key)) for key in keys)]
    body = card(table(headings, rows, models=0))
    return f"<details><summary>Each seed</summary>\n{body}\n</details>"


def caption(stem: str) -> str:
    """A file name in words: "error_by_horizon.seed=1" is "Error by horizon, seed 1"."""
    text = stem.replace("_", " ").replace(".", ", ").replace("=", " ").strip()
    return text[:1].upper() + text[1:]


def _pictures(folder: Path) -> str:
    paths = sorted((folder / "figures").glob("*.png"), key=lambda p: (p.stem != "curves", p.name))
    names = {"curves": "Learning curves"}
    shown = [picture(read_png(path), names.get(path.stem, caption(path.stem))) for path in paths]
    return f'<div class="pictures">\n{joined(shown)}\n</div>' if shown else ""


def _snapshots(folder: Path) -> list[str]:
    """One strip per name for the first seed, the other seeds folded away under it."""
    blocks = []
    root = folder / "figures" / "snapshots"
    for place in sorted(path for path in root.glob("*") if path.is_dir()):
        seeds: dict[int, dict[int, Path]] = {}
        for path in place.glob("*/*.png"):
            if match := SNAPSHOT.fullmatch(path.relative_to(place).as_posix()):
                seeds.setdefault(int(match[1]), {})[int(match[2])] = path
        strips = [(seed, _strip(seeds[seed])) for seed in sorted(seeds)]
        folded = (
            f"<details><summary>seed {seed}</summary>\n{strip}\n</details>"
            for seed, strip in strips[1:]
        )
        if strips:
            blocks.append(card(f"<h3>{escape(caption(place.name))}</h3>", strips[0][1], *folded))
    return blocks


def _strip(paths: Mapping[int, Path]) -> str:
    steps = sorted(paths)
    shown = []
    for step in (steps[index] for index in figures.evenly(len(steps), figures.STRIP)):
        tag, _ = image(read_png(paths[step]), f"step {step}")
        shown.append(f"<figure>{tag}<figcaption>step {step:,}</figcaption></figure>")
    return f'<div class="strip">\n{joined(shown)}\n</div>'


def _what_ran(run: RunRecord, defaults: Mapping[str, Any] | None) -> str:
    config = {key: value for key, value in flatten(run.config).items() if key not in NOT_SHOWN}
    plain = flatten(defaults or {})
    # config.yaml holds what "auto" came to, which nobody changed; YAML has lists for tuples.
    changed = [
        key
        for key, default in plain.items()
        if default != "auto"
        and key in config
        and config[key] != (list(default) if isinstance(default, tuple) else default)
    ]
    result = run.result
    data = {name: str(value)[:12] for name, value in flatten(result.get("data", {})).items()}
    timing = {
        name.removesuffix("_seconds"): format_duration(value) if is_number(value) else value
        for name, value in flatten(result.get("timing", {})).items()
    }
    machine = flatten(result.get("versions", {}))
    if result.get("device"):
        machine = {"device": result["device"], **machine}
    model = {"parameters": f"{result['parameters']:,}"} if "parameters" in result else {}
    model["config hash"] = str(result.get("config_hash", "–"))[:12]
    note = '<p class="note">Highlighted: changed from the default.</p>' if changed else ""
    shown = {key: "null" if value is None else value for key, value in config.items()}
    blocks = {
        "Data (sha256)": data,
        "Model": model,
        "Machine and versions": machine,
        "Time, no part of the result": timing,
    }
    right = [card(f"<h3>{n}</h3>", definitions(values)) for n, values in blocks.items() if values]
    left = card("<h3>Configuration</h3>", definitions(shown, changed=changed), note)
    return f'<div class="columns">\n{left}\n<div class="stack">\n{joined(right)}\n</div>\n</div>'


def _command(folder: Path) -> str:
    argument = shlex.quote(f"config={folder / 'config.yaml'}")
    return f"<pre><code>python -m cityjax.run {escape(argument)}</code></pre>"
