"""A network that is stopped in the middle of a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_structseg.errors import Cancelled
from napari_structseg.io.weights import load_weights
from napari_structseg.prediction.stopping import stopping
from tiny_models import tiny_model


def test_no_layer_runs_once_it_is_cancelled(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    patch = torch.zeros(1, len(spec.channels), *spec.patch)
    done: list[str] = []
    layers = [(n, m) for n, m in network.named_modules() if not any(m.children())]
    hooks = [
        module.register_forward_hook(lambda *_, name=name: done.append(name))
        for name, module in layers
    ]
    with (
        torch.inference_mode(),
        stopping(network, lambda: len(done) == 3),
        pytest.raises(Cancelled),
    ):
        network(patch)
    assert len(done) == 3
    # Afterwards it is as before.
    with torch.inference_mode():
        network(patch)
    assert len(done) > 6
    for hook in hooks:
        hook.remove()


def test_what_is_not_cancelled_gives_what_it_would(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    patch = torch.rand(1, len(spec.channels), *spec.patch)
    with torch.inference_mode():
        expected = network(patch).mean
        with stopping(network, lambda: False):
            assert torch.equal(network(patch).mean, expected)
