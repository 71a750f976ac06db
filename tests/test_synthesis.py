from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from napari_structseg.errors import ConfigError, InputError
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.input.acquisition import acquired
from napari_structseg.training.input.head_shape import with_other_sulci
from napari_structseg.training.input.label_maps import TISSUE_NAMES, LabelMap, tissue_table
from napari_structseg.training.input.synthesis import BrainSynthesis
from napari_structseg.training.input.synthesis_settings import SynthesisSettings
from napari_structseg.training.sources import build_run

CONFIG = TrainConfig(
    name="brain",
    dimensions=3,
    source="brain-label-maps",
    patch=(12, 12, 12),
    spacing=(1.0, 1.0, 1.0),
    validation_cases=1,
)


def head(size: int = 28) -> np.ndarray:
    """Shells of FreeSurfer labels: skull, CSF, cortex, white matter, a ventricle."""
    z, y, x = np.mgrid[:size, :size, :size] - (size - 1) / 2
    radius = np.sqrt(z**2 + y**2 + x**2)
    labels = np.zeros((size,) * 3, np.int64)
    for limit, label in ((13, 502), (12, 24), (10, 3), (7, 2), (3, 4)):
        labels[radius < limit] = label
    labels[(labels == 3) & (x > 0)] = 42
    labels[(labels == 2) & (x > 0)] = 41
    return labels


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_tissues_of_freesurfer_labels() -> None:
    values = np.array([0, 2, 3, 4, 10, 16, 24, 41, 42, 43, 502])
    assert list(tissue_table(values)) == [0, 3, 2, 1, 2, 3, 1, 3, 2, 1, 0]


