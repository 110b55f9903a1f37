"""Learners and fit: updates by hand, moving averages, NNX modules, the steps of hooks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from cityjax import checkpoint, losses, metrics
from cityjax.data.sources import Batches, in_order
from cityjax.fit import Hook, fit, next_stop, predict, predict_mean, score
from cityjax.learner import (
    Learner,
    Model,
    data_key,
    from_linen,
    from_nnx,
    judge_key,
    new_state,
    step_key,
)
from cityjax.learners import adversarial, average, moving_average, supervised
from cityjax.models.gan import DenseDiscriminator, DenseGenerator
from cityjax.parallel import Trainer

# A linear regression: y = x w, without a bias.


def linear_model(start=(1.0, -2.0)):
    def init(key, inputs):
        del key, inputs
        return {"w": jnp.array(start)[:, None]}, {}

    def apply(params, model_state, inputs, *, key=None, train=False, axis_name=None):
        del key, train, axis_name
        return inputs @ params["w"], model_state

    return Model(init, apply)


def regression_batch():
    return {
        "inputs": jnp.array([[1.0, 2.0], [0.5, -1.0], [9.0, 9.0]]),
        "targets": jnp.array([[0.0], [1.0], [jnp.nan]]),
        "mask": jnp.array([True, True, False]),
    }


def squared(optimizer, start=(1.0, -2.0), **options):
    return supervised(linear_model(start), losses.squared_error, optimizer, **options)


def test_a_supervised_update_by_hand(key):
    learner, batch = squared(optax.sgd(0.1)), regression_batch()
    state = learner.init(key, batch)
    assert state.step == 0 and state.extra == {}
    state, sums = learner.step(state, batch)
    # Residuals 1*1 - 2*2 - 0 = -3 and 0.5 + 2 - 1 = 1.5, mean of squares (9 + 2.25) / 2. Gradient
    # 2/2 (-3 (1, 2) + 1.5 (0.5, -1)) = (-2.25, -7.5); w = (1, -2) - 0.1 gradient.
    np.testing.assert_allclose(state.params["w"][:, 0], [1.225, -1.25], rtol=1e-6)
    np.testing.assert_allclose(sums["loss"], (11.25, 2.0), rtol=1e-6)
    assert state.step == 1


def test_a_batch_of_masked_examples_only_changes_nothing(key):
    learner, batch = squared(optax.sgd(0.1)), regression_batch()
    batch["mask"] = jnp.zeros(3, bool)
    state = learner.init(key, batch)
    after, sums = learner.step(state, batch)
    np.testing.assert_array_equal(after.params["w"], state.params["w"])
    assert [float(part) for part in sums["loss"]] == [0.0, 0.0]


def test_metrics_are_summed_beside_the_loss_before_the_update_and_in_evaluation(key):
    learner = squared(optax.sgd(0.1), metrics={"mae": metrics.mean_absolute_error()})
    batch = regression_batch()
    state = learner.init(key, batch)
    expected = {"loss": (11.25, 2.0), "mae": (4.5, 2.0)}
    jax.tree.map(np.testing.assert_allclose, learner.evaluate(state, batch), expected)
    _, sums = learner.step(state, batch)
    jax.tree.map(np.testing.assert_allclose, sums, expected)
    np.testing.assert_allclose(learner.predict(state, batch["inputs"]), [[-3], [2.5], [-9]])


def test_the_optimizer_sees_the_parameters(key):
    # Without them decoupled weight decay is silently none. The gradient is zero at targets met.
    decayed = optax.chain(optax.add_decayed_weights(0.5), optax.scale_by_learning_rate(0.1))
    batch = regression_batch()
    learner = squared(decayed)
    state = learner.init(key, batch)
    batch["targets"] = learner.predict(state, batch["inputs"])
    state, _ = learner.step(state, batch)
    np.testing.assert_allclose(state.params["w"][:, 0], [0.95, -1.9], rtol=1e-6)


# A GAN of two scalars and a vector: G(z) = a z + b, D(x) = w . x.


def generator_model():
    """Its state keeps the latent vectors it saw last: they are not a test's business otherwise."""

    def init(key, inputs):
        del key
        return {"a": jnp.float32(2.0), "b": jnp.float32(0.5)}, {"latent": inputs[0]}

    def apply(params, model_state, inputs, *, key=None, train=False, axis_name=None):
        del key, axis_name
        fakes = params["a"] * inputs[0] + params["b"]
        return fakes, {"latent": inputs[0]} if train else model_state

    return Model(init, apply)


