"""Reports: run folders read or refused, numbers as text, pictures, pages, comparisons."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D
from matplotlib.text import Text
from rich.console import Console

from cityjax import lettering
from cityjax.data import describe
from cityjax.lettering import short_names
from cityjax.report import figures
from cityjax.report.__main__ import main
from cityjax.report.compare import compare_runs, comparison_table, write_comparison
from cityjax.report.html import caption, write_report
from cityjax.report.record import (
    RunFolderError,
    by_seed,
    flatten,
    load_run,
    metric_names,
    seed_mean,
)
from cityjax.report.style import legend, new_figure, style
from cityjax.report.tables import (
    format_duration,
    format_value,
    headline,
    judged_text,
    metric_label,
    result_rows,
    result_table,
    sweep_table,
    verdict,
)
from cityjax.report.text_table import Cell, TextTable

VOID = {"meta", "img", "br", "hr", "link", "input"}
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.random((12, 28, 28))


def make_result(**changes) -> dict:
    result = {
        "experiment": "mlp_mnist",
        "config_hash": "9f3b77aa12cd",
        "data": {"mnist": "ab" * 32},
        "protocol": {"split": "54000/6000/10000", "selection": "validation error"},
        "seeds": [0, 1],
        "metrics": {
            "test/error": {"mean": 0.0148, "ci95": 0.0007, "per_seed": [0.0147, 0.0149]},
            "test/loss": {"mean": 0.0513, "ci95": 0.0011, "per_seed": [0.051, 0.0516]},
        },
        "baselines": {
            "class prior": {"test/error": 0.8865},
            "logistic regression": {"test/error": 0.0741},
        },
        "better": {"test/error": "lower", "test/loss": "lower"},
        "versions": {"jax": "0.10.2"},
        "device": "cpu",
        "parameters": 101770,
        "timing": {"train_seconds": 41.25},
    }
    return result | changes


ENSEMBLE = {"protocol": "mean of the predictions of 2 seeds", "metrics": {"test/error": 0.0123}}


def make_lines(seeds: int = 2) -> list[dict]:
    return [
        {"seed": seed, "step": step, "split": split, "loss": 1 / step + seed, "error": 0.5 / step}
        for seed in range(seeds)
        for step in (100, 200, 300)
        for split in ("train", "validation")
    ]


def make_run(folder: Path, *, result: dict | None = None, config: str = "steps: 300\n") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    lines = "".join(json.dumps(line) + "\n" for line in make_lines())
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    (folder / "result.json").write_text(json.dumps(result or make_result()), encoding="utf-8")
    return folder


@pytest.fixture
def run(tmp_path) -> Path:
    return make_run(tmp_path / "first")


def page_problems(text: str) -> list[str]:
    """Tags that are closed out of order or never."""

    class Balance(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.problems = [], []

        def handle_starttag(self, tag, attributes):
            if tag not in VOID:
                self.open.append(tag)

        def handle_endtag(self, tag):
            if not self.open or self.open.pop() != tag:
                self.problems.append(f"</{tag}> at {self.getpos()}")

    parser = Balance()
    parser.feed(text)
    parser.close()
    return parser.problems + parser.open


def printed(table, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def shell(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cityjax.report", *arguments]
    root = str(Path(figures.__file__).parents[2])
    environment = {"PYTHONPATH": root, "PYTHONIOENCODING": "utf-8", "PATH": ""}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )


# Numbers


@pytest.mark.parametrize(
    ("key", "mean", "ci95", "text"),
    [
        ("test/digit_score", 9.8524, 0.0071, "9.852 ± 0.007"),
        ("test/accuracy", 0.9852, 0.0007, "98.52 ± 0.07 %"),
        ("test/coverage_90_online@1-12", 0.89399, 0.00031, "89.399 ± 0.031 %"),
        ("test/accuracy", 0.98518, 0.00142, "98.52 ± 0.14 %"),
        ("test/error", 0.57, 0.0354, "57.0 ± 3.5 %"),
        ("test/error", 0.01463, None, "1.46 %"),
        ("test/error", 0.000041, None, "0.0041 %"),
        ("test/error", 0.0, None, "0.00 %"),
        ("test/mae@6", 192.34, 3.04, "192.3 ± 3.0"),
        ("test/mae@6", 192.34, 12.2, "192 ± 12"),
        ("test/mae", 2388.0, None, "2388"),
        ("test/mae", 12345.6, None, "12,346"),
        ("test/modes", 10, 0.0, "10 ± 0"),
        ("test/frechet_distance", 1.7104, None, "1.71"),
        ("test/loss", 2.34567, None, "2.346"),
        ("test/loss", 1.234e-8, None, "1.234e-08"),
        ("test/loss", -0.5, None, "-0.5"),
        ("test/mae", 23044196352.0, None, "2.304e+10"),
        ("test/mae", -23044196352.0, 123456789.0, "-2.304e+10 ± 1.2e+08"),
        ("test/mae", 9_999_999.0, None, "9,999,999"),
        ("test/mean_absolute_error", 0.5, None, "0.5"),
        ("test/loss", None, None, "–"),
        ("test/loss", float("nan"), None, "not finite"),
    ],
)
def test_a_value_is_shown_with_the_digits_that_its_interval_justifies(key, mean, ci95, text):
    assert format_value(key, mean, ci95) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.421, "0.42 s"), (41.23, "41.2 s"), (59.96, "1 min 00 s"), (161, "2 min 41 s"),
     (11100, "3 h 05 min")],
)  # fmt: skip
def test_a_duration_is_shown_for_people(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("test/mae@1", "MAE, 1 step ahead"),
        ("test/rmse@1-12", "RMSE, 1–12 steps ahead"),
        ("validation/digit_score", "Digit score (validation)"),
        ("test/frechet_distance", "Fréchet distance"),
        ("loss", "Loss"),
    ],
)
def test_a_metric_key_in_words(key, label):
    assert metric_label(key) == label


def test_a_file_name_becomes_a_caption():
    assert caption("error_by_horizon.seed=1") == "Error by horizon, seed 1"


def with_floors(mean: float, ci95: float | None, floors: dict, better: str, key="test/mae") -> dict:
    return make_result(
        metrics={key: {"mean": mean, "ci95": ci95}},
        baselines={name: {key: value} for name, value in floors.items()},
        better={key: better},
    )


def test_the_verdict_names_the_strongest_baseline_and_respects_the_interval():
    floors = {"last value": 586.0, "ridge": 155.0}
    assert verdict(with_floors(139.5, 1.5, floors, "lower"), "test/mae") == (
        "ahead", "10 % lower than ridge (155)")  # fmt: skip
    assert verdict(with_floors(154.0, 1.5, floors, "lower"), "test/mae") == (
        "level", "level with ridge (155), within the interval")  # fmt: skip
    assert verdict(with_floors(200.0, None, floors, "lower"), "test/mae") == (
        "between", "between ridge (155) and last value (586)")  # fmt: skip
    assert verdict(with_floors(600.0, None, floors, "lower"), "test/mae") == (
        "behind", "behind ridge (155)")  # fmt: skip
    assert verdict(with_floors(600.0, None, {}, "lower"), "test/mae") == ("alone", "")
    shares = with_floors(0.9852, 0.0007, {"prior": 0.1135}, "higher", "test/accuracy")
    assert verdict(shares, "test/accuracy") == ("ahead", "87.17 points above prior (11.35 %)")


def test_the_headline_keeps_the_ends_of_many_horizons_and_leaves_the_loss_out():
    keys = ["test/loss", "test/mae@1", "test/mae@2", "test/mae@3", "test/mae@1-3", "train/mae"]
    result = make_result(metrics={key: {"mean": 1.0} for key in keys}, baselines={})
    assert headline(result) == ["test/mae@1", "test/mae@3", "test/mae@1-3"]
    assert headline(make_result(metrics={"test/loss": {"mean": 1.0}})) == ["test/loss"]


@pytest.mark.parametrize(("better", "best"), [("lower", [True, False]), ("higher", [False, True])])
def test_the_best_value_is_marked_even_when_it_is_a_floor(better, best):
    result = with_floors(139.5, 1.5, {"ridge": 155.0}, better)
    rows = result_rows({"rnn": result}, result["baselines"], ["test/mae"], result["better"])
    assert [name for name, _ in rows] == ["rnn", "ridge"]
    assert [cells[0].best for _, cells in rows] == best


def test_the_steps_that_were_judged_and_how_far_an_unfinished_run_is():
    assert judged_text({"selected_step": [12_000]}) == "judged at step 12,000"
    assert judged_text({"selected_step": [500, 500]}) == "judged at step 500"
    assert judged_text({"selected_step": [500, 12_000]}) == "judged at steps 500, 12,000"
    assert judged_text({}) == ""
    unfinished = {"selected_step": [9], "unfinished": "seed 0 is at step 9 of 20"}
    assert judged_text(unfinished) == "judged at step 9; unfinished: seed 0 is at step 9 of 20"
    assert "judged at step 9" in printed(result_table(make_result(selected_step=[9])))


# Terminal tables


def test_the_result_table_shows_model_baselines_directions_and_protocol():
    text = printed(result_table(make_result()))
    row = next(line for line in text.splitlines() if line.strip().startswith("logistic"))
    assert row.split() == ["logistic", "regression", "7.41", "%", "–"]
    for part in ("1.48 ± 0.07 %", "test/error\u00a0↓", "2 seeds", "split: 54000/6000/10000"):
        assert part in text


def test_many_metrics_beside_many_baselines_show_the_headline_alone():
    metrics = {f"test/mae@{lead}": {"mean": 1.0, "ci95": None} for lead in range(1, 6)}
    published = {f"published {number}": {"test/mae@1": 2.0} for number in range(9)}
    text = printed(result_table(make_result(metrics=metrics, better={}, baselines=published)))
    row = next(line for line in text.splitlines() if line.strip().startswith("published 8"))
    assert row.split() == ["published", "8", "2", "–"]
    assert "test/mae@5" in text and "test/mae@3" not in text
    assert "5 metrics are in report.html" in text
    few = make_result(metrics=metrics, better={}, baselines={"last value": {"test/mae@1": 2.0}})
    text = printed(result_table(few))
    assert "test/mae@3" in text and "metrics are in" not in text


def test_an_ensemble_stands_beside_its_model_and_may_be_the_best(tmp_path):
    result = make_result(ensemble=ENSEMBLE)
    text = printed(result_table(result))
    row = next(line for line in text.splitlines() if line.strip().startswith("mlp_mnist, ensemble"))
    assert row.split() == ["mlp_mnist,", "ensemble", "1.23", "%", "–"]
    assert "ensemble: mean of the predictions of 2 seeds" in text
    folder = make_run(tmp_path / "a", result=result)
    page = write_report(folder).read_text(encoding="utf-8")
    assert 'mlp_mnist, ensemble</th><td class="best">1.23 %</td>' in page
    assert "ensemble: mean of the predictions of 2 seeds" in page
    comparison = compare_runs([folder, make_run(tmp_path / "b")])
    rows = {name: cells[0] for name, cells in comparison.rows(["test/error"])}
    assert list(rows)[:3] == ["a", "a, ensemble", "b"]
    assert rows["a, ensemble"].best and not rows["a"].best
    assert "a, ensemble: mean of the predictions of 2 seeds" in printed(
        comparison_table(comparison), width=200
    )
    write_comparison(comparison, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert page.count('<tr class="model">') == 3


def test_an_ensemble_that_is_none_says_why_and_has_no_row():
    none = {"protocol": "none, as not every seed has numbers", "metrics": {}}
    text = printed(result_table(make_result(ensemble=none)))
    assert "ensemble: none, as not every seed has numbers" in text
    assert "mlp_mnist, ensemble" not in text


def test_many_metrics_become_the_rows_and_no_number_is_lost_in_eighty_columns():
    keys = [f"test/mae@{step}" for step in range(1, 7)]
    floors = ("last value", "same hour last week", "hour-of-week median", "ridge per hour of day")
    result = make_result(
        metrics={key: {"mean": 139.64, "ci95": 1.52} for key in keys},
        baselines={name: {key: 3521.25 + i for key in keys} for i, name in enumerate(floors)},
        better={key: "lower" for key in keys},
    )
    text = printed(result_table(result))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("139.6 ± 1.5") == 6
    for number in ("3521", "3522", "3523", "3524"):
        assert text.count(number) == 6


@pytest.mark.parametrize(
    ("ensemble", "width"), [(False, 100), (False, 80), (True, 100), (True, 80)]
)
def test_a_long_key_is_whole_where_there_is_room_and_else_breaks_between_its_parts(ensemble, width):
    keys = [
        "test/mae@1-24",
        "test/coverage_90_online@1-24",
        "test/width_90_online@1-24",
        "test/a@1",
    ]
    floors = ("last value", "seasonal (672 steps)", "window mean", "historical average")
    result = make_result(
        experiment="synthetic_city",
        metrics={key: {"mean": 180.04, "ci95": 1.4 if ensemble else None} for key in keys},
        baselines={name: {keys[0]: 256.3} for name in floors},
        better={keys[0]: "lower"},
    )
    if ensemble:
        result["ensemble"] = {"protocol": "mean", "metrics": {key: 179.94 for key in keys}}
    lines = [line.rstrip() for line in printed(result_table(result), width).splitlines()]
    assert max(map(len, lines)) <= width
    start = next(place for place, line in enumerate(lines) if line.startswith("─")) + 1
    names = [line.partition("  ")[0] for line in lines[start : lines.index("", start)]]
    assert "".join(names) == "".join(keys).replace("1-24", "1-24\u00a0↓", 1)
    if ensemble and width == 80:
        assert "test/coverage_" in names and "online@1-24" in names and "@1-24\u00a0↓" in names
        assert not any(name.endswith(("-", "@")) for name in names)
    else:
        assert len(names) == len(keys)
    text = "\n".join(lines)
    assert "historical" in text and "average" in text and "seasonal" in text  # no heading is cut
    assert text.count("180.0 ± 1.4" if ensemble else " 180 ") == 3  # no number is broken


def test_a_sweep_has_three_numbers_in_eighty_columns_and_none_is_broken():
    keys = [f"test/{name}@{lead}" for name in ("mae", "rmse") for lead in ("1", "24", "1-24")]
    metrics = {key: {"mean": 228.83, "ci95": 1.4} for key in keys}
    result = make_result(metrics=metrics, better=dict.fromkeys(keys, "lower"))
    lines = printed(sweep_table([(["model=a"], result), (["model=b"], result)])).splitlines()
    assert max(map(len, lines)) <= 80
    arrows = [f"test/mae@{lead}\u00a0↓" for lead in ("1", "24", "1-24")]
    assert re.split(" +", lines[2].strip()) == ["model", *arrows]
    assert [line.count("228.8 ± 1.4") for line in lines[4:]] == [3, 3]


def test_numbers_too_long_for_the_terminal_leave_it_whole():
    keys = [f"test/{name}@{lead}" for name in ("mae", "rmse") for lead in ("1", "24", "1-24")]
    entry = {"mean": 9_876_543.0, "ci95": 1_234_567.0}
    result = make_result(metrics=dict.fromkeys(keys, entry), better={})
    varied = ("history", "hidden_size", "learning_rate", "batch_size")
    rows = [([f"{key}={value}" for key in varied], result) for value in (1, 2)]
    lines = printed(sweep_table(rows)).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("9,876,543 ± 1,234,567" in line for line in lines) == 2
    assert "in a wider terminal also: test/mae@24, test/mae@1-24" in lines


def test_a_caption_takes_the_width_of_the_terminal():
    table = TextTable(
        "a title longer than the table", ["x"], ["y"], [(["a"], [Cell("1")])], "z" * 70
    )
    lines = printed(table).splitlines()
    assert lines[0] == "a title longer than the table" and lines[-1] == "z" * 70


def test_the_sweep_table_shows_what_varied_and_reads_no_markup():
    rows = [
        (["experiment=mlp_mnist", "steps=100", "hidden_sizes=[red]"], make_result()),
        (["experiment=mlp_mnist", "steps=200", "hidden_sizes=[8]"], make_result()),
    ]
    text = printed(sweep_table(rows))
    assert "[red]" in text and "200" in text and text.count("1.48 ± 0.07 %") == 2
    assert "experiment" not in text


# Run folders


def test_a_run_folder_is_read_back(run):
    record = load_run(run)
    assert record.config == {"steps": 300}
    assert record.metrics == make_lines()
    assert record.result == make_result()


def test_the_metrics_of_a_run_that_kept_them_by_name_are_read_by_lead(tmp_path):
    leads = ["1", "1-24", "12", "24", "6"]
    kept = ["test/loss", *(f"test/{name}@{lead}" for name in ("mae", "rmse") for lead in leads)]
    result = make_result(metrics={key: {"mean": 1.0} for key in kept}, better={}, baselines={})
    read = load_run(make_run(tmp_path / "old", result=result)).result
    assert read == result
    assert list(read["metrics"]) == [
        "test/loss",
        *(f"test/{name}@{lead}" for name in ("mae", "rmse") for lead in (1, 6, 12, 24, "1-24")),
    ]
    assert headline(read, limit=3) == ["test/mae@1", "test/mae@24", "test/mae@1-24"]


def test_a_last_metrics_line_cut_by_a_kill_is_left_out(run):
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"seed": 0, "step": 4')
    assert load_run(run).metrics == make_lines()


def break_line(run: Path, text: str) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[2] = text
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def change_result(run: Path, **changes) -> None:
    (run / "result.json").write_text(json.dumps(make_result(**changes)))


def entries(tree, path=()):
    """The path of every value inside nested dicts and lists."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield (*path, key)
        yield from entries(tree[key], (*path, key))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: shutil.rmtree(run), ["first", "no such run folder"]),
        (lambda run: (run / "result.json").unlink(), ["result.json", "unfinished"]),
        (lambda run: (run / "config.yaml").unlink(), ["config.yaml", "not a run folder"]),
        (lambda run: (run / "metrics.jsonl").unlink(), ["metrics.jsonl", "missing"]),
        (lambda run: (run / "result.json").write_text('{"experiment"'), ["result.json", "line 1"]),
        (lambda run: (run / "result.json").write_text("[]"), ["result.json", "'experiment'"]),
        (lambda run: (run / "result.json").write_text('{"experiment": "a", "metrics": {"b": 3}}'),
         ["result.json", "'b' has no mean"]),
        (lambda run: change_result(run, metrics={"b": {"mean": "many"}}),
         ["result.json", "'b' holds something else than numbers", "remove it"]),
        (lambda run: change_result(run, metrics={"b": {"mean": 1, "ci95": -1}}), ["'b' holds"]),
        (lambda run: change_result(run, metrics={"b": {"mean": 1, "per_seed": ["1"]}}), ["'b'"]),
        (lambda run: change_result(run, baselines={"prior": {"b": "low"}}), ["baseline 'prior'"]),
        (lambda run: change_result(run, seeds=3), ["'seeds' is of the wrong type"]),
        (lambda run: change_result(run, selected_step=["last"]), ["'selected_step' holds"]),
        (lambda run: change_result(run, better={"test/error": 3}), ["'better' holds"]),
        (lambda run: (run / "result.json").write_bytes(b"\xff"), ["result.json", "UTF-8"]),
        (lambda run: (run / "config.yaml").write_text("a: [1\nb: 2"), ["config.yaml", "YAML"]),
        (lambda run: (run / "config.yaml").write_text("- 1"), ["config.yaml", "keys and values"]),
        (lambda run: break_line(run, '{"step" 200}'), ["metrics.jsonl", "line 3", "restore"]),
        (lambda run: (run / "metrics.jsonl").write_text('{"seed": 0}\n'), ["line 1", "lacks"]),
        (lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\n{}\n"), ["line 1", "broken"]),
        (lambda run: break_line(run, '{"seed": 0, "step": "two", "split": "test"}'),
         ["line 3", '"step": "two"', "an integer"]),
        (lambda run: break_line(run, '{"seed": 0, "step": 2, "split": "test", "loss": []}'),
         ["line 3", '"loss": []']),
    ],
)  # fmt: skip
def test_a_broken_run_folder_is_refused_in_one_line_that_names_the_file(run, change, words):
    change(run)
    with pytest.raises(RunFolderError) as caught:
        load_run(run)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


