"""docs/results says what the code does today: its configurations, its protocol, its page."""

import json
import re

import pytest

from benchmarks import models, peers, performance, scaling, tables
from benchmarks.forecasting import TABLES
from benchmarks.results import DOCS, ROWS, command, page
from cityjax.overrides import resolve


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_what_its_command_gives_today(name):
    saved = json.loads((DOCS / f"{name}.json").read_text(encoding="utf-8"))
    request = resolve(ROWS[name].arguments)
    (config,) = request.configs
    assert saved["command"] == command(ROWS[name].arguments)
    assert saved["experiment"] == request.experiment
    assert saved["config_hash"] == config.hash()
    assert saved["seeds"] == list(range(config.seed, config.seed + config.seeds))
    assert {len(entry["per_seed"]) for entry in saved["metrics"].values()} == {config.seeds}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_was_selected_and_measured_as_today(name):
    saved = json.loads((DOCS / f"{name}.json").read_text(encoding="utf-8"))
    request = resolve(ROWS[name].arguments)
    experiment = request.module.build(request.configs[0])
    protocol = saved["protocol"]
    if experiment.select is None:
        assert protocol["selection"].startswith("last step")
    else:
        assert re.match(r"best ([^\s,]+)", protocol["selection"])[1] == experiment.select
    assert protocol == {"selection": protocol["selection"], **experiment.protocol}
    assert saved["data"] == dict(experiment.data)
    measured = {*experiment.metrics, *experiment.better}
    assert {key.removeprefix("test/") for key in saved["metrics"]} - {"loss"} <= measured


def test_every_file_belongs_to_a_row_and_the_page_shows_them_all():
    assert {path.stem for path in DOCS.glob("*.json")} == set(ROWS)
    assert (DOCS / "README.md").read_text(encoding="utf-8") == page()


RUNS = {
    f"{name}_{run}": arguments
    for name, table in TABLES.items()
    for line in table.lines
    for run, arguments in line.runs.items()
}


@pytest.mark.parametrize("key", RUNS)
def test_a_run_of_the_forecasting_table_is_what_its_command_gives_today(key):
    (config,) = resolve(RUNS[key]).configs
    saved = tables.read("forecasting", key)
    if saved is None:
        assert "not measured yet" in (DOCS / "forecasting.md").read_text(encoding="utf-8")
        return
    assert saved["command"] == command(RUNS[key])
    assert saved["config_hash"] == config.hash()
    assert saved["seeds"] == list(range(config.seed, config.seed + config.seeds))


def test_the_forecasting_page_shows_every_run_and_no_other():
    assert {path.stem for path in (DOCS / "forecasting").glob("*.json")} <= set(RUNS)
    shown = (DOCS / "forecasting.md").read_text(encoding="utf-8")
    assert shown == tables.text("forecasting", TABLES)


def test_a_table_says_by_how_much_floors_and_other_lines_are_beaten():
    def result(near, far, **floors):
        metrics = {"test/mae@1": {"mean": near}, "test/mae@2": {"mean": far}}
        return {"metrics": metrics, "baselines": floors}

    floors = {"last value": {"test/mae@1": 10.0, "test/mae@2": 50.0}, "mean": {"test/mae@2": 20.0}}
    best = result(8.0, 19.0, **floors, **{"published: x": {"test/mae@1": 1.0}})
    made = [("default", best), ("ridge", result(8.0, 38.0))]
    table = tables.Table("", ("mae@1", "mae@2"), (), under=0.1)
    assert tables._under(table, made) == [
        "- **default** lies under the best floor by 20.0 / 5.0 % (> 10 missed), "
        "ridge by 0.0 / 50.0 % (> 0 missed)."
    ]
    assert tables._under(table._replace(under=0.04), made[:1])[0].endswith("5.0 % (> 4 met).")
    assert tables._under(table._replace(under=None), made) == []


def test_the_performance_page_shows_what_was_timed():
    for name in ("peers", "peers_gpu"):
        found = performance.read(name)
        assert set(found) <= set(peers.NETWORKS)
        assert all({"cityjax", "eager"} <= set(each["times"]) for each in found.values())
    assert {path.stem for path in performance.FOLDER.glob("*.json")} <= set(performance.SECTIONS)
    assert performance.PAGE.read_text(encoding="utf-8") == performance.page()


def test_models_are_ordered_by_validation_and_the_default_is_set_beside_the_best(tmp_path):
    lines = [{"split": "train", "pcc@1": 0.9}]
    lines += [{"split": "validation", "pcc@1": value} for value in (0.2, 0.8, 0.5)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert models.best(tmp_path / "metrics.jsonl", "pcc@1") == {"metric": "pcc@1", "value": 0.8}
    one = {"metric": "mae@1", "measured": "here"}
    found = {"stid": one | {"value": 2.2}, "ridge": one | {"value": 2.0}}
    found["seasonal"] = {"refused": "too short", "measured": "there"}
    assert models.section(found, "stid") == [
        "| model | validation mae@1 |",
        "| --- | --- |",
        "| ridge | 2 |",
        "| **stid** | 2.2 |",
        "",
        "ridge is better than the default, stid, by 10.0 %.",
        "",
        "- seasonal: too short",
        "- measured: here",
        "- measured: there",
    ]
    assert "better than" not in "".join(models.section(found, "ridge"))


def test_the_page_of_models_shows_what_was_run():
    defaults = models.experiments()
    assert "traffic_los" in defaults and "synthetic_city" not in defaults
    if not models.KEPT.exists():
        assert not models.PAGE.exists()
        return
    found = json.loads(models.KEPT.read_text(encoding="utf-8"))
    assert models.PAGE.read_text(encoding="utf-8") == models.page(found, defaults)


def test_the_scaling_page_shows_the_points_that_were_measured():
    if not scaling.FOUND.exists():
        assert not scaling.PAGE.exists()
        return
    found = json.loads(scaling.FOUND.read_text(encoding="utf-8"))
    assert set(found["points"]) <= set(scaling.POINTS)
    assert scaling.PAGE.read_text(encoding="utf-8") == scaling.page(found)
