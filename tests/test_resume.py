"""A run stopped at any moment and resumed ends bit for bit like an unbroken one."""

import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from cityjax import checkpoint, conclude, folder, train
from cityjax.errors import UserError
from cityjax.run import Signals, load, main, run
from cityjax.train import abstract_state

# One of each family: dense with dropout, convolutions with batch norm, recurrence with a moving
# average on masked windows, an adversarial pair. Chunks that divide the intervals and that do not.
# The perceptron learns so fast that the second seed's best checkpoint is its first.
CASES = {
    "mlp": ["experiment=mlp_mnist", "hidden_sizes=[8]", "chunk=5", "learning_rate=0.1"],
    "cnn": ["experiment=cnn_mnist", "channels=[2]", "hidden_sizes=[4]", "augment=shift", "chunk=1"],
    "rnn": ["experiment=rnn_traffic", "hidden_size=4", "warmup_steps=2", "chunk=2"],
    "gan": ["experiment=gan_mnist", "hidden_sizes=[8]", "latent_size=4", "chunk=2"],
}
SMALL = [
    "steps=24",
    "batch_size=16",
    "log_every=5",
    "eval_every=8",
    "checkpoint_every=6",
    "parallel=jit",
    "progress=off",
    "seeds=2",
]
# What a run has just done when it is killed: written a metric line (seed, split, step), saved a
# checkpoint (seed, kind, step), copied a line that stays ("cut") while it resumes, or all but
# result.json ("end"). A test line's step is the selected one, which is not known beforehand.
MOMENTS = {
    "mlp": [
        (0, "train", 5),  # no checkpoint yet
        (0, "validation", 8),  # its best checkpoint is missing
        (0, "best", 8),
        (0, "last", 12),
        ("cut",),
        (0, "train", 24),  # evaluation, checkpoint and test line are missing
        (0, "last", 24),  # only the test line is missing
        (0, "test"),  # between the seeds
        (1, "train", 5),
        (1, "last", 6),
        (1, "validation", 8),
        (1, "train", 24),
        (1, "test"),
        ("end",),
    ],
    "cnn": [(0, "validation", 8), (0, "last", 18), (1, "last", 12)],
    "rnn": [(0, "last", 18), (1, "validation", 8), (1, "last", 12)],
    "gan": [(0, "last", 6), (1, "last", 12), (1, "train", 24)],
}


class Killed(BaseException):
    """Stands for kill -9: nothing in the library catches it."""


@pytest.fixture(scope="module", autouse=True)
def few_examples():
    """Judge and evaluate on little, and draw nothing at the end: resuming is what is tested."""
    from cityjax.data import i94, mnist
    from cityjax.tasks import digits, gan, judge, traffic

    whole, origins, series = mnist.load, i94.forecast_origins, i94.load()

    @functools.cache
    def few(split):
        return mnist.Digits(*(part[:300] for part in whole(split)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(i94, "load", lambda: series)
        patch.setattr(conclude, "draw", lambda run: None)
        patch.setattr(mnist, "load", few)
        patch.setattr(i94, "forecast_origins", lambda series, split: origins(series, split)[:300])
        patch.setattr(judge, "SAMPLES", 500)
        judge.test_verdict.cache_clear()
        patch.setattr(traffic, "floors", dict)
        patch.setattr(gan, "floors", lambda conditional: {})
        patch.setattr(digits, "baselines", dict)
        yield
    judge.test_verdict.cache_clear()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Return the folder of each family's unbroken run, made once and only read from then on."""

    @functools.cache
    def folder_of(name):
        path = tmp_path_factory.mktemp(name) / "unbroken"
        run([*CASES[name], *SMALL, f"workdir={path}"])
        return path

    return folder_of


def files_of(path):
    return {
        str(file.relative_to(path)): (file.stat().st_mtime_ns, file.read_bytes())
        for file in path.rglob("*")
        if file.is_file()
    }


def by_place(tree):
    """Return every array of a tree, keys as their numbers, by its place in it."""
    arrays = {}
    for place, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        arrays[jax.tree_util.keystr(place)] = np.asarray(leaf)
    return arrays


def kept(path):
    """Return every array of every checkpoint by its place: whole states and running sums."""
    experiment, _, config = load(path)
    state = abstract_state(experiment)
    batch = jax.eval_shape(experiment.train, state.key, state.step)
    _, sums = jax.eval_shape(experiment.learner.step, state, batch)
    likes = {"last": {"state": state, "sums": sums}, "best": {"state": state}}
    trees = {}
    for seed in range(config.seed, config.seed + config.seeds):
        for kind, like in likes.items():
            place = folder.checkpoints(path, seed, kind)
            if kind == "last" or checkpoint.latest(place) is not None:
                trees[f"seed={seed} {kind}"] = checkpoint.restore(place, like)
    return by_place(trees)


def assert_same(left, right):
    """Hold everything that two runs leave, and that does not depend on the clock, to equal bits."""
    assert (left / folder.METRICS).read_text() == (right / folder.METRICS).read_text()
    results = [json.loads((path / folder.RESULT).read_text()) for path in (left, right)]
    for result in results:
        result.pop("timing")
    assert results[0] == results[1]
    pictures = [
        {name: data for name, (_, data) in files_of(path).items() if name.endswith(".png")}
        for path in (left, right)
    ]
    assert pictures[0] == pictures[1]
    arrays = [kept(path) for path in (left, right)]
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name], err_msg=name)
        assert array.dtype == arrays[1][name].dtype, name


