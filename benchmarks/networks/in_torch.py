"""The same networks in PyTorch, written the plain way."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.networks.shared import (
    CITY_HIDDEN,
    DIGITS,
    FORECASTERS,
    GANS,
    HIDDEN,
    LATENT,
    LEARNING_RATE,
    SENSORS,
    STEPS,
    STEPS_PER_DAY,
    WINDOWS,
    city,
    images,
    weights,
)

Train = Callable[[int], list[float]]  # so many updates -> the last one's losses
Held = dict[str, nn.Parameter]


MODES = {"compile": "default", "cuda_graphs": "reduce-overhead"}  # of torch.compile


def torch_side(name: str, sent: dict[str, Any], variant: str, device: str) -> Train:
    """Return what trains.

    sent: of `jax_side`. variant: "eager", "channels_last" (images and kernels), "compile" or, on
    a GPU, "cuda_graphs". device: "cpu" or "gpu".
    """
    if device == "gpu":
        torch.set_default_device("cuda")
        torch.set_float32_matmul_precision("high")  # TF32, as JAX's default is there
        torch.backends.cudnn.benchmark = variant not in MODES  # whose layouts it breaks
    last = variant == "channels_last"
    held = {path: _parameter(path, array, last) for path, array in _arrays(name, sent)}
    if name in GANS:
        return _gan(name, held, torch.tensor(sent["latent"]), variant)
    if name in FORECASTERS:
        loss = _forecaster(name, held)
    else:
        loss = _classifier(name, held, last)
    optimizer = torch.optim.Adam(held.values(), LEARNING_RATE, fused=True)
    loss = torch.compile(loss, mode=MODES[variant]) if variant in MODES else loss

    def step() -> list[Any]:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return [value]

    return _repeated(step)


def _repeated(step: Callable[[], list[Any]]) -> Train:
    def train(updates: int) -> list[float]:
        for _ in range(updates - 1):
            step()
        return [value.item() for value in step()]

    return train


def _arrays(name: str, sent: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    """Return the weights in PyTorch's layouts.

    Of a dense layer [out, in], of a convolution [out, in, H, W], of a transposed one, which turns
    its kernel round, [in, out, H, W]; and rows or columns in the order of [C, H, W] where a dense
    layer reads an image or makes one.
    """
    found = []
    for path, array in weights({k: tuple(v) for k, v in sent["shapes"].items()}).items():
        if path.endswith("kernel") and array.ndim == 4 and "ConvTranspose" in path:
            array = array[::-1, ::-1].transpose(2, 3, 0, 1)
        elif path.endswith("kernel") and array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif path.endswith("kernel") and name not in FORECASTERS:
            if name in ("article_cnn", "lenet", "dcgan") and len(array) > LATENT * 10:
                side = 14 if name == "article_cnn" else 7
                array = array.reshape(side, side, -1, array.shape[1]).transpose(2, 0, 1, 3)
                array = array.reshape(-1, array.shape[-1])
            elif name == "dcgan":
                array = array.reshape(LATENT, 7, 7, -1).transpose(0, 3, 1, 2).reshape(LATENT, -1)
            array = array.T
        elif path == "generator/Dense_0/bias" and name == "dcgan":
            array = array.reshape(7, 7, -1).transpose(2, 0, 1).reshape(-1)
        found.append((path, np.ascontiguousarray(array)))
    return found


def _parameter(path: str, array: np.ndarray, channels_last: bool) -> nn.Parameter:
    tensor = torch.tensor(array)
    if channels_last and tensor.ndim == 4:
        tensor = tensor.to(memory_format=torch.channels_last)
    return nn.Parameter(tensor)


def _affine(held: Held, path: str, x: Any) -> Any:
    return functional.linear(x, held[f"{path}/kernel"], held[f"{path}/bias"])


def _classifier(name: str, held: Held, channels_last: bool) -> Callable[[], Any]:
    batch = images()
    inputs = torch.tensor(batch["inputs"]).permute(0, 3, 1, 2).contiguous()
    if channels_last:
        inputs = inputs.to(memory_format=torch.channels_last)
    targets = torch.tensor(batch["targets"]).long()
    convolutions = {"article_cnn": 1, "lenet": 2}.get(name, 0)
    network = None
    if name in ("gru", "lstm"):
        network = (nn.GRU if name == "gru" else nn.LSTM)(28, HIDDEN, batch_first=True)
        own = {
            "weight_ih_l0": held.pop("Recurrent_0/input/kernel").detach(),
            "bias_ih_l0": held.pop("Recurrent_0/input/bias").detach(),
            "weight_hh_l0": held.pop("Recurrent_0/recurrent_kernel").detach(),
            "bias_hh_l0": held.pop("Recurrent_0/recurrent_bias").detach(),
        }
        network.load_state_dict(own)
        held |= dict(network.named_parameters())

    def logits() -> Any:
        if network is not None:
            return _affine(held, "Dense_0", network(inputs[:, 0])[0][:, -1])
        x = inputs
        for layer in range(convolutions):
            kernel, bias = held[f"Conv_{layer}/kernel"], held[f"Conv_{layer}/bias"]
            # Pooled first, as cityjax does: the same, with a quarter of the ReLU.
            x = torch.relu(functional.max_pool2d(functional.conv2d(x, kernel, bias, 1, 1), 2))
        x = x.flatten(1)
        layers = sum(path.startswith("Dense") for path in held) // 2
        for layer in range(layers - 1):
            x = torch.relu(_affine(held, f"Dense_{layer}", x))
        return _affine(held, f"Dense_{layers - 1}", x)

    return lambda: functional.cross_entropy(logits(), targets)


def _gan(name: str, held: Held, latent: Any, variant: str) -> Train:
    real = torch.tensor(images()["inputs"]).permute(0, 3, 1, 2).contiguous()
    if variant == "channels_last":
        real = real.to(memory_format=torch.channels_last)
    halves = {
        half: {k.removeprefix(f"{half}/"): v for k, v in held.items() if k.startswith(half)}
        for half in ("generator", "discriminator")
    }
    make, judge = halves["generator"], halves["discriminator"]
    running = {k: torch.zeros_like(v) for k, v in make.items() if k.endswith("scale")}

    def normalised(path: str, x: Any) -> Any:
        mean = running[f"{path}/scale"]
        scale, bias = make[f"{path}/scale"], make[f"{path}/bias"]
        return functional.batch_norm(x, mean, torch.ones_like(mean), scale, bias, True, 0.1)

    def generate(z: Any) -> Any:
        if name == "gan":
            x = functional.leaky_relu(_affine(make, "Dense_0", z), 0.2)
            return torch.sigmoid(_affine(make, "Dense_1", x)).reshape(-1, 1, 28, 28)
        x = _affine(make, "Dense_0", z).reshape(-1, 128, 7, 7)
        if variant == "channels_last":
            x = x.to(memory_format=torch.channels_last)
        for layer in range(2):
            x = torch.relu(normalised(f"BatchNorm_{layer}", x))
            x = functional.conv_transpose2d(x, make[f"ConvTranspose_{layer}/kernel"], None, 2, 1)
        return torch.sigmoid(x + make["bias"])

    def logits(x: Any) -> Any:
        x = 2 * x - 1
        if name == "dcgan":
            for layer in range(2):
                kernel, bias = judge[f"Conv_{layer}/kernel"], judge[f"Conv_{layer}/bias"]
                x = functional.leaky_relu(functional.conv2d(x, kernel, bias, 2, 1), 0.2)
            return _affine(judge, "Dense_0", x.flatten(1))[:, 0]
        x = functional.leaky_relu(_affine(judge, "Dense_0", x.flatten(1)), 0.2)
        return _affine(judge, "Dense_1", x)[:, 0]

    def discriminator_loss(fakes: Any) -> Any:
        return (functional.softplus(-logits(real)) + functional.softplus(logits(fakes))).mean()

    def generator_loss(fakes: Any) -> Any:
        return functional.softplus(-logits(fakes)).mean()

    if variant in MODES:
        generate, discriminator_loss, generator_loss = (
            torch.compile(function, mode=MODES[variant])
            for function in (generate, discriminator_loss, generator_loss)
        )
    optimizers = {
        half: torch.optim.Adam(own.values(), LEARNING_RATE, (0.5, 0.999), fused=True)
        for half, own in halves.items()
    }
    first = [latent]

    def step() -> list[Any]:
        fakes = generate(first.pop() if first else torch.randn(DIGITS, LATENT))
        optimizers["discriminator"].zero_grad()
        value = discriminator_loss(fakes.detach())
        value.backward()
        optimizers["discriminator"].step()
        optimizers["generator"].zero_grad()
        # What flows into the discriminator on the way is of no use: it is not asked for.
        for parameter in judge.values():
            parameter.requires_grad_(False)
        other = generator_loss(fakes)
        other.backward()
        for parameter in judge.values():
            parameter.requires_grad_(True)
        optimizers["generator"].step()
        return [value, other]

    return _repeated(step)


def _forecaster(name: str, held: Held) -> Callable[[], Any]:
    batch, graph = city()
    history = torch.tensor(batch["inputs"]["history"])
    observed = torch.tensor(batch["inputs"]["observed"])[..., None]
    clock = torch.tensor(batch["inputs"]["clock"]).long()
    goal, adjacency = torch.tensor(batch["targets"]), torch.tensor(graph)

    def dense(path: str, x: Any, separator: str = "/") -> Any:
        return functional.linear(
            x, held[f"{path}{separator}kernel"].T, held[f"{path}{separator}bias"]
        )

    def tgcn() -> Any:
        seen = clock[:, :STEPS]
        angle = 2 * torch.pi * seen[..., :1] / STEPS_PER_DAY
        when = torch.cat([angle.sin(), angle.cos(), held["weekday"][seen[..., 1]]], dim=-1)
        when = when[:, :, None].expand(-1, -1, SENSORS, -1)
        x = torch.cat([history, observed.float(), when], dim=-1)
        h = torch.zeros(WINDOWS, SENSORS, CITY_HIDDEN)
        for t in range(STEPS):
            both = adjacency @ torch.cat([x[:, t], h], dim=-1)
            reset, update = torch.sigmoid(dense("gates", both, "_")).chunk(2, dim=-1)
            both = adjacency @ torch.cat([x[:, t], reset * h], dim=-1)
            h = update * h + (1 - update) * torch.tanh(dense("candidate", both, "_"))
        return dense("head/Dense_0", h).transpose(1, 2)

    def stid() -> Any:
        age = observed[..., 0].flip(1).int().argmax(dim=1)[..., None] / STEPS  # of the last value
        x = dense("history", history[..., 0].transpose(1, 2)) + age @ held["age/kernel"]
        now = clock[:, STEPS - 1]
        parts = [x, held["sensor_identities"][None].expand(WINDOWS, -1, -1)]
        for i, period in enumerate(("day", "week")):
            rows = held[f"{period}_identities"][now[:, i]]
            parts.append(rows[:, None].expand(-1, SENSORS, -1))
        z = torch.cat(parts, dim=-1)
        for layer in (0, 2, 4):
            z = z + dense(f"Dense_{layer + 1}", torch.relu(dense(f"Dense_{layer}", z)))
        return dense("head", z).transpose(1, 2)

    forward = {"tgcn": tgcn, "stid": stid}[name]
    return lambda: functional.mse_loss(forward(), goal)
