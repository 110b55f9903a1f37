"""Every registered experiment trains a few steps end to end and leaves a whole run folder."""

import json
import math

import pytest

from cityjax import registry
from cityjax.run import load, run

RUN = ["steps=3", "log_every=2", "eval_every=2", "batch_size=16", "progress=off", "parallel=jit"]
NAMES = sorted(registry.available())
# What else an experiment needs to be small; the learning-rate warm-up must fit into three steps.
EXTRA = {"rnn_traffic": ["warmup_steps=1"], "dcgan_mnist": ["conditional=true"]}
JUDGED = {"gan_mnist", "dcgan_mnist", "article_gan"}


@pytest.fixture
def small(monkeypatch):
    """Fewer digits and samples; networks, windows and hyper-parameters stay the experiment's."""
    from cityjax.data import mnist
    from cityjax.tasks import gan, judge

    whole = mnist.load
    monkeypatch.setattr(
        mnist, "load", lambda split: mnist.Digits(*(part[:2_000] for part in whole(split)))
    )
    monkeypatch.setattr(judge, "SAMPLES", 1_000)
    monkeypatch.setattr(gan, "PUPIL_SAMPLES", 1_000)
    monkeypatch.setattr(gan, "PUPIL_STEPS", 5)
    gan.floors.cache_clear()
    judge.test_verdict.cache_clear()
    yield
    gan.floors.cache_clear()


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
    assert config.steps == 3 and experiment.learner.predict is not None
    assert int(state.step) == lines[-1]["step"]


def test_a_few_steps_teach_something():
    """One quick learning check beside the smoke: an MLP on digits in 300 updates."""
    import jax

    from cityjax import metrics
    from cityjax.data import mnist
    from cityjax.fit import fit, score
    from cityjax.learner import from_linen
    from cityjax.learners import supervised
    from cityjax.losses import softmax_cross_entropy
    from cityjax.models.mlp import MLP
    from cityjax.optimizers import make_optimizer

    measured = {"error": metrics.error()}
    learner = supervised(
        from_linen(MLP((32,), 10)), softmax_cross_entropy, make_optimizer("adam", 3e-3), measured
    )
    source = mnist.train_source(64)
    state = learner.init(jax.random.key(0), source(jax.random.key(0), 0))
    state = fit(learner, source, state, 300, chunk=50)
    assert score(learner, state, mnist.evaluation()["test"], measured)["error"] < 0.12
