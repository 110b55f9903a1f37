"""Devices that do not divide an evaluation batch, and runs that change the number of devices."""

import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cityjax import checkpoint, conclude, folder, losses, metrics, parallel
from cityjax.data.sources import Batches, in_order, shuffled
from cityjax.errors import UserError
from cityjax.fit import Hook, fit
from cityjax.learner import from_linen
from cityjax.learners import adversarial, supervised
from cityjax.models.gan import DenseDiscriminator, DenseGenerator
from cityjax.models.mlp import MLP
from cityjax.ops.recurrence import CELLS, recurrence
from cityjax.parallel import Trainer, compiled, memory_errors
from cityjax.run import load, run
from cityjax.tasks import digits

TINY = ["experiment=mlp_mnist", "hidden_sizes=[4]", "steps=4", "batch_size=16", "log_every=2"]
TINY += ["eval_every=2", "checkpoint_every=2", "progress=off"]
# A process with one device: loads and scores the finished run, and goes on with the broken one.
ONE_DEVICE = """
import json, sys
import jax, numpy as np
from cityjax import conclude
from cityjax.run import load, main, run
from cityjax.tasks import digits

digits.baselines, conclude.draw = dict, lambda run: None
finished, broken, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
experiment, state, _ = load(finished)
outputs = experiment.learner.predict(state, np.ones((2, 28, 28, 1), np.float32))
scored = run(["evaluate_only=true", f"workdir={finished}"])
code = main([*arguments, f"workdir={broken}", "progress=plain"])
seen = {"devices": jax.local_device_count(), "code": code, "device": scored.result["device"]}
print(json.dumps({**seen, "outputs": np.asarray(outputs).tolist(), "metrics": scored.metrics}))
"""


