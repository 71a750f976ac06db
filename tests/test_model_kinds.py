"""Networks of the Probabilistic U-Net and of its baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import FiniteSet, LatentDecoder, Noise
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights, save_weights
from napari_structseg.models import (
    BackboneSpec,
    ClassSpec,
    DropoutNetwork,
    EnsembleNetwork,
    HeadSpec,
    HierarchicalNetwork,
    ImageToImageVAE,
    LatentNetwork,
    ModelSpec,
    build_network,
)
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.render.rendering import Renderer

FINITE = ("heads", "ensemble", "dropout", "image2image_vae", "hierarchical")
KINDS = ("latent", *FINITE)
CLASSES = (ClassSpec(name="background", color="#000000"), ClassSpec(name="lesion", color="#ff0000"))
SIZES = {2: (13, 10), 3: (9, 8, 7)}


def make_spec(kind: str, dimensions: int = 2, **fields) -> ModelSpec:
    return ModelSpec(
        **{
            "name": "tiny",
            "dimensions": dimensions,
            "channels": ("T1",),
            "classes": CLASSES,
            "patch": (8,) * dimensions,
            "backbone": BackboneSpec(widths=(4, 6, 8), convolutions=(1, 1, 1), norm="batch"),
            "head": HeadSpec(kind=kind, latent_size=3, latent_scales=2, members=3),
            **fields,
        }
    )


def make_network(spec: ModelSpec):
    torch.manual_seed(0)
    return build_network(spec).eval()


def picture(dimensions: int = 2) -> Image:
    rng = np.random.default_rng(3)
    data = rng.uniform(1, 2, SIZES[dimensions]).astype(np.float32)
    return Image.from_array(data)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", FINITE)
def test_members_have_the_shape_of_the_image(kind: str, dimensions: int) -> None:
    network = make_network(make_spec(kind, dimensions))
    with torch.inference_mode():
        p = network(torch.rand(2, 1, *SIZES[dimensions]))
    assert p.members.shape == (2, 3, 2, *SIZES[dimensions])
    torch.testing.assert_close(p.members.exp().sum(dim=2), torch.ones(2, 3, *SIZES[dimensions]))
    torch.testing.assert_close(p.mean.exp(), p.members.exp().mean(dim=1))
    assert not torch.equal(p.members[:, 0], p.members[:, 1])
    assert torch.equal(p.flip([-1]).members, p.members.flip(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_repeats_itself(kind: str) -> None:
    network = make_network(make_spec(kind))
    x = torch.rand(1, 1, 8, 8)
    before = torch.random.get_rng_state()
    with torch.inference_mode():
        assert torch.equal(network(x).mean, network(x).mean)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_survive_their_file(kind: str, tmp_path: Path) -> None:
    spec = make_spec(kind, 3)
    network = make_network(spec)
    save_weights(tmp_path / "m.safetensors", network, spec)
    loaded, theirs = load_weights(tmp_path / "m.safetensors")
    assert theirs == spec
    assert type(loaded) is type(network)
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.inference_mode():
        assert torch.equal(loaded(x).mean, network(x).mean)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_prediction_in_one_piece_is_what_the_network_says(kind: str, dimensions: int) -> None:
    spec = make_spec(kind, dimensions, intensity={"kind": "window", "low": 0, "high": 2})
    network = make_network(spec)
    image = picture(dimensions)
    distribution = Predictor(network, spec, tile=SIZES[dimensions]).predict(image)
    with torch.inference_mode():
        p = network(torch.from_numpy(image.data / 2)[None])
    # What is stored in half precision is rounded.
    torch.testing.assert_close(distribution.mean(), p.mean[0], atol=5e-3, rtol=5e-3)
    if kind == "latent":
        assert isinstance(distribution, LatentDecoder)
    else:
        assert isinstance(distribution, FiniteSet)
        for sample in (1, 2, 3):
            noise = Noise(1, sample)
            logits = distribution.mean() + distribution.offset(noise)
            expected = p.members[0, noise.member(3)]
            torch.testing.assert_close(logits, expected, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_in_pieces_streams_to_the_same_picture(kind: str) -> None:
    spec = make_spec(kind)
    predictor = Predictor(make_network(spec), spec, tile=(8, 8))
    first = (slice(0, 13), slice(0, 10))
    steps = list(predictor.stream(picture(), first))
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].complete
    assert all(step.total == len(steps) for step in steps)
    renderer = Renderer(steps[-1].distribution)
    again = Renderer(predictor.predict(picture()))
    for sample in (0, 1, 2):
        shown = renderer.render_volume(Controls(sample=sample))
        assert (shown == again.render_volume(Controls(sample=sample))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_voxels_without_data_are_background_in_every_sample(kind: str) -> None:
    spec = make_spec(kind, zero_is_background=True)
    data = np.zeros((20, 20), np.float32)
    data[4:16, 5:15] = np.random.default_rng(0).uniform(1, 2, (12, 10))
    data[8:10, 8:10] = 0
    renderer = Renderer(Predictor(make_network(spec), spec).predict(Image.from_array(data)))
    for controls in (Controls(), Controls(sample=1), Controls(sample=2, temperature=3)):
        assert not renderer.render_volume(controls)[data == 0].any()


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_on_another_grid(kind: str) -> None:
    spec = make_spec(kind, spacing=(2.0, 2.0))
    image = Image.from_array(picture().data[0], spacing=(1.0, 1.0))
    distribution = Predictor(make_network(spec), spec).predict(image)
    assert distribution.spatial_shape == image.spatial_shape
    assert torch.isfinite(distribution.mean() + distribution.offset(Noise(1, 1))).all()


def test_latent_samples_are_those_of_concatenation() -> None:
    spec = make_spec("latent", intensity={"kind": "window", "low": 0, "high": 2})
    network = make_network(spec)
    image = picture()
    distribution = Predictor(network, spec, tile=SIZES[2]).predict(image)
    assert isinstance(distribution, LatentDecoder)
    head = network.head
    with torch.inference_mode():
        features = network.backbone(torch.from_numpy(image.data / 2)[None])
        z = distribution.latent(Noise(5, 1))
        tiled = z[None, :, None, None].expand(-1, -1, *image.spatial_shape)
        weight = torch.cat([head.first.weight, head.latent.weight[..., None, None]], dim=1)
        x = torch.conv2d(torch.cat([features, tiled], dim=1), weight, head.first.bias).relu()
        expected = head.mean(head.second(x).relu())[0]
    torch.testing.assert_close(distribution.decode(z), expected, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("norm", ["instance", "batch", "weight", "none"])
def test_posterior_net_is_not_run_in_prediction(norm: str) -> None:
    backbone = BackboneSpec(widths=(4, 6), convolutions=(1, 1), norm=norm)
    network = make_network(make_spec("latent", backbone=backbone))
    with torch.no_grad():
        for parameter in network.posterior_encoder.parameters():
            parameter.fill_(torch.nan)
    assert torch.isfinite(network(torch.rand(1, 1, 8, 8)).mean).all()


@pytest.mark.parametrize("kind", ["latent", "image2image_vae", "hierarchical"])
def test_every_parameter_learns_from_a_reconstruction(kind: str) -> None:
    network = make_network(make_spec(kind)).train()
    assert isinstance(network, LatentNetwork | ImageToImageVAE | HierarchicalNetwork)
    labels = torch.randint(0, 2, (2, 8, 8))
    decoded = network.reconstruct(torch.rand(2, 1, 8, 8), labels, torch.Generator().manual_seed(1))
    terms = (decoded.logits, *decoded.posterior, *decoded.prior)
    torch.stack([term.square().sum() for term in terms]).sum().backward()
    untouched = {name for name, w in network.named_parameters() if w.grad is None}
    assert untouched == set()


def test_posterior_of_the_image_to_image_vae_sees_the_segmentation_alone() -> None:
    network = make_network(make_spec("image2image_vae"))
    labels = torch.randint(0, 2, (1, 8, 8))
    posteriors = [
        network.reconstruct(torch.rand(1, 1, 8, 8), labels, torch.Generator()).posterior
        for _ in range(2)
    ]
    assert torch.equal(posteriors[0][0], posteriors[1][0])


def test_dropout_drops_the_stated_share_of_the_innermost_blocks() -> None:
    network = make_network(make_spec("dropout"))
    assert isinstance(network, DropoutNetwork)
    seen: list[float] = []

    def watch(x: torch.Tensor, _block: int) -> torch.Tensor:
        seen.append(float(x.numel()))
        return x

    network.backbone(torch.rand(1, 1, 8, 8), watch)
    # Three blocks on the way down, and both that there are on the way up.
    assert len(seen) == 5
    deep = make_network(
        make_spec(
            "dropout",
            backbone=BackboneSpec(widths=(2,) * 5, convolutions=(1,) * 5, norm="none"),
        )
    )
    seen.clear()
    deep.backbone(torch.rand(1, 1, 32, 32), watch)
    assert seen == [2 * 8 * 8, 2 * 4 * 4, 2 * 2 * 2, 2 * 4 * 4, 2 * 8 * 8, 2 * 16 * 16]


def test_members_of_an_ensemble_start_from_weights_of_their_own() -> None:
    network = make_network(make_spec("ensemble"))
    assert isinstance(network, EnsembleNetwork)
    first, second, third = (one.down[0][0].weight for one in network.backbone)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_head_without_a_choice_of_members_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        HeadSpec(kind="heads", members=1)