JUNK = ["text", None, True, -1, 2.5, np.nan, np.inf, 10**400, 1e308, [], ["a"], {}, {"mean": "a"}]


def test_whatever_stands_in_a_result_is_shown_or_refused_in_one_line(run):
    whole = make_result(
        selected_step=[300, 200], summary="Digits.", defaults={"steps": 3}, ensemble=ENSEMBLE
    )
    shown = refused = 0
    for path in entries(whole):
        for junk in JUNK:
            result = deepcopy(whole)
            place = result
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = junk
            (run / "result.json").write_text(json.dumps(result))
            try:
                read = load_run(run).result
            except RunFolderError as error:
                assert "\n" not in str(error) and "result.json" in str(error)
                refused += 1
                continue
            printed(result_table(read))
            printed(sweep_table([(["steps=1"], read), (["steps=2"], whole)]))
            shown += 1
    assert shown > 100 and refused > 100


def test_nested_keys_become_dotted():
    assert flatten({"a": 1, "b": {"c": {"d": 2}, "e": {}}}) == {"a": 1, "b.c.d": 2, "b.e": {}}


def test_curves_average_the_steps_that_all_seeds_have_and_keep_gaps():
    lines = [
        {"seed": 0, "step": 1, "split": "train", "loss": 1.0},
        {"seed": 0, "step": 2, "split": "train", "loss": 3.0},
        {"seed": 0, "step": 3, "split": "train", "loss": None},
        {"seed": 1, "step": 2, "split": "train", "loss": 5.0, "accuracy": 0.5},
        {"seed": 1, "step": 3, "split": "train", "loss": 2.0},
        {"seed": 1, "step": 3, "split": "test", "error": 2.0},
    ]
    steps, mean = seed_mean(by_seed(lines, "train", "loss"))
    np.testing.assert_array_equal(steps, [2, 3])
    np.testing.assert_array_equal(mean, [4.0, np.nan])
    assert metric_names(lines, ["train"]) == ["loss", "accuracy"]


