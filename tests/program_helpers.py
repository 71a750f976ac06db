"""Programs of other origin, as files: TorchScript and torch.export, with settings beside them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_structseg.io.weights import load_weights
from napari_structseg.models import SegmentationNetwork


class MeanOnly(nn.Module):
    """One of our networks, that returns logits alone."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.network(x).mean
        return mean


class Normal(MeanOnly):
    """One of our networks, that returns mean, diagonal and factor."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.network(x)
        return found.mean, found.diagonal, found.factor


class Asymmetric(nn.Module):
    """Two layers whose answer depends on the order and the directions of the axes."""

    def __init__(self, dimensions: int = 3, n_classes: int = 3, *, channels: int = 1) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.first = convolution(channels, 4, 3, padding=1)
            self.second = convolution(4, n_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return 3 * self.second(self.first(x).relu())


def traced(network: nn.Module, path: Path, example: Tensor) -> Path:
    """Write a TorchScript program of a network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network.eval(), example, strict=False).save(str(path))
    return path


def own_as_program(model: Path, path: Path, wrapper: type[MeanOnly] = MeanOnly) -> Path:
    """Write a TorchScript program of one of our models."""
    network, spec = load_weights(model)
    example = torch.rand(1, len(spec.channels), *[16] * spec.dimensions)
    return traced(wrapper(network), path, example)


def settings_of(program: Path, **fields: object) -> Path:
    """Write settings beside a program; tables are dicts."""
    given: dict[str, object] = {
        "name": program.stem,
        "program": program.name,
        "dimensions": 3,
        "channels": ["T1"],
        "classes": ["background", "one", "two"],
        "patch": [8, 8, 8],
        "intensity": {"kind": "percentile", "low": 1.0, "high": 99.0},
        **fields,
    }
    path = program.with_suffix(".toml")
    path.write_text(toml(given))
    return path


def toml(fields: dict[str, object]) -> str:
    """Fields as TOML, tables last."""
    plain = [f"{k} = {_value(v)}" for k, v in fields.items() if not isinstance(v, dict)]
    for name, table in fields.items():
        if isinstance(table, dict):
            plain += [f"[{name}]", *(f"{k} = {_value(v)}" for k, v in table.items())]
    return "\n".join(plain) + "\n"


def _value(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        entries = [", ".join(f"{k} = {json.dumps(v)}" for k, v in one.items()) for one in value]
        return "[" + ", ".join(f"{{{entry}}}" for entry in entries) + "]"
    return json.dumps(value)
