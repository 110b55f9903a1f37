"""Forecasting experiments: every model, one's own data, what is refused, what no part may know."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cityjax import conclude, registry, train
from cityjax.choices import with_model
from cityjax.data.catalog import dataset
from cityjax.data.dataset import Protocol
from cityjax.data.forecast import window_batch
from cityjax.data.leaks import disturbed
from cityjax.data.series import Series
from cityjax.data.synthetic import city
from cityjax.data.tables import read_series, write_series
from cityjax.errors import UserError
from cityjax.forecasting import MODELS, ForecastConfig
from cityjax.forecasting import problem_of as problem_from
from cityjax.learner import Model
from cityjax.models.ridge import autoregression
from cityjax.report.compare import compare_runs
from cityjax.run import load, main, run
from cityjax.tasks import forecast_figures, scales
from cityjax.tasks.conformity import LINEAR
from cityjax.tasks.forecasting import ClosedForm
from cityjax.tasks.problem import describe, make_problem
from cityjax.tasks.scores import baselines, measure, truth

EXPERIMENTS = sorted(
    name for name in registry.available() if issubclass(registry.load(name).Config, ForecastConfig)
)
DRAWN = ("traffic_los", "health_flu")  # the others' figures are of the same kinds
TRAINED = ["steps=2", "eval_every=1", "log_every=1", "learning_rate=1e-3"]
QUICK = ["progress=off", "parallel=jit"]


def arguments(name, model):
    """What makes a run of a model short."""
    unused = MODELS[model].unused
    steps = [text for text in TRAINED if text.partition("=")[0] not in unused]
    return [f"experiment={name}", f"model={model}", *steps, "batch_size=8", *QUICK]


@pytest.fixture
def no_figures(monkeypatch):
    """They are drawn by tests/test_forecast_figures.py and by the experiments below."""
    monkeypatch.setattr(forecast_figures, "figures", lambda *arguments: {})


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A folder of one's own: three sensors, hourly, three weeks, some cells missing."""
    series = city("energy", sensors=3, steps=504, seed=1).series
    folder = tmp_path_factory.mktemp("town")
    write_series(series._replace(known={}), folder)
    return folder


@pytest.fixture(scope="module")
def years(tmp_path_factory):
    """Four weeks' worth of years: a weekly series long enough for health's protocols."""
    generator = np.random.default_rng(0)
    weeks = np.arange(400)
    season = 20 + 10 * np.sin(2 * np.pi * weeks / 52)[:, None] + generator.normal(size=(400, 3))
    time = np.datetime64("2010-01-03", "s") + weeks * np.timedelta64(7, "D")
    folder = tmp_path_factory.mktemp("years")
    write_series(Series(season, time, 7 * 86_400, ("a", "b", "c"), "cases"), folder)
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_runs_on_data_of_ones_own(name, town, years, tmp_path, request):
    if name not in DRAWN:
        request.getfixturevalue("no_figures")
    config = registry.load(name).Config
    folder = years if name in ("health_ili", "health_flu") else town
    given = [*arguments(name, config.model), "history=12", "horizon=6"]
    result = run([*given, f"data={folder}", f"workdir={tmp_path / 'run'}"])
    saved = json.loads((tmp_path / "run" / "result.json").read_text())
    assert saved["baselines"] and saved["data"] and saved["protocol"]["split"]
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert "history 12, horizon 6" in saved["protocol"]["windows"]
    experiment, state, loaded = load(tmp_path / "run")
    batch = experiment.evaluation["test"].source(state.key, 0)
    outputs = experiment.learner.predict(state, batch["inputs"])
    assert outputs.shape[1:] == (6, 3) and np.isfinite(outputs).all()
    assert loaded.data == str(folder)


def test_what_a_floor_cannot_say_is_null_and_the_summary_is_of_the_data(tmp_path, no_figures):
    # Less than a year of weeks, and no case in the part that is tested.
    weeks = np.datetime64("2020-03-02", "s") + np.arange(50) * np.timedelta64(7, "D")
    cases = np.random.default_rng(0).poisson(50, (50, 3)).astype(float)
    cases[30:] = 0
    write_series(Series(cases, weeks, 7 * 86_400, ("a", "b", "c"), ""), tmp_path / "cases")
    given = [*arguments("health_flu", "ridge"), "history=8", "horizon=4", "inputs=[]"]
    given += [f"data={tmp_path / 'cases'}", f"workdir={tmp_path / 'run'}", "seeds=2"]
    saved = run(given).result
    rows = saved["baselines"]
    assert set(rows["seasonal (52 steps)"].values()) == {None}
    assert rows["last value"]["test/rmse@2"] == 0 and rows["last value"]["test/pcc@2"] is None
    assert saved["metrics"]["test/pcc@2"]["mean"] is None
    # No seed diverged: their mean is scored, and has no correlation either.
    mean = saved["ensemble"]["metrics"]
    assert mean["test/pcc@2"] is None and mean["test/rmse@2"] >= 0
    assert saved["summary"] == "Forecasts of cases."


