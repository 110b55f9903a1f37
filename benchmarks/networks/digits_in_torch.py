"""cnn_mnist in PyTorch, written the plain way; prints the test error at every evaluation.

Run: python -m benchmarks.networks.digits_in_torch SETTINGS     (JSON: the keys of cnn_mnist, and
"folder" with the idx files and "channels_last")
"""

import gzip
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cityjax.process import keep_freed_memory

CLASSES, VALIDATION, EVALUATED = 10, 5_000, 1_000


def network(channels: list[int], hidden_sizes: list[int], dropout: float) -> nn.Sequential:
    """Return blocks of convolution, max-pool, batch norm and ReLU, then dense layers."""
    layers: list[nn.Module] = []
    inputs, side = 1, 28
    for size in channels:
        convolution = nn.Conv2d(inputs, size, 3, padding=1, bias=False)
        layers += [convolution, nn.MaxPool2d(2), nn.BatchNorm2d(size), nn.ReLU()]
        inputs, side = size, side // 2
    layers.append(nn.Flatten())
    inputs *= side**2
    for size in hidden_sizes:
        dense = nn.Linear(inputs, size, bias=False)
        layers += [dense, nn.BatchNorm1d(size), nn.ReLU(), nn.Dropout(dropout)]
        inputs = size
    layers.append(nn.Linear(inputs, CLASSES))
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):  # as Flax begins
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def read(folder: Path, prefix: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images uint8 [N, 1, 28, 28] and labels int64 [N]."""
    images = gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return (
        torch.from_numpy(pixels.copy()),
        torch.from_numpy(np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)),
    )


def train(settings: dict[str, Any]) -> Iterator[tuple[int, float]]:
    """Train as cnn_mnist does; yield (step, test error) at every evaluation."""
    torch.manual_seed(settings["seed"])
    folder, batch_size = Path(settings["folder"]), settings["batch_size"]
    images, labels = (part[:-VALIDATION] for part in read(folder, "train"))
    test_images, test_labels = read(folder, "t10k")
    order = torch.channels_last if settings["channels_last"] else torch.contiguous_format
    model = network(settings["channels"], settings["hidden_sizes"], settings["dropout"])
    model = model.to(memory_format=order)
    optimizer = torch.optim.Adam(model.parameters(), settings["learning_rate"], fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / settings["steps"]))
    )

    def inputs(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() / 255).contiguous(memory_format=order)

    rows = torch.randperm(len(images))
    for step in range(1, settings["steps"] + 1):
        if len(rows) < batch_size:
            rows = torch.cat([rows, torch.randperm(len(images))])
        batch, rows = rows[:batch_size], rows[batch_size:]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs(images[batch])), labels[batch]).backward()
        optimizer.step()
        schedule.step()
        if step % settings["eval_every"] == 0:
            model.eval()
            with torch.inference_mode():
                parts = [model(inputs(part)) for part in test_images.split(EVALUATED)]
            model.train()
            wrong = torch.cat(parts).argmax(dim=1) != test_labels
            yield step, wrong.float().mean().item()


if __name__ == "__main__":
    keep_freed_memory()  # as cityjax's command line does; PyTorch is the faster for it, too
    for step, error in train(json.loads(sys.argv[1])):
        print(f"  {step:>7} validation  error {error:.4g}", flush=True)