def forecasts(rows, mask):
    """Inputs [rows, 5], targets [rows, 4], and a mask of any leading part of that shape."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(rows, 5)).astype(np.float32)
    targets = draw.normal(size=(rows, 4)).astype(np.float32)
    targets[-1] = 1e6  # what padding repeats: it shows in any sum that it slips into
    return {"inputs": inputs, "targets": targets} | ({} if mask is None else {"mask": mask})


@pytest.mark.parametrize(("mask_axes", "batch_size"), [(0, 4), (1, 7), (2, 2)])
def test_evaluation_is_the_same_on_devices_that_do_not_divide_its_batches(
    mask_axes, batch_size, key
):
    rows = 10
    mask = np.random.default_rng(1).random((rows, 4)[:mask_axes]) < 0.7 if mask_axes else None
    batches = in_order(forecasts(rows, mask), batch_size)
    learner = supervised(
        from_linen(MLP((3,), 4)),
        losses.squared_error,
        optax.sgd(0.1),
        {"mae": metrics.mean_absolute_error(), "mae@2": metrics.mean_absolute_error(at=2)},
    )
    state = jax.jit(learner.init)(key, batches.source(key, jnp.int32(0)))
    expected = Trainer(learner).evaluate(state, batches)
    split = Trainer(learner, parallel="pmap", devices=jax.local_devices()[:3])
    actual = split.evaluate(split.place(state), batches)
    whole = np.ones((rows, 4), bool) if mask is None else np.broadcast_to(mask.T, (4, rows)).T
    for name, (total, count) in actual.items():
        assert count == (whole[:, 1] if name == "mae@2" else whole).sum()
        np.testing.assert_allclose(total, expected[name][0], rtol=1e-5)
        assert count == expected[name][1]


def test_noise_of_a_padded_evaluation_belongs_to_the_same_examples(key):
    draw = np.random.default_rng(0)
    images = draw.normal(size=(8, 28, 28, 1)).astype(np.float32)
    batches = in_order({"inputs": images, "targets": np.arange(8, dtype=np.int32)}, 8)
    learner = adversarial(
        from_linen(DenseGenerator((4,))),
        from_linen(DenseDiscriminator((4,))),
        optax.sgd(0.1),
        optax.sgd(0.1),
        latent_size=3,
    )
    state = jax.jit(learner.init)(key, batches.source(key, jnp.int32(0)))
    expected = Trainer(learner).evaluate(state, batches)
    split = Trainer(learner, parallel="pmap", devices=jax.local_devices()[:3])
    actual = split.evaluate(split.place(state), batches)
    for name, sums in expected.items():
        np.testing.assert_allclose(actual[name], sums, rtol=1e-5, err_msg=name)


@pytest.mark.eight_devices
def test_training_batches_must_divide(key):
    source = shuffled(forecasts(8, None), 4)
    learner = supervised(from_linen(MLP((3,), 4)), losses.squared_error, optax.sgd(0.1))
    split = Trainer(learner, parallel="pmap", devices=jax.local_devices()[:3])
    state, source = split.place((jax.jit(learner.init)(key, source(key, jnp.int32(0))), source))
    with pytest.raises(ValueError, match="a batch of 4 is not divisible by 3 devices"):
        split.train(state, split.zero_sums(state, source), source, 1)


class Killed(BaseException):
    """Stands for kill -9: nothing in the library catches it."""


@pytest.fixture(autouse=True)
def plain_end(monkeypatch):
    """Draw nothing at the end and compute no floors: neither depends on the devices."""
    monkeypatch.setattr(conclude, "draw", lambda run: None)
    monkeypatch.setattr(digits, "baselines", dict)


@pytest.fixture(scope="module")
def made_on_eight(tmp_path_factory):
    """Three runs on eight devices: finished, killed at step 2, and that with parallel=pmap."""
    place = tmp_path_factory.mktemp("eight")
    save = checkpoint.save

    def save_and_die(where, step, tree):
        save(where, step, tree)
        if where.name == "last":
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conclude, "draw", lambda run: None)
        patch.setattr(digits, "baselines", dict)
        run([*TINY, f"workdir={place / 'finished'}"])
        for name, parallel in (("broken", "auto"), ("all", "pmap")):
            with patch.context() as inner:
                inner.setattr(checkpoint, "save", save_and_die)
                with pytest.raises(Killed):
                    run([*TINY, f"parallel={parallel}", f"workdir={place / name}"])
    return place


def trace(path):
    """The metric lines of a run, as they were written."""
    return (path / folder.METRICS).read_text()


def scores(path):
    return {name: entry["mean"] for name, entry in folder.read_result(path)["metrics"].items()}


def assert_close(values, others):
    """Hold each number to the rounding of another order of sums; a tied example may tip."""
    assert values == pytest.approx(others, rel=1e-3)


def assert_lines_close(path, other):
    lines, others = (folder.read_lines(place / folder.METRICS) for place in (path, other))
    for one, two in zip(lines, others, strict=True):
        assert one.pop("split") == two.pop("split")
        assert_close(one, two)


@pytest.mark.eight_devices
def test_on_the_same_devices_a_run_goes_on_bit_for_bit(made_on_eight, tmp_path, capsys):
    for name in ("broken", "all"):
        shutil.copytree(made_on_eight / name, tmp_path / name)
        given = ["parallel=pmap"] if name == "all" else []
        resumed = run([*TINY, *given, f"workdir={tmp_path / name}", "resume=must"])
        assert "8 x cpu (pmap)" in resumed.result["device"]
        assert trace(tmp_path / name) == trace(made_on_eight / "finished")
        assert "last digits" not in capsys.readouterr().out


@pytest.mark.eight_devices
def test_a_run_of_eight_devices_is_loaded_scored_and_resumed_on_one(made_on_eight, tmp_path):
    broken = shutil.copytree(made_on_eight / "broken", tmp_path / "broken")
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, "-W", "error", "-c", ONE_DEVICE]
    done = subprocess.run(
        [*command, made_on_eight / "finished", broken, *TINY[:-1]],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout.splitlines()[-1])
    assert (seen["devices"], seen["code"]) == (1, 0) and seen["device"].startswith("1 x cpu")
    assert "this run began with" in done.stdout and "last digits will differ" in done.stdout

    experiment, state, _ = load(made_on_eight / "finished")
    outputs = experiment.learner.predict(state, np.ones((2, 28, 28, 1), np.float32))
    np.testing.assert_allclose(seen["outputs"], outputs, rtol=1e-4)
    assert_close(seen["metrics"], scores(made_on_eight / "finished"))
    assert_lines_close(broken, made_on_eight / "finished")


@pytest.mark.eight_devices
def test_on_three_devices_auto_goes_on_with_one_and_pmap_says_why_not(
    made_on_eight, tmp_path, monkeypatch, capsys
):
    three = jax.local_devices()[:3]
    monkeypatch.setattr(jax, "local_devices", lambda: three)
    monkeypatch.setattr(jax, "local_device_count", lambda: 3)
    scored = run(["evaluate_only=true", f"workdir={made_on_eight / 'finished'}"])
    assert scored.result["device"] == "3 x cpu (pmap)"
    assert_close(scored.metrics, scores(made_on_eight / "finished"))

    broken = shutil.copytree(made_on_eight / "broken", tmp_path / "broken")
    run([*TINY[:-1], f"workdir={broken}", "progress=plain"])
    assert "last digits will differ" in capsys.readouterr().out
    assert_lines_close(broken, made_on_eight / "finished")

    given = [*TINY, "parallel=pmap", f"workdir={made_on_eight / 'all'}"]
    before = trace(made_on_eight / "all")
    with pytest.raises(UserError, match="batch_size=16 is not divisible by the 3 local devices"):
        run(given)
    assert trace(made_on_eight / "all") == before
    load(made_on_eight / "all")


@pytest.mark.eight_devices
def test_blocks_that_make_batches_smaller_fall_back_to_one_device(tmp_path):
    given = ["experiment=synthetic_city", "model=ridge", "model.folds=10", "batch_size=512"]
    given += [f"workdir={tmp_path / 'run'}", "progress=off"]
    assert jax.local_device_count() == 8
    assert run(given).result["device"].startswith("1 x")
    with pytest.raises(UserError, match="is not divisible by the 8 local devices"):
        run([*given[:-2], f"workdir={tmp_path / 'other'}", "parallel=pmap"])
    assert not (tmp_path / "other").exists()


def test_running_out_of_memory_is_one_line_and_other_errors_stay():
    with pytest.raises(
        UserError, match="out of memory: make batch_size or .*(140737488355328|128.00TiB)"
    ):
        with memory_errors():
            program = jax.jit(lambda x: x * jnp.arange(2**45, dtype=jnp.float32))
            jax.block_until_ready(program(2.0))
    with pytest.raises(UserError, match="out of memory"), memory_errors():
        raise MemoryError("Unable to allocate 8. TiB for an array")
    with pytest.raises(jax.errors.JaxRuntimeError, match="mine"), memory_errors():
        raise jax.errors.JaxRuntimeError("INTERNAL: mine")


@pytest.mark.parametrize("known", [True, False])
def test_ynnpack_is_left_no_convolution_recurrence_or_reduction(monkeypatch, known):
    told = []
    plain = jax.stages.Lowered.compile

    def compile_(self, compiler_options=None):
        told.append(compiler_options)
        if compiler_options and not known:
            raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option")
        return plain(self)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_)
    image, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((2, 2, 2, 1))

    def convolved(image, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "VALID", dimension_numbers=numbers
        )

    def recurrent(image, kernel):
        weights, start = kernel[:, :, 0, 0], (jnp.zeros((4, 2)),)
        return recurrence(CELLS["simple"], image[0], weights, jnp.ones(2), start)[0]

    for function in (convolved, recurrent, lambda image, kernel: image[0, 0] @ kernel[0, 0]):
        actual = compiled(jax.jit(function).lower(image, kernel))(image, kernel)
        np.testing.assert_allclose(actual, function(image, kernel), rtol=1e-6)
    on_cpu = jax.default_backend() == "cpu"
    asked = [parallel._NO_YNNPACK, parallel._NO_YNNPACK, parallel._PRODUCTS_ALONE]
    again = [] if on_cpu and known else [None]
    assert told == [each for one in asked for each in ([one] if on_cpu else []) + again]


def test_the_state_is_donated_and_what_a_caller_kept_is_not(key):
    source = shuffled({"inputs": jnp.ones((8, 2)), "targets": jnp.ones((8, 1))}, 4)
    learner = supervised(from_linen(MLP((3,), 1)), losses.squared_error, optax.adam(0.1))
    state = learner.init(key, source(key, jnp.zeros((), jnp.int32)))
    kept = jax.tree.map(jnp.copy, state.params)
    trainer = Trainer(learner)
    sums = trainer.zero_sums(state, source)
    new, _ = trainer.train(state, sums, source, 2)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((kept, new, sums)))


def test_what_is_no_row_of_a_batch_is_refused_where_devices_share_it(key):
    def source(key, step):
        del key, step
        rows = {"inputs": jnp.ones((8, 5)), "targets": jnp.ones((8, 4)), "mask": jnp.ones(8, bool)}
        return {**rows, "graph": jnp.ones((3, 3))}

    learner = supervised(from_linen(MLP((4,), 4)), losses.squared_error, optax.sgd(0.1))
    state = learner.init(key, source(key, 0))
    fit(learner, source, jax.tree.map(jnp.copy, state), 1)
    trainer = Trainer(learner, parallel="pmap", devices=jax.local_devices()[:4])
    for use in (
        lambda: fit(trainer, source, state, 1),
        lambda: trainer.evaluate(state, Batches(1, source)),
    ):
        with pytest.raises(ValueError, match=r"batch\['graph'\] of shape \(3, 3\) does not begin"):
            use()


def test_what_an_evaluation_reads_is_put_on_the_devices_once(key, monkeypatch):
    data = forecasts(8, None)
    learner = supervised(from_linen(MLP((4,), 4)), losses.squared_error, optax.sgd(0.1))
    state = learner.init(key, data)
    trainer = Trainer(learner, parallel="pmap", devices=jax.local_devices()[:4])
    batches, placed, place = in_order(data, 4), [], trainer.place
    monkeypatch.setattr(trainer, "place", lambda tree: placed.append(tree) or place(tree))
    first, again = trainer.evaluate(state, batches), trainer.evaluate(state, batches)
    assert sum(tree is batches.source for tree in placed) == 1
    jax.tree.map(np.testing.assert_array_equal, first, again)


def slow(inner):
    """Return a learner whose updates take some tens of milliseconds each: products of nothing."""

    def step(state, batch, *, axis_name=None):
        state, sums = inner.step(state, batch, axis_name=axis_name)
        zeros = jnp.full((256, 256), 0 * sums["loss"][0])
        loss = jax.lax.fori_loop(0, 100, lambda _, x: x @ x, zeros)[0, 0] + sums["loss"][0]
        return state.replace(extra={"loss": loss}), {"loss": (loss, sums["loss"][1])}

    return inner._replace(
        init=lambda key, batch: inner.init(key, batch).replace(extra={"loss": jnp.float32(0)}),
        step=step,
    )


def test_updates_under_way_are_done_before_another_program_is_compiled(key, monkeypatch):
    data = forecasts(8, None)
    learner = slow(supervised(from_linen(MLP((4,), 4)), losses.squared_error, optax.sgd(0.1)))
    trainer, ready = Trainer(learner), []
    compile_, source = trainer._compile, shuffled(data, 4)

    def watched(function, donated, state, *arguments):
        ready.append(state.extra["loss"].is_ready())
        return compile_(function, donated, state, *arguments)

    monkeypatch.setattr(trainer, "_compile", watched)
    state = learner.init(key, data)
    for updates in (2, 1):
        state, sums = trainer.train(state, trainer.zero_sums(state, source), source, updates)
    assert ready == [True, True] and sums["loss"][1] == 4 * 4


@pytest.mark.parametrize("with_sums", [True, False])
def test_hooks_are_called_one_dispatch_at_most_ahead_of_what_is_done(with_sums, key):
    data, given, ready = forecasts(8, None), [], []
    learner = slow(supervised(from_linen(MLP((4,), 4)), losses.squared_error, optax.sgd(0.1)))
    if not with_sums:
        step_ = learner.step
        learner = learner._replace(step=lambda *given, **axis: (step_(*given, **axis)[0], {}))

    def watch(step, state, sums):
        done = [state.extra["loss"]] if not with_sums else given
        ready.append(all(one.is_ready() for one in done))
        given.extend(one[0] for one in sums.values())

    fit(learner, shuffled(data, 4), learner.init(key, data), 12, chunk=2, hooks=[Hook(None, watch)])
    assert ready == [True] * 6


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(UserError, match="one of 4 processes"):
        parallel.choose("auto", 128)
