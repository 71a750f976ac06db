from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from skimage.io import imsave

from napari_structseg.data import cases
from napari_structseg.data.dataset import read_dataset
from napari_structseg.errors import ConfigError, InputError, StructSegError
from napari_structseg.models import IntensitySpec
from napari_structseg.models.palette import palette
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.sources import build_run

SHAPE = (8, 10, 12)
VERSION_2 = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "anterior": 1, "posterior": 2},
    "file_ending": ".nii.gz",
}
VERSION_1 = {
    "modality": {"0": "T1"},
    "labels": {"0": "background", "1": "anterior", "2": "posterior"},
    "numTraining": 2,
}
ZSCORE = IntensitySpec(kind="zscore")
CONFIG = TrainConfig(
    name="tiny", dimensions=3, patch=(4, 4, 4), intensity=ZSCORE, validation_cases=1
)


def save(path: Path, data: np.ndarray, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> None:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


def noise(shape=SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def blob(shape=SHAPE, value: int = 1) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(n // 4, n // 2) for n in shape)] = value
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cases of one channel, in file order X, Y, Z."""
    for name in ("case_1", "case_2"):
        save(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", noise())
        save(tmp_path / "labelsTr" / f"{name}.nii.gz", blob())
    describe(tmp_path, VERSION_2)
    return tmp_path


def describe(folder: Path, description) -> None:
    (folder / "dataset.json").write_text(json.dumps(description))


def prepare(folder: Path, index: int = 0, **options):
    dataset = read_dataset(folder)
    settings = {"dimensions": 3, "intensity": ZSCORE, "spacing": None, **options}
    read = cases.read_case(dataset.cases[index], dataset, settings.pop("dimensions"))
    return cases.prepare(read, **settings)


@pytest.mark.parametrize("description", [VERSION_1, VERSION_2])
def test_both_versions_of_the_description_are_read(folder: Path, description) -> None:
    describe(folder, description)
    dataset = read_dataset(folder)
    assert dataset.channels == ("T1",)
    assert dataset.classes == ("background", "anterior", "posterior")
    assert [case.name for case in dataset.cases] == ["case_1", "case_2"]
    assert dataset.cases[0].images == (folder / "imagesTr" / "case_1_0000.nii.gz",)
    assert dataset.cases[0].labels == (folder / "labelsTr" / "case_1.nii.gz",)


def test_hidden_files_do_not_count(folder: Path) -> None:
    (folder / "imagesTr" / ".DS_Store").write_bytes(b"")
    assert len(read_dataset(folder).cases) == 2


def test_raters_belong_to_their_case(folder: Path) -> None:
    (folder / "labelsTr" / "case_1.nii.gz").rename(folder / "labelsTr" / "case_1__anna.nii.gz")
    save(folder / "labelsTr" / "case_1__bert.nii.gz", np.zeros(SHAPE, np.uint8))
    save(folder / "imagesTr" / "case_1__b_0000.nii.gz", noise())
    save(folder / "labelsTr" / "case_1__b__bert.nii.gz", blob())
    cases = {case.name: case for case in read_dataset(folder).cases}
    assert [path.name for path in cases["case_1"].labels] == [
        "case_1__anna.nii.gz",
        "case_1__bert.nii.gz",
    ]
    assert [path.name for path in cases["case_1__b"].labels] == ["case_1__b__bert.nii.gz"]
    assert len(cases["case_2"].labels) == 1
    anna, bert = prepare(folder).labels
    assert anna.any()
    assert not bert.any()


def test_consensus_beside_raters_is_refused(folder: Path) -> None:
    save(folder / "labelsTr" / "case_1__anna.nii.gz", blob())
    with pytest.raises(ConfigError, match=r"case_1.nii.gz beside labels of single raters"):
        read_dataset(folder)


def test_case_is_normalised_and_in_array_order(folder: Path) -> None:
    case = prepare(folder)
    assert case.image.shape == (1, *SHAPE[::-1])
    assert case.image.dtype == np.float32
    assert case.image.std() == pytest.approx(1, abs=1e-5)
    assert case.labels[0].dtype == np.uint8
    assert np.array_equal(case.labels[0], blob().T)
    assert case.spacing == (1, 1, 1)


def test_flipped_and_permuted_files_are_brought_to_one_orientation(folder: Path) -> None:
    expected = prepare(folder)
    affine = np.diag([1.0, 1, 1, 1])
    for path in (
        folder / "imagesTr" / "case_1_0000.nii.gz",
        folder / "labelsTr" / "case_1.nii.gz",
    ):
        stored = nib.load(path)
        data = np.asanyarray(stored.dataobj)
        swapped = affine[:, [1, 0, 2, 3]].copy()
        swapped[:, 0] *= -1
        swapped[1, 3] = SHAPE[1] - 1
        nib.save(nib.Nifti1Image(data.transpose(1, 0, 2)[::-1], swapped), path)
    case = prepare(folder)
    np.testing.assert_array_equal(case.image, expected.image)
    np.testing.assert_array_equal(case.labels[0], expected.labels[0])


def test_case_is_resampled_to_the_spacing_of_the_model(folder: Path) -> None:
    save(folder / "imagesTr" / "case_1_0000.nii.gz", noise(), spacing=(0.5, 1, 3))
    save(folder / "labelsTr" / "case_1.nii.gz", blob(), spacing=(0.5, 1, 3))
    case = prepare(folder, spacing=(1.5, 1.0, 1.0))
    assert case.image.shape == (1, 24, 10, 4)
    assert case.labels[0].shape == (24, 10, 4)
    assert case.spacing == (1.5, 1, 1)
    assert set(np.unique(case.labels[0])) == {0, 1}


def test_channels_are_stacked(folder: Path) -> None:
    describe(folder, VERSION_2 | {"channel_names": {"0": "T1", "1": "FLAIR"}})
    for name in ("case_1", "case_2"):
        save(folder / "imagesTr" / f"{name}_0001.nii.gz", noise(seed=1))
    case = prepare(folder)
    assert case.image.shape == (2, *SHAPE[::-1])
    assert not np.array_equal(case.image[0], case.image[1])


def test_labels_stored_as_floating_numbers_are_read(folder: Path) -> None:
    save(folder / "labelsTr" / "case_1.nii.gz", blob().astype(np.float64))
    assert np.array_equal(prepare(folder).labels[0], blob().T)


@pytest.mark.parametrize("colour", [False, True])
def test_png_is_a_two_dimensional_case(tmp_path: Path, colour: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3) if colour else (9, 7), np.uint8)
    for sub in ("imagesTr", "labelsTr"):
        (tmp_path / sub).mkdir()
    imsave(tmp_path / "imagesTr" / "a_0000.png", pixels, check_contrast=False)
    imsave(tmp_path / "labelsTr" / "a.png", blob((9, 7)), check_contrast=False)
    names = ("red", "green", "blue") if colour else ("grey",)
    describe(
        tmp_path,
        VERSION_2 | {"file_ending": ".png", "channel_names": dict(enumerate(names))},
    )
    case = prepare(tmp_path, dimensions=2)
    assert case.image.shape == (len(names), 9, 7)
    assert np.array_equal(case.labels[0], blob((9, 7)))
    with pytest.raises(ConfigError, match=r"a_0000.png has no voxel size.*Remove spacing"):
        prepare(tmp_path, dimensions=2, spacing=(1.0, 1.0))


def test_damaged_png_is_named(tmp_path: Path) -> None:
    for sub, name in (("imagesTr", "a_0000.png"), ("labelsTr", "a.png")):
        (tmp_path / sub).mkdir()
        (tmp_path / sub / name).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    describe(tmp_path, VERSION_2 | {"file_ending": ".png"})
    with pytest.raises(InputError, match=r"a_0000.png is not a PNG file"):
        prepare(tmp_path, dimensions=2)


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("not json", "the file: Invalid JSON"),
        ({"labels": VERSION_2["labels"]}, "must name the channels"),
        (VERSION_2 | {"channel_names": {"1": "T1"}}, "counted from 0"),
        (VERSION_2 | {"channel_names": {}}, "must name the channels"),
        (VERSION_2 | {"labels": {"background": 0}}, "at least two labels"),
        (VERSION_2 | {"labels": {"background": 0, "lesion": 2}}, r"without gaps; it has \[0, 2\]"),
        (VERSION_2 | {"labels": {"background": 0, "whole": [1, 2]}}, "Regions of several labels"),
        (VERSION_2 | {"labels": {"background": 0, "ignore": 1}}, "'ignore' label"),
        (VERSION_1 | {"labels": {"0": "x", "1": "x"}}, "a name of its own"),
        (VERSION_2 | {"file_ending": ".nrrd"}, "file_ending"),
        (VERSION_2 | {"numTraining": 3}, "numTraining = 3, but .* holds 2 cases"),
    ],
)
def test_description_that_cannot_be_used_says_why(folder: Path, description, reason: str) -> None:
    if isinstance(description, str):
        (folder / "dataset.json").write_text(description)
    else:
        describe(folder, description)
    with pytest.raises(ConfigError, match=reason):
        read_dataset(folder)


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def rename(name: str, new: str):
    return lambda folder: (folder / name).rename(folder / new)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (remove("dataset.json"), r"Cannot read .*dataset.json.*nnU-Net's raw layout"),
        (remove("labelsTr/case_2.nii.gz"), "'case_2' has no labels: expected case_2.nii.gz"),
        (remove("imagesTr/case_2_0000.nii.gz"), r"case_2.nii.gz belongs to no case"),
        (
            rename("imagesTr/case_2_0000.nii.gz", "imagesTr/case_2.nii.gz"),
            r"must be named CASE_0000.nii.gz",
        ),
        (
            rename("imagesTr/case_2_0000.nii.gz", "imagesTr/case_2_0001.nii.gz"),
            "has the channels 0001: some are missing",
        ),
        (
            rename("imagesTr/case_2_0000.nii.gz", "imagesTr/case_2_0000.nii"),
            r"case_2_0000.nii does not belong in a data set of .nii.gz files",
        ),
        (rename("labelsTr", "labels"), "There is no folder .*labelsTr"),
    ],
)
def test_files_that_are_missing_or_misnamed_are_named(folder: Path, change, reason: str) -> None:
    change(folder)
    with pytest.raises(ConfigError, match=reason):
        read_dataset(folder)


def test_folder_without_images_is_refused(folder: Path) -> None:
    for path in (folder / "imagesTr").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="nothing to train on"):
        read_dataset(folder)


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no folder .*missing"):
        read_dataset(tmp_path / "missing")


def with_nan() -> np.ndarray:
    data = noise()
    data[0, 0, 0] = np.nan
    return data


@pytest.mark.parametrize(
    ("file", "data", "where", "reason"),
    [
        ("imagesTr/case_1_0000.nii.gz", with_nan(), {}, "case_1_0000.*1 of 960 voxels are NaN"),
        ("imagesTr/case_1_0000.nii.gz", np.full(SHAPE, 7.0), {}, "case_1_0000.*has no contrast"),
        (
            "labelsTr/case_1.nii.gz",
            blob((8, 10, 11)),
            {},
            "case_1.nii.gz lies on another voxel grid",
        ),
        ("labelsTr/case_1.nii.gz", blob(), {"spacing": (1, 1, 2.0)}, "spacing 2 x 1 x 1 against 1"),
        ("labelsTr/case_1.nii.gz", blob(), {"origin": (3, 0, 0)}, "or another position"),
        ("labelsTr/case_1.nii.gz", blob(value=3), {}, "values 3, but dataset.json names.*0 to 2"),
        ("labelsTr/case_1.nii.gz", 0.5 * blob(), {}, "case_1.nii.gz holds the values 0.5"),
        ("labelsTr/case_1.nii.gz", -blob().astype(np.int16), {}, "holds the values -1"),
        ("labelsTr/case_1.nii.gz", blob((*SHAPE, 2)), {}, "one label per voxel.*2 channels"),
        ("imagesTr/case_1_0000.nii.gz", noise((*SHAPE, 2)), {}, "'case_1' has 2 channels"),
        ("imagesTr/case_1_0000.nii.gz", noise(SHAPE[:2]), {}, "dimensions = 3, but .* is 2-D"),
    ],
)
def test_case_that_does_not_fit_is_named(folder: Path, file, data, where, reason: str) -> None:
    save(folder / file, data, **where)
    with pytest.raises(StructSegError, match=reason):
        prepare(folder)


def test_channels_on_other_grids_are_refused(folder: Path) -> None:
    describe(folder, VERSION_2 | {"channel_names": {"0": "T1", "1": "FLAIR"}})
    save(folder / "imagesTr" / "case_1_0001.nii.gz", noise(), spacing=(2, 1, 1))
    with pytest.raises(InputError, match=r"must lie on one voxel grid, but .*case_1_0001.nii.gz"):
        prepare(folder)


def test_missing_channel_is_refused(folder: Path) -> None:
    describe(folder, VERSION_2 | {"channel_names": {"0": "T1", "1": "FLAIR"}})
    with pytest.raises(ConfigError, match=r"'case_1' has 1 channels .* names 2: T1, FLAIR"):
        prepare(folder)


def test_run_holds_out_the_last_cases(folder: Path) -> None:
    received = []
    spec, source, validator = build_run(CONFIG, folder, lambda *said: received.append(said))
    assert received == [(1, 2, "case_1"), (2, 2, "case_2")]
    assert [case.name for case in source.cases] == ["case_1"]
    assert validator is not None
    assert spec.channels == ("T1",)
    assert spec.class_names == ("background", "anterior", "posterior")
    assert [c.color for c in spec.classes] == list(palette(3))
    assert spec.intensity == ZSCORE
    assert spec.training.recipe["patch"] == [4, 4, 4]
    assert spec.training.software.startswith("napari-structseg ")


def test_run_without_validation(folder: Path) -> None:
    config = CONFIG.model_copy(update={"validation_cases": 0})
    _, source, validator = build_run(config, folder)
    assert validator is None
    assert len(source.cases) == 2


def test_too_few_cases_are_refused_before_they_are_read(folder: Path) -> None:
    (folder / "imagesTr" / "case_1_0000.nii.gz").write_bytes(b"broken")
    config = CONFIG.model_copy(update={"validation_cases": 2})
    with pytest.raises(
        ConfigError, match=r"validation_cases = 2 leaves nothing to train on.*2 cases"
    ):
        build_run(config, folder)


def test_number_of_colours_must_fit(folder: Path) -> None:
    config = CONFIG.model_copy(update={"colors": ("#000000", "#ffffff")})
    with pytest.raises(ConfigError, match="colors has 2 entries, but there are 3 classes"):
        build_run(config, folder)


@pytest.mark.parametrize("n_classes", [2, 8, 30])
def test_palette_has_a_colour_for_each_class(n_classes: int) -> None:
    colors = palette(n_classes)
    assert len(set(colors)) == n_classes
    assert all(len(color) == 7 for color in colors)


def test_real_cases_are_read(tmp_path: Path, data_dir: Path) -> None:
    source = data_dir / "hippocampus"
    if not source.is_dir():
        pytest.skip("no hippocampus in the development data")
    for sub in ("imagesTr", "labelsTr"):
        (tmp_path / sub).mkdir()
    for path in sorted((source / "labels").glob("*.nii.gz"))[:2]:
        name = path.name.removesuffix(".nii.gz")
        (tmp_path / "labelsTr" / path.name).symlink_to(path)
        image = source / "images" / path.name
        (tmp_path / "imagesTr" / f"{name}_0000.nii.gz").symlink_to(image)
    describe(tmp_path, VERSION_2)
    case = prepare(tmp_path)
    assert case.image.shape[1:] == case.labels[0].shape
    assert set(np.unique(case.labels[0])) == {0, 1, 2}
    assert case.spacing == (1, 1, 1)
