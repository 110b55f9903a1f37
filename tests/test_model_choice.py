"""`model=NAME model.KEY=value`: an experiment's models, each with keys and defaults of its own."""

import pytest

from cityjax.config import ConfigError
from cityjax.help import help_text
from cityjax.overrides import load_config, resolve, save_config

EXPERIMENT = '''"""Two models to choose from."""
from dataclasses import dataclass

from cityjax.choices import Choice, tuned
from cityjax.config import RunConfig, option


def network(nodes, *, hidden_size: int = 32, dropout: float = 0.1):
    return nodes, hidden_size, dropout


@dataclass
class Ridge:
    nodes: int
    penalties: tuple[float, ...] = (1.0, 10.0)


@dataclass(frozen=True)
class Base(RunConfig):
    model: str = option("ridge", "the forecaster")
    models = {
        "ridge": Choice(Ridge, {"penalties": "candidates"}, unused=("learning_rate",)),
        "network": Choice(
            network,
            {"hidden_size": "units", "dropout": "rate"},
            {"learning_rate": 0.02, "steps": 7},
        ),
    }


@dataclass(frozen=True)
class Config(Base):
    steps: int = 3
    models = tuned(Base.models, {"network": {"model.dropout": 0.2}})


def build(config):
    return config.models[config.model].make(5, **config.model_options())
'''


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "choice.py"
    path.write_text(EXPERIMENT)

    def config(*arguments):
        return resolve([f"experiment={path}", *arguments])

    return config


def test_the_default_model_has_its_own_keys_and_defaults(given):
    request = given("model.penalties=[3]")
    (config,) = request.configs
    assert (config.model, config.steps) == ("ridge", 3)
    assert config.model_options() == {"penalties": (3.0,)}
    assert request.module.build(config) == request.module.Ridge(5, (3.0,))


def test_another_model_changes_defaults_and_what_is_given_wins(given):
    (config,) = given("model=network").configs
    assert (config.learning_rate, config.steps) == (0.02, 7)
    assert config.model_options() == {"hidden_size": 32, "dropout": 0.2}
    (config,) = given("model=network", "steps=9", "model.hidden_size=64").configs
    assert (config.steps, config.model_options()["hidden_size"]) == (9, 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=netwrk"], ["model=netwrk", "ridge, network", "did you mean network?"]),
        (["model.hidden_size=3"], ["model.hidden_size", "model=ridge", "model.penalties"]),
        (["model=network", "model.hiden_size=3"], ["did you mean model.hidden_size?"]),
        (["model=network", "model.hidden_size=ten"], ["model.hidden_size=ten", "integer"]),
        (["learning_rate=1"], ["learning_rate", "no use", "model=ridge"]),
        (["model=ridge,network"], ["sweep", "-m"]),
        (["model_penalties=[1]"], ["unknown key", "model_penalties"]),
        (["model=ridge,network", "model.dropout=0", "-m"], ["model.dropout", "model=ridge"]),
    ],
)
def test_what_a_model_does_not_have_is_refused_in_one_line(given, arguments, words):
    with pytest.raises(ConfigError) as caught:
        given(*arguments)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_models_sweep_each_with_its_own_defaults(given):
    request = given("seed=1,2", "model=network,ridge", "-m")
    found = [(config.seed, config.model, config.steps) for config in request.configs]
    assert found == [(1, "network", 7), (1, "ridge", 3), (2, "network", 7), (2, "ridge", 3)]


def test_the_choice_survives_the_file_and_counts_in_the_hash(given, tmp_path):
    request = given("model=network", "model.dropout=0.3")
    (config,) = request.configs
    path = tmp_path / "config.yaml"
    save_config(path, request.source, config)
    assert "model: network\n" in path.read_text() and "model.dropout: 0.3\n" in path.read_text()
    assert load_config(path).config == config
    (other,) = given("model=network", "model.dropout=0.4").configs
    assert config.hash() != other.hash()
    (again,) = resolve([f"config={path}", "model.hidden_size=8"]).configs
    assert again.model_options() == {"hidden_size": 8, "dropout": 0.3}
    with pytest.raises(ConfigError, match="repeats a run of model=network"):
        resolve([f"config={path}", "model=ridge"])


def test_help_names_the_models_once(given, tmp_path):
    path = tmp_path / "choice.py"
    path.write_text(EXPERIMENT.replace('"the forecaster"', '"ridge, network"'))
    for arguments in (["--help"], ["model=network", "--help"]):
        request = given(*arguments)
        text = help_text(request.module, request.shown, "choice")
        assert text.count("ridge, network") == 1 and "(models:" not in text


def test_help_shows_the_keys_of_the_chosen_model_and_names_the_others(given):
    request = given("model=network", "--help")
    text = help_text(request.module, request.shown, "choice")
    assert "Keys of model=network:" in text and "models: ridge, network" in text
    assert "model.dropout" in text and "model.penalties" not in text
    request = given("--help")
    text = help_text(request.module, request.shown, "choice")
    assert "model.penalties" in text and "learning_rate" not in text
