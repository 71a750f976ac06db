"""Mean, factor and diagonal that were computed elsewhere, as files and in Python."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from napari_structseg import LowRankNormal, Noise, PointLogits, distribution_of_tensors, read_image
from napari_structseg.cli import main
from napari_structseg.distributions import LogitDistribution
from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.io.tensors import holds_tensors
from napari_structseg.prediction.protocol import ImagePredictor
from napari_structseg.prediction.source import open_source
from napari_structseg.prediction.tensors import GivenTensors
from napari_structseg.testing.predictors import Mirrored, PredictorContract, mirrored_image
from nifti_files import save
from predict_helpers import OBLIQUE, SHAPE, blob
from test_predictor_contract import random_image

CPU = torch.device("cpu")
RANK, CLASSES = 2, 3


def tensors(*shape: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "mean": rng.normal(size=(CLASSES, *shape)).astype(np.float32),
        "factor": rng.normal(size=(RANK, CLASSES, *shape)).astype(np.float32),
        "diagonal": rng.uniform(0.1, 1, (CLASSES, *shape)).astype(np.float32),
    }


class TestTensors(PredictorContract):
    SHAPE = (6, 7, 8)

    @pytest.fixture
    def predictor(self, tmp_path: Path) -> ImagePredictor:
        np.savez(tmp_path / "given.npz", **tensors(*self.SHAPE))
        return GivenTensors(tmp_path / "given.npz")

    @pytest.fixture
    def image(self) -> Image:
        return random_image(self.SHAPE)

    @pytest.fixture
    def misfit(self) -> Image:
        return random_image((6, 7, 9))

    @pytest.fixture
    def broken(self, tmp_path: Path) -> Callable[[Image], LogitDistribution]:
        given = tensors(*self.SHAPE)
        given["factor"][0, 0, 0] = np.nan
        np.savez(tmp_path / "broken.npz", **given)
        return GivenTensors(tmp_path / "broken.npz").predict

    @pytest.fixture
    def mirrored(self, tmp_path: Path, image: Image) -> Mirrored:
        def mirror(axes: tuple[int, ...]) -> tuple[ImagePredictor, Image]:
            given = {
                name: np.flip(one, [one.ndim - 3 + axis for axis in axes])
                for name, one in tensors(*self.SHAPE).items()
            }
            np.savez(tmp_path / "mirrored.npz", **given)
            stored = mirrored_image(image, axes)
            return GivenTensors(tmp_path / "mirrored.npz"), stored

        return mirror


@pytest.mark.parametrize("is_xyz", [True, False])
@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_tensors_overlay_the_file_that_they_were_computed_from(
    tmp_path: Path, form: str, *, is_xyz: bool
) -> None:
    path = save(tmp_path / "T1.nii.gz", blob(*SHAPE), OBLIQUE)
    # What another program computes of the file, in the order of nibabel.
    brightness = np.asanyarray(nib.load(path).dataobj).astype(np.float32) / 1000
    given = {
        "mean": np.stack([0 * brightness, brightness - 0.3]),
        "factor": np.stack([np.stack([0 * brightness, brightness])] * 2),
        "diagonal": np.stack([brightness, brightness + 1]),
    }
    if is_xyz:
        given = {f"{name}_xyz": np.ascontiguousarray(one) for name, one in given.items()}
    else:
        # As SimpleITK gives an array: the spatial axes in the opposite order.
        given = {
            name: np.ascontiguousarray(one.transpose(*range(one.ndim - 3), -1, -2, -3))
            for name, one in given.items()
        }
    file = tmp_path / f"given.{form}"
    if form == "npz":
        np.savez_compressed(file, **given)
    else:
        save_file(given, file, metadata={"classes": json.dumps(["background", "bright"])})
    image = read_image(path)
    source = open_source(str(file), CPU)
    normal = source.predictor.predict(image)
    assert isinstance(normal, LowRankNormal)
    shown = torch.from_numpy(image.data[0].astype(np.float32)) / 1000
    torch.testing.assert_close(normal.mean()[1], shown - 0.3)
    torch.testing.assert_close(normal.factor[1, 1], shown)
    torch.testing.assert_close(normal.offset(Noise(0, 1)).shape, normal.mean().shape)
    names = ("background", "bright") if form == "safetensors" else ("class 0", "class 1")
    assert source.spec.class_names == names


def test_predict_takes_them_and_its_recipe_repeats_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "T1.nii.gz", blob(*SHAPE), OBLIQUE)
    np.savez(tmp_path / "given.npz", **tensors(*reversed(SHAPE)))
    given = str(tmp_path / "given.npz")
    out = tmp_path / "one"
    asked = ["--out", str(out), "--samples", "2"]
    assert main(["predict", str(path), "--tensors", given, *asked]) == 0
    recipe = ["--recipe", str(out / "recipe.json"), "--out", str(tmp_path / "two")]
    assert main(["predict", str(path), *recipe]) == 0
    np.savez(tmp_path / "given.npz", **tensors(*SHAPE))
    assert main(["predict", str(path), "--tensors", given, *asked, "--overwrite"]) == 2
    assert "_xyz" in capsys.readouterr().err


def test_layouts_of_the_authors_are_the_same_distribution() -> None:
    given = tensors(4, 5)
    expected = distribution_of_tensors(**given)
    assert isinstance(expected, LowRankNormal)
    columns = torch.from_numpy(given["factor"])
    flat = {**given, "factor": columns.flatten(0, 1)[None]}
    # As LowRankMultivariateNormal has it: classes times voxels, then ranks.
    transposed = {**given, "factor": columns.flatten(1).T}
    logarithm = {
        "mean": given["mean"][None],
        "factor": columns[None],
        "log_diagonal": np.log(given["diagonal"] - 1e-5)[None],
    }
    for one in (flat, transposed, logarithm):
        found = distribution_of_tensors(**one)
        torch.testing.assert_close(found.offset(Noise(1, 1)), expected.offset(Noise(1, 1)))
        assert torch.equal(found.mean(), expected.mean())
    point = distribution_of_tensors(given["mean"])
    assert isinstance(point, PointLogits)
    independent = distribution_of_tensors(given["mean"], diagonal=given["diagonal"])
    assert isinstance(independent, LowRankNormal)
    assert independent.rank == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"diagonal": -np.ones((3, 4, 5))}, "log_diagonal"),
        ({"diagonal": np.ones((3, 5, 4))}, "diagonal must be"),
        ({"factor": np.ones((2, 3, 5, 4))}, "factor"),
        ({"factor": np.ones((4, 4, 5))}, "factor"),
        ({"mean": np.full((3, 4, 5), np.inf)}, "NaN or infinite"),
        ({"mean": np.ones(3)}, "mean must be"),
        ({"mean": np.ones((3, 4, 5), complex)}, "Real numbers"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(InputError, match=says):
        distribution_of_tensors(**{**tensors(4, 5), **change})


def test_a_flat_image_has_two_axes() -> None:
    image = random_image((4, 5))
    found = distribution_of_tensors(**tensors(4, 5), geometry=image.geometry)
    assert np.array_equal(found.mean(), tensors(4, 5)["mean"])
    with pytest.raises(InputError, match="voxel grid"):
        distribution_of_tensors(**tensors(5, 4), geometry=image.geometry)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, mean=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="objects"):
        GivenTensors(path)
    np.savez(path, mean=np.ones((2, 4, 4)), other=np.ones(2))
    with pytest.raises(InputError, match="other"):
        GivenTensors(path)
    np.savez(path, mean=np.ones((2, 4, 4)), factor_xyz=np.ones((1, 2, 4, 4)))
    with pytest.raises(InputError, match="one order"):
        GivenTensors(path)
    np.savez(path, mean=np.ones((1, 4, 4)))
    with pytest.raises(InputError, match="classes"):
        GivenTensors(path)
    np.savez(path, probabilities=np.ones((2, 4, 4)))
    assert not holds_tensors(path)
    path.write_bytes(b"PK\x03\x04 nothing")
    assert not holds_tensors(path)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 99999, 99999, 99999), }"
    said = b"\x93NUMPY\x01\x00v\x00" + header.ljust(117).encode() + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mean.npy", said)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="cut short"):
        GivenTensors(path)


def test_the_grid_is_that_of_the_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "given.npz", **tensors(4, 5, 6))
    image = random_image((4, 5, 6))
    turned = replace(image, data=np.ascontiguousarray(image.data[:, ::-1]))
    assert GivenTensors(tmp_path / "given.npz").predict(turned).spatial_shape == (4, 5, 6)