# Figures


def week(hours: int = 24 * 30) -> tuple[np.ndarray, np.ndarray]:
    times = np.datetime64("2018-05-01T00") + np.arange(hours) * np.timedelta64(1, "h")
    return times, 3000 + 1000 * np.sin(np.arange(hours) / 24 * 2 * np.pi)


def draw_forecast() -> Figure:
    times, truth = week()
    masked = np.ma.masked_where(np.arange(len(truth)) % 50 < 3, truth)
    return figures.forecast(times, masked, truth + 5, floors={"last week": truth - 30},
                            unit="vehicles/h", horizon_text="1 hour ahead")  # fmt: skip


LABELS, PREDICTIONS = np.arange(12) % 3, np.arange(12) % 4 % 3
DRAWINGS = {
    "curves": lambda: figures.curves(make_lines()),
    "image_grid": lambda: figures.image_grid(IMAGES, columns=5),
    "labelled grid": lambda: figures.image_grid(IMAGES, columns=5, labels=range(12)),
    "misclassified": lambda: figures.misclassified(
        IMAGES, LABELS, PREDICTIONS, np.linspace(0.5, 1, 12)),
    "confusion": lambda: figures.confusion(LABELS, PREDICTIONS),
    "forecast": draw_forecast,
    "error_by_horizon": lambda: figures.error_by_horizon(
        {"rnn": [140, 160], "last value": [586, 1000]}, "MAE, vehicles/h"),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWINGS)
