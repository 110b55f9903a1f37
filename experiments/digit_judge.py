"""The judge of generated digits: a CNN without batch norm, 256 features before its logits.

Run: python -m cityjax.run experiment=digit_judge
Expect: a test error of about 0.8 %, in about three minutes on two CPU cores.
Its weights ship with cityjax. Those of another run are written by
`cityjax.tasks.judge.export(cityjax.run.load(RUN).state.params)`.
"""

from dataclasses import dataclass

from cityjax.config import RunConfig
from cityjax.learner import Experiment
from cityjax.tasks.digits import classify_digits
from cityjax.tasks.judge import NETWORK


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 2000
    learning_rate: float = 1e-3
    schedule: str = "cosine"


def build(config: Config) -> Experiment:
    return classify_digits(NETWORK, config.make_optimizer(), batch_size=config.batch_size)