def test_label_map_is_cropped_and_renumbered() -> None:
    labels = np.pad(head(), ((3, 5), (0, 4), (2, 0)))
    label_map = LabelMap.from_freesurfer(labels)
    assert list(label_map.values) == [0, 2, 3, 4, 24, 41, 42, 502]
    assert label_map.labels.dtype == np.uint8
    # The head is 26 voxels wide; a rim of background stays.
    assert label_map.labels.shape == (28, 28, 28)
    assert np.array_equal(label_map.values[label_map.labels], head())
    tissue = tissue_table(label_map.values)[label_map.labels]
    assert np.array_equal(np.flatnonzero(tissue), label_map.brain_voxels)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros((4, 4, 4), int), "every voxel is 0"),
        (np.full((4, 4, 4), 999), "must use FreeSurfer's numbers.*999"),
        (np.arange(512).reshape(8, 8, 8), "holds 512. Is it an image"),
    ],
)
def test_map_that_is_no_brain_is_refused(labels, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        LabelMap.from_freesurfer(labels)


@pytest.mark.parametrize("size", [(12, 12, 12), (9, 16, 7)])
def test_patch_has_the_promised_form(size: tuple[int, ...]) -> None:
    source = BrainSynthesis([LabelMap.from_freesurfer(head())], size)
    for seed in range(8):
        image, tissue = source.patch(rng(seed))
        assert image.shape == (1, *size)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1
        assert tissue.shape == size
        assert tissue.dtype == np.uint8
        assert tissue.max() < len(TISSUE_NAMES)
        # A patch is centred on the brain, but skull stripping may take its CSF away.
        assert image.std() > 0


def test_patch_depends_on_the_generator_alone() -> None:
    source = BrainSynthesis([LabelMap.from_freesurfer(head())], (12, 12, 12))
    first = source.patch(rng(3))
    source.patch(rng(4))
    again = source.patch(rng(3))
    other = source.patch(rng(5))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_stripped_images_are_exactly_0_away_from_the_brain() -> None:
    settings = SynthesisSettings(
        stripped_probability=1, loosely_stripped_probability=0, cut_probability=0, noise=0
    )
    source = BrainSynthesis([LabelMap.from_freesurfer(head())], (28, 28, 28), settings)
    exact = 0
    for seed in range(12):
        image, tissue = source.patch(rng(seed))
        assert (tissue > 0).any()
        # A mask ends at most 3 voxels from the brain, and smoothing moves it a little.
        near = ndimage.binary_dilation(tissue > 0, iterations=6)
        assert not image[0][~near].any()
        assert image[0][tissue > 0].min() > 0
        exact += not image[0][tissue == 0].any()
    assert 0 < exact < 12


def test_field_of_view_ends_in_a_plane() -> None:
    settings = SynthesisSettings(stripped_probability=0, cut_probability=1, noise=0)
    source = BrainSynthesis([LabelMap.from_freesurfer(head())], (28, 28, 28), settings)
    for seed in range(6):
        image, tissue = source.patch(rng(seed))
        removed = image[0] == 0
        assert 0 < removed.mean() < 1
        assert not tissue[removed].any()


def test_sulci_are_wider_or_narrower_at_the_border_of_cortex_and_csf_only() -> None:
    label_map = LabelMap.from_freesurfer(head())
    both = set()
    for seed in range(24):
        changed = with_other_sulci(label_map.labels, label_map.values, rng(seed))
        where = changed != label_map.labels
        before = label_map.values[label_map.labels[where]]
        after = label_map.values[changed[where]]
        both |= set(zip(before.tolist(), after.tolist(), strict=True))
        csf = label_map.values[label_map.labels] == 24
        cortex = np.isin(label_map.values[label_map.labels], (3, 42))
        border = ndimage.binary_dilation(csf) & ndimage.binary_dilation(cortex)
        assert not where[~border].any()
    assert both == {(3, 24), (42, 24), (24, 3), (24, 42)}


def test_thick_slices_leave_no_detail_along_their_axis() -> None:
    settings = SynthesisSettings(
        thick_probability=1, bias=0, noise=0, stripped_probability=0, cut_probability=0
    )
    fine = rng(1).standard_normal((24, 24, 24)).astype(np.float32) + 5
    for seed in range(4):
        coarse = acquired(fine, settings, rng(seed))
        rough = [np.abs(np.diff(coarse, n=2, axis=axis)).mean() for axis in range(3)]
        assert min(rough) < 0.6 * max(rough)


def test_loose_stripping_leaves_a_rim_that_is_no_brain() -> None:
    settings = SynthesisSettings(
        stripped_probability=1, loosely_stripped_probability=1, cut_probability=0
    )
    source = BrainSynthesis([LabelMap.from_freesurfer(head())], (28, 28, 28), settings)
    image, tissue = source.patch(rng(0))
    rim = (image[0] != 0) & (tissue == 0)
    assert 0 < rim.sum() < (tissue > 0).sum()


def test_white_matter_is_brighter_than_grey_in_t1_order() -> None:
    settings = SynthesisSettings(
        t1_order_probability=1,
        noise=0.01,
        bias=0,
        blur=0.3,
        stripped_probability=0,
        cut_probability=0,
        thick_probability=0,
        coarse_probability=0,
    )
    source = BrainSynthesis([LabelMap.from_freesurfer(head())], (24, 24, 24), settings)
    for seed in range(6):
        image, tissue = source.patch(rng(seed))
        csf, grey, white = (image[0][tissue == label].mean() for label in (1, 2, 3))
        assert csf < grey < white


def test_no_map_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one label map"):
        BrainSynthesis([], (4, 4, 4))


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Three maps; each says in its white matter which one it is. Stored right to left."""
    for index in range(3):
        labels = head()
        labels[labels == 4] = (4, 5, 14)[index]
        affine = np.diag([-1.0, 1, 1, 1])
        path = tmp_path / f"map_{index}.nii.gz"
        nib.save(nib.Nifti1Image(labels.T.astype(np.int16), affine), path)
    return tmp_path


def test_run_on_label_maps_holds_out_the_last(maps: Path) -> None:
    spec, source, validator = build_run(CONFIG, maps)
    assert spec.channels == ("T1-like",)
    assert spec.class_names == TISSUE_NAMES
    assert [4 in m.values for m in source.maps] == [True, False]
    assert [5 in m.values for m in source.maps] == [False, True]
    assert validator is not None


def test_maps_are_brought_to_one_orientation(maps: Path) -> None:
    _, source, _ = build_run(CONFIG, maps)
    label_map = source.maps[0]
    expected = head()[:, :, ::-1]
    assert np.array_equal(label_map.values[label_map.labels], expected)


def test_validation_on_synthetic_patches_repeats_itself(maps: Path) -> None:
    import torch

    from napari_structseg.models import build_network

    scores = []
    for _ in range(2):
        spec, _, validator = build_run(CONFIG, maps)
        torch.manual_seed(0)
        network = build_network(spec).eval()
        scores.append(validator(network, 2).dice)
    assert scores[0] == scores[1]
    assert set(scores[0]) <= set(TISSUE_NAMES[1:])
    assert all(0 <= value <= 1 for value in scores[0].values())


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (
            "map_1.nii.gz",
            np.full((4, 4, 4), 999, np.int16),
            r"map_1.nii.gz: .*FreeSurfer's numbers",
        ),
        ("map_1.nii.gz", np.full((4, 4, 4), 0.5, np.float32), r"map_1.nii.gz must be a 3-D map"),
        ("map_1.nii.gz", np.ones((4, 4), np.int16), r"map_1.nii.gz must be .* it is 2-D"),
    ],
)
def test_map_that_cannot_be_used_is_named(maps: Path, name: str, data, reason: str) -> None:
    nib.save(nib.Nifti1Image(data, np.eye(4)), maps / name)
    with pytest.raises(InputError, match=reason):
        build_run(CONFIG, maps)


def test_too_few_maps_are_refused(maps: Path) -> None:
    config = CONFIG.model_copy(update={"validation_cases": 3})
    with pytest.raises(ConfigError, match="leaves nothing to train on"):
        build_run(config, maps)


def test_folder_without_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no label maps"):
        build_run(CONFIG, tmp_path)


def test_real_label_map_gives_a_brain(data_dir: Path) -> None:
    files = sorted((data_dir / "synthseg_label_maps").glob("*.nii.gz"))
    if not files:
        pytest.skip("no label maps in the development data")
    labels = np.asanyarray(nib.load(files[0]).dataobj).astype(np.int64)
    label_map = LabelMap.from_freesurfer(labels)
    image, tissue = BrainSynthesis([label_map], (48, 48, 48)).patch(rng())
    assert set(np.unique(tissue)) == {0, 1, 2, 3}
    assert image.std() > 0.05
