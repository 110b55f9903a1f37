"""Which checkpoint a run is judged by: the best on validation, never a look at test."""

import json

import pytest

from cityjax.run import run

# A learner that learns nothing: at step k its validation score is the k-th number of a list.
EXPERIMENT = '''"""Scripted validation scores."""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from cityjax.config import RunConfig
from cityjax.data.sources import in_order, shuffled
from cityjax.learner import Experiment, Learner, new_state
from cityjax.metrics import Metric


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 5
    eval_every: int = 1
    scores: tuple[float, ...] = (1.0,)
    better: str = "lower"


def build(config):
    def step(state, batch, *, axis_name=None):
        return state.replace(step=state.step + 1), {"loss": (jnp.ones(()), jnp.ones(()))}

    def evaluate(state, batch, *, axis_name=None):
        score = jnp.asarray(config.scores)[state.step - 1]
        # The test part says the opposite, to tempt.
        return {"score": (jnp.where(batch["test"][0], -score, score), jnp.ones(()))}

    learner = Learner(
        lambda key, batch: new_state(key, {"w": jnp.zeros(1)}, {}, {}),
        step,
        evaluate,
        lambda state, inputs, *, key=None: inputs,
    )
    rows = {split: np.full(4, split == "test") for split in ("validation", "test")}
    return Experiment(
        learner,
        train=shuffled({"test": rows["validation"]}, 1),
        evaluation={split: in_order({"test": row}, 4) for split, row in rows.items()},
        metrics={"score": Metric(lambda outputs, batch: None, better=config.better)},
        select="validation/score",
    )
'''


@pytest.mark.parametrize(
    ("better", "scores", "selected"),
    [
        ("lower", "[5,2,4,3,6]", 2),
        ("higher", "[5,2,4,3,6]", 5),
        ("lower", "[5,2,2,3,2.5]", 3),  # of equals the later
        ("higher", "[4,4,1,1,1]", 2),
        ("lower", "[1,1,1,1,1]", 5),
    ],
)
def test_the_best_on_validation_is_judged_and_of_equals_the_later(
    better, scores, selected, tmp_path
):
    path = tmp_path / "scripted.py"
    path.write_text(EXPERIMENT)
    arguments = [f"experiment={path}", f"better={better}", f"scores={scores}", "batch_size=1"]
    result = run([*arguments, f"workdir={tmp_path / 'run'}", "progress=off", "parallel=jit"])
    assert result.result["selected_step"] == [selected]
    values = json.loads(scores)
    assert result.metrics["test/score"] == pytest.approx(-values[selected - 1])