def test_a_run_goes_on_and_is_loaded_with_the_data_that_it_began_with(town, tmp_path, no_figures):
    values = (town / "values.csv").read_text()
    for name in town.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    place = tmp_path / "run"
    given = [*arguments("synthetic_city", "stid"), f"data={tmp_path}", f"workdir={place}"]
    given += ["history=12", "horizon=6", "inputs=[]"]
    # The folder of the run lies in that of the data: only tables are read there.
    result = run(given).result
    (tmp_path / "values.csv").write_text(values.rsplit(",", 1)[0] + ",7\n")
    for use in (
        lambda: run(given),  # finished, so that its result would be shown
        lambda: os.remove(place / "result.json") or run(given),
        lambda: run(["evaluate_only=true", f"workdir={place}"]),
        lambda: load(place),
    ):
        with pytest.raises(
            UserError, match=r"began with other data \(.*: sha256 .*, now .*\): put"
        ):
            use()
    (tmp_path / "values.csv").write_text(values)
    assert run(given).result["metrics"] == result["metrics"]
    assert load(place).config.horizon == 6


def test_a_relative_path_of_data_begins_where_the_run_did(town, tmp_path, no_figures, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "home" / "loops").symlink_to(town, target_is_directory=True)
    monkeypatch.chdir(tmp_path / "home")
    place, again = tmp_path / "run", tmp_path / "again"
    given = [*arguments("synthetic_city", "ridge"), "history=12", "horizon=6"]
    result = run([*given, "data=loops", f"workdir={place}"]).result
    assert result["summary"] == "Forecasts of loops."
    absolute = run([*given, f"data={town}", f"workdir={tmp_path / 'absolute'}"]).workdir
    assert "folder" not in (absolute / "config.yaml").read_text()
    assert "folder" not in compare_runs([place, absolute]).settings["run"]
    monkeypatch.chdir(tmp_path / "away")
    assert load(place).config.data == "loops"
    assert run(["evaluate_only=true", f"workdir={place}"]).result["metrics"] == result["metrics"]
    repeat = [f"config={place / 'config.yaml'}", "progress=off"]
    for _ in range(2):  # the second is finished already
        repeated = run([*repeat, f"workdir={again}"]).result
        assert repeated["config_hash"] == result["config_hash"]
    assert load(again).config.data == "loops"
    with pytest.raises(UserError, match="unknown data set 'loops'"):  # what is given begins here
        run([*repeat, "data=loops", f"workdir={tmp_path / 'other'}"])
    monkeypatch.chdir(town)
    here = dataclasses.replace(load(absolute).config, data=".")
    built = registry.build(registry.load("synthetic_city"), here)
    assert built.summary == f"Forecasts of {town.name}."


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_model_forecasts_and_its_options_are_its_own(model, town, tmp_path, no_figures):
    given = [*arguments("synthetic_city", model), f"data={town}", "history=12", "horizon=6"]
    inputs = {"seasonal": ["season"], "historical_average": ["typical_day"]}.get(model, [])
    if "inputs" not in MODELS[model].unused:
        inputs = inputs or ["day", "week"]
        given.append(f"inputs=[{','.join(inputs)}]")
    result = run([*given, f"workdir={tmp_path / 'run'}"])
    saved = result.result
    assert saved["protocol"]["inputs"] == ", ".join(["history", *inputs])
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert 0 < result.metrics["test/coverage_90@1-6"] <= 1
    rows = {"last_value": "last value", "window_mean": "window mean"}
    if model in rows:  # the floor in jax is the floor in numpy
        floor = saved["baselines"][rows[model]]
        assert all(
            value == pytest.approx(result.metrics[key], rel=1e-4) for key, value in floor.items()
        )


DRIFT = '''"""The last value, and a share of how it came about."""

import jax
from flax import linen as nn

from cityjax.choices import RATE, Choice
from cityjax.learner import Model, from_linen
from cityjax.models.forecasting import Inputs, carried
from cityjax.tasks.problem import Problem


class Drift(nn.Module):
    horizon: int
    share: float

    @nn.compact
    def __call__(self, inputs: Inputs, *, train=False, axis_name=None) -> jax.Array:
        x = carried(inputs)
        slope = self.param("slope", nn.initializers.ones, (self.horizon,))
        change = (x[:, -1] - x[:, 0])[:, None] * self.share
        return x[:, -1:] + slope[None, :, None] * change


def drift(problem: Problem, *, share: float = 0.1) -> Model:
    return from_linen(Drift(problem.horizon, share))


MODELS = {"drift": Choice(drift, {"share": "of the change"}, allowed={"share": RATE})}
'''


