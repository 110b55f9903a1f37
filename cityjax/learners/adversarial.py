"""The learner of generator and discriminator pairs (Goodfellow et al. 2014)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from cityjax.learner import Batch, Learner, Model, State, Sums, judge_key, new_state, step_key
from cityjax.learners.supervised import gradients, sum_over
from cityjax.losses import AdversarialLoss, non_saturating
from cityjax.metrics import masked_sum, mean
from cityjax.ops import random

# What the noise of one step is drawn for; each folds into the step's key.
_LATENT, _GENERATOR, _REAL, _FAKE, _FOOLED, _INIT = range(6)


def adversarial(
    generator: Model,
    discriminator: Model,
    generator_optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    *,
    latent_size: int,
    loss: AdversarialLoss = non_saturating,
    gradient_penalty: float = 0.0,
) -> Learner:
    """Make a learner of a GAN: one discriminator and one generator update per batch.

    Both models take a tuple: generator `(latent [B, latent_size], labels [B])` -> examples like
    `batch["inputs"]`; discriminator `(examples, labels)` -> logits [B]. Labels are
    `batch["targets"]`, zeros where it has none; an unconditional model ignores them. The two
    updates alternate on the same fakes: the discriminator on fakes held fixed, then the generator
    through the discriminator just updated. `predict(state, labels, key=key)` samples one example
    per label; `evaluate` draws the same latent points for every batch.

    gradient_penalty: weight g of g/2 |grad_x D(x)|^2 on real examples (R1, Mescheder et al. 2018).
    """

    generator_optimizer = optax.with_extra_args_support(generator_optimizer)
    discriminator_optimizer = optax.with_extra_args_support(discriminator_optimizer)

    def labels_of(batch: Batch) -> jax.Array:
        if "targets" in batch:
            return batch["targets"]
        return jnp.zeros(batch["inputs"].shape[0], jnp.int32)

    def draw_latent(key: jax.Array, labels: jax.Array, axis_name: str | None) -> jax.Array:
        return random.normal(key, (labels.shape[0], latent_size), axis_name=axis_name)

    def init(key: jax.Array, batch: Batch) -> State:
        generator_key, discriminator_key, run_key = jax.random.split(key, 3)
        labels = labels_of(batch)
        latent = draw_latent(jax.random.fold_in(run_key, _INIT), labels, None)
        params, model_state, opt_state = {}, {}, {}
        for name, model, model_key, inputs, optimizer in (
            ("generator", generator, generator_key, latent, generator_optimizer),
            (
                "discriminator",
                discriminator,
                discriminator_key,
                batch["inputs"],
                discriminator_optimizer,
            ),
        ):
            params[name], model_state[name] = model.init(model_key, (inputs, labels))
            opt_state[name] = optimizer.init(params[name])
        return new_state(run_key, params, model_state, opt_state)

    def step(state: State, batch: Batch, *, axis_name: str | None = None) -> tuple[State, Sums]:
        key = step_key(state)
        real, labels, mask = batch["inputs"], labels_of(batch), batch["mask"]
        latent = draw_latent(jax.random.fold_in(key, _LATENT), labels, axis_name)

        def judge(params: Any, model_state: Any, examples: Any, noise: int) -> tuple[Any, Any]:
            return discriminator.apply(
                params,
                model_state,
                (examples, labels),
                key=jax.random.fold_in(key, noise),
                train=True,
                axis_name=axis_name,
            )

        def masked_mean(values: jax.Array) -> jax.Array:
            return mean(*sum_over(axis_name, masked_sum(values, mask)))

        def generate(params: Any) -> tuple[Any, Any]:
            return generator.apply(
                params,
                state.model_state["generator"],
                (latent, labels),
                key=jax.random.fold_in(key, _GENERATOR),
                train=True,
                axis_name=axis_name,
            )

        # The generator runs once: its fakes serve both updates, and `backward` takes the second
        # one's gradient from the fakes to the parameters.
        fakes, backward, generator_state = jax.vjp(
            generate, state.params["generator"], has_aux=True
        )

        def discriminator_objective(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
            real_logits, model_state = judge(
                params, state.model_state["discriminator"], real, _REAL
            )
            fake_logits, model_state = judge(params, model_state, fakes, _FAKE)
            values = loss.discriminator(real_logits, fake_logits)
            if gradient_penalty:
                slope = jax.grad(
                    lambda x: judge(params, state.model_state["discriminator"], x, _REAL)[0].sum()
                )(real)
                square = jnp.sum(jnp.square(slope), axis=tuple(range(1, slope.ndim)))
                penalised = values + gradient_penalty / 2 * square
            else:
                penalised = values
            return masked_mean(penalised), (model_state, (values, real_logits, fake_logits))

        (value, (model_state, (values, real_logits, fake_logits))), grads = gradients(
            discriminator_objective, state.params["discriminator"], axis_name
        )
        updates, discriminator_opt_state = discriminator_optimizer.update(
            grads, state.opt_state["discriminator"], state.params["discriminator"], value=value
        )
        discriminator_params = optax.apply_updates(state.params["discriminator"], updates)

        def generator_objective(fakes: Any) -> tuple[jax.Array, tuple[Any, Any]]:
            logits, changed = judge(discriminator_params, model_state, fakes, _FOOLED)
            values = loss.generator(logits)
            return masked_mean(values), (changed, values)

        (value, (model_state, generator_values)), slope = jax.value_and_grad(
            generator_objective, has_aux=True
        )(fakes)
        (grads,) = backward(slope)
        grads = grads if axis_name is None else jax.lax.pmean(grads, axis_name)
        updates, generator_opt_state = generator_optimizer.update(
            grads, state.opt_state["generator"], state.params["generator"], value=value
        )
        generator_params = optax.apply_updates(state.params["generator"], updates)

        state = state.replace(
            step=state.step + 1,
            params={"generator": generator_params, "discriminator": discriminator_params},
            model_state={"generator": generator_state, "discriminator": model_state},
            opt_state={
                "generator": generator_opt_state,
                "discriminator": discriminator_opt_state,
            },
        )
        sums = measure(values, generator_values, real_logits, fake_logits, mask)
        return state, sum_over(axis_name, sums)

    def measure(
        values: jax.Array,
        generator_values: jax.Array,
        real_logits: jax.Array,
        fake_logits: jax.Array,
        mask: jax.Array,
    ) -> Sums:
        right = ((real_logits > 0).astype(values.dtype) + (fake_logits <= 0)) / 2
        return {
            "discriminator_loss": masked_sum(values, mask),
            "generator_loss": masked_sum(generator_values, mask),
            "discriminator_accuracy": masked_sum(right, mask),
        }

    def evaluate(state: State, batch: Batch, *, axis_name: str | None = None) -> Sums:
        labels, mask = labels_of(batch), batch["mask"]
        latent = draw_latent(jax.random.fold_in(judge_key(state), _LATENT), labels, axis_name)
        fakes, _ = generator.apply(
            state.params["generator"], state.model_state["generator"], (latent, labels)
        )
        real_logits, fake_logits = (
            discriminator.apply(
                state.params["discriminator"],
                state.model_state["discriminator"],
                (examples, labels),
            )[0]
            for examples in (batch["inputs"], fakes)
        )
        values = loss.discriminator(real_logits, fake_logits)
        sums = measure(values, loss.generator(fake_logits), real_logits, fake_logits, mask)
        return sum_over(axis_name, sums)

    def predict(state: State, inputs: Any, *, key: jax.Array | None = None) -> Any:
        if key is None:
            raise ValueError("a GAN samples: predict(state, labels, key=jax.random.key(0))")
        latent = draw_latent(key, inputs, None)
        return generator.apply(
            state.params["generator"], state.model_state["generator"], (latent, inputs)
        )[0]

    return Learner(init, step, evaluate, predict)