def test_equal_inputs_give_bit_equal_files_without_a_date_or_a_version(name, tmp_path):
    for copy in ("a", "b"):
        figures.save(DRAWINGS[name](), tmp_path / copy / "figure.png")
    first, second = ((tmp_path / copy / "figure.png").read_bytes() for copy in ("a", "b"))
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert b"tEXt" not in first and b"tIME" not in first


def test_an_image_is_saved_pixel_for_pixel(tmp_path):
    from matplotlib.image import imread

    image = np.array([[0.0, 1.0, 0.5], [2.0, -1.0, 0.25]])
    figures.save_image(image, tmp_path / "step=000001.png")
    read = imread(tmp_path / "step=000001.png")
    assert read.shape[:2] == (2, 3)
    np.testing.assert_allclose(read[..., 0], np.clip(image, 0, 1), atol=1 / 255)


def test_the_most_confident_mistakes_come_first_and_are_captioned():
    figure = figures.misclassified(
        IMAGES[:4], np.array([7, 1, 2, 3]), np.array([1, 1, 0, 8]), np.array([0.98, 1, 0.6, 0.991])
    )
    captions = [text.get_text() for text in figure.axes[0].texts]
    assert captions == ["3 → 8  99 %", "7 → 1  98 %", "2 → 0  60 %"]
    classes = np.eye(10)[[1, 1, 0, 8]] * 0.75
    figure = figures.misclassified(
        IMAGES[:4], np.array([7, 1, 0, 8]), np.array([1, 1, 0, 8]), classes
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ["7 → 1  75 %"]


def test_no_mistakes_says_so():
    figure = figures.misclassified(IMAGES, LABELS, LABELS, np.ones(12))
    assert figure.texts[0].get_text() == "No mistakes among 12 images"


def test_the_confusion_figure_counts_true_rows_and_predicted_columns():
    figure = figures.confusion(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2]))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [
        "1", "0", "1", "50.0 %", "0", "1", "0", "100.0 %", "0", "0", "1", "100.0 %", "found",
    ]  # fmt: skip