def test_one_file_adds_a_model_to_every_experiment(town, tmp_path):
    root = Path(__file__).parent.parent
    for folder in ("cityjax", "experiments"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.npz"))
    (tmp_path / "cityjax" / "forecasters" / "drift.py").write_text(DRIFT)
    given = ["experiment=synthetic_city", "model=drift", f"data={town}", *TRAINED, *QUICK]
    given += ["history=12", "horizon=6", "model.share=0.5", f"workdir={tmp_path / 'run'}"]

    def command(*given):
        return subprocess.run(
            [sys.executable, "-m", "cityjax.run", *given],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    assert (done := command(*given)).returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert metrics["test/mae@1-6"]["mean"] > 0
    refused = command("experiment=traffic_los", "model=drift", "model.share=1")
    assert refused.returncode == 2 and "model.share=1" in refused.stderr
    assert "dlinear, drift, experts" in command("experiment=energy_load", "--help").stdout


def test_quantiles_are_scored_as_such(town, tmp_path, no_figures):
    given = [*arguments("synthetic_city", "stid"), f"data={town}", "horizon=6"]
    result = run([*given, "quantiles=[0.05,0.5,0.95]", f"workdir={tmp_path / 'run'}"])
    assert {"test/crps@1-6", "test/coverage@1-6", "test/width@1-6"} <= set(result.metrics)
    experiment, state, _ = load(tmp_path / "run")
    batch = experiment.evaluation["test"].source(state.key, 0)
    outputs = experiment.learner.predict(state, batch["inputs"])
    assert outputs.shape[1:] == (6, 3, 3) and (np.diff(outputs, axis=-1) >= 0).all()


def seeds_of(town, folder, *given):
    """The arguments of a run of two tiny networks."""
    fixed = [*arguments("synthetic_city", "stid"), f"data={town}", "history=12", "horizon=6"]
    return [*fixed, "seeds=2", *given, f"workdir={folder}"]


def truth_by_hand(series, origins, rows):
    """Targets [W, 6, N] of the windows of a part, NaN where missing or beyond it."""
    found = np.full((len(origins), 6, series.shape[1]), np.nan)
    for window, origin in enumerate(origins):
        for lead in range(6):
            if rows[0] <= origin + lead + 1 < rows[1]:
                found[window, lead] = series[origin + lead + 1]
    return found


@pytest.mark.parametrize("quantiles", [(), (0.05, 0.5, 0.95)])
def test_an_ensemble_is_the_mean_of_the_seeds_forecasts(quantiles, town, tmp_path, no_figures):
    levels = [f"quantiles=[{','.join(map(str, quantiles))}]"] if quantiles else []
    result = run(seeds_of(town, tmp_path / "run", *levels)).result
    experiment = load(tmp_path / "run").experiment
    series = read_series(town)
    problem = problem_of(series, inputs=("day",), quantiles=quantiles)
    origins, rows = problem.origins, problem.rows
    outputs, targets = {}, {}
    for part, batches in experiment.evaluation.items():
        forecasts = []
        for seed in (0, 1):
            state = load(tmp_path / "run", seed=seed).state
            whole = [batches.source(state.key, number)["inputs"] for number in range(batches.count)]
            whole = [experiment.learner.predict(state, inputs) for inputs in whole]
            forecasts.append(np.concatenate(whole)[: len(origins[part])].astype(np.float64))
        assert not np.allclose(*forecasts)
        outputs[part] = (forecasts[0] + forecasts[1]) / 2
        targets[part] = truth_by_hand(series.values, origins[part], rows[part])
    points = outputs["test"][..., 1] if quantiles else outputs["test"]
    error = np.abs(points - targets["test"])
    expected = {
        "test/mae@1-6": np.nanmean(error),
        "test/rmse@1-6": np.sqrt(np.nanmean(error**2)),
        "test/mae@1": np.nanmean(error[:, 0]),
    }
    if quantiles:
        low, high = outputs["test"][..., 0], outputs["test"][..., -1]
        seen = np.isfinite(targets["test"])
        inside = (low <= targets["test"]) & (targets["test"] <= high)
        expected["test/coverage@1-6"] = inside[seen].mean()
        expected["test/width@1-6"] = (high - low)[seen].mean()
    else:  # of each lead and sensor the ceil((n + 1) 0.9)-th smallest error on validation
        residuals = np.abs(outputs["validation"] - targets["validation"])
        half = np.empty(residuals.shape[1:])
        for lead, sensor in np.ndindex(half.shape):
            known = np.sort(residuals[:, lead, sensor][np.isfinite(residuals[:, lead, sensor])])
            half[lead, sensor] = known[math.ceil((len(known) + 1) * 0.9) - 1]
        seen = np.isfinite(error)
        expected["test/coverage_90@1-6"] = (error <= half)[seen].mean()
        expected["test/width_90@1-6"] = np.broadcast_to(2 * half, error.shape)[seen].mean()
    found = result["ensemble"]["metrics"]
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-4)
    # Everything the seeds have but the loss, which is of no forecast.
    assert list(found) == [key for key in result["metrics"] if key != "test/loss"]
    assert "mean of the predictions of 2 seeds" in result["ensemble"]["protocol"]
    # By convexity a mean is never worse than its members are on average.
    for key in ("test/mae@1-6", "test/rmse@1-6"):
        assert found[key] <= result["metrics"][key]["mean"]


def test_an_ensemble_of_equal_states_is_that_state_and_of_none_is_refused(
    town, tmp_path, no_figures
):
    fixed = [*arguments("synthetic_city", "ridge"), f"data={town}", "history=12", "horizon=6"]
    result = run([*fixed, f"workdir={tmp_path / 'one'}"]).result
    assert "ensemble" not in result  # of one seed there is none
    experiment, state, _ = load(tmp_path / "one")
    scores = experiment.ensemble([state, state])
    single = {key.removeprefix("test/"): e["mean"] for key, e in result["metrics"].items()}
    assert scores == pytest.approx({key: single[key] for key in scores}, rel=1e-5)
    with pytest.raises(ValueError, match="no states"):
        experiment.ensemble([])
    lost = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
    assert experiment.ensemble(iter([state, state.replace(params=lost)])) == {}


def test_an_ensemble_is_scored_again_after_a_kill_and_by_evaluate_only(
    town, tmp_path, no_figures, monkeypatch, capsys
):
    given = seeds_of(town, tmp_path / "run")
    whole = run(seeds_of(town, tmp_path / "whole")).result["ensemble"]

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(conclude, "write_report", killed)
        patch.setattr(conclude.folder, "write_result", killed)
        run(given)
    assert not (tmp_path / "run" / "result.json").exists()
    assert run(["evaluate_only=true", f"workdir={tmp_path / 'run'}"]).result["ensemble"] == whole
    assert run(given).result["ensemble"] == whole
    saved = json.loads((tmp_path / "run" / "result.json").read_text())
    assert saved["ensemble"] == whole
    main(given)
    assert "ensemble: mean of the predictions of 2 seeds" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_seed_that_diverged_leaves_no_ensemble(town, tmp_path, no_figures, monkeypatch):
    restore = train.selected_state

    def lost(ready, seed):
        state = restore(ready, seed)
        params = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
        return state.replace(params=params) if seed == 1 else state

    for module in (train, conclude):
        monkeypatch.setattr(module, "selected_state", lost)
    result = run(seeds_of(town, tmp_path / "run")).result
    assert result["metrics"]["test/mae@1-6"]["per_seed"][1] is None
    none = {"protocol": "none, as not every seed has numbers", "metrics": {}}
    assert result["ensemble"] == none
    assert "ensemble: none" in (tmp_path / "run" / "report.html").read_text()
    again = run(["evaluate_only=true", f"workdir={tmp_path / 'run'}"])
    assert again.result["ensemble"] == none


def test_a_mean_of_models_is_one_run_and_learns_on_in_a_refit(town, tmp_path, no_figures):
    given = [*arguments("synthetic_city", "stid"), f"data={town}", "history=12", "horizon=6"]
    alone = run([*given, f"workdir={tmp_path / 'one'}"]).result
    given += ["members=3", "quantiles=[0.1,0.5,0.9]"]
    result = run([*given, "refit=true", f"workdir={tmp_path / 'three'}"]).result
    assert "members" not in alone["protocol"]
    assert result["protocol"]["members"] == "the mean of 3 models, of quantiles level by level"
    experiment, state, _ = load(tmp_path / "three")
    assert len(state.params) == 3
    batch = experiment.evaluation["test"].source(state.key, 0)
    outputs = experiment.learner.predict(state, batch["inputs"])
    assert outputs.shape[1:] == (6, 3, 3) and (np.diff(outputs, axis=-1) >= 0).all()


def test_refit_trains_on_validation_too_and_selects_nothing(town, tmp_path, no_figures):
    given = [*arguments("synthetic_city", "ridge"), f"data={town}", "horizon=6"]
    plain = run([*given, f"workdir={tmp_path / 'plain'}"])
    result = run([*given, "refit=true", f"workdir={tmp_path / 'refit'}"])
    assert result.result["protocol"]["refit"] == "on train and validation"
    assert result.result["protocol"]["selection"] == "last step"
    assert result.metrics["test/mae@1-6"] != plain.metrics["test/mae@1-6"]


def test_a_refit_every_few_steps_of_test_is_one_run_that_can_be_shown_again(
    town, tmp_path, no_figures
):
    given = [*arguments("synthetic_city", "ridge"), f"data={town}", "horizon=6", "refit=true"]
    once = run([*given, f"workdir={tmp_path / 'once'}"])
    folder = f"workdir={tmp_path / 'often'}"
    often = run([*given, "refit_every=24", folder])
    words = "on train and validation, and every 24 steps on what has come by then"
    assert often.result["protocol"]["refit"] == words
    assert often.metrics["test/mae@1-6"] != once.metrics["test/mae@1-6"]
    assert run(["evaluate_only=true", folder]).metrics == often.metrics


@pytest.mark.parametrize("folds", [0, 5])
def test_intervals_of_a_refit_are_of_a_solution_that_has_not_seen_validation(
    folds, tmp_path, no_figures
):
    series = city("energy", sensors=2, steps=504, seed=2).series._replace(known={})
    validation = problem_of(series).rows["validation"][0]
    found = []
    for name, one in {"whole": series, "disturbed": disturbed(series, validation)}.items():
        write_series(one, tmp_path / name)
        given = [*arguments("synthetic_city", "ridge"), f"data={tmp_path / name}", "history=12"]
        given += ["horizon=6", f"model.folds={folds}", f"workdir={tmp_path / 'run' / name}"]
        # Not among several penalties, which may be chosen by the errors there.
        result = run([*given, "refit=true", "model.penalties=[0.01]"])
        assert result.result["protocol"]["intervals"].endswith(
            "validation errors of the solution before the refit"
        )
        found.append(load(tmp_path / "run" / name).state)
        if name == "whole":  # of some 90 windows, hour after hour
            assert 0.7 < result.metrics["test/coverage_90@1-6"] < 1
    early, weights = zip(*((s.extra["early"], s.params["weights"]) for s in found), strict=True)
    assert np.abs(early[0]).max() > 0
    np.testing.assert_array_equal(*early)
    assert np.abs(weights[0] - weights[1]).max() > 0.01


def test_a_refit_of_a_network_has_no_intervals(town, tmp_path, no_figures):
    given = [*arguments("synthetic_city", "stid"), f"data={town}", "history=12", "horizon=6"]
    result = run([*given, "refit=true", f"workdir={tmp_path / 'run'}"])
    assert not [key for key in result.metrics if "coverage" in key]
    assert result.result["protocol"]["intervals"].startswith("none: ")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["model=ridge", "model.folds=3"], ["model.folds=3", "at least 4"]),
        (["model=ridge", "refit_every=5"], ["refit_every=5 is for refit=true and model=ridge"]),
        (
            ["model=nlinear", "refit=true", "refit_every=5"],
            ["refit_every=5 is for refit=true and model=ridge"],
        ),
        (
            [
                "model=ridge",
                "model.folds=9",
                "data=YEARS",
                "inputs=[]",
                "history=160",
                "horizon=38",
            ],
            ["model.folds=9", "as long as horizon=38", "windows"],
        ),
        (["data=los_lop"], ["los_lop", "did you mean los_loop?"]),
        (["data=./nowhere"], ["nowhere", "no such file or folder"]),
        (["protocol=published"], ["protocol=published", "none"]),
        (["protocol=honst"], ["honest, published"]),
        (["inputs=[dy]"], ["inputs=[dy]", "did you mean day?"]),
        (["history=0"], ["history=0", "at least 1"]),
        (["horizon=3000"], ["horizon=3000"]),
        (["model=stid", "quantiles=[0.9,0.1]"], ["rise"]),
        (["model=stid", "quantiles=[0,0.5]"], ["above 0"]),
        (["model=stid", "quantiles=[0.05,0.95]"], ["around the median"]),
        (["model=stid", "quantiles=[0.5]"], ["around the median"]),
        (["model=stid", "quantiles=[0.05,0.5,0.8,0.95]"], ["as many below 0.5 as above"]),
        (["model=stid", "model.hidden_size=0"], ["model.hidden_size=0", "at least 1"]),
        (["model=stid", "model.hops=-1"], ["model.hops=-1", "at least 0"]),
        (["model=tgcn", "model.dropout=1.5"], ["model.dropout=1.5", "below 1"]),
        (["model=seq2seq", "model.cell=gur"], ["model.cell=gur", "did you mean gru?"]),
        (["model=wavenet", "model.dilations=[1,0]"], ["model.dilations=[1,0]", "at least 1"]),
        (["model=wavenet", "model.dilations=[]"], ["model.dilations=[] is empty"]),
        (["model=dlinear", "model.window=24"], ["model.window=24 is even: take 25"]),
        (["model=patchtst", "model.heads=3"], ["model.heads=3", "model.hidden_size=16"]),
        (["model=patchtst", "model.stride=0"], ["model.stride=0", "at least 1"]),
        (["model=seasonal", "inputs=[day]"], ["season"]),
        (["scale=[typical_day]", "inputs=[day]"], ["typical_day", "inputs"]),
        (
            ["scale=[last,standard]", "inputs=[day]"],
            ["scale=[last,standard]: standard", "comes before last"],
        ),
        (["model=ridge", "model.bases=[lst]"], ["lst", "last, level, mean_season, profile"]),
        (["model=ridge", "model.bases=[profile]", "inputs=[]"], ["profile", "inputs needs"]),
        (["model=ridge", "model.bases=[mean_season]", "history=12"], ["history=12 is below"]),
        (["model=ridge", "steps=9"], ["no use", "model=ridge: it has with model=", "stid"]),
        (
            ["data=YEARS", "model=stid", "batch_size=999", "inputs=[]", "horizon=6"],
            ["batch_size=999", "take 128"],
        ),
        (
            ["data=YEARS", "inputs=[]", "horizon=6", "history=999"],
            ["train", "history=999", "history=138 leaves 137 windows"],
        ),
        (
            ["data=YEARS", "inputs=[typical_day]", "horizon=6"],
            ["typical_day", "than a day: leave it out"],
        ),
        (["data=TOWN", "inputs=[past_years]"], ["past_years", "train, 14 days, is no year"]),
        (["graph=distance", "data=YEARS", "horizon=6", "inputs=[]"], ["places"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given, words, town, years, tmp_path):
    given = [text.replace("YEARS", str(years)).replace("TOWN", str(town)) for text in given]
    with pytest.raises(UserError) as caught:
        run(["experiment=synthetic_city", *given, *QUICK, f"workdir={tmp_path / 'run'}"])
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (
            "traffic_los",
            "years",
            "day, week, without typical_day (a step of this series is longer than a day)",
        ),
        ("health_flu", "town", "year, without past_years (train, 10 days, is no year)"),
    ],
)
def test_default_inputs_that_ones_own_data_cannot_have_are_left_out(
    name, data, words, tmp_path, request, no_figures
):
    given = [*arguments(name, "ridge"), "horizon=6", f"data={request.getfixturevalue(data)}"]
    saved = run([*given, f"workdir={tmp_path / 'run'}"]).result
    assert saved["protocol"]["inputs"] == f"history, {words}"
    assert load(tmp_path / "run").config.horizon == 6


