"""Every model on every forecasting experiment, by validation: what its default is chosen from.

Run: python -m benchmarks.models [EXPERIMENT ...]

Each model runs with its defaults in the experiment, seed 0, for as long as the experiment gives it,
and is judged by the metric on validation that names the best checkpoint; the test part is not
looked at. Finished runs are read, not repeated, so that a stopped command goes on where it was.
Writes docs/results/models.md and the JSON file behind it.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.results import DOCS, ROOT, chosen, commit, cpu
from cityjax import registry
from cityjax.forecast_metrics import by_name
from cityjax.forecasting import MODELS, ForecastConfig, problem_of
from cityjax.report.tables import format_value

# Why a default stays that is not the best here.
NOTES = {
    "energy_ett": "A seed of nlinear is nearer by 0.5 % here; on test its MSE of 96 hours is 0.372,"
    " ridge's, which needs no seed, 0.364.",
    "energy_load": "seq2seq, nearer by 0.4 %, takes some twenty times as long; on test its MAE is"
    " 490 MW, stid's 468, of a seed each.",
    "health_ili": "Validation has two seasons here and says little: stid, better on it, has a test"
    " MSE of 2.3 ± 0.7 (`python -m cityjax.run experiment=health_ili model=stid seeds=3`), ridge"
    " 1.85. Ridge takes its penalties by the errors on ten blocks of train instead.",
}
RUNS, PAGE = ROOT / "runs" / "models", DOCS / "models.md"
KEPT = DOCS / "models" / "validation.json"


def experiments() -> dict[str, str]:
    """Return the forecasting experiments on real data, and the model that each has by default."""
    found = {}
    for name in registry.available():
        config = registry.load(name).Config
        if issubclass(config, ForecastConfig) and not config.data.startswith("synthetic"):
            found[name] = config.model
    return found


def judged(experiment: str, model: str, metric: str) -> dict[str, Any]:
    """Run a model on an experiment: its best value on validation, or why it is refused."""
    folder = RUNS / f"{experiment}_{model}"
    given = [f"experiment={experiment}", f"model={model}", f"workdir={folder}", "progress=off"]
    command = [sys.executable, "-m", "cityjax.run", *given]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode == 2:
        return {"refused": ended.stderr.strip().removeprefix("cityjax: ")}
    ended.check_returncode()
    return best(folder / "metrics.jsonl", metric)


def selects(experiment: str) -> str:
    """Return the metric that names the best checkpoint of an experiment."""
    return problem_of(registry.load(experiment).Config())[0].select


def best(metrics: Path, metric: str) -> dict[str, Any]:
    """Return the metric's best value on validation, from a run's lines."""
    lines = map(json.loads, metrics.read_text(encoding="utf-8").splitlines())
    values = [line[metric] for line in lines if line["split"] == "validation"]
    return {"metric": metric, "value": max(values) if higher(metric) else min(values)}


def higher(metric: str) -> bool:
    """Whether a metric is the better the higher it is."""
    return by_name(metric).better == "higher"


def page(found: dict[str, dict[str, dict[str, Any]]], defaults: dict[str, str]) -> str:
    """Return the page: a table for each experiment that was run."""
    lines = [
        "# Models",
        "",
        "Every model on every forecasting experiment, on validation, by the metric that names the",
        "best checkpoint: `python -m benchmarks.models`. One seed, each model with its defaults",
        "and the experiment's updates. The default of an experiment is in bold; where another is",
        "better by this one seed, the table says by how much. What a run does on test, which notes",
        "quote, is in runs/models/EXPERIMENT_MODEL/result.json.",
        "",
    ]
    if waiting := [name for name in defaults if name not in found]:
        lines += [f"Experiments that were not run yet: {', '.join(waiting)}.", ""]
    for experiment, models in found.items():
        lines += [f"## {experiment}", "", *section(models, defaults[experiment]), ""]
        if left := [model for model in MODELS if model not in models]:
            lines += [f"Not judged yet: {', '.join(left)}.", ""]
        if experiment in NOTES:
            lines += [NOTES[experiment], ""]
    return "\n".join(lines)


def section(models: dict[str, dict[str, Any]], default: str) -> list[str]:
    """Return the table of one experiment, best first, and what it says of the default."""
    ran = {name: one for name, one in models.items() if "value" in one}
    metric = next((one["metric"] for one in ran.values()), "")
    order = sorted(ran, key=lambda name: ran[name]["value"], reverse=bool(ran) and higher(metric))
    lines = [f"| model | validation {metric} |", "| --- | --- |"]
    for name in order:
        value = format_value(metric, ran[name]["value"])
        shown = f"**{name}**" if name == default else name
        lines.append(f"| {shown} | {value} |")
    lines.append("")
    if default in ran and order[0] != default:
        share = abs(ran[default]["value"] / ran[order[0]]["value"] - 1)
        lines += [f"{order[0]} is better than the default, {default}, by {100 * share:.1f} %.", ""]
    lines += [f"- {name}: {one['refused']}" for name, one in models.items() if "refused" in one]
    measured = sorted({one["measured"] for one in models.values()})
    return [*lines, *(f"- measured: {text}" for text in measured)]


def main(names: list[str]) -> None:
    """Judge every model on the named experiments, all of them by default."""
    defaults = experiments()
    found = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    for experiment in chosen("experiments", names, defaults):
        left = [model for model in MODELS if model not in found.get(experiment, {})]
        metric = selects(experiment) if left else ""
        for model in left:
            measured = f"commit {commit()}, {time.strftime('%Y-%m-%d')}, {cpu()}"
            one = judged(experiment, model, metric) | {"measured": measured}
            found.setdefault(experiment, {})[model] = one
            print(experiment, model, json.dumps(one), flush=True)
            found = {name: found[name] for name in defaults if name in found}
            KEPT.parent.mkdir(exist_ok=True)
            KEPT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            PAGE.write_text(page(found, defaults), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
