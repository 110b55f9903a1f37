"""The results table: every experiment at its default settings over five seeds.

Run: python -m benchmarks.results [ROW ...]

Each row is one command of the framework in a run folder of its own, so that a stopped table goes on
where it was; finished rows are read, not repeated. Writes docs/results/ROW.json (the run's result
with commit, date and machine) and docs/results/README.md.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cityjax.report.tables import format_value, judged_text

ROOT = Path(__file__).resolve().parent.parent
DOCS, RUNS = ROOT / "docs" / "results", ROOT / "runs" / "results"


class Row(NamedTuple):
    """One row: its arguments, and what it must reach, {metric: (target, better)}."""

    arguments: tuple[str, ...]
    targets: dict[str, tuple[float, str]]


ROWS = {
    "mlp_mnist": Row(("experiment=mlp_mnist", "seeds=5"), {"error": (0.015, "lower")}),
    "cnn_mnist": Row(("experiment=cnn_mnist", "seeds=5"), {"error": (0.0065, "lower")}),
    "cnn_mnist_shift": Row(
        ("experiment=cnn_mnist", "augment=shift", "seeds=5"), {"error": (0.0050, "lower")}
    ),
    "rnn_mnist": Row(("experiment=rnn_mnist", "seeds=5"), {"error": (0.010, "lower")}),
    "rnn_traffic": Row(
        ("experiment=rnn_traffic", "seeds=5"), {"mae@1": (142, "lower"), "mae@6": (195, "lower")}
    ),
    "gan_mnist": Row(
        ("experiment=gan_mnist", "seeds=5"),
        {
            "modes": (10, "higher"),
            "frechet_distance": (25, "lower"),
            "digit_score": (7.7, "higher"),
        },
    ),
    "dcgan_mnist": Row(
        ("experiment=dcgan_mnist", "log_every=200", "seeds=5"),
        {"frechet_distance": (15, "lower"), "digit_score": (8.8, "higher")},
    ),
    "dcgan_mnist_conditional": Row(
        ("experiment=dcgan_mnist", "conditional=true", "log_every=200", "seeds=2"),
        {"gan_train_accuracy": (0.92, "higher"), "gan_test_accuracy": (0.95, "higher")},
    ),
    "article_nn": Row(("experiment=article_nn", "seeds=5"), {}),
    "article_cnn": Row(("experiment=article_cnn", "seeds=5"), {}),
    "article_rnn": Row(("experiment=article_rnn", "seeds=5"), {}),
    "article_gan": Row(("experiment=article_gan", "seeds=5"), {}),
}


def command(arguments: tuple[str, ...]) -> str:
    """Return the command line of a run."""
    return "python -m cityjax.run " + " ".join(f"'{a}'" if "[" in a else a for a in arguments)


def measure(arguments: tuple[str, ...], workdir: Path, kept: Path) -> None:
    """Run one command in its folder to its end, or go on with it, and keep its result as JSON."""
    print(f"== {kept.stem}: {command(arguments)}", flush=True)
    given = [*arguments, f"workdir={workdir}", "progress=plain"]
    subprocess.run([sys.executable, "-m", "cityjax.run", *given], check=True, cwd=ROOT)
    result = json.loads((workdir / "result.json").read_text())
    result.pop("defaults")
    result["command"] = command(arguments)
    today = time.strftime("%Y-%m-%d")
    result["measured"] = {"commit": commit(), "date": today, "cpu": cpu()}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def page() -> str:
    """Return docs/results/README.md, from the JSON files that are there."""
    lines = [
        "# Results",
        "",
        "Means over seeds with the half-width of their 95 % interval (Student's t), default",
        "settings. `python -m benchmarks.results` makes every row and this page; it goes on where",
        "it was stopped. Each row's JSON file beside this page has the protocol, the value of each",
        "seed, data hashes, versions, commit, date and the cores it had, beside other work on the",
        "same machine: its seconds are no benchmark.",
        "",
    ]
    for name, row in ROWS.items():
        path = DOCS / f"{name}.json"
        lines += [f"## {name}", "", f"`{command(row.arguments)}`", ""]
        if path.exists():
            lines += section(json.loads(path.read_text()), row)
        else:
            lines += ["Not measured yet.", ""]
    return "\n".join(lines)


def section(result: dict[str, Any], row: Row) -> list[str]:
    """Return one row's table: the model, its target, and its baselines."""
    keys = [key for key in result["metrics"] if key != "test/loss"]
    head = ["", *keys]
    entries = [result["metrics"][key] for key in keys]
    model = [format_value(k, e["mean"], e["ci95"]) for k, e in zip(keys, entries, strict=True)]
    table = [head, ["---"] * len(head), [f"**{result['experiment']}**", *model]]
    if row.targets:
        cells = []
        for key, entry in zip(keys, entries, strict=True):
            target, better = row.targets.get(key.removeprefix("test/"), (None, ""))
            if target is None:
                cells.append("")
                continue
            met = entry["mean"] <= target if better == "lower" else entry["mean"] >= target
            sign = "≤" if better == "lower" else "≥"
            cells.append(f"{sign} {format_value(key, target)} ({'met' if met else 'missed'})")
        table.append(["target", *cells])
    for name, values in result["baselines"].items():
        cells = [format_value(key, values[key]) if key in values else "" for key in keys]
        table.append([name, *cells])
    seeds, timing, measured = result["seeds"], result["timing"], result["measured"]
    return [
        *("| " + " | ".join(line) + " |" for line in table),
        "",
        f"{len(seeds)} seeds, {judged_text(result)}; "
        f"{timing['train_seconds'] / len(seeds):.0f} s of updates a seed; "
        f"commit {measured['commit']}, {measured['date']}, {measured['cpu']}, "
        f"JAX {result['versions']['jax']}.",
        "",
        *(f"- {key}: {value}" for key, value in result["protocol"].items()),
        "",
    ]


def where_measured(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the end of a section: where and when each of its lines was measured."""
    return ["", "Measured:", "", *(f"- {name}: {one['measured']}" for name, one in found.items())]


def commit() -> str:
    """Return the commit that is checked out."""
    arguments = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.check_output(arguments, cwd=ROOT, text=True).strip()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(
            f"a result names its commit: git and a clone of the repository are needed ({error})"
        )


def cpu() -> str:
    """Name the processor and how many of its cores this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    cores = len(available(0)) if available else os.cpu_count()
    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.exists() else []
    model = next((x.split(":")[1].strip() for x in names if x.startswith("model name")), "")
    return f"{cores} x {model or platform.processor() or platform.machine()}"


def chosen(what: str, names: Sequence[str], known: Iterable[str]) -> list[str]:
    """Return the names, all that are known where none is given.

    Unknown ones end the command, and so does -h or --help, which prints what it is.
    """
    if {"-h", "--help"} & set(names):
        print(sys.modules["__main__"].__doc__)
        sys.exit()
    if unknown := sorted(set(names) - set(known)):
        sys.exit(f"unknown {what} {', '.join(unknown)}: {', '.join(known)}")
    return list(names or known)


def main(names: list[str]) -> None:
    """Measure the named rows, all of them by default, and write the page after each."""
    for name in chosen("rows", names, ROWS):
        measure(ROWS[name].arguments, RUNS / name, DOCS / f"{name}.json")
        (DOCS / "README.md").write_text(page())


if __name__ == "__main__":
    main(sys.argv[1:])