def test_a_result_names_covariates_not_read_constant_sensors_and_zeros_without_mape(
    tmp_path, no_figures
):
    series = city("energy", sensors=2, steps=504, seed=1).series
    values = series.values.copy()
    values[-10:, 0], values[:400, 1] = 0, 5
    known = {"holiday": np.zeros(504, np.float32), "term": np.ones(504, np.float32)}
    write_series(series._replace(values=values, past={}, known=known), tmp_path / "town")
    given = [f"data={tmp_path / 'town'}", "model=last_value", "history=24"]
    found = run(["experiment=energy_load", *given, f"workdir={tmp_path / 'run'}"]).result
    words = found["protocol"]["inputs"]
    assert words.endswith("without 'holiday', 'term' (inputs has no covariates)")
    assert found["protocol"]["series"].endswith(f"; '{series.sensors[1]}' always the same in train")
    assert found["protocol"]["mape"] == "leaves out 10 values of test that are 0"


def test_a_table_too_short_for_its_split_is_refused_by_name(tmp_path):
    (tmp_path / "short.csv").write_text("time,a\n2024-03-01,1\n2024-03-02,2\n2024-03-03,4\n")
    with pytest.raises(UserError, match=r"short.csv: 3 observed steps .*: take at least 10$"):
        run(["experiment=synthetic_city", f"data={tmp_path / 'short.csv'}", *QUICK])