def test_the_forecast_shows_the_most_complete_week_with_gaps():
    times, truth = week()
    truth[:200] = np.nan
    truth[24 * 10 + 5] = np.nan
    masked = np.ma.masked_greater(truth, 3999)
    figure = figures.forecast(times, masked, truth, unit="vehicles/h", horizon_text="1 h ahead")
    hours, drawn = figure.axes[0].get_lines()[0].get_data()
    # The peak of every day is masked; from 2018-05-12 on the weeks are equal: the first one wins.
    assert np.asarray(hours)[0] == np.datetime64("2018-05-12T00")
    assert len(hours) == 168
    np.testing.assert_array_equal(np.isnan(drawn), np.arange(168) % 24 == 6)


def test_numeric_times_are_drawn_whole():
    figure = figures.forecast(np.arange(500), np.ones(500), np.ones(500), unit="", horizon_text="")
    assert len(figure.axes[0].get_lines()[0].get_xdata()) == 500


def test_a_choice_of_snapshots_keeps_both_ends():
    assert figures.evenly(5, 3) == [0, 2, 4]
    assert figures.evenly(2, 8) == [0, 1]


def test_names_are_shown_as_they_are_and_never_as_formulas(tmp_path):
    errors = {"_a$b_$": [1.0, 2.0], "$\\nosuch$": [2.0, 3.0]}
    figure = figures.error_by_horizon(errors, "MAE")
    figures.save(figure, tmp_path / "figure.png")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [r" _a\$b_\$", r"\$\nosuch\$"]


