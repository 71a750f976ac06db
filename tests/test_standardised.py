"""Standardised convolutions against plain ones with the same kernels, and variances by layers."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.tiny_models import tiny_model
from torch import nn
from torch.nn import functional

from napari_structseg.io.weights import load_weights
from napari_structseg.models import BackboneSpec, HeadSpec, UNet
from napari_structseg.models.standardised import StandardisedConv, preserving_gain
from napari_structseg.models.unet import NEGATIVE_SLOPE

SPEC = BackboneSpec(widths=(4, 6), convolutions=(2, 1), norm="weight")


def trained(layer: StandardisedConv) -> StandardisedConv:
    """With a gain and a bias that differ from channel to channel."""
    with torch.no_grad():
        layer.gain.copy_(torch.linspace(0.5, 2, len(layer.gain)))
        layer.bias.copy_(torch.linspace(-1, 1, len(layer.bias)))
    return layer


@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_is_a_plain_convolution_with_standardised_weights(dimensions: int) -> None:
    torch.manual_seed(0)
    layer = trained(StandardisedConv(dimensions, 3, 5, 1.0)).double()
    x = torch.rand(2, 3, *[6, 5, 4][:dimensions], dtype=torch.float64)
    flat = layer.weight.detach().numpy().reshape(5, -1)
    standard = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)
    kernel = layer.gain.detach().numpy()[:, None] * standard / flat.shape[1] ** 0.5
    plain = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions](3, 5, 3, padding=1).double()
    with torch.no_grad():
        plain.weight.copy_(torch.from_numpy(kernel).reshape(plain.weight.shape))
        plain.bias.copy_(layer.bias)
    expected = plain(x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-7, atol=1e-7)
    with torch.inference_mode():
        torch.testing.assert_close(layer.eval()(x), expected, rtol=1e-7, atol=1e-7)


def test_gain_is_one_over_the_spread_of_leaky_relu() -> None:
    for slope in (0.0, 0.01, 0.3, 1.0):
        values = functional.leaky_relu(torch.randn(1_000_000, dtype=torch.float64), slope)
        assert preserving_gain(slope) == pytest.approx(1 / values.std().item(), rel=0.01)


def test_ten_layers_keep_the_variance() -> None:
    torch.manual_seed(0)
    gain = preserving_gain(NEGATIVE_SLOPE)
    x = torch.randn(1, 64, 48, 48)
    with torch.inference_mode():
        for _ in range(10):
            x = functional.leaky_relu(x, NEGATIVE_SLOPE)
            x = StandardisedConv(2, 64, 64, gain).eval()(x)
    # Away from the zeros beyond the edge. A gain that is a tenth too large would give 6.7.
    assert x[..., 11:-11, 11:-11].var(dim=(2, 3)).mean().item() == pytest.approx(1, abs=0.15)


def test_a_step_of_training_changes_what_is_folded() -> None:
    torch.manual_seed(0)
    layer = trained(StandardisedConv(2, 2, 3, 1.0))
    x = torch.rand(1, 2, 6, 6)

    def predicted() -> torch.Tensor:
        with torch.inference_mode():
            return layer(x)

    layer.eval()
    before = predicted()
    assert torch.equal(predicted(), before)
    layer.train()
    layer(x).square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    layer.eval()
    stepped = predicted()
    assert not torch.allclose(stepped, before)
    torch.testing.assert_close(stepped, layer(x).detach())
    # In evaluation mode all along, as weights that are loaded or moved.
    state = {name: one * 2 + 1 for name, one in layer.state_dict().items()}
    layer.load_state_dict(state)
    torch.testing.assert_close(predicted(), layer(x).detach())
    assert layer.double()(x.double()).dtype == torch.float64


def test_a_copy_is_independent() -> None:
    layer = trained(StandardisedConv(2, 2, 3, 1.0)).eval()
    x = torch.rand(1, 2, 6, 6)
    with torch.inference_mode():
        expected = layer(x)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.gain.mul_(3)
    with torch.inference_mode():
        assert torch.equal(layer(x), expected)
        assert not torch.allclose(other(x), expected)


def test_no_activation_is_normalised_and_brightness_is_seen() -> None:
    torch.manual_seed(0)
    network = UNet(2, 1, SPEC).eval()
    kinds = (nn.GroupNorm, nn.BatchNorm2d)
    assert not any(isinstance(module, kinds) for module in network.modules())
    n_standard = sum(isinstance(module, StandardisedConv) for module in network.modules())
    assert n_standard == 2 + 1 + 2 - 1
    with torch.inference_mode():
        levels = [network(torch.full((1, 1, 64, 64), level))[0, :, 32, 32] for level in (0.2, 0.8)]
    for one, other in pairwise(levels):
        assert (one - other).abs().max() > 0.05


@pytest.mark.parametrize("kind", ["low_rank", "latent", "hierarchical"])
def test_it_is_saved_and_loaded(tmp_path: Path, kind: str) -> None:
    head = HeadSpec(kind=kind, **({"latent_scales": 1} if kind == "hierarchical" else {}))
    path = tiny_model(tmp_path / "tiny.safetensors", dimensions=2, backbone=SPEC, head=head)
    network, spec = load_weights(path)
    assert spec.backbone.norm == "weight"
    gains = [one for name, one in network.state_dict().items() if name.endswith(".gain")]
    assert len(gains) >= 4
    x = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        folded = network(x)
    torch.testing.assert_close(folded.mean, network(x).mean.detach())
