"""From an image to one distribution: pieces, order, orientation, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg.distributions import LowRankNormal, Noise, PointLogits, slice_region
from napari_structseg.errors import Cancelled, InputError, MemoryLimitError
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights
from napari_structseg.models import BackboneSpec, HeadSpec, IntensitySpec
from napari_structseg.prediction.predictor import Predictor
from tiny_models import tiny_model

LOCAL = BackboneSpec(widths=(4,), convolutions=(2,), norm="none")
# The factor is stored in half precision: a few roundings by 2^-11, each of values around 1.
HALF = {"rtol": 0, "atol": 2e-3}
WINDOW = IntensitySpec(kind="window", low=0, high=1)


def make_image(shape: tuple[int, ...] = (20, 22, 24), **options: object) -> Image:
    data = np.random.default_rng(0).uniform(0.1, 1, shape).astype(np.float32)
    return Image.from_array(data, **options)


def test_parameters_of_pieces_are_those_of_the_whole_image(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors", backbone=LOCAL, intensity=WINDOW)
    network, spec = load_weights(path)
    image = make_image()
    tiled = Predictor(network, spec, tile=(8, 9, 10)).predict(image)
    whole = Predictor(network, spec, tile=image.spatial_shape).predict(image)
    torch.testing.assert_close(tiled.mean(), whole.mean())
    for sample in (1, 2):
        torch.testing.assert_close(
            tiled.offset(Noise(1, sample)), whole.offset(Noise(1, sample)), **HALF
        )
    with torch.inference_mode():
        parameters = network(torch.from_numpy(image.data)[None])
    direct = LowRankNormal(parameters.mean[0], parameters.factor[0], parameters.diagonal[0])
    torch.testing.assert_close(whole.mean(), direct.mean())
    torch.testing.assert_close(whole.offset(Noise(1, 1)), direct.offset(Noise(1, 1)), **HALF)


def test_the_first_region_is_final_before_the_rest(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    image = make_image((40, 40, 40))
    first = slice_region(image.spatial_shape, 0, 30)
    steps = []
    early = None
    for progress in Predictor(network, spec).stream(image, first):
        steps.append(progress)
        if early is None and progress.distribution is not None:
            early = progress.distribution.mean(first).clone()
            assert not progress.complete
    final = steps[-1]
    assert final.complete
    assert [step.done for step in steps] == list(range(1, final.total + 1))
    assert torch.equal(early, final.distribution.mean(first))


@pytest.mark.parametrize(("axis", "position"), [(0, 2), (0, 16), (2, 39)])
@pytest.mark.parametrize("norm", ["instance", "weight"])
def test_the_first_region_is_there_after_exactly_the_pieces_that_touch_it(
    tmp_path: Path, axis: int, position: int, norm: str
) -> None:
    backbone = BackboneSpec(widths=(4, 8), convolutions=(1, 1), norm=norm)
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors", backbone=backbone))
    image = make_image((40, 40, 40))
    first = slice_region(image.spatial_shape, axis, position)
    steps = list(Predictor(network, spec, tile=(16, 16, 16)).stream(image, first))
    # The way down, the coarser level, and the way up as well where it has statistics.
    before = 27 + 1 + 27 * (norm == "instance")
    assert steps[-1].total == before + 27
    there = [step.done for step in steps if step.distribution is not None]
    assert there == list(range(before + 9, before + 27 + 1))


def test_outside_the_box_of_nonzero_voxels_is_background(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    data = np.zeros((24, 24, 24), np.float32)
    data[6:18, 5:20, 7:16] = make_image((12, 15, 9)).data[0]
    distribution = Predictor(network, spec).predict(Image.from_array(data))
    labels = distribution.mean().argmax(dim=0)
    outside = torch.ones(labels.shape, dtype=torch.bool)
    outside[6:18, 5:20, 7:16] = False
    assert not labels[outside].any()
    assert distribution.offset(Noise(1, 1))[:, outside].abs().max() < 0.1


def test_voxels_without_data_are_background_with_certainty(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors", zero_is_background=True)
    network, spec = load_weights(path)
    data = make_image((24, 24, 24)).data[0].copy()
    # A hole, and the rim outside the bounding box.
    data[8:18, 4:9, 6:17] = 0
    data[:, :, :3] = 0
    distribution = Predictor(network, spec).predict(Image.from_array(data))
    empty = torch.from_numpy(data == 0)
    mean, offset = distribution.mean(), distribution.offset(Noise(0, 1))
    torch.testing.assert_close(
        mean[:, empty], torch.tensor([[20.0], [0], [0], [0]]).expand(4, int(empty.sum()))
    )
    assert offset[:, empty].abs().max() < 0.05
    assert offset[:, ~empty].std() > 0.1


@pytest.mark.parametrize("axes", [(1,), (0, 2), (0, 1, 2)])
def test_an_image_stored_the_other_way_round_gives_the_same_distribution(
    tmp_path: Path, axes: tuple[int, ...]
) -> None:
    head = HeadSpec(rank=3, epsilon=1e-12)
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors", head=head))
    # Noise belongs to voxels as they are stored: without it, P z is left of a offset.
    torch.nn.init.constant_(network.head.log_diagonal.bias, -60)
    image = make_image((24, 24, 24))
    affine = image.geometry.affine.copy()
    for axis in axes:
        affine[:3, 3] += 23 * image.geometry.affine[:3, axis]
        affine[:3, axis] *= -1
    flipped = Image.from_array(np.flip(image.data[0], axes).copy(), affine=affine)
    assert flipped.geometry.axes_against_ras == axes
    ours = Predictor(network, spec).predict(image)
    theirs = Predictor(network, spec).predict(flipped)
    back = [1 + axis for axis in axes]
    torch.testing.assert_close(theirs.mean().flip(back), ours.mean(), atol=1e-4, rtol=1e-4)
    offset, flipped_offset = (one.offset(Noise(1, 1)) for one in (ours, theirs))
    assert offset.std() > 0.01
    torch.testing.assert_close(flipped_offset.flip(back), offset, **HALF)


def test_another_voxel_size_keeps_the_grid_of_the_image(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors", spacing=(1.0, 1.0, 1.0))
    network, spec = load_weights(path)
    image = make_image((12, 20, 22), spacing=(2.0, 0.8, 1.0))
    steps = list(Predictor(network, spec).stream(image, slice_region(image.spatial_shape, 0, 3)))
    assert all(step.distribution is None for step in steps[:-1])
    assert steps[-1].distribution.spatial_shape == image.spatial_shape
    assert steps[-1].distribution.rank == 3


def test_a_2d_model_on_a_slice(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors", dimensions=2))
    distribution = Predictor(network, spec).predict(make_image((33, 21)))
    assert distribution.mean().shape == (4, 33, 21)


def test_a_diagonal_head_and_a_point_head(tmp_path: Path) -> None:
    image = make_image((16, 16, 16))
    diagonal = tiny_model(tmp_path / "d.safetensors", head=HeadSpec(diagonal_only=True))
    distribution = Predictor(*load_weights(diagonal)).predict(image)
    assert isinstance(distribution, LowRankNormal)
    assert distribution.rank == 0
    assert distribution.offset(Noise(1, 1)).any()
    point = tiny_model(tmp_path / "p.safetensors", head=HeadSpec(kind="point"))
    distribution = Predictor(*load_weights(point)).predict(image)
    assert isinstance(distribution, PointLogits)
    assert not distribution.offset(Noise(1, 1)).any()


DEEP = BackboneSpec(widths=(4, 4, 4, 4), convolutions=(1, 1, 1, 1))


@pytest.mark.parametrize("corner", [(0, 0, 0), (15, 14, 15), (29, 29, 28)])
def test_a_speck_of_image_is_more_than_one_voxel_to_the_network(
    tmp_path: Path, corner: tuple[int, int, int]
) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors", backbone=DEEP))
    data = np.zeros((30, 30, 30), np.float32)
    speck = tuple(slice(start, start + 3) for start in corner)
    data[speck] = make_image(data[speck].shape).data[0]
    distribution = Predictor(network, spec).predict(Image.from_array(data))
    assert distribution.spatial_shape == (30, 30, 30)
    far = tuple(29 if start == 0 else 0 for start in corner)
    assert distribution.mean()[(0, *far)] > distribution.mean()[(slice(1, None), *far)].max() + 10


@pytest.mark.parametrize("shape", [(8, 8, 8), (1, 1, 1), (3, 8, 2)])
def test_an_image_too_small_for_the_network_is_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors", backbone=DEEP))
    with pytest.raises(InputError, match=r"more than 8 voxels along at least one axis"):
        Predictor(network, spec).predict(make_image(shape))
    assert Predictor(network, spec).predict(make_image((1, 2, 9))).spatial_shape == (1, 2, 9)


def test_what_does_not_fit_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    volume_model = Predictor(*load_weights(tiny_model(tmp_path / "a.safetensors")))
    slice_model = Predictor(*load_weights(tiny_model(tmp_path / "b.safetensors", dimensions=2)))
    two_channels = Predictor(*load_weights(tiny_model(tmp_path / "c.safetensors", channels=2)))
    with pytest.raises(InputError, match=r"3-D images.*2 spatial dimensions"):
        volume_model.predict(make_image((20, 20)))
    with pytest.raises(InputError, match=r"2-D images.*3 spatial dimensions"):
        slice_model.predict(make_image())
    with pytest.raises(InputError, match=r"expects 2 channels \(sequence 1, sequence 2\).*has 1"):
        two_channels.predict(make_image())
    # Terabytes that take no memory: the same row again and again.
    huge = np.broadcast_to(np.ones((1, 1, 1), np.uint8), (20000, 10000, 10000))
    with pytest.raises(MemoryLimitError, match="GB"):
        volume_model.predict(Image.from_array(huge))


def test_a_cancelled_prediction_stops_at_the_next_step(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    fractions: list[float] = []
    with pytest.raises(Cancelled):
        Predictor(network, spec).predict(
            make_image((40, 40, 40)),
            report=fractions.append,
            cancelled=lambda: len(fractions) == 2,
        )
    assert len(fractions) == 2


@pytest.mark.parametrize("patch", [(1, 1, 1), (2, 2, 2), (1, 2, 1)])
def test_a_patch_that_the_coarsest_level_sees_as_one_voxel(
    tmp_path: Path, patch: tuple[int, ...]
) -> None:
    # Instance normalisation has nothing to normalise there.
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors", patch=patch))
    distribution = Predictor(network, spec).predict(make_image((9, 8, 7)))
    assert distribution.spatial_shape == (9, 8, 7)
    assert Predictor(network, spec, tile=patch).predict(make_image((9, 8, 7))).n_classes == 4