def test_long_names_are_cut_in_the_middle_and_stay_apart():
    names = ["a", "detector-0123456789-0123456789-north", "detector-0123456789-0123456789-south"]
    short = short_names(names)
    assert short == ["a", "detector-012…56789-north", "detector-012…56789-south"]
    assert max(map(len, short)) == 24
    names = [f"The {'very ' * 5}long name {number} of {'a ' * 9}road" for number in (10, 11)]
    assert short_names(names) == ["…10 of a a a…a a a road", "…11 of a a a…a a a road"]
    assert len(set(short_names(["x" * 40, "x" * 41]))) == 1  # no room to tell them apart


def named(text: str) -> Figure:
    figure = new_figure(4, 3)
    style(figure.subplots(), title=text)
    legend(figure, [Line2D([], [], label=text), Line2D([], [], label="b")])
    return figure


def test_a_character_that_the_font_lacks_is_drawn_in_an_installed_one_that_has_it(capsys):
    title = "\u2322 Größe – 5 °C"
    figure = named(title)  # fonts that matplotlib brings have the frown
    figures.png(figure)  # warnings are errors
    for text in figure.findobj(Text):
        assert (len(text.get_fontfamily()) > 1) == ("\u2322" in text.get_text())
    assert capsys.readouterr() == ("", "")