def kill_after(moment, patch):
    """Let the run raise Killed as soon as it has done what `moment` names."""

    def watch(module, function, event):
        original = getattr(module, function)

        def watched(*details):
            original(*details)
            if event(*details)[: len(moment)] == moment:
                raise Killed

        patch.setattr(module, function, watched)

    def written(path, line):
        names = {folder.METRICS: (line["seed"], line.get("split"), line["step"])}
        return names.get(path.name, ("cut",) if path.name.endswith(".partial") else ())

    def saved(place, step, tree):
        return int(place.parent.name.removeprefix("seed=")), place.name, step

    watch(folder, "append", written)
    watch(checkpoint, "save", saved)
    watch(conclude, "draw", lambda run: ("end",))


@pytest.mark.parametrize("name", CASES)
def test_killed_anywhere_and_resumed_equals_unbroken(name, unbroken, tmp_path, monkeypatch):
    arguments = [*CASES[name], *SMALL, f"workdir={tmp_path / 'broken'}"]
    for moment in MOMENTS[name]:
        with monkeypatch.context() as patch:
            kill_after(moment, patch)
            with pytest.raises(Killed):
                run(arguments)
        assert not (tmp_path / "broken" / folder.RESULT).exists()
        if "validation" in moment:
            best = folder.checkpoints(tmp_path / "broken", moment[0], "best")
            assert checkpoint.latest(best) is None
        if moment in ((1, "test"), ("end",)):
            continue  # no further line was to come
        # A line that the kill cut in two.
        with (tmp_path / "broken" / folder.METRICS).open("a") as file:
            file.write('{"seed": 0, "st')
    result = run(arguments).result
    assert_same(unbroken(name), tmp_path / "broken")
    if name == "mlp":
        assert result["selected_step"] == [24, 8]


