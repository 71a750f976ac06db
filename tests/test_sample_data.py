from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from napari_structseg.io.nifti import write_volume
from napari_structseg.sample_data import load_mni152, load_mni152_tissue_maps, mni152


def test_without_nilearn_the_message_says_what_to_install() -> None:
    code = """
import sys
sys.modules["nilearn"] = None
from napari_structseg.errors import InputError
from napari_structseg.sample_data import mni152
try:
    mni152()
except InputError as error:
    print(error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 'pip install "napari-structseg[demo]"' in finished.stdout


class TestWithNilearn:
    @pytest.fixture(autouse=True)
    def _nilearn(self) -> None:
        pytest.importorskip("nilearn")

    def test_brain_is_the_one_millimetre_grid(self) -> None:
        image = load_mni152()
        assert image.data.shape == (1, 189, 233, 197)
        assert image.data.dtype == np.uint8
        assert image.spacing == (1, 1, 1)
        assert (image.name, image.channels) == ("MNI152 T1", ("T1",))
        # The origin, the anterior commissure, lies inside the brain.
        z, y, x = np.linalg.solve(image.geometry.affine, (0, 0, 0, 1))[:3].astype(int)
        assert image.data[0, z, y, x] > 0

    def test_sample_is_one_image_layer(self) -> None:
        ((data, settings, kind),) = mni152()
        assert kind == "image"
        assert data.shape == (189, 233, 197)
        assert settings["name"] == "MNI152 T1"
        assert settings["metadata"]["structseg_image"].channels == ("T1",)

    def test_tissue_maps_are_probabilities_on_the_grid_of_the_brain(self) -> None:
        image, maps = load_mni152(), load_mni152_tissue_maps()
        assert set(maps) == {"gm", "wm"}
        for probability in maps.values():
            assert probability.dtype == np.float32
            assert probability.shape == image.spatial_shape
            assert probability.min() == 0
            assert probability.max() == 1
        # White matter is the brighter tissue of a T1, which it is only where the maps overlay.
        means = [image.data[0][maps[name] > 0.9].mean() for name in ("gm", "wm")]
        assert means[0] < means[1]

    def test_labels_of_the_brain_overlay_it(self, tmp_path) -> None:
        image = load_mni152()
        labels = (image.data[0] > 128).astype(np.uint8)
        write_volume(tmp_path / "labels.nii.gz", labels, image.geometry, dtype=np.uint8)
        nifti = nib.load(tmp_path / "labels.nii.gz")
        assert nifti.shape == (197, 233, 189)
        assert np.array_equal(nifti.affine, image.geometry.file_affine)
        assert int(np.asarray(nifti.dataobj).sum()) == int(labels.sum())
