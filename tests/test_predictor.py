"""From an image to one distribution: tiles, order, orientation, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_structseg.distributions import LowRankNormal, Noise, slice_region
from napari_structseg.errors import Cancelled, InputError, MemoryLimitError, WeightsError
from napari_structseg.image import Image
from napari_structseg.inference.predictor import Predictor
from napari_structseg.inference.tiling import make_tiles
from napari_structseg.io.weights import load_weights
from napari_structseg.models import BackboneSpec, IntensitySpec
from napari_structseg.session.runner import ModelRun, RunOutcome
from tiny_models import tiny_model

LOCAL = BackboneSpec(widths=(4,), convolutions=(2,), norm="none")
WINDOW = IntensitySpec(kind="window", low=0, high=1)


def make_image(shape: tuple[int, ...] = (20, 22, 24), **options: object) -> Image:
    data = np.random.default_rng(0).uniform(0.1, 1, shape).astype(np.float32)
    return Image.from_array(data, **options)


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    data=st.data(),
)
def test_weights_of_tiles_add_up_to_one(
    shape: tuple[int, int], size: tuple[int, int], data: st.DataObject
) -> None:
    overlap = [data.draw(st.integers(0, n - 1)) for n in size]
    total = torch.zeros(shape)
    for tile in make_tiles(shape, size, overlap):
        assert tile.weight.shape == total[tile.region].shape
        assert (tile.weight > 0).all()
        total[tile.region] += tile.weight
    torch.testing.assert_close(total, torch.ones(shape))


def test_overlap_as_large_as_a_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        make_tiles((10,), (4,), (4,))


def test_stitched_parameters_are_those_of_the_whole_image(tmp_path: Path) -> None:
    # Two 3x3x3 convolutions see two voxels around: tiles that are cut with that margin and
    # blended only inside it would be exact; blending at the edges is not. So the network here
    # sees one voxel, and every tile agrees with every other.
    path = tiny_model(tmp_path / "m.safetensors", backbone=LOCAL, intensity=WINDOW)
    network, spec = load_weights(path)
    with torch.no_grad():
        for module in network.backbone.modules():
            if isinstance(module, torch.nn.Conv3d) and module.kernel_size == (3, 3, 3):
                centre = module.weight[:, :, 1:2, 1:2, 1:2].clone()
                module.weight.zero_()
                module.weight[:, :, 1:2, 1:2, 1:2] = centre
    image = make_image()
    tiled = Predictor(network, spec, tile=(8, 9, 10), overlap=(3, 3, 3)).predict(image)
    whole = Predictor(network, spec, tile=image.spatial_shape).predict(image)
    torch.testing.assert_close(tiled.mean(), whole.mean())
    for sample in (1, 2):
        torch.testing.assert_close(
            tiled.deviation(Noise(1, sample)), whole.deviation(Noise(1, sample))
        )
    with torch.inference_mode():
        parameters = network(torch.from_numpy(image.data)[None])
    direct = LowRankNormal(parameters.mean[0], parameters.factor[0], parameters.diagonal[0])
    torch.testing.assert_close(whole.mean(), direct.mean())
    torch.testing.assert_close(whole.deviation(Noise(1, 1)), direct.deviation(Noise(1, 1)))


def test_the_first_region_is_final_before_the_rest(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    image = make_image((40, 40, 40))
    first = slice_region(image.spatial_shape, 1, 30)
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


def test_outside_the_box_of_nonzero_voxels_is_background(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    data = np.zeros((24, 24, 24), np.float32)
    data[6:18, 5:20, 7:16] = make_image((12, 15, 9)).data[0]
    distribution = Predictor(network, spec).predict(Image.from_array(data))
    labels = distribution.mean().argmax(dim=0)
    outside = torch.ones(labels.shape, dtype=torch.bool)
    outside[6:18, 5:20, 7:16] = False
    assert not labels[outside].any()
    assert distribution.deviation(Noise(1, 1))[:, outside].abs().max() < 0.1


def test_an_image_stored_the_other_way_round_gives_the_same_distribution(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    image = make_image((16, 16, 16))
    affine = image.geometry.affine.copy()
    affine[:, 1] *= -1
    affine[:3, 3] += (image.spatial_shape[1] - 1) * image.geometry.affine[:3, 1]
    flipped = Image.from_array(image.data[0][:, ::-1].copy(), affine=affine)
    assert flipped.geometry.axes_against_ras == (1,)
    ours = Predictor(network, spec).predict(image).mean()
    theirs = Predictor(network, spec).predict(flipped).mean()
    torch.testing.assert_close(theirs.flip(2), ours, atol=1e-4, rtol=1e-4)


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


def test_a_cancelled_prediction_stops_at_the_next_tile(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "m.safetensors"))
    fractions: list[float] = []
    with pytest.raises(Cancelled):
        Predictor(network, spec).predict(
            make_image((40, 40, 40)),
            report=fractions.append,
            cancelled=lambda: len(fractions) == 2,
        )
    assert len(fractions) == 2


class Listener:
    """Everything a run has said."""

    def __init__(self, run: ModelRun) -> None:
        self.said: list[tuple[str, object]] = []
        run.progressed.connect(lambda done, total: self.said.append(("progress", (done, total))))
        run.first_ready.connect(lambda outcome: self.said.append(("first", outcome)))
        run.finished.connect(lambda outcome: self.said.append(("finished", outcome)))
        run.failed.connect(lambda error: self.said.append(("failed", error)))
        run.cancelled.connect(lambda: self.said.append(("cancelled", None)))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.said if kind != "progress"]


@pytest.mark.parametrize("synchronous", [True, False])
def test_a_run_says_first_then_finished(tmp_path: Path, synchronous: bool) -> None:
    path = tiny_model(tmp_path / "m.safetensors")
    image = make_image((40, 40, 40))
    first = slice_region(image.spatial_shape, 0, 3)
    run = ModelRun(path, image, device="cpu", first=first, synchronous=synchronous)
    listener = Listener(run)
    run.start()
    assert run.join(60)
    assert listener.kinds == ["first", "finished"]
    outcome = listener.said[-1][1]
    assert isinstance(outcome, RunOutcome)
    assert outcome.weights_path == path
    assert outcome.distribution.spatial_shape == image.spatial_shape


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    run = ModelRun(tmp_path / "missing.safetensors", make_image(), synchronous=True)
    listener = Listener(run)
    run.start()
    assert listener.kinds == ["failed"]
    assert isinstance(listener.said[-1][1], WeightsError)


def test_a_run_can_be_cancelled(tmp_path: Path) -> None:
    run = ModelRun(
        tiny_model(tmp_path / "m.safetensors"), make_image((40, 40, 40)), synchronous=True
    )
    listener = Listener(run)
    run.progressed.connect(lambda done, _total: run.cancel() if done == 2 else None)
    run.start()
    assert listener.kinds == ["cancelled"]