def test_a_sensor_that_begins_after_train_is_refused_by_name(tmp_path):
    series = city("energy", sensors=3, steps=504, seed=1).series
    values = series.values.copy()
    values[:400, 1] = np.nan
    write_series(series._replace(values=values, known={}), tmp_path / "late")
    with pytest.raises(UserError, match=f"no value of '{series.sensors[1]}' before .* train ends"):
        run(["experiment=synthetic_city", f"data={tmp_path / 'late'}", *QUICK])


def test_a_sensor_without_a_value_in_test_is_named(tmp_path, no_figures):
    series = city("energy", sensors=3, steps=504, seed=1).series
    values = series.values.copy()
    values[400:, 1] = np.nan
    write_series(series._replace(values=values, known={}), tmp_path / "ended")
    given = ["experiment=synthetic_city", f"data={tmp_path / 'ended'}", "model=ridge"]
    mask = run([*given, f"workdir={tmp_path / 'run'}"]).result["protocol"]["mask"]
    assert mask.endswith(f"nor does '{series.sensors[1]}', without a value in test")


def test_a_folder_beside_one_is_a_city_without_a_slash(town, tmp_path, monkeypatch, no_figures):
    monkeypatch.chdir(town.parent)
    result = run([*arguments("synthetic_city", "ridge"), f"data={town.name}"])
    assert list(result.result["data"]) == [town.name]