def test_characters_that_no_font_has_are_boxes_and_one_line(capsys, monkeypatch, tmp_path):
    only = [entry for entry in fontManager.ttflist if entry.name in ("DejaVu Sans", "STIXGeneral")]
    monkeypatch.setattr(fontManager, "ttflist", [*only, only[0].__class__(fname="no", name="No")])
    for cached in (lettering._families, lettering._say):
        cached.cache_clear()
    for name in ("北京", "\U00012000", "上海 \u2322"):
        assert figures.png(named(name))
        describe.save(named(name), tmp_path / "a.png")
    out, err = capsys.readouterr()
    lettering._families.cache_clear()  # of the fonts that there are not
    lines = [line.partition(": figures show boxes")[0] for line in err.splitlines()]
    start = "cityjax: no installed font has"
    assert out == ""
    assert lines == [f"{start} CJK characters", f"{start} Cuneiform characters"]


def test_images_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"\[N, H, W\]"):
        figures.image_grid(np.zeros((3, 28, 28, 1)))


# The report


def test_the_report_is_balanced_self_contained_and_complete(run):
    figures.save(DRAWINGS["confusion"](), run / "figures" / "confusion.png")
    for seed in (0, 1):
        for step in (5, 100):
            place = run / "figures" / "snapshots" / "digits" / f"seed={seed}"
            figures.save_image(IMAGES[0], place / f"step={step:06d}.png")
    path = write_report(run, summary="Digits & more.")
    text = path.read_text(encoding="utf-8")
    assert path == run / "report.html"
    assert page_problems(text) == []
    # Curves, confusion, and two snapshots of two seeds, all inside the page.
    assert text.count('<img src="data:image/png;base64,') == text.count("<img") == 6
    assert "<script" not in text and "http" not in text and "url(" not in text
    for part in ("Digits &amp; more.", "1.48 <small>± 0.07 %</small>", "101,770", "41.2 s",
                 "80 % lower than logistic regression (7.41 %)", "54000/6000/10000",
                 "abababababab<", "Learning curves", "step 100", "<summary>seed 1</summary>",
                 f"python -m cityjax.run config={run}/config.yaml"):  # fmt: skip
        assert part in text, part
    assert text.index("Learning curves") < text.index("Confusion")
    assert not list(run.glob(".*"))


