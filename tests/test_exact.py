"""What a network says in pieces, against one pass of torch over the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from napari_structseg.distributions import Noise
from napari_structseg.image import Image
from napari_structseg.io.model_files import shipped_models
from napari_structseg.io.weights import load_weights
from napari_structseg.models import (
    BackboneSpec,
    HeadSpec,
    IntensitySpec,
    LogitParameters,
    ModelSpec,
    SegmentationNetwork,
    build_network,
    head_kinds,
)
from napari_structseg.models.folded import pooled_by_two
from napari_structseg.prediction.field import MARGIN, make_field
from napari_structseg.prediction.levels import enlarged
from napari_structseg.prediction.one_pass import OnePass
from napari_structseg.prediction.pieces import cut, flipped, grown, within
from napari_structseg.prediction.precision import TYPES, resolve_precision
from napari_structseg.prediction.predictor import Predictor
from tiny_models import CLASSES, tiny_model

NORMS = ["instance", "batch", "weight", "none"]
SHAPES = {2: (24, 20), 3: (16, 12, 20)}
WINDOW = IntensitySpec(kind="window", low=0, high=1)
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def make_network(
    kind: str, norm: str, dimensions: int, widths: tuple[int, ...] = (4, 6, 8), scales: int = 1
) -> SegmentationNetwork:
    """With statistics, gains and biases as after training."""
    head = HeadSpec(kind=kind, rank=2, members=2, latent_size=2, latent_scales=scales)
    spec = ModelSpec(
        name="tiny",
        dimensions=dimensions,
        channels=("first", "second"),
        classes=CLASSES,
        patch=(8,) * dimensions,
        backbone=BackboneSpec(widths=widths, convolutions=(2,) * len(widths), norm=norm),
        head=head,
    )
    torch.manual_seed(3)
    network = build_network(spec).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand(parameter.shape) * 0.3)
    return network


def in_pieces(
    network: SegmentationNetwork,
    x: Tensor,
    size: Sequence[int],
    *,
    keeps: bool = True,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """All parameters of an image, put together from pieces of another size than those kept."""
    passes: list[OnePass] = []
    found: dict[str, Tensor] = {}
    with torch.inference_mode():
        for one in network.passes():
            descent = passes[-1].descent if passes and one.shares_descent else None
            passes.append(OnePass(one, x, size, keeps=keeps, dtype=dtype, descent=descent))
        for evaluated in passes:
            assert len(list(evaluated.prepare())) == evaluated.n_steps
        for piece in cut(x.shape[1:], size):
            for name, part in given_parts(network.joined([one(piece) for one in passes])).items():
                whole = found.setdefault(
                    name, torch.full((*part.shape[: -len(piece)], *x.shape[1:]), torch.nan)
                )
                whole[(..., *piece)] = part
    return found


def given_parts(parameters: LogitParameters) -> dict[str, Tensor]:
    names = ("mean", "factor", "diagonal", "members", "first")
    parts = {name: getattr(parameters, name) for name in names}
    return {name: part for name, part in parts.items() if part is not None and part.numel()}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", head_kinds())
def test_pieces_are_one_pass_for_every_head_and_norm(kind: str, norm: str, dimensions: int) -> None:
    network = make_network(kind, norm, dimensions)
    x = torch.rand(2, *SHAPES[dimensions])
    with torch.inference_mode():
        expected = given_parts(network(x[None]))
    if kind == "latent":
        # The mean is decoded with the prior of the whole image, elsewhere.
        del expected["mean"]
    for size in ((5, 8, 7)[:dimensions], (64,) * dimensions):
        found = in_pieces(network, x, size)
        assert found.keys() == expected.keys()
        for name, part in found.items():
            torch.testing.assert_close(part, expected[name], **CLOSE)


@pytest.mark.parametrize("kind", ["low_rank", "dropout", "image2image_vae"])
@pytest.mark.parametrize("widths", [(4,), (4, 5), (3, 4, 5, 6)])
def test_any_depth_with_or_without_kept_features(widths: tuple[int, ...], kind: str) -> None:
    network = make_network(kind, "weight", 2, widths)
    x = torch.rand(2, 40, 16)
    with torch.inference_mode():
        expected = network(x[None]).mean
    for keeps in (True, False):
        for size in ((1, 16), (13, 6)):
            found = in_pieces(network, x, size, keeps=keeps)["mean"]
            torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_latents_of_any_level(scales: int) -> None:
    network = make_network("hierarchical", "weight", 2, (3, 4, 5, 6), scales)
    x = torch.rand(2, 40, 24)
    with torch.inference_mode():
        expected = network(x[None]).members
    torch.testing.assert_close(in_pieces(network, x, (11, 8))["members"], expected, **CLOSE)


def test_an_image_that_is_mostly_zeros() -> None:
    network = make_network("low_rank", "weight", 2, (4, 5, 6))
    x = torch.zeros(2, 64, 56)
    x[:, 30:41, 9:20] = torch.rand(2, 11, 11)
    with torch.inference_mode():
        expected = network(x[None]).mean
    torch.testing.assert_close(in_pieces(network, x, (8, 8))["mean"], expected, **CLOSE)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_pooling_is_that_of_torch(dimensions: int) -> None:
    x = torch.rand(2, 3, *[6, 4, 8][:dimensions])
    pool = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[dimensions]
    torch.testing.assert_close(pooled_by_two(x), pool(x, 2))


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_says_the_same_whatever_the_pieces(name: str) -> None:
    network, spec = load_weights(shipped_models()[name])
    rng = np.random.default_rng(1)
    shape = (20, 12, 16) if spec.dimensions == 3 else (90, 70)
    data = rng.uniform(20, 250, shape).astype(np.float32)
    data[:6] = 0
    image = Image.from_array(data)
    one, two = (
        Predictor(network, spec, tile=(side,) * spec.dimensions).predict(image)
        for side in (256, 17)
    )
    torch.testing.assert_close(one.mean(), two.mean(), rtol=1e-3, atol=2e-3)
    noise = Noise(1, 1)
    torch.testing.assert_close(one.offset(noise), two.offset(noise), rtol=2e-3, atol=5e-3)
    assert one.offset(noise).std() > 0.01


@pytest.mark.parametrize("norm", NORMS)
def test_zeros_around_an_image_without_data_there_change_nothing(tmp_path: Path, norm: str) -> None:
    backbone = BackboneSpec(widths=(4, 6, 8), convolutions=(1, 1, 1), norm=norm)
    path = tiny_model(tmp_path / "m.safetensors", backbone=backbone, zero_is_background=True)
    predictor = Predictor(*load_weights(path))
    data = np.random.default_rng(0).uniform(0.1, 1, (11, 14, 9)).astype(np.float32)
    large = np.zeros((31, 30, 40), np.float32)
    part = (slice(7, 18), slice(16, 30), slice(0, 9))
    large[part] = data
    ours = predictor.predict(Image.from_array(data)).mean()
    theirs = predictor.predict(Image.from_array(large)).mean()
    torch.testing.assert_close(theirs[(slice(None), *part)], ours, **CLOSE)


def test_a_field_is_the_box_and_its_margin(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, zero_is_background=True)
    data = torch.zeros(1, 60, 21)
    data[0, 30:41, 2:19] = torch.rand(11, 17) + 0.1
    field = make_field(data, spec, [])
    assert field.n_seen == (11 + 2 * MARGIN, 17 + 2 * MARGIN)
    assert field.origin == (30 - MARGIN, 2 - MARGIN)
    assert all(size % 4 == 0 for size in field.data.shape[1:])
    assert field.on_grid(field.box) == (slice(30, 41), slice(2, 19))
    torch.testing.assert_close(field.boxed, data[:, 30:41, 2:19])
    torch.testing.assert_close(field.data.sum(), data.sum())
    # Where zeros are intensities like others, the image ends where it ends.
    field = make_field(data, make_spec(tmp_path), [])
    assert field.n_seen == (11 + 2 * MARGIN, 21)
    assert field.origin == (30 - MARGIN, 0)
    assert field.on_grid(field.box) == (slice(30, 41), slice(2, 19))
    whole = make_field(data + 1, make_spec(tmp_path, intensity=WINDOW), [])
    assert whole.n_seen == (60, 21)
    torch.testing.assert_close(whole.data[:, :, -1], whole.data[:, :, 20])


def make_spec(folder: Path, **fields: object) -> ModelSpec:
    backbone = BackboneSpec(widths=(4, 6, 8), convolutions=(1, 1, 1))
    path = tiny_model(folder / "m.safetensors", dimensions=2, backbone=backbone, **fields)
    return load_weights(path)[1]


def test_a_mirrored_field_is_the_field_of_the_mirrored_image(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, zero_is_background=True)
    data = torch.zeros(1, 33, 21)
    data[0, 3:19, 2:9] = torch.rand(16, 7) + 0.1
    straight, mirrored = make_field(data, spec, []), make_field(data.flip(-2), spec, [-2])
    assert torch.equal(straight.data, mirrored.data)
    piece = (slice(20, 24), slice(17, 19))
    on_grid = straight.on_grid(piece)
    assert mirrored.on_grid(piece) == flipped(on_grid, (33, 21), [-2])
    assert data[0][on_grid].equal(straight.data[0][piece])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_bfloat16_is_float32_to_two_digits(norm: str, dimensions: int) -> None:
    network = make_network("low_rank", norm, dimensions)
    x = torch.rand(2, *SHAPES[dimensions])
    with torch.inference_mode():
        expected = network(x[None]).mean
    found = in_pieces(network, x, (9, 6, 8)[:dimensions], dtype=torch.bfloat16)
    assert found["mean"].dtype == found["diagonal"].dtype == torch.float32
    apart = found["mean"] - expected
    assert 1e-5 < apart.std() < 0.03 * expected.std()


def test_bfloat16_is_chosen_only_where_it_serves() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for device in (cpu, gpu):
        for serves in (False, True):
            for name in TYPES:
                assert resolve_precision(name, device, bfloat16_serves=serves) == name
        assert resolve_precision("auto", device, bfloat16_serves=False) == "float32"
    assert resolve_precision("auto", gpu, bfloat16_serves=True) == "float32"
    assert resolve_precision("auto", cpu, bfloat16_serves=True) in TYPES


def test_auto_says_what_it_came_to(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    assert Predictor(network, spec, precision="auto").precision == "float32"
    fast = resolve_precision("auto", torch.device("cpu"), bfloat16_serves=True)
    measured = spec.model_copy(update={"bfloat16": True})
    predictor = Predictor(network, spec, precision="auto").with_spec(measured)
    # Another specification is not another network: what was resolved stays.
    assert predictor.precision == "float32"
    assert Predictor(network, measured, precision="auto").precision == fast


def test_a_predictor_in_bfloat16(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    image = Image.from_array(np.random.default_rng(0).uniform(0.1, 1, (20, 12, 14)))
    exact, coarse = (
        Predictor(network, spec, precision=precision).predict(image).mean()
        for precision in ("float32", "bfloat16")
    )
    assert 1e-5 < (exact - coarse).std() < 0.03 * exact.std()


@given(st.data())
def test_a_region_is_enlarged_as_the_whole_is(data: st.DataObject) -> None:
    coarse_shape = data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=3))
    shape = tuple(2 * size for size in coarse_shape)
    region = []
    for size in shape:
        start = data.draw(st.integers(0, size - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, size))))
    coarse = torch.rand(1, 2, *coarse_shape, dtype=torch.float64)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    expected = functional.interpolate(coarse, size=shape, mode=mode)[(..., *region)]
    torch.testing.assert_close(enlarged(coarse, tuple(region), shape), expected)


@given(st.data())
def test_pieces_cover_a_grid_once(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    size = [data.draw(st.integers(1, 15)) for _ in shape]
    counts = np.zeros(shape, int)
    for piece in cut(shape, size):
        counts[piece] += 1
        wide = grown(piece, 2, shape)
        assert counts[wide][within(piece, wide)].shape == counts[piece].shape
    assert (counts == 1).all()


def test_pieces_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one voxel"):
        cut((4, 4), (2, 0))