def problem_of(series, **options):
    protocol = registry.load("synthetic_city")  # its data set's protocol
    from cityjax.data.catalog import dataset

    home = dataset(protocol.Config.data)
    options = {"history": 12, "horizon": 6, **options}
    return make_problem(series, home.protocols["honest"], season=168, **options)


def test_nothing_of_train_knows_the_test_part():
    series = city("energy", sensors=3, steps=504, seed=1).series
    inputs = ("day", "week", "typical_day", "season", "covariates")
    whole = problem_of(series, inputs=inputs, graph="correlation")
    start = whole.rows["test"][0]
    other = problem_of(disturbed(series, start), inputs=inputs, graph="correlation")
    np.testing.assert_array_equal(whole.graph, other.graph)
    for name, array in whole.data.items():
        if name not in ("values", "past", "known"):  # the typical day too, also of later steps
            continue
        np.testing.assert_array_equal(array[:start], other.data[name][:start])
    np.testing.assert_array_equal(whole.data["profile"][:start], other.data["profile"][:start])
    np.testing.assert_array_equal(whole.data["profile"][..., 0], other.data["profile"][..., 0])


def test_a_disturbed_test_part_changes_neither_parameters_nor_the_chosen_step(tmp_path, no_figures):
    series = city("energy", sensors=2, steps=504, seed=2).series._replace(known={})
    start = problem_of(series).rows["test"][0]
    found = []
    for name, one in {"whole": series, "disturbed": disturbed(series, start)}.items():
        write_series(one, tmp_path / name)
        given = [*arguments("synthetic_city", "stid"), "steps=6", "history=12", "horizon=6"]
        given.remove("steps=2")
        run([*given, f"data={tmp_path / name}", f"workdir={tmp_path / 'run' / name}"])
        state = load(tmp_path / "run" / name).state
        found.append((int(state.step), jax.device_get(state.params)))
    assert found[0][0] == found[1][0]
    jax.tree.map(np.testing.assert_array_equal, found[0][1], found[1][1])


