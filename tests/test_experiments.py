"""Every registered experiment trains a few steps end to end and leaves a whole run folder."""

import json
import math

import jax
import numpy as np
import pytest

from cityjax import registry
from cityjax.forecasting import ForecastConfig
from cityjax.run import load, run

RUN = ["steps=3", "log_every=2", "eval_every=2", "batch_size=16", "progress=off", "parallel=jit"]
# Those on a city's series are run by tests/test_forecasting.py.
NAMES = sorted(
    name
    for name in registry.available()
    if not issubclass(registry.load(name).Config, ForecastConfig)
)
# What else an experiment needs to be small; the learning-rate warm-up must fit into three steps.
EXTRA = {"rnn_traffic": ["warmup_steps=1"], "dcgan_mnist": ["conditional=true"]}
JUDGED = {"gan_mnist", "dcgan_mnist", "article_gan"}
# What they predict of one example: ten classes, else an image or six hours.
SHAPES = dict.fromkeys(JUDGED, (28, 28, 1)) | dict.fromkeys(("rnn_traffic", "article_rnn"), (6,))


@pytest.fixture(scope="module")
def small(read_once):
    """Fewer digits and samples; networks, windows and hyper-parameters stay the experiment's."""
    from cityjax.data import mnist
    from cityjax.tasks import digits, gan, judge

    cached = (digits.baselines, gan.floors, judge.test_verdict)
    for function in cached:
        function.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mnist, "load", lambda split: mnist.Digits(*(part[:2_000] for part in read_once(split)))
        )
        patch.setattr(judge, "SAMPLES", 1_000)
        patch.setattr(gan, "PUPIL_SAMPLES", 1_000)
        patch.setattr(gan, "PUPIL_STEPS", 5)
        yield
    for function in cached:
        function.cache_clear()


def predicted(experiment, state):
    """Return what a loaded run predicts for eight test examples, or draws for eight labels."""
    if "test" not in experiment.evaluation:
        return experiment.learner.predict(state, np.arange(8), key=jax.random.key(0))
    batch = experiment.evaluation["test"].source(state.key, 0)
    return experiment.learner.predict(state, jax.tree.map(lambda x: x[:8], batch["inputs"]))


@pytest.mark.parametrize("name", NAMES)
def test_experiment_runs_end_to_end(name, tmp_path, small):
    path = tmp_path / "run"
    result = run([f"experiment={name}", f"workdir={path}", *RUN, *EXTRA.get(name, [])])
    saved = json.loads((path / "result.json").read_text())
    assert saved["experiment"] == name
    assert saved["protocol"] and saved["data"] and saved["baselines"]
    for row in saved["baselines"].values():
        assert set(row) <= set(saved["metrics"])
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert set(saved["better"]) >= {key for key in saved["metrics"] if key != "test/loss"}
    assert (path / "report.html").stat().st_size > 10_000
    assert list((path / "figures").glob("*.png")) and list((path / "tensorboard").rglob("events*"))
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "train"] == [2, 3]
    assert lines[-1]["split"] == "test"
    if name in JUDGED:
        assert list((path / "figures" / "snapshots" / "digits" / "seed=0").glob("step=*.png"))
    experiment, state, config = load(path)
    assert config.steps == 3 and int(state.step) == lines[-1]["step"]
    outputs = predicted(experiment, state)
    assert outputs.shape == (8, *SHAPES.get(name, (10,)))
    assert np.isfinite(outputs).all() and np.ptp(outputs) > 0