def test_a_best_checkpoint_whose_line_was_cut_is_written_again(tmp_path, monkeypatch):
    arguments = [*CASES["mlp"], *SMALL, f"workdir={tmp_path}"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after((0, "best", 16), patch)
        run(arguments)
    # As on other devices, only that the difference is large: worse than at step 8 from here on.
    score = train.score
    monkeypatch.setattr(train, "score", lambda *a: {k: v + 1 for k, v in score(*a).items()})
    assert run(arguments).result["selected_step"][0] == 24


def test_the_seconds_of_a_resumed_run_hold_those_before(tmp_path, monkeypatch):
    arguments = [*CASES["mlp"], *SMALL, f"workdir={tmp_path / 'broken'}"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after((0, "last", 12), patch)
        run(arguments)
    path = tmp_path / "broken" / folder.TIMING
    line = json.loads(path.read_text().splitlines()[0])
    assert line["step"] <= 12
    path.write_text(json.dumps({**line, "seconds": 7e6, "other_seconds": 2e5}) + "\n")
    timing = run(arguments).result["timing"]
    assert 7e6 < timing["train_seconds"] < 7.1e6
    assert 7.2e6 < timing["total_seconds"] < 7.3e6
    evaluated = [line["other_seconds"] for line in folder.read_lines(path)[1:]]
    assert min(evaluated) >= 0 < max(evaluated)


def test_a_workdir_of_any_name_is_resumed(unbroken, tmp_path, monkeypatch, capsys):
    path = tmp_path / "a [b]*\\c?"
    arguments = [*CASES["mlp"], *SMALL, f"workdir={path}"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after((0, "last", 12), patch)
        run(arguments)
    monkeypatch.setattr(Signals, "install", lambda self: None)
    assert main([*arguments, "resume=must"]) == 0
    assert capsys.readouterr().err == ""
    assert_same(unbroken("mlp"), path)


TINY = '''"""A perceptron with dropout, small enough to be trained again and again."""
from dataclasses import dataclass

import optax

from cityjax.config import RunConfig
from cityjax.data import mnist
from cityjax.learner import Experiment, from_linen
from cityjax.learners import supervised
from cityjax.losses import softmax_cross_entropy
from cityjax.models.mlp import MLP


@dataclass(frozen=True)
class Config(RunConfig):
    steps: int = 48
    log_every: int = 8
    eval_every: int = 8
    checkpoint_every: int = 12
    chunk: int | str = 4


def build(config):
    model = from_linen(MLP((8,), mnist.CLASSES, dropout=0.2))
    return Experiment(
        supervised(model, softmax_cross_entropy, config.make_optimizer()),
        train=mnist.train_source(config.batch_size),
        evaluation=mnist.evaluation(),
        select="validation/loss",
    )
'''


def test_kill_9_in_a_process_of_its_own_and_resumed_equals_unbroken(tmp_path):
    """Nothing is simulated: a SIGKILL, new processes, XLA with its default optimisations."""
    (tmp_path / "tiny.py").write_text(TINY)
    ours = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    options = {"cwd": tmp_path, "env": environment, "text": True}
    arguments = ["experiment=./tiny.py", "workdir=broken", "progress=plain"]
    command = [sys.executable, "-m", "cityjax.run", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
        validations = (line for line in process.stdout if " validation " in line)
        assert next(validations) and next(validations)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    broken = tmp_path / "broken"
    step = checkpoint.latest(folder.checkpoints(broken, 0, "last"))
    assert step == 12  # killed at about step 16
    assert "test" not in {line["split"] for line in folder.read_lines(broken / folder.METRICS)}

    both = "from cityjax.run import run\n" + "\n".join(
        f"run(['experiment=./tiny.py', 'workdir={name}', 'progress=off'])"
        for name in ("broken", "unbroken")
    )
    done = subprocess.run([sys.executable, "-c", both], stderr=subprocess.PIPE, **options)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "unbroken", broken)


def test_finished_run_shows_its_result_and_changes_nothing(unbroken):
    path = unbroken("mlp")
    before = files_of(path)
    again = run([*CASES["mlp"], *SMALL, f"workdir={path}"])
    assert again == (path, json.loads((path / folder.RESULT).read_text()))
    assert files_of(path) == before


def test_resume_must_and_never(unbroken, tmp_path):
    arguments = [*CASES["mlp"], *SMALL]
    with pytest.raises(UserError, match="holds no run and resume=must"):
        run([*arguments, f"workdir={tmp_path / 'new'}", "resume=must"])
    path = unbroken("mlp")
    with pytest.raises(UserError, match="not empty and resume=never"):
        run([*arguments, f"workdir={path}", "resume=never"])
    assert run([*arguments, f"workdir={path}", "resume=must"]).workdir == path


def test_one_process_at_a_time_trains_in_a_folder(tmp_path, monkeypatch):
    given, flock = [*CASES["mlp"], *SMALL, f"workdir={tmp_path}"], fcntl.flock

    def as_on_nfs(file, operation):
        assert fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after((0, "last", 12), patch)
        run(given)
    before = (tmp_path / folder.METRICS).read_bytes()
    with folder.alone(tmp_path):
        with pytest.raises(UserError, match="another process trains in .*: wait for its end, or"):
            run(given)
        assert (tmp_path / folder.METRICS).read_bytes() == before
    assert run(given).workdir == tmp_path
    (tmp_path / "other" / folder.LOCK).mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be written"), folder.alone(tmp_path / "other"):
        pass


def test_what_tensorboard_shows_is_on_the_disk_with_each_checkpoint(tmp_path, monkeypatch):
    save, sizes = checkpoint.save, []

    def seen(kind, step, tree):
        if kind.name == "last":
            board = tmp_path / "tensorboard" / "seed=0"
            sizes.append(sum(file.stat().st_size for file in board.iterdir()))
        save(kind, step, tree)

    monkeypatch.setattr(checkpoint, "save", seen)
    run([*CASES["mlp"], *SMALL, f"workdir={tmp_path}"])
    first = sizes[:4]  # those of the first seed
    assert first == sorted(set(first)) and first[0] > 100


def test_evaluate_only_scores_again_and_writes_nothing(unbroken):
    path = unbroken("cnn")
    before = files_of(path)
    again = run(["evaluate_only=true", f"workdir={path}"])
    assert again.result["metrics"] == json.loads((path / folder.RESULT).read_text())["metrics"]
    assert files_of(path) == before


def test_evaluate_only_of_an_unfinished_run_says_which_step_it_scored(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / "run"
    save, evaluate = checkpoint.save, ["evaluate_only=true", f"workdir={path}"]

    def killed_before(kind, step):
        def wrapped(place, number, tree):
            if (place.name, number) == (kind, step):
                raise Killed
            save(place, number, tree)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(checkpoint, "save", wrapped)
            run([*CASES["gan"], *SMALL, f"workdir={path}"])

    monkeypatch.setattr(Signals, "install", lambda self: None)
    killed_before("last", 6)
    with pytest.raises(UserError, match="has no checkpoint yet: train it first"):
        run(evaluate)
    killed_before("last", 18)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    result = run(evaluate).result
    assert result["selected_step"] == [12] and result["seeds"] == [0]
    assert result["protocol"]["selection"] == "last step"
    unfinished = "seed 0 is at step 12 of 24, seed 1 has no checkpoint"
    assert result["unfinished"] == unfinished
    assert main(evaluate) == 0
    assert f"judged at step 12; unfinished: {unfinished}" in " ".join(
        capsys.readouterr().out.split()
    )
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == files
    run([*CASES["gan"], *SMALL, f"workdir={path}"])
    assert "unfinished" not in run(evaluate).result


def test_load_gives_the_selected_state_of_a_seed(unbroken):
    path = unbroken("cnn")
    result, arrays = json.loads((path / folder.RESULT).read_text()), kept(path)
    for seed, step in zip(result["seeds"], result["selected_step"], strict=True):
        state = load(path, seed=seed).state
        assert int(state.step) == step
        for place, array in by_place({f"seed={seed} best": {"state": state}}).items():
            np.testing.assert_array_equal(array, arrays[place], err_msg=place)


def test_config_repeats_a_run_bit_for_bit(unbroken, tmp_path):
    config = unbroken("mlp") / folder.CONFIG
    again = run([f"config={config}", f"workdir={tmp_path / 'again'}", "progress=off"])
    assert_same(unbroken("mlp"), again.workdir)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_a_checkpoint_and_the_command_that_continues(number, tmp_path):
    path = tmp_path / "a run (ü) = 1"
    arguments = [sys.executable, "-m", "cityjax.run", "experiment=mlp_mnist", "steps=100000"]
    arguments += [f"workdir={path}", "hidden_sizes=[8]", "eval_every=100000", "log_every=1"]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    for line in process.stdout:
        if " train " in line:
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors and "stopping after the updates under way\n" in errors
    step = checkpoint.latest(folder.checkpoints(path, 0, "last"))
    assert step is not None and step > 0
    lines = folder.read_lines(path / folder.METRICS)
    assert step - 1 <= lines[-1]["step"] <= step
    assert f"'workdir={path}'" in errors and "continue with: python -m cityjax.run" in errors


def test_a_checkpoint_of_another_shape_is_refused_in_one_line(tmp_path):
    like = {"a": jax.ShapeDtypeStruct((3,), np.float32)}
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint"):
        checkpoint.restore(tmp_path / "none", like)
    checkpoint.save(tmp_path / "run", 3, {"a": np.ones(3, np.float32)})
    restored = checkpoint.restore(tmp_path / "run", like)
    np.testing.assert_array_equal(restored["a"], np.ones(3))
    with pytest.raises(checkpoint.CheckpointError, match="cannot be read"):
        checkpoint.restore(tmp_path / "run", {"b": like["a"]})
    assert checkpoint.latest(tmp_path / "run") == 3


def test_only_the_newest_checkpoint_is_kept_and_typed_keys_survive(tmp_path):
    key = jax.random.key(7)
    for step in (1, 2):
        checkpoint.save(tmp_path / "run", step, {"key": key})
    assert [entry.name for entry in Path(tmp_path / "run").iterdir()] == ["2"]
    restored = checkpoint.restore(tmp_path / "run", jax.eval_shape(lambda: {"key": key}))
    assert jax.random.uniform(restored["key"]) == jax.random.uniform(key)


def test_seconds_of_training_hold_the_updates_that_are_waited_for_and_nothing_else(
    tmp_path, monkeypatch
):
    now = [0.0]

    def taking(seconds, function):
        def call(*arguments, **options):
            now[0] += seconds
            return function(*arguments, **options)

        return call

    class Waiting:
        """`jax`, whose updates are done a second after they are asked for."""

        block_until_ready = staticmethod(taking(1.0, jax.block_until_ready))

        def __getattr__(self, name):
            return getattr(jax, name)

    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(train, "jax", Waiting())
    monkeypatch.setattr(train, "score", taking(100.0, train.score))
    monkeypatch.setattr(checkpoint, "save", taking(100.0, checkpoint.save))
    run([*CASES["mlp"], *SMALL[:-1], f"workdir={tmp_path / 'run'}"])
    lines = folder.read_lines(tmp_path / "run" / folder.TIMING)
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 24]
    # Evaluated at 8 and 16, kept at 6, 12 and 18: each waits once. What comes after the last line
    # waits too, for updates that have been counted.
    waits = [line["seconds"] + line["compile_seconds"] for line in lines]
    assert waits == pytest.approx([0, 2, 1, 2, 0])
