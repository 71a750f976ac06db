"""Networks of a few hundred weights, as files."""

from __future__ import annotations

from pathlib import Path

import torch

from napari_structseg.io.weights import save_weights
from napari_structseg.models import BackboneSpec, ClassSpec, HeadSpec, ModelSpec, build_network

CLASSES = (
    ClassSpec(name="Background", color="#000000"),
    ClassSpec(name="CSF", color="#4477aa"),
    ClassSpec(name="Grey matter", color="#228833"),
    ClassSpec(name="White matter", color="#ee6677"),
)


def tiny_model(path: Path, *, dimensions: int = 3, channels: int = 1, **fields) -> Path:
    """Write a model with random weights whose samples differ visibly."""
    spec = ModelSpec(
        name=path.stem,
        dimensions=dimensions,
        channels=tuple(f"sequence {number}" for number in range(1, channels + 1)),
        **{
            "patch": (16,) * dimensions,
            "backbone": BackboneSpec(widths=(4, 8), convolutions=(1, 1)),
            "head": HeadSpec(rank=3),
            "classes": CLASSES,
            **fields,
        },
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(spec)
        with torch.no_grad():
            for name, weight in network.head.named_parameters():
                if name.endswith("mean.weight"):
                    weight.mul_(2)
            if network.prior is not None:
                # Neither symmetric nor too weak to change a label.
                for parameter in network.prior.parameters():
                    parameter.copy_(torch.randn(parameter.shape) * 0.3)
    save_weights(path, network, spec)
    return path
