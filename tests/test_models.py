from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from napari_structseg.models import (
    BackboneSpec,
    ClassSpec,
    HeadSpec,
    IntensitySpec,
    ModelSpec,
    SegmentationNetwork,
    UNet,
    build_network,
)
from napari_structseg.models.heads import StochasticHead

CLASSES = (ClassSpec(name="background", color="#000000"), ClassSpec(name="lesion", color="#ff0000"))


def make_spec(dimensions: int = 2, **fields) -> ModelSpec:
    return ModelSpec(
        **{
            "name": "tiny",
            "dimensions": dimensions,
            "channels": ("T1", "FLAIR"),
            "classes": CLASSES,
            "patch": (8,) * dimensions,
            "backbone": BackboneSpec(widths=(4, 6, 8), convolutions=(1, 1, 1)),
            "head": HeadSpec(rank=3),
            **fields,
        }
    )


@pytest.mark.parametrize("norm", ["instance", "batch", "weight", "none"])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 9), (3, 6, 5), (8, 4, 12)])
def test_parameters_have_the_shape_of_the_image(size: tuple[int, ...], norm: str) -> None:
    backbone = BackboneSpec(widths=(4, 6, 8), convolutions=(1, 2, 1), norm=norm)
    network = build_network(make_spec(len(size), backbone=backbone)).eval()
    with torch.inference_mode():
        p = network(torch.rand(2, 2, *size))
    assert p.mean.shape == (2, 2, *size)
    assert p.factor.shape == (2, 3, 2, *size)
    assert p.diagonal.shape == (2, 2, *size)
    assert (p.diagonal > 0).all()
    assert all(torch.isfinite(part).all() for part in (p.mean, p.factor, p.diagonal))


def test_padding_of_odd_sizes_repeats_the_border() -> None:
    network = build_network(make_spec(2)).eval()
    image = torch.rand(1, 2, 6, 7)
    padded = nn.functional.pad(image, (0, 1, 0, 2), mode="replicate")
    with torch.inference_mode():
        odd, even = network(image).mean, network(padded).mean
    assert torch.equal(odd, even[..., :6, :7])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_one_level_is_a_plain_convolutional_network(dimensions: int) -> None:
    backbone = BackboneSpec(widths=(4,), convolutions=(2,))
    network = build_network(make_spec(dimensions, backbone=backbone))
    assert network.backbone.stride == 1
    assert network(torch.rand(1, 2, *[5] * dimensions)).mean.shape[2:] == (5,) * dimensions


def test_point_head_gives_the_mean_alone() -> None:
    p = build_network(make_spec(head=HeadSpec(kind="point")))(torch.rand(1, 2, 8, 8))
    assert p.factor is None
    assert p.diagonal is None


def test_diagonal_only_has_no_factor() -> None:
    p = build_network(make_spec(head=HeadSpec(diagonal_only=True)))(torch.rand(1, 2, 8, 8))
    assert p.factor is None
    assert p.diagonal is not None


@pytest.mark.parametrize("dimensions", [2, 3])
def test_factor_is_rank_major(dimensions: int) -> None:
    # Channel r * C + c of the convolution is factor r of class c.
    head = StochasticHead(dimensions, 4, 2, rank=3)
    features = torch.rand(1, 4, *[3] * dimensions)
    p = head(features)
    flat = head.factor(features)
    for rank in range(3):
        for label in range(2):
            assert torch.equal(p.factor[0, rank, label], flat[0, rank * 2 + label])
    assert torch.equal(p.factor.flatten(1, 2), flat)


def test_new_head_has_a_small_spread() -> None:
    head = StochasticHead(2, 8, 2, rank=4, epsilon=1e-5)
    p = head(torch.randn(1, 8, 16, 16))
    torch.testing.assert_close(
        p.diagonal, torch.full_like(p.diagonal, 0.3678894412), rtol=1e-5, atol=0
    )
    assert p.factor.abs().max() < 1


def test_head_goes_on_any_backbone() -> None:
    backbone = nn.Sequential(nn.Conv2d(1, 5, 5, padding=2), nn.ReLU(), nn.Conv2d(5, 7, 1))
    network = SegmentationNetwork(backbone, StochasticHead(2, 7, 3, rank=2))
    p = network(torch.rand(2, 1, 9, 11))
    assert p.factor.shape == (2, 2, 3, 9, 11)
    (p.mean.sum() + p.factor.sum() + p.diagonal.sum()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_every_parameter_learns() -> None:
    network = build_network(make_spec(3))
    p = network(torch.rand(1, 2, 8, 8, 8))
    (p.mean.square().sum() + p.factor.square().sum() + p.diagonal.sum()).backward()
    # Their gradient is 0 at the start, since the weights of the diagonal start at 0.
    untouched = {name for name, w in network.named_parameters() if w.grad is None}
    assert untouched == set()


def test_the_same_seed_gives_the_same_network() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_network(make_spec()).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_unet_counts_its_features() -> None:
    unet = UNet(2, 1, BackboneSpec(widths=(4, 8), convolutions=(1, 1)))
    assert unet(torch.rand(1, 1, 6, 6)).shape == (1, unet.n_features, 6, 6)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"patch": (8, 8, 8)}, "needs 2 sizes"),
        ({"spacing": (1.0,)}, "needs 2 values"),
        ({"classes": (CLASSES[0], CLASSES[0])}, "class names must differ"),
        ({"classes": CLASSES[:1]}, "at least 2 items"),
        ({"channels": ()}, "at least 1 item"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"format_version": 2}, "Input should be 1"),
    ],
)
def test_specification_that_contradicts_itself_is_refused(fields, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        make_spec(**fields)


def test_levels_and_convolutions_must_agree() -> None:
    with pytest.raises(ValidationError, match="one number of convolutions per level"):
        BackboneSpec(widths=(4, 8), convolutions=(1, 1, 1))


def test_intensity_window_must_be_ordered() -> None:
    with pytest.raises(ValidationError, match=r"low \(5.0\) must be below high \(1.0\)"):
        IntensitySpec(kind="window", low=5, high=1)


def test_specification_survives_json() -> None:
    spec = make_spec(3, spacing=(1.0, 0.5, 0.5), intensity=IntensitySpec(kind="zscore"))
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
