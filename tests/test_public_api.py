from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import napari_structseg
from conftest import REPOSITORY

PUBLIC = {
    "Controls",
    "Explorer",
    "explorer",
    "FiniteSet",
    "Geometry",
    "Image",
    "LatentDecoder",
    "LogitDistribution",
    "LowRankNormal",
    "RegionOfInterest",
    "ModelSpec",
    "Noise",
    "PointLogits",
    "Predictor",
    "Refinement",
    "Renderer",
    "SlicePredictor",
    "StructSegError",
    "__version__",
    "build_network",
    "calibrate",
    "distribution_of_tensors",
    "evaluate",
    "generalised_energy_distance",
    "load_mni152",
    "load_model",
    "make_controls",
    "predict",
    "predict_many",
    "prior_for",
    "read_channels",
    "read_image",
    "render_labels",
    "reproduce",
    "save_model",
    "train",
    "write_volume",
}


def test_no_public_name_is_lost() -> None:
    assert set(napari_structseg.__all__) == PUBLIC
    assert set(dir(napari_structseg)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(napari_structseg, name) is not None


def test_other_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segment_everything'"):
        _ = napari_structseg.segment_everything


def test_version_is_that_of_the_installed_package() -> None:
    assert napari_structseg.__version__ == version("napari-structseg")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, napari_structseg; print(*sorted(sys.modules))"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(finished.stdout.split())
    assert not loaded & {"torch", "napari", "qtpy", "numpy", "pydantic", "magicgui"}


def test_a_name_stays_what_it_is_when_its_module_is_imported() -> None:
    code = """
import napari_structseg.results.batch, napari_structseg.commands.predict
from napari_structseg import predict
print(predict.__module__)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "napari_structseg.results.batch"


def test_every_name_is_documented() -> None:
    page = (REPOSITORY / "docs" / "python-api.md").read_text(encoding="utf-8")
    assert [name for name in sorted(PUBLIC - {"__version__"}) if f"`{name}`" not in page] == []