def test_a_report_is_the_same_when_it_is_written_again(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_whatever_the_run_says_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>&\""
    result = make_result(
        experiment=evil,
        summary=evil,
        device=evil,
        protocol={evil: evil},
        data={evil: evil},
        versions={evil: evil},
        timing={evil: evil},
        baselines={evil: {"test/error": 0.5, evil: 1}},
        metrics={"test/error": {"mean": 0.1}, evil: {"mean": 1.0}},
        better={"test/error": "lower", evil: "higher"},
    )
    config = f"{json.dumps(evil)}: {json.dumps(evil)}\n"
    folder = make_run(tmp_path / "a<b>&'c' (é=1)", result=result, config=config)
    figures.save_image(IMAGES[0], folder / "figures" / "<i>.png")
    figures.save_image(IMAGES[0], folder / "figures" / "snapshots" / "<u>" / "seed=0/step=1.png")
    other = make_run(tmp_path / "<em>", result=result | {"protocol": {evil: "b"}}, config="a: 1\n")
    pages = [
        write_report(folder),
        write_comparison(compare_runs([folder, other]), tmp_path / "c.html"),
    ]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert page_problems(text) == []
        for tag in ("<script", "<em>", "<i>", "<u>"):
            assert tag not in text
        assert "&lt;script&gt;" in text


def test_keys_that_differ_from_their_defaults_are_highlighted(tmp_path):
    config = "steps: 300\nseed: 0\nparallel: jit\nmodel:\n  sizes: [8, 8]\nworkdir: /somewhere\n"
    folder = make_run(tmp_path / "run", config=config)
    defaults = {"steps": 200, "seed": 0, "parallel": "auto", "model": {"sizes": (8, 8)}}
    text = write_report(folder, defaults=defaults).read_text(encoding="utf-8")
    assert text.count('<dt class="changed">') == 1
    assert '<dt class="changed">steps</dt><dd class="changed">300</dd>' in text
    assert "<dt>model.sizes</dt><dd>[8, 8]</dd>" in text
    assert "/somewhere" not in text


def test_a_figure_that_is_no_png_is_named(run):
    (run / "figures").mkdir()
    (run / "figures" / "broken.png").write_text("no")
    with pytest.raises(RunFolderError, match="broken.png: not a PNG file"):
        write_report(run)


# Comparisons


@pytest.fixture
def other(tmp_path) -> Path:
    metrics = {"test/error": {"mean": 0.0172, "ci95": None, "per_seed": [0.0172]}}
    return make_run(tmp_path / "second", result=make_result(metrics=metrics), config="steps: 600\n")


def test_runs_compare_on_the_metrics_they_share_beside_their_baselines(run, other):
    comparison = compare_runs([run, other])
    assert comparison.metrics == ["test/error"]
    assert comparison.settings == {"first": "steps=300", "second": "steps=600"}
    assert comparison.warnings == {}
    rows = [(name, cells[0].text, cells[0].best) for name, cells in comparison.rows(["test/error"])]
    assert rows == [
        ("first", "1.48 ± 0.07 %", True),
        ("second", "1.72 %", False),
        ("class prior", "88.65 %", False),
        ("logistic regression", "7.41 %", False),
    ]


def test_another_protocol_or_other_data_are_flagged_and_nothing_is_called_best(run, tmp_path):
    result = make_result(protocol={"split": "60000/10000"}, data={"mnist": "cd" * 32})
    result["baselines"] = {"class prior": {"test/error": 0.8}}
    comparison = compare_runs([run, make_run(tmp_path / "loose", result=result)])
    text = printed(comparison_table(comparison), width=200)
    assert "protocol differs: split, selection; data differ: mnist" in text
    assert "loose: split: 60000/10000 (first run: 54000/6000/10000); selection: –" in text
    assert not any(cell.best for _, cells in comparison.rows(["test/error"]) for cell in cells)
    assert comparison.baselines["class prior (loose)"] == {"test/error": 0.8}


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    folders = [make_run(tmp_path / part / "run") for part in ("a", "b")]
    assert list(compare_runs(folders).runs) == ["a/run", "b/run"]


def test_the_command_compares_runs_and_writes_the_page_and_the_picture(run, other, tmp_path):
    done = shell("first", "second", "--output", "new/c d.html", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1.48 ± 0.07 %" in done.stdout and "1.72 %" in done.stdout
    text = (tmp_path / "new" / "c d.html").read_text(encoding="utf-8")
    assert page_problems(text) == []
    assert text.count("<img") == 1
    assert (tmp_path / "new" / "c d.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_rebuilds_the_report_of_one_run(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["first"]) == 0
    assert capsys.readouterr().out.endswith("first/report.html\n")
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "python -m cityjax.run config=first/config.yaml" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["first", "missing"], "missing: no such run folder"),
        (["unfinished"], "unfinished/result.json: missing, the run is unfinished"),
        (["first", "first"], "first: the same run given twice"),
        (["first", "foreign"], "the runs share no metric"),
        (["first", "--output", "x.html"], "--output is for comparing two or more runs"),
        (["first", "second", "--output", "x.png"], "expected a name ending in .html"),
        (["first", "second", "--output", "first/config.yaml/x.html"], "first/config.yaml"),
        ([], "RUN"),
    ],
)
def test_a_wrong_command_is_one_line_exit_2_and_writes_nothing(
    run, other, tmp_path, monkeypatch, capsys, arguments, words
):
    make_run(tmp_path / "foreign", result=make_result(metrics={"test/mae": {"mean": 3.0}}))
    (make_run(tmp_path / "unfinished") / "result.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.out == ""
    assert output.err.count("\n") == 1 and words in output.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("arguments", [["first"], ["first", "second"], ["--help"]])
def test_the_command_writes_to_any_terminal_and_to_a_closed_pipe(run, other, tmp_path, arguments):
    root = str(Path(figures.__file__).parents[2])
    line = [sys.executable, "-m", "cityjax.report", *arguments]
    environment = {"PYTHONPATH": root, "PYTHONIOENCODING": "ascii", "PATH": ""}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert arguments == ["--help"] or b"1.48 ? 0.07 %" in done.stdout
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        line, cwd=tmp_path, env=environment, stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_unfinished_run_is_one_line_and_exit_2_from_the_shell(run, tmp_path):
    (make_run(tmp_path / "unfinished") / "result.json").unlink()
    done = shell("first", "unfinished", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    line = "unfinished/result.json: missing, the run is unfinished"
    assert done.stderr == f"python -m cityjax.report: error: {line}\n"
    assert not (tmp_path / "comparison.html").exists()


def test_the_report_package_is_light_and_draws_without_jax_or_pyplot():
    code = (
        "import sys, cityjax.report\n"
        "assert not {'matplotlib', 'rich', 'numpy'} & set(sys.modules)\n"
        "import cityjax.report.tables, cityjax.report.compare\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import cityjax.report.html\n"
        "assert not {'jax', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    environment = {"PYTHONPATH": str(Path(figures.__file__).parents[2]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_page_of_results_shows_every_recorded_row_with_its_protocol():
    root = Path(figures.__file__).parents[2]
    page = runpy.run_path(str(root / "benchmarks" / "results.py"))["page"]()
    records = [json.loads(path.read_text()) for path in root.glob("docs/results/*.json")]
    assert records
    for result in records:
        assert f"- selection: {result['protocol']['selection']}\n" in page
        assert judged_text(result) in page
        for key, entry in result["metrics"].items():
            shown = format_value(key, entry["mean"], entry["ci95"])
            assert key == "test/loss" or f"| {shown} |" in page
