"""The keys that forecasting experiments share, their choice of models, and what they build."""

import os
from dataclasses import dataclass, replace
from types import MappingProxyType

from cityjax import forecasters
from cityjax.config import (
    MODEL_KEY,
    ConfigError,
    RunConfig,
    check_choice,
    check_range,
    field_of,
    field_types,
    leaf_types,
    option,
)
from cityjax.data.catalog import dataset, datasets, is_city
from cityjax.data.dataset import Protocol, arranged, bounds
from cityjax.data.files import DataError
from cityjax.data.series import Series, digest
from cityjax.errors import spell
from cityjax.learner import Experiment
from cityjax.tasks import scales
from cityjax.tasks.forecasting import LOSSES, forecast_experiment
from cityjax.tasks.problem import GRAPHS, INPUTS, Problem, make_problem

MODELS = MappingProxyType(forecasters.available())


@dataclass(frozen=True)
class ForecastConfig(RunConfig):
    """Keys of a forecasting experiment; one that derives from it names `data` and changes defaults.

    `data` of the class is the experiment's own data set, whose protocols a series of one's own
    takes over.
    """

    models = MODELS
    neutral = MappingProxyType({"members": 1, "model.bases": ["last"], "refit_every": None})

    data: str = option("", "a data set (python -m cityjax.data), or a file or folder of one's own")
    model: str = option("stid", ", ".join(MODELS))
    history: int | None = option(None, "steps read; null: of the protocol")
    horizon: int | None = option(None, "steps forecast; null: of the protocol")
    protocol: str = option("honest", "honest, or published where a table was")
    inputs: tuple[str, ...] = option((), "beside the history, of: " + ", ".join(INPUTS))
    graph: str = option("auto", ", ".join(GRAPHS) + "; auto: given, else correlation")
    scale: tuple[str, ...] = option(("standard",), "in turn, of: " + ", ".join(scales.SCALES))
    loss: str = option("auto", ", ".join(LOSSES) + "; auto: as the metric that selects")
    quantiles: tuple[float, ...] = option((), "levels to forecast, rising; none for points")
    members: int = option(1, "models, trained side by side, whose mean is the forecast")
    refit: bool = option(
        False, "train on validation too, without selection; intervals of a closed form alone"
    )
    refit_every: int | None = option(
        None, "with refit: steps of test after which a closed form learns what has come; null: none"
    )
    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    eval_every: int = 200

    def __post_init__(self) -> None:
        """Check the keys of forecasting after those of every run."""
        super().__post_init__()
        check_range(self, "history", at_least=1)
        check_range(self, "horizon", at_least=1)
        check_choice(self, "protocol", ("honest", "published"))
        check_choice(self, "inputs", INPUTS)
        check_choice(self, "graph", GRAPHS)
        check_choice(self, "scale", scales.SCALES)
        check_choice(self, "loss", LOSSES)
        check_range(self, "members", at_least=1)
        check_range(self, "refit_every", at_least=1)
        check_range(self, "quantiles", above=0, below=1)
        levels = self.quantiles
        middle = levels[len(levels) // 2] if len(levels) > 2 and len(levels) % 2 else None
        if levels and (list(levels) != sorted(set(levels)) or middle != 0.5):
            raise ConfigError(
                "quantiles rise around the median, as many below 0.5 as above: [0.05,0.5,0.95]"
            )
        types = field_types(type(self))
        for name, value in self.model_options().items():
            key = MODEL_KEY + name
            if value == ():
                raise ConfigError(f"{key}=[] is empty: one or more are expected")
            allowed = self.models[self.model].allowed.get(name, {"at_least": 0})
            if isinstance(allowed, tuple):
                check_choice(self, key, allowed)
            elif leaf_types(types[field_of(key)]) <= {int, float}:
                check_range(self, key, **allowed)

    def within(self, folder: str) -> "ForecastConfig":
        """With `data` of one's own as a path from that folder, where it is there."""
        path = os.path.join(folder, self.data)
        own = self.data not in datasets() and os.path.exists(path)
        return replace(self, data=path) if own else self


def forecast(config: ForecastConfig) -> Experiment:
    """Build the experiment that a forecasting configuration describes.

    Raises UserError where the data cannot be had, or do not fit what was asked for.
    """
    problem, hashes = problem_of(config)
    made = config.models[config.model].make(problem, **config.model_options())
    if "scale" not in config.unused:
        made = scales.scaled(made, problem, config.scale)
        problem = problem._replace(interval_scale=scales.interval_scale(problem, config.scale))
    experiment = forecast_experiment(
        problem,
        made,
        optimizer=config.make_optimizer(),
        batch_size=config.batch_size,
        loss=config.loss,
        members=1 if "members" in config.unused else config.members,
        refit=config.refit,
        refit_every=config.refit_every,
        data=hashes,
    )
    if config.data == type(config).data:
        return experiment
    name = os.path.basename(os.path.abspath(config.data))
    return experiment._replace(summary=f"Forecasts of {name}.")


def problem_of(config: ForecastConfig) -> tuple[Problem, dict[str, str]]:
    """Return what a forecasting configuration is about, and the sha256 of its data.

    Raises UserError as `forecast` does.
    """
    series, season, protocol, hashes = _read(config)
    inputs = config.inputs
    if "inputs" in config.unused:  # of the model, not of a scale
        scale = () if "scale" in config.unused else config.scale
        inputs = tuple(name for name in INPUTS if name in scale)
    problem = make_problem(
        series,
        protocol,
        season=season,
        history=config.history,
        horizon=config.horizon,
        inputs=inputs,
        graph="none" if "graph" in config.unused else config.graph,
        quantiles=config.quantiles,
        # The defaults suit the experiment's own data; what other data lack was asked for by nobody.
        lenient=config.data != type(config).data and config.inputs == type(config).inputs,
    )
    return problem, hashes


def _read(config: ForecastConfig) -> tuple[Series, int, Protocol, dict[str, str]]:
    """Return the series, the steps of its season, its protocol, and the hashes of its data."""
    found = dataset(config.data)
    if config.protocol not in found.protocols:
        raise ConfigError(
            f"protocol={config.protocol} is of public data sets with a published table,"
            f" and {spell(config.data)} has none: honest"
        )
    protocol = found.protocols[config.protocol]
    if is_city(config.data):
        protocol = dataset(type(config).data).protocols["honest"]
        first, second, third = (part / sum(protocol.split) for part in protocol.split)
        protocol = protocol._replace(
            split=(first, second, third), drop_last=0, text={}, published={}
        )
    series = found.read()
    try:
        bounds(arranged(series, protocol), protocol)
    except DataError as error:  # which cannot name the data
        raise DataError(f"{spell(config.data)}: {error}") from error
    return series, found.season, protocol, found.hashes() or {found.name: digest(series)}
