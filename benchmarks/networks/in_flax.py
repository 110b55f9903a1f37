"""The networks in plain Flax, as its documentation writes such ones."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks.networks.shared import CITY_HIDDEN, CLASSES, HIDDEN, HORIZON, STEPS_PER_DAY
from cityjax.models.gan import centred, leaky_relu


class PlainMLP(nn.Module):
    """`models.mlp.MLP`."""

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):  # noqa: D102
        x = nn.relu(nn.Dense(HIDDEN)(x.reshape(x.shape[0], -1)))
        return nn.Dense(CLASSES)(x)


class PlainCNN(nn.Module):
    """`models.cnn.CNN` as Flax's documentation writes one."""

    channels: tuple[int, ...]
    hidden_sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):  # noqa: D102
        for channels in self.channels:
            x = nn.max_pool(nn.relu(nn.Conv(channels, (3, 3))(x)), (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = nn.relu(nn.Dense(size)(x))
        return nn.Dense(CLASSES)(x)


class PlainRNN(nn.Module):
    """`models.rnn.RNN` with Flax's own cells."""

    cell: type[nn.RNNCellBase]

    @nn.compact
    def __call__(self, x, *, train=False, axis_name=None):  # noqa: D102
        x = nn.RNN(self.cell(HIDDEN, name="cell"))(x[..., 0])
        return nn.Dense(CLASSES)(x[:, -1])


class PlainGenerator(nn.Module):
    """`models.gan.ConvGenerator` with Flax's own transposed convolution."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):  # noqa: D102
        x = nn.Dense(7 * 7 * 128)(inputs[0]).reshape(-1, 7, 7, 128)
        for channels in (64, 1):
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            x = nn.ConvTranspose(channels, (4, 4), (2, 2), use_bias=False)(x)
        return nn.sigmoid(x + self.param("bias", nn.initializers.zeros, ()))


class PlainDiscriminator(nn.Module):
    """`models.gan.ConvDiscriminator` with Flax's own convolution."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):  # noqa: D102
        x = centred(inputs[0])
        for channels in (64, 128):
            x = leaky_relu(nn.Conv(channels, (4, 4), (2, 2))(x))
        return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]


class PlainDenseGenerator(nn.Module):
    """`models.gan.DenseGenerator`."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):  # noqa: D102
        x = leaky_relu(nn.Dense(HIDDEN)(inputs[0]))
        return nn.sigmoid(nn.Dense(784)(x)).reshape(-1, 28, 28, 1)


class PlainDenseDiscriminator(nn.Module):
    """`models.gan.DenseDiscriminator`."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):  # noqa: D102
        x = centred(inputs[0])
        x = leaky_relu(nn.Dense(HIDDEN)(x.reshape(x.shape[0], -1)))
        return nn.Dense(1)(x)[:, 0]


class PlainTGCN(nn.Module):
    """`forecasters.tgcn.TGCN` of windows without covariates: windows first, one product a gate."""

    graph: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):  # noqa: D102
        batch, steps, sensors = inputs["observed"].shape
        clock = inputs["clock"][:, :steps]
        angle = 2 * jnp.pi * clock[..., :1] / STEPS_PER_DAY
        weekday = self.param("weekday", nn.initializers.zeros, (7, 4))[clock[..., 1]]
        when = jnp.concatenate([jnp.sin(angle), jnp.cos(angle), weekday], axis=-1)
        when = jnp.broadcast_to(when[:, :, None], (batch, steps, sensors, when.shape[-1]))
        x = jnp.concatenate([inputs["history"], inputs["observed"][..., None], when], axis=-1)
        gates = self._weights("gates", x.shape[-1], 2 * CITY_HIDDEN)
        candidate = self._weights("candidate", x.shape[-1], CITY_HIDDEN)

        def convolution(x, h, weights):
            return (
                self.graph(jnp.concatenate([x, h], axis=-1)) @ weights[0] + weights[1][None, None]
            )

        def step(h, x):
            reset, update = jnp.split(nn.sigmoid(convolution(x, h, gates)), 2, axis=-1)
            return update * h + (1 - update) * jnp.tanh(convolution(x, reset * h, candidate)), None

        h = jnp.zeros((batch, sensors, CITY_HIDDEN))
        h, _ = jax.lax.scan(step, h, jnp.moveaxis(x, 1, 0))
        return jnp.swapaxes(PlainHead(name="head")(h), 1, 2)

    def _weights(self, name, width, outputs):
        shape = (width + CITY_HIDDEN, outputs)
        kernel = self.param(f"{name}_kernel", nn.initializers.xavier_uniform(), shape)
        return kernel, self.param(f"{name}_bias", nn.initializers.ones, (outputs,))


class PlainHead(nn.Module):
    """A dense layer, under the name that `models.forecasting.Head` gives it."""

    @nn.compact
    def __call__(self, x):  # noqa: D102
        return nn.Dense(HORIZON)(x)


class PlainSTID(nn.Module):
    """`forecasters.stid.STID` of windows without covariates, layer after layer."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):  # noqa: D102
        observed = inputs["observed"]
        batch, steps, sensors = observed.shape
        age = jnp.argmax(observed[:, ::-1], axis=1)[..., None] / steps  # of the last value
        x = nn.Dense(CITY_HIDDEN, name="history")(jnp.swapaxes(inputs["history"][..., 0], 1, 2))
        parts = [x + nn.Dense(CITY_HIDDEN, use_bias=False, name="age")(age)]
        normal = nn.initializers.xavier_uniform()
        parts.append(self.param("sensor_identities", normal, (sensors, CITY_HIDDEN))[None])
        for place, (period, size) in enumerate({"day": STEPS_PER_DAY, "week": 7}.items()):
            table = self.param(f"{period}_identities", normal, (size, CITY_HIDDEN))
            parts.append(table[inputs["clock"][:, steps - 1, place]][:, None])
        z = jnp.concatenate(
            [jnp.broadcast_to(part, (batch, sensors, CITY_HIDDEN)) for part in parts], axis=-1
        )
        for _ in range(3):
            x = nn.relu(nn.Dense(z.shape[-1])(z))
            z = z + nn.Dense(z.shape[-1])(x)
        return jnp.swapaxes(nn.Dense(HORIZON, name="head")(z), 1, 2)
