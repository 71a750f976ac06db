"""Networks of every kind, slices, and maps of probabilities against the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg.distributions import LogitDistribution
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.io.nifti import read_image
from napari_structseg.io.other_programs.members import GivenMaps, find_members
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec, IntensitySpec, head_kinds
from napari_structseg.prediction.augmented import AugmentedPredictor
from napari_structseg.prediction.given import GivenMembers, MembersAs
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.probabilities import ProbabilityMaps
from napari_structseg.prediction.protocol import ImagePredictor
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.prediction.slices import SlicePredictor
from napari_structseg.priors import PriorSpec
from napari_structseg.testing.predictors import Mirrored, PredictorContract, mirrored_image
from nifti_files import save
from tiny_models import tiny_model

# As the image's axes run, so that nothing is flipped.
IN_RAS = np.diag([-1.0, -1, -1, 1])

# 0 is no data.
ZSCORE = IntensitySpec(kind="zscore")
WINDOW = IntensitySpec(kind="window", low=0, high=1)


def random_image(shape: tuple[int, ...], n_channels: int = 1) -> Image:
    data = np.random.default_rng(0).uniform(0.1, 1, (n_channels, *shape)).astype(np.float32)
    return Image.from_array(data, channel_axis=0)


def make_predictor(folder: Path, kind: str, dimensions: int, **fields: object) -> Predictor:
    head = HeadSpec(kind=kind, rank=2, members=2, latent_size=2, latent_scales=1)
    name = folder / f"{kind}.safetensors"
    path = tiny_model(name, dimensions=dimensions, head=head, **{"intensity": WINDOW, **fields})
    network, spec = load_weights(path)
    return Predictor(network, spec, tile=(8,) * dimensions)


def with_nan(predictor: Predictor) -> None:
    with torch.no_grad():
        next(predictor.network.head.parameters()).view(-1)[0] = float("nan")


class NetworkContract(PredictorContract):
    DIMENSIONS = 2
    KIND = "low_rank"

    @pytest.fixture
    def fields(self) -> dict[str, object]:
        return {}

    @pytest.fixture
    def predictor(self, tmp_path: Path, fields: dict[str, object]) -> ImagePredictor:
        return make_predictor(tmp_path, self.KIND, self.DIMENSIONS, **fields)

    @pytest.fixture
    def image(self) -> Image:
        return random_image((14, 12, 10)[: self.DIMENSIONS])

    @pytest.fixture
    def misfit(self, image: Image) -> Image:
        return random_image(image.spatial_shape, n_channels=2)

    @pytest.fixture
    def broken(self, predictor: ImagePredictor) -> Callable[[Image], LogitDistribution]:
        assert isinstance(predictor, Predictor)

        def predict(image: Image) -> LogitDistribution:
            with_nan(predictor)
            return predictor.predict(image)

        return predict


@pytest.mark.parametrize("kind", [kind for kind in head_kinds() if kind != "ensemble"])
class TestEveryKind(NetworkContract):
    @pytest.fixture
    def predictor(self, tmp_path: Path, kind: str) -> ImagePredictor:
        return make_predictor(tmp_path, kind, 2)


class TestWithAnMRF(NetworkContract):
    DIMENSIONS = 3

    @pytest.fixture
    def fields(self) -> dict[str, object]:
        return {"prior": PriorSpec(iterations=2)}


class TestResampled(NetworkContract):
    DIMENSIONS = 3
    KIND = "latent"

    @pytest.fixture
    def fields(self) -> dict[str, object]:
        return {"spacing": (1.25, 1.5, 1.0)}


@pytest.mark.parametrize("kind", ["low_rank", "latent", "heads"])
class TestSlices(PredictorContract):
    ROI = RegionOfInterest(axis="y", start=3, count=3, box=((1, 11), (2, 15)))

    @pytest.fixture
    def predictor(self, tmp_path: Path, kind: str) -> ImagePredictor:
        return SlicePredictor(make_predictor(tmp_path, kind, 2, intensity=ZSCORE), self.ROI)

    @pytest.fixture
    def image(self) -> Image:
        image = random_image((12, 9, 16))
        # Slices whose nonzero voxels take different numbers of steps.
        image.data[:, 7:, 3] = 0
        image.data[:, :, 3, 8:] = 0
        return image

    @pytest.fixture
    def misfit(self) -> Image:
        return random_image((9, 9, 9))

    @pytest.fixture
    def broken(self, tmp_path: Path, kind: str) -> Callable[[Image], LogitDistribution]:
        predictor = make_predictor(tmp_path, kind, 2, intensity=ZSCORE)
        with_nan(predictor)
        return SlicePredictor(predictor, self.ROI).predict

    @pytest.fixture
    def mirrored(self, tmp_path: Path, kind: str, image: Image) -> Mirrored:
        def mirror(axes: tuple[int, ...]) -> tuple[ImagePredictor, Image]:
            parts = list(self.ROI.region(image.spatial_shape))
            for axis in axes:
                size, part = image.spatial_shape[axis], parts[axis]
                parts[axis] = slice(size - part.stop, size - part.start)
            z, y, x = parts
            box = ((z.start, z.stop), (x.start, x.stop))
            roi = RegionOfInterest(axis="y", start=y.start, count=3, box=box)
            predictor = SlicePredictor(make_predictor(tmp_path, kind, 2, intensity=ZSCORE), roi)
            return predictor, mirrored_image(image, axes)

        return mirror


class TestMaps(PredictorContract):
    @pytest.fixture
    def maps(self) -> Image:
        maps = random_image((6, 7, 8), n_channels=3)
        maps.data[:] /= maps.data.sum(axis=0)
        return maps

    @pytest.fixture
    def predictor(self, maps: Image) -> ImagePredictor:
        return ProbabilityMaps(maps)

    @pytest.fixture
    def image(self) -> Image:
        return random_image((6, 7, 8))

    @pytest.fixture
    def misfit(self) -> Image:
        return random_image((6, 7, 9))

    @pytest.fixture
    def broken(self, maps: Image) -> Callable[[Image], LogitDistribution]:
        def predict(image: Image) -> LogitDistribution:
            maps.data[0, 1, 1, 1] = np.nan
            return ProbabilityMaps(maps).predict(image)

        return predict

    @pytest.fixture
    def mirrored(self, maps: Image, image: Image) -> Mirrored:
        return lambda axes: (
            ProbabilityMaps(mirrored_image(maps, axes)),
            mirrored_image(image, axes),
        )


@pytest.mark.parametrize("members_as", ["members", "normal"])
class TestGivenMembers(PredictorContract):
    @pytest.fixture
    def files(self, tmp_path: Path, image: Image) -> list[Path]:
        rng = np.random.default_rng(1)
        stacks = rng.dirichlet((1, 1, 1), (3, *image.spatial_shape[::-1])).astype(np.float32)
        return [save(tmp_path / f"{n}.nii.gz", one, IN_RAS) for n, one in enumerate(stacks)]

    @pytest.fixture
    def predictor(self, files: list[Path], members_as: MembersAs) -> ImagePredictor:
        return GivenMembers(find_members(files, ""), members_as)

    @pytest.fixture
    def image(self, tmp_path: Path) -> Image:
        return read_image(save(tmp_path / "image.nii.gz", np.ones((8, 7, 6), np.uint8), IN_RAS))

    @pytest.fixture
    def misfit(self) -> Image:
        return random_image((6, 7, 9))

    @pytest.fixture
    def broken(self, files: list[Path], members_as: MembersAs) -> Callable[[Image], object]:
        def predict(image: Image) -> LogitDistribution:
            wrong = np.full((*image.spatial_shape[::-1], 3), np.nan, np.float32)
            members = [*files, save(files[0].parent / "nan.nii.gz", wrong, IN_RAS)]
            return GivenMembers(find_members(members, ""), members_as).predict(image)

        return predict

    @pytest.fixture
    def mirrored(self, files: list[Path], image: Image, members_as: MembersAs) -> Mirrored:
        def make(axes: tuple[int, ...]) -> tuple[ImagePredictor, Image]:
            found = [mirrored_member(one, axes) for one in find_members(files, "")]
            return GivenMembers(found, members_as), mirrored_image(image, axes)

        return make


def mirrored_member(one: GivenMaps, axes: tuple[int, ...]) -> GivenMaps:
    """Its files are read the other way round along some axes."""

    class Mirror:
        def __getattr__(self, name: str) -> object:
            return getattr(one, name)

        @property
        def geometry(self) -> Geometry:
            return mirrored_image(one.read(), axes).geometry

        def read(self) -> Image:
            return mirrored_image(one.read(), axes)

    return Mirror()


class TestAugmented(PredictorContract):
    @pytest.fixture
    def predictor(self, tmp_path: Path) -> ImagePredictor:
        base = make_predictor(tmp_path, "point", 2, prior=PriorSpec(iterations=2))
        return AugmentedPredictor(base, ["flips", "intensity"], 4)

    @pytest.fixture
    def image(self) -> Image:
        return random_image((14, 12))

    @pytest.fixture
    def misfit(self, image: Image) -> Image:
        return random_image(image.spatial_shape, n_channels=2)

    @pytest.fixture
    def broken(self, tmp_path: Path) -> Callable[[Image], LogitDistribution]:
        def predict(image: Image) -> LogitDistribution:
            base = make_predictor(tmp_path, "point", 2)
            with_nan(base)
            return AugmentedPredictor(base, ["flips"]).predict(image)

        return predict