def discriminator_model():
    def init(key, inputs):
        del key, inputs
        return {"w": jnp.array([0.5, -1.0])}, {}

    def apply(params, model_state, inputs, *, key=None, train=False, axis_name=None):
        del key, train, axis_name
        return inputs[0] @ params["w"], model_state

    return Model(init, apply)


def gan(**options):
    learner = adversarial(
        generator_model(),
        discriminator_model(),
        optax.sgd(0.1),
        optax.sgd(0.2),
        latent_size=2,
        **options,
    )
    batch = {
        "inputs": jnp.array([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]]),
        "targets": jnp.array([0, 1, 0]),
        "mask": jnp.array([True, True, False]),
    }
    return learner, batch


def softplus(x):
    return np.log1p(np.exp(x))


def logistic(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_a_gan_step_by_hand(key, penalty):
    learner, batch = gan(gradient_penalty=penalty)
    after, sums = learner.step(learner.init(key, batch), batch)
    latent = np.asarray(after.model_state["generator"]["latent"])[:2]  # the third is masked
    a, b, w = 2.0, 0.5, np.array([0.5, -1.0])
    real, fake = np.asarray(batch["inputs"])[:2], a * latent + b
    real_logits, fake_logits = real @ w, fake @ w

    # d softplus(-D)/dw = -(1 - s(D)) x on real examples, d softplus(D)/dw = s(D) x on fakes. The
    # R1 penalty of D = w . x is g/2 |w|^2 for every example, so its gradient is g w.
    slope = logistic(fake_logits) @ fake - (1 - logistic(real_logits)) @ real
    w_after = w - 0.2 * (slope / 2 + penalty * w)
    np.testing.assert_allclose(after.params["discriminator"]["w"], w_after, rtol=1e-5)

    # The generator then faces the updated discriminator, on the same fakes.
    fooled = fake @ w_after
    pull = -(1 - logistic(fooled))  # d softplus(-D)/dD
    a_after = a - 0.1 * np.mean(pull * (latent @ w_after))
    b_after = b - 0.1 * np.mean(pull * w_after.sum())
    np.testing.assert_allclose(after.params["generator"]["a"], a_after, rtol=1e-5)
    np.testing.assert_allclose(after.params["generator"]["b"], b_after, rtol=1e-5)
    assert after.step == 1

    # What is reported is the loss, without the penalty, so that weights can be compared.
    total = np.sum(softplus(-real_logits) + softplus(fake_logits))
    np.testing.assert_allclose(sums["discriminator_loss"], (total, 2), rtol=1e-5)
    np.testing.assert_allclose(sums["generator_loss"], (softplus(-fooled).sum(), 2), rtol=1e-5)
    right = (np.sum(real_logits > 0) + np.sum(fake_logits <= 0)) / 2
    np.testing.assert_allclose(sums["discriminator_accuracy"], (right, 2))


def test_the_hinge_loss_takes_the_place_of_the_other(key):
    learner, batch = gan(loss=losses.hinge)
    after, sums = learner.step(learner.init(key, batch), batch)
    latent = np.asarray(after.model_state["generator"]["latent"])[:2]
    logits = np.asarray(batch["inputs"])[:2] @ [0.5, -1.0], (2 * latent + 0.5) @ [0.5, -1.0]
    total = np.maximum(1 - logits[0], 0).sum() + np.maximum(1 + logits[1], 0).sum()
    np.testing.assert_allclose(sums["discriminator_loss"], (total, 2), rtol=1e-5)


def test_a_gan_draws_new_noise_at_each_step_and_the_same_in_each_evaluation(key):
    learner, batch = gan()
    start = learner.init(key, batch)
    first, _ = learner.step(start, batch)
    second, _ = learner.step(first, batch)
    seen = [np.asarray(s.model_state["generator"]["latent"]) for s in (first, second)]
    assert (seen[0] != seen[1]).all()
    once, again = (learner.evaluate(start, batch) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, once, again)
    assert set(once) == {"discriminator_loss", "generator_loss", "discriminator_accuracy"}


def test_a_gan_samples_one_example_per_label_and_needs_a_key(key):
    learner, batch = gan()
    state = learner.init(key, batch)
    labels = jnp.zeros(5, int)
    samples = np.asarray(learner.predict(state, labels, key=key))
    assert samples.shape == (5, 2)
    np.testing.assert_array_equal(samples, learner.predict(state, labels, key=key))
    assert (samples != np.asarray(learner.predict(state, labels, key=jax.random.key(1)))).all()
    with pytest.raises(ValueError, match="predict\\(state, labels, key="):
        learner.predict(state, labels)


# Moving averages.


class MLPWithBatchNorm(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):
        return nn.Dense(1)(nn.BatchNorm(use_running_average=not train, axis_name=axis_name)(x))


def test_a_moving_average_is_its_recursion_and_is_what_judges(key):
    learner, batch = moving_average(squared(optax.sgd(0.1)), 0.25), regression_batch()
    state = learner.init(key, batch)
    average = np.array([1.0, -2.0])
    for number in range(1, 5):
        state, sums = learner.step(state, batch)
        # (1 + t) / (10 + t) is 2/11, then 3/12 = 0.25; from then on the decay is the smaller.
        decay = min(0.25, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * np.asarray(state.params["w"])[:, 0]
    np.testing.assert_allclose(state.extra["average"]["params"]["w"][:, 0], average, rtol=1e-5)
    assert not np.allclose(state.params["w"][:, 0], average, rtol=1e-3)
    predicted = np.asarray(batch["inputs"]) @ average[:, None]
    np.testing.assert_allclose(learner.predict(state, batch["inputs"]), predicted, rtol=1e-5)
    expected = np.sum((predicted - np.asarray(batch["targets"]))[:2] ** 2)
    np.testing.assert_allclose(learner.evaluate(state, batch)["loss"], (expected, 2), rtol=1e-5)
    assert "loss" in sums


def test_batch_statistics_are_averaged_with_their_parameters(key):
    model = from_linen(MLPWithBatchNorm())
    batch = regression_batch()
    plain = supervised(model, losses.squared_error, optax.sgd(0.1))
    learner = moving_average(plain, 0.5)
    state = learner.init(key, batch)
    # The weight of the newest after one step is 1 - min(0.5, 2 / 11).
    first = state.model_state["batch_stats"]["BatchNorm_0"]["mean"]
    trained, _ = learner.step(state, batch)
    newest = trained.model_state["batch_stats"]["BatchNorm_0"]["mean"]
    average = trained.extra["average"]["model_state"]["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(average, first * 2 / 11 + newest * 9 / 11, rtol=1e-5)
    swapped = trained.replace(
        params=trained.extra["average"]["params"],
        model_state=trained.extra["average"]["model_state"],
    )
    np.testing.assert_array_equal(
        learner.predict(trained, batch["inputs"]), plain.predict(swapped, batch["inputs"])
    )


def test_training_itself_does_not_see_the_average(key):
    plain, batch = squared(optax.sgd(0.1)), regression_batch()
    averaged = moving_average(plain, 0.9)
    states = [learner.init(key, batch) for learner in (plain, averaged)]
    for _ in range(3):
        states = [
            learner.step(state, batch)[0]
            for learner, state in zip((plain, averaged), states, strict=True)
        ]
    np.testing.assert_array_equal(states[0].params["w"], states[1].params["w"])


def test_a_part_of_the_parameters_can_be_averaged(key):
    plain, batch = gan()
    learner = moving_average(plain, 0.9, of=lambda tree: {"generator": tree["generator"]})
    state = learner.init(key, batch)
    assert set(state.extra["average"]["params"]) == {"generator"}
    state, _ = learner.step(state, batch)
    generator = state.extra["average"]["params"]["generator"]
    assert generator["a"] != state.params["generator"]["a"]
    samples = learner.predict(state, batch["targets"], key=key)
    swapped = state.replace(params={**state.params, "generator": generator})
    np.testing.assert_array_equal(samples, plain.predict(swapped, batch["targets"], key=key))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused_by_name(decay):
    with pytest.raises(ValueError, match=f"decay={decay}"):
        moving_average(squared(optax.sgd(0.1)), decay)


# Means of learners.


def pair(**options):
    """Two lines that start apart and learn at rates of their own, and their mean."""
    members = [squared(optax.sgd(0.1)), squared(optax.adam(0.2), (0.0, 1.0))]
    return members, average(members, losses.squared_error, **options)


def test_members_learn_as_they_would_alone_and_their_mean_is_what_judges(key):
    mean_absolute = {"mae": metrics.mean_absolute_error()}
    (members, learner), batch = pair(metrics=mean_absolute), regression_batch()
    state, alone = learner.init(key, batch), [each.init(key, batch) for each in members]
    expected = 0.0
    for _ in range(3):
        state, sums = learner.step(state, batch)
        pairs = [each.step(own, batch) for each, own in zip(members, alone, strict=True)]
        alone = [own for own, _ in pairs]
        expected = np.add(*(own_sums["loss"] for _, own_sums in pairs))
        np.testing.assert_array_equal(sums["loss"], expected)
    assert state.step == 3
    for params, own in zip(state.params, alone, strict=True):
        np.testing.assert_array_equal(params["w"], own.params["w"])
    weights = (state.params[0]["w"] + state.params[1]["w"]) / 2  # of lines, the mean is a line
    predicted = np.asarray(batch["inputs"] @ weights)
    np.testing.assert_allclose(learner.predict(state, batch["inputs"]), predicted, rtol=1e-5)
    apart = (predicted - np.asarray(batch["targets"]))[:2]
    sums = learner.evaluate(state, batch)
    np.testing.assert_allclose(sums["loss"], (np.sum(apart**2), 2), rtol=1e-5)
    np.testing.assert_allclose(sums["mae"], (np.sum(np.abs(apart)), 2), rtol=1e-5)


def test_the_same_learner_several_times_has_weights_and_noise_of_its_own(key):
    def init(key, inputs):
        return {"w": jax.random.normal(key, (inputs.shape[1], 1))}, {}

    def apply(params, model_state, inputs, *, key=None, train=False, axis_name=None):
        del axis_name
        noise = jax.random.normal(key, (len(inputs), 1)) if train else 0.0
        return inputs @ params["w"] + noise, model_state

    member = supervised(Model(init, apply), losses.squared_error, optax.sgd(0.1))
    learner, batch = average([member] * 3, losses.squared_error), regression_batch()
    state = learner.init(key, batch)
    assert len({float(params["w"][0, 0]) for params in state.params}) == 3
    same = state.replace(params=[state.params[0]] * 3)
    moved, _ = learner.step(same, batch)
    assert len({float(params["w"][0, 0]) for params in moved.params}) == 3


def test_a_mean_goes_on_from_a_checkpoint_bit_for_bit(key, tmp_path):
    member = moving_average(squared(optax.adam(0.1)), 0.9)
    learner = average([member, member], losses.squared_error)
    batch = regression_batch()

    def source(key, step):
        return {**batch, "targets": batch["targets"] + jax.random.normal(key, ()) * step}

    source = jax.tree_util.Partial(source)
    whole = fit(learner, source, learner.init(key, batch), 6, chunk=3)
    half = fit(learner, source, learner.init(key, batch), 3, chunk=3)
    checkpoint.save(tmp_path, 3, {"state": half})
    like = jax.eval_shape(lambda: learner.init(key, batch))
    half = checkpoint.restore(tmp_path, {"state": like})["state"]
    again = fit(learner, source, half, 6, chunk=3)
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        np.testing.assert_array_equal(left, right)


def test_the_mean_of_no_learners_is_refused():
    with pytest.raises(ValueError, match="no learners: at least one"):
        average([], losses.squared_error)


# Models from Flax modules.


class Noisy(nnx.Module):
    """Linear, batch norm and dropout, in NNX."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.output = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.output(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def whole(arrays):
    """A source whose every batch is all of the arrays."""

    def batch(arrays, key, step):
        del key, step
        return arrays

    return jax.tree_util.Partial(batch, jax.tree.map(jnp.asarray, arrays))


def noisy_data():
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    targets = x @ np.array([[1.0], [-2.0], [0.5]], np.float32)
    return {"inputs": x + 1.0, "targets": targets, "mask": np.ones(64, bool)}


def test_an_nnx_module_trains_through_supervised_and_fit(key):
    learner = supervised(from_nnx(Noisy), losses.squared_error, optax.adam(0.03))
    data = noisy_data()
    batches = Batches(1, whole(data))
    start = learner.init(key, data)
    trainer = Trainer(learner)
    before = score(trainer, start, batches)["loss"]
    # fit gives the state it is handed away.
    state = fit(trainer, whole(data), jax.tree.map(jnp.copy, start), 60, chunk=20)
    after = score(trainer, state, batches)["loss"]
    assert after < 0.5 * before
    mean = np.asarray(state.model_state["norm"]["mean"])
    assert (mean != np.asarray(start.model_state["norm"]["mean"])).all()


def test_an_nnx_module_switches_between_training_and_evaluation(key):
    model, x = from_nnx(Noisy), jnp.asarray(noisy_data()["inputs"])
    params, model_state = model.init(key, x)
    assert set(params) == {"hidden", "norm", "output"}

    def apply(seed, train):
        return model.apply(params, model_state, x, key=jax.random.key(seed), train=train)

    (first, changed), (again, _), (other, _) = apply(1, True), apply(1, True), apply(2, True)
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()  # dropout follows the key
    # With momentum 0.5 the running mean is half the batch's: it starts from zero.
    layers = jax.device_get(params)
    hidden = np.asarray(x) @ layers["hidden"]["kernel"] + layers["hidden"]["bias"]
    np.testing.assert_allclose(changed["norm"]["mean"], hidden.mean(axis=0) / 2, rtol=1e-4)
    (evaluated, kept), (others, _) = apply(1, False), apply(2, False)
    np.testing.assert_array_equal(evaluated, others)
    jax.tree.map(np.testing.assert_array_equal, kept["norm"], model_state["norm"])
    normed = np.maximum(hidden / np.sqrt(1 + 1e-5), 0)  # running mean 0, variance 1, no dropout
    expected = normed @ layers["output"]["kernel"] + layers["output"]["bias"]
    np.testing.assert_allclose(evaluated, expected, rtol=1e-3, atol=1e-4)


def test_a_linen_module_keeps_its_batch_statistics_in_the_model_state(key):
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train=False, axis_name=None):
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.5, axis_name=axis_name)
            return norm(inputs)

    model, x = from_linen(Normed()), jnp.array([[1.0], [3.0]])
    params, model_state = model.init(key, x)
    assert set(params) == {"BatchNorm_0"} and set(model_state) == {"batch_stats"}
    outputs, changed = model.apply(params, model_state, x, train=True)
    np.testing.assert_allclose(outputs, [[-1.0], [1.0]], rtol=1e-4)
    np.testing.assert_allclose(changed["batch_stats"]["BatchNorm_0"]["mean"], [1.0])
    outputs, kept = model.apply(params, model_state, x)
    np.testing.assert_allclose(outputs, x, rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, kept, model_state)


def test_streams_of_randomness_are_apart_and_only_noise_follows_the_step(key):
    first = new_state(key, {}, {}, {})
    second = first.replace(step=jnp.int32(1))
    keys = [data_key(first), step_key(first), judge_key(first), step_key(second), key]
    assert len({tuple(jax.random.key_data(k).tolist()) for k in keys}) == len(keys)
    for stream in (data_key, judge_key):
        assert (jax.random.key_data(stream(first)) == jax.random.key_data(stream(second))).all()


# fit and score, of a learner whose loss is the number of the update.


def counting():
    def init(key, batch):
        del batch
        return new_state(key, {}, {}, {})

    def step(state, batch, *, axis_name=None):
        del axis_name
        number = batch["number"].sum().astype(jnp.float32)
        return state.replace(step=state.step + 1), {"loss": (number, jnp.float32(1))}

    def evaluate(state, batch, *, axis_name=None):
        raise NotImplementedError

    def predict(state, inputs, *, key=None):
        raise NotImplementedError

    return Learner(init, step, evaluate, predict)


def numbers(key, step):
    del key
    return {"number": jnp.asarray(step)[None], "mask": jnp.ones(1, bool)}


def run(steps, *, chunk, log_every, hooks, state=None, **options):
    """Run fit and return what each hook saw: [(step, total, count)]."""
    learner = counting()
    state = learner.init(jax.random.key(0), {}) if state is None else state
    seen = {every: [] for every in hooks}

    def hook(every):
        def call(step, state, sums):
            assert int(state.step) == step
            seen[every].append((step, *map(float, sums["loss"])))

        return Hook(every, call)

    state = fit(
        learner,
        jax.tree_util.Partial(numbers),
        state,
        steps,
        chunk=chunk,
        log_every=log_every,
        hooks=[hook(every) for every in hooks],
        **options,
    )
    assert int(state.step) == steps
    return seen


def total(start, stop):
    """(sum, count) of updates start .. stop-1, whose losses are their numbers."""
    return float(sum(range(start, stop))), float(stop - start)


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_hooks_are_called_at_their_steps_whatever_the_chunk(chunk):
    seen = run(25, chunk=chunk, log_every=10, hooks=(10, 6))
    assert seen[10] == [(10, *total(0, 10)), (20, *total(10, 20)), (25, *total(20, 25))]
    # Sums begin anew after every multiple of log_every.
    assert seen[6] == [
        (6, *total(0, 6)),
        (12, *total(10, 12)),
        (18, *total(10, 18)),
        (24, *total(20, 24)),
        (25, *total(20, 25)),
    ]


def test_a_hook_without_interval_is_called_after_every_dispatch():
    seen = run(10, chunk=4, log_every=5, hooks=(None,))
    assert [step for step, *_ in seen[None]] == [4, 5, 8, 10]


def test_fit_goes_on_from_a_state_with_the_sums_it_stopped_with():
    unbroken = run(20, chunk=4, log_every=10, hooks=(10,))
    learner = counting()
    half = fit(learner, jax.tree_util.Partial(numbers), learner.init(jax.random.key(0), {}), 6)
    sums = jax.tree.map(jnp.float32, {"loss": total(0, 6)})
    rest = run(20, chunk=4, log_every=10, hooks=(10,), state=half, sums=sums)
    assert rest == unbroken


def test_fit_of_a_finished_state_calls_no_hook():
    learner = counting()
    state = learner.init(jax.random.key(0), {}).replace(step=jnp.int32(3))
    assert run(3, chunk=1, log_every=1, hooks=(1, None), state=state) == {1: [], None: []}


@pytest.mark.parametrize("option", [{"chunk": 0}, {"log_every": 0}])
def test_intervals_below_one_are_refused(option):
    with pytest.raises(ValueError, match="at least 1"):
        run(1, **{"chunk": 1, "log_every": 1, "hooks": (), **option})
    with pytest.raises(ValueError, match="at least 1"):
        run(1, chunk=1, log_every=1, hooks=(0,))


def test_next_stop():
    assert next_stop(0, 100, [7]) == 7
    assert next_stop(7, 100, [7]) == 14
    assert next_stop(13, 100, [7, 5]) == 14
    assert next_stop(14, 100, [7, 5]) == 15
    assert next_stop(98, 100, [7, 50]) == 100
    assert next_stop(95, 97, [7, 50]) == 97


@pytest.mark.parametrize("batch_size", [1, 4, 9, 10, 64])
def test_a_score_is_exact_for_any_batch_size(key, batch_size):
    random = np.random.default_rng(0)
    data = {
        "inputs": random.normal(size=(9, 2)).astype(np.float32),
        "targets": random.normal(size=(9, 1)).astype(np.float32),
    }
    metric = {"rmse": metrics.root_mean_squared_error()}
    learner = squared(optax.sgd(0.1), metrics=metric)
    state = learner.init(key, {"inputs": None})
    residuals = data["inputs"] @ np.array([[1.0], [-2.0]]) - data["targets"]
    found = score(learner, state, in_order(data, batch_size), metric)
    assert set(found) == {"loss", "rmse"}
    np.testing.assert_allclose(found["loss"], np.mean(residuals**2), rtol=1e-5)
    np.testing.assert_allclose(found["rmse"], np.sqrt(np.mean(residuals**2)), rtol=1e-5)


def test_fit_equals_a_plain_loop(key):
    learner, batch = squared(optax.sgd(0.05)), regression_batch()
    state = learner.init(key, batch)
    loop = learner.init(key, batch)
    for _ in range(10):
        loop, _ = learner.step(loop, batch)
    state = fit(learner, whole(batch), state, 10, chunk=5)
    np.testing.assert_allclose(state.params["w"], loop.params["w"], rtol=1e-5)
    assert state.step == loop.step == 10


def test_any_function_is_a_source_and_its_program_is_compiled_once(key, monkeypatch):
    compiled = []
    original = Trainer._compile

    def counted(self, function, *rest):
        compiled.append(function)
        return original(self, function, *rest)

    monkeypatch.setattr(Trainer, "_compile", counted)
    learner, batch = squared(optax.sgd(0.05)), regression_batch()

    def source(key, step):
        return batch

    expected = fit(learner, whole(batch), learner.init(key, batch), 10, chunk=5)
    state = fit(learner, source, learner.init(key, batch), 10, chunk=5)
    np.testing.assert_array_equal(state.params["w"], expected.params["w"])
    count = len(compiled)
    loss = score(learner, state, Batches(1, source))
    assert len(compiled) == count + 1
    again = fit(learner, source, jax.tree.map(jnp.copy, state), 20, chunk=5)
    assert score(learner, again, Batches(1, source))["loss"] < loss["loss"]
    assert len(compiled) == count + 1
    # Another number of rows is another program of the same Trainer.
    trainer = Trainer(learner)
    for rows in (3, 2):
        part = {name: array[:rows] for name, array in batch.items()}
        fit(trainer, whole(part), learner.init(key, batch), 5, chunk=5)
        assert score(trainer, state, Batches(1, whole(part))) == loss


def test_dispatches_are_as_long_as_asked_where_no_hook_wants_sums(key, monkeypatch):
    updates = []
    original = Trainer.train
    monkeypatch.setattr(
        Trainer, "train", lambda *given: updates.append(given[-1]) or original(*given)
    )
    learner, batch = squared(optax.sgd(0.05)), regression_batch()
    fit(learner, whole(batch), learner.init(key, batch), 500, chunk=300)
    assert updates == [300, 200]


def test_an_optimizer_that_goes_by_the_loss_is_given_it(key):
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, accumulation_size=1)
    learner, batch = squared(optax.chain(optax.sgd(0.0), plateau)), regression_batch()
    state = fit(learner, whole(batch), learner.init(key, batch), 6, chunk=3)
    assert float(state.opt_state[1].scale) < 1
    np.testing.assert_allclose(state.opt_state[1].best_value, 11.25 / 2, rtol=1e-6)


def test_a_gan_of_images_without_labels_trains_as_with_labels_of_zero(key):
    model = adversarial(
        from_linen(DenseGenerator((4,), image_shape=(2, 2, 1))),
        from_linen(DenseDiscriminator((4,))),
        optax.sgd(0.1),
        optax.sgd(0.1),
        latent_size=3,
    )
    batch = {"inputs": jax.random.uniform(key, (5, 2, 2, 1)), "mask": jnp.ones(5, bool)}
    labelled = {**batch, "targets": jnp.zeros(5, jnp.int32)}
    states = [fit(model, whole(b), model.init(key, b), 3) for b in (batch, labelled)]
    jax.tree.map(np.testing.assert_array_equal, states[0].params, states[1].params)
    assert model.evaluate(states[0], batch) == model.evaluate(states[1], labelled)


def test_a_loss_may_weigh_examples(key):
    weights = jnp.array([0.2, 0.1, 0.0])

    def weighted(outputs, batch):
        error = jnp.where(batch["mask"][:, None], outputs - batch["targets"], 0)
        return jnp.sum(weights[:, None] * error**2), jnp.sum(weights)

    batch = regression_batch()
    learner = supervised(linear_model(), weighted, optax.sgd(0.1))
    state, _ = learner.step(learner.init(key, batch), batch)
    # 2 (0.2 * -3 (1, 2) + 0.1 * 1.5 (0.5, -1)) / 0.3 = (-3.5, -9).
    np.testing.assert_allclose(state.params["w"][:, 0], [1.35, -1.1], rtol=1e-6)
    expected = (0.2 * 9 + 0.1 * 2.25) / 0.3
    found = score(learner, learner.init(key, batch), Batches(1, whole(batch)))
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-6)


def test_a_linen_module_is_given_the_options_that_it_names(key):
    plain = from_linen(nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(1)]))
    batch = {**noisy_data()}
    learner = supervised(plain, losses.squared_error, optax.adam(0.03))
    state = fit(learner, whole(batch), learner.init(key, batch), 60, chunk=20)
    assert score(learner, state, Batches(1, whole(batch)))["loss"] < 2


def test_predictions_may_be_trees_and_are_of_the_rows_that_are_scored(key):
    def draw(key, step):
        inputs = jax.random.normal(jax.random.fold_in(key, step), (3, 2))
        return {"inputs": inputs, "mask": jnp.ones(3, bool)}

    model = Model(
        lambda key, x: ({}, {}), lambda params, state, x, **_: ({"x": x, "n": x > 0}, state)
    )
    seen = {"sum": metrics.Metric(lambda y, batch: metrics.masked_sum(y["x"][:, 0], batch["mask"]))}

    def loss(outputs, batch):
        return metrics.masked_sum(outputs["x"][:, 0], batch["mask"])

    learner = supervised(model, loss, optax.sgd(0.1), seen)
    state, batches = learner.init(key, draw(key, 0)), Batches(2, draw)
    found = predict(learner, state, batches)
    assert found["x"].shape == (6, 2) and found["n"].dtype == bool
    np.testing.assert_array_equal(found["n"], found["x"] > 0)
    scored = score(learner, state, batches, seen)["sum"]
    np.testing.assert_allclose(found["x"][:, 0].mean(), scored, rtol=1e-5)
    mean = predict_mean(learner, [state, state], {"test": batches})["test"]
    np.testing.assert_allclose(mean["x"], found["x"], rtol=1e-6)
    np.testing.assert_array_equal(mean["n"], found["n"])


class Place(NamedTuple):
    key: jax.Array
    place: jax.Array


def test_the_mean_of_whole_numbers_need_not_be_one():
    classes = Learner(None, None, None, lambda state, inputs: inputs + state.place)
    parts = {"test": in_order({"inputs": np.arange(5)}, 2)}
    states = [Place(jax.random.key(0), jnp.int32(place)) for place in (0, 1)]
    assert predict(classes, states[1], parts["test"]).dtype == np.int32
    found = predict_mean(classes, states, parts)["test"]
    np.testing.assert_array_equal(found, [0.5, 1.5, 2.5, 3.5, 4.5, 4.5])
    with pytest.raises(ValueError, match="without examples"):
        predict(classes, states[0], in_order({"inputs": np.arange(5)}, 2, size=0))