def test_measures_and_floors_are_those_of_numpy():
    series = city("energy", sensors=3, steps=504, seed=3, missing=0.1).series
    problem = problem_of(series)
    targets, mask = truth(problem, "test")
    outputs = np.full(targets.shape, 700.0)
    found = measure(problem, outputs)
    error = np.where(mask, np.abs(targets - 700), np.nan)
    assert found["mae@1-6"] == pytest.approx(np.nanmean(error), rel=1e-5)
    assert found["rmse@1"] == pytest.approx(np.sqrt(np.nanmean(error[:, 0] ** 2)), rel=1e-5)
    floor = baselines(problem)["last value"]["test/mae@1"]
    at = problem.origins["test"]
    filled = series.values.copy()
    for step in range(1, len(filled)):
        filled[step] = np.where(np.isnan(filled[step]), filled[step - 1], filled[step])
    error = np.abs(series.values[at + 1] - filled[at])
    assert floor == pytest.approx(np.nanmean(error), rel=1e-5)


def test_a_scale_is_fitted_to_train_in_the_scale_before_it():
    series = city("safety", sensors=2, steps=600, seed=0).series
    problem = problem_of(series)

    class Identity:
        def init(key, inputs):
            return {}, {}

        def apply(params, state, inputs, **options):
            return inputs["history"][:, -6:, :, 0], state

    model = scales.scaled(Model(Identity.init, Identity.apply), problem, ("root", "standard"))
    at = np.arange(11, problem.train_stop - 6)
    batch = window_batch(problem.data, at, (0, problem.train_stop), history=12, horizon=6)
    outputs, _ = model.apply({}, {}, batch["inputs"])
    shown = batch["inputs"]["observed"][:, -6:]
    history = batch["inputs"]["history"][:, -6:, :, 0]
    np.testing.assert_allclose(outputs[shown], history[shown], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_reads_what_its_keys_are_for_and_nothing_else(name):
    config_class = with_model(registry.load("synthetic_city").Config, name)
    inputs = ("day", "week", "typical_day", "season", "covariates")
    given = {} if "inputs" in config_class.unused else {"inputs": inputs}
    if name in ("seasonal", "historical_average"):
        given = {}  # the profile that they are
    config = config_class(history=24, horizon=6, **given)
    problem, _ = problem_from(config)
    unread = set(config.unused) & {"inputs", "graph"}
    assert ("graph" in unread) == (problem.graph is None)
    said = describe(problem)["inputs"].partition(", without")[0].split(", ")
    assert said == (["history"] if "inputs" in unread else ["history", *config.inputs])

    stop = problem.train_stop
    batch = window_batch(problem.data, np.arange(40, 44), (0, stop), history=24, horizon=6)
    made = MODELS[name].make(problem, **config.model_options())
    if isinstance(made, ClosedForm):
        read = made.regression.features
    else:
        params, state = made.init(jax.random.key(0), batch["inputs"])
        read = lambda inputs: made.apply(params, state, inputs)[0]  # noqa: E731
    usual, reads = np.asarray(read(batch["inputs"])), {}
    for part, values in batch["inputs"].items():
        other = values + 1 if part in ("clock", "known", "profile") else values
        if part == "history" and values.shape[-1] > 1:
            other = values.at[..., 1:].add(1.0)
        if values.size and other is not values:
            changed = read({**batch["inputs"], part: other})
            reads[part] = not np.array_equal(usual, changed)
    assert any(reads.values()) == ("inputs" not in unread), reads


def test_train_begins_where_its_profiles_do():
    weeks = np.arange(400)
    time = np.datetime64("2010-01-03", "s") + weeks * np.timedelta64(7, "D")
    series = Series(np.cos(weeks)[:, None], time, 7 * 86_400, ("a",), "cases")
    honest = dataset("flu_regions").protocols["honest"]
    plain = make_problem(series, honest, season=52)
    known = make_problem(series, honest, season=52, inputs=["past_years"])
    assert plain.origins["train"][0] == 19 and known.origins["train"][0] == 51
    for part in ("validation", "test"):
        np.testing.assert_array_equal(known.origins[part], plain.origins[part])
    short = make_problem(first(series, 150), honest, season=52, inputs=["past_years"])
    assert short.origins["train"][0] == 19  # more than half of train would be lost
    left = np.delete(weeks, np.s_[20:30])  # of rows as they come 42 are the first year
    rows = series._replace(values=series.values[left], time=series.time[left])
    rows_only = honest._replace(gaps=False)
    known = make_problem(rows, rows_only, season=52, inputs=["past_years"])
    assert known.origins["train"][0] == 41


def first(series, stop):
    """The first steps of a series."""
    return series._replace(values=series.values[:stop], time=series.time[:stop])


def test_folds_read_validation_only_in_a_refit_and_never_test(tmp_path, no_figures):
    series = city("energy", sensors=2, steps=504, seed=2).series._replace(known={})
    rows = problem_of(series).rows
    given = [*arguments("synthetic_city", "ridge"), "model.folds=5", "history=12", "horizon=6"]
    for refit, start in ((False, rows["validation"][0]), (True, rows["test"][0])):
        found = []
        for name, one in {"whole": series, "disturbed": disturbed(series, start)}.items():
            write_series(one, tmp_path / f"{name}{refit}")
            folder = tmp_path / "run" / f"{name}{refit}"
            data = f"data={tmp_path / f'{name}{refit}'}"
            result = run([*given, data, f"refit={refit}", f"workdir={folder}"]).result
            assert "on 5 blocks" in result["protocol"]["penalties"]
            found.append(np.asarray(load(folder).state.params["weights"]))
        assert np.abs(found[0]).max() > 0
        np.testing.assert_array_equal(*found)


def test_a_short_series_is_no_shorter_for_its_batch_size(tmp_path, no_figures):
    write_series(panel(steps=80), tmp_path / "short")
    given = ["experiment=health_covid", f"data={tmp_path / 'short'}", "model=ridge", *QUICK]
    given += ["history=12", "horizon=3", "batch_size=64", f"workdir={tmp_path / 'run'}"]
    assert np.isfinite(run(given).metrics["test/mae@1-3"])


def test_importance_stays_where_a_scale_gives_none():
    problem = make_problem(panel(), Protocol(history=7, horizon=3), season=7)
    importance = jnp.ones(3)
    form = ClosedForm(autoregression(horizon=3), (0.1,), importance=importance)
    assert scales.scaled(form, problem, ("root",)).importance is importance


def panel(*, below=0.0, steps=200):
    """Three sensors of counts that come and go, whose spread is that of their root."""
    random = np.random.default_rng(3)
    wave = np.exp(2 * np.sin(np.arange(steps) / 20))[:, None]
    values = random.poisson(wave * [1.0, 10.0, 100.0]) - below
    time = np.datetime64("2024-01-01T00:00:00") + np.arange(steps) * np.timedelta64(1, "D")
    return Series(values.astype(np.float32), time, 86_400, ("a", "b", "c"), "cases")


@pytest.mark.parametrize("name", ["root", "logarithm"])
def test_intervals_are_of_the_scale_of_counts_that_a_forecaster_works_in(name):
    problem = make_problem(panel(), Protocol(history=7, horizon=3), season=7)
    scale = scales.interval_scale(problem, (name, "standard"))
    values = np.asarray([0.0, 1.0, 30.0, 400.0], np.float32)
    median = np.median(problem.series.values[: problem.train_stop])
    expected = np.sqrt(1 + values) - 1 if name == "root" else np.log1p(values / median)
    np.testing.assert_allclose(scale.forward(values), expected, rtol=1e-5)
    np.testing.assert_allclose(scale.backward(scale.forward(values)), values, rtol=1e-4)
    assert scale.lowest == 0 and name in scale.text and "below 0" in scale.text
    # What lies below 0 before test may do so in it.
    other = make_problem(panel(below=3.0), Protocol(history=7, horizon=3), season=7)
    scale = scales.interval_scale(other, (name,))
    assert scale.lowest == -np.inf and "below 0" not in scale.text
    for linear in ((), ("standard", name), ("last",)):
        assert scales.interval_scale(problem, linear) == LINEAR


def test_counts_are_not_forecast_below_0():
    below = Model(
        lambda key, inputs: ({}, {}),
        lambda params, state, inputs, **options: (-1 + 0 * inputs["history"][:, -3:, :, 0], state),
    )
    form = ClosedForm(autoregression(horizon=3), (0.1,))
    for part, scale, least in ((0.0, ("root",), 0), (3.0, ("root",), -3), (0.0, ("last",), -1e9)):
        problem = make_problem(panel(below=part), Protocol(history=7, horizon=3), season=7)
        stop = problem.train_stop
        at = np.arange(6, stop - 3)
        batch = window_batch(problem.data, at, (0, stop), history=7, horizon=3)
        inputs, network = batch["inputs"], scales.scaled(below, problem, scale)
        bounded, _ = network.apply({}, {}, inputs)
        learning, _ = network.apply({}, {}, inputs, train=True)
        shift = 0 if scale == ("root",) else inputs["history"][:, -1:, :, 0]
        way = 3.0 if scale == ("root",) else 1.0  # the root of -1 comes from -3
        np.testing.assert_allclose(learning, shift - way + 0 * bounded, rtol=1e-5)
        np.testing.assert_array_equal(bounded, np.maximum(learning, least))
        regression = scales.scaled(form, problem, scale).regression
        closed = regression.decode(inputs, jnp.full(bounded.shape, -5.0))
        assert closed.min() == 0 if least == 0 else closed.min() < -3


def test_a_run_in_the_scale_of_roots_says_so_and_has_narrower_intervals_for_counts(tmp_path):
    write_series(panel(steps=600), tmp_path / "cases")
    given = ["experiment=health_covid", f"data={tmp_path / 'cases'}", "model=ridge", *QUICK]
    given += ["history=7", "horizon=3"]
    found = {}
    for scale in ("root", "standard"):
        folder = run([*given, f"scale=[{scale}]", f"workdir={tmp_path / scale}"]).workdir
        found[scale] = json.loads((folder / "result.json").read_text())
    said = {scale: result["protocol"]["intervals"] for scale, result in found.items()}
    assert (
        said["root"]
        == said["standard"]
        + "; errors are measured in the scale of the root, no forecast and no end is below 0"
    )
    for kind in ("", "_online"):
        rows = [result["metrics"] for result in found.values()]
        assert all(0.86 < row[f"test/coverage_90{kind}@1-3"]["mean"] < 0.94 for row in rows)
        root, standard = (row[f"test/width_90{kind}@1-3"]["mean"] for row in rows)
        assert root < 0.95 * standard
