"""What is opened, for the dock, the command line, Python and the evaluation alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg.errors import ConfigError
from napari_structseg.image import Image
from napari_structseg.io.references import file_hash
from napari_structseg.models import HeadSpec
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.prediction.source import open_source
from napari_structseg.priors import PriorSpec
from nifti_files import save
from tiny_models import tiny_model

CPU = torch.device("cpu")


def test_a_model_carries_its_own_prior(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors", prior=PriorSpec(iterations=4))
    source = open_source(path, CPU)
    image = Image.from_array(np.random.default_rng(0).uniform(0.1, 1, (9, 8, 7)))
    assert source.path == path
    assert source.model is not None
    assert source.model.sha256 == file_hash(path)
    assert source.probabilities == {}
    assert source.iterations == 4
    assert source.region(image) is None
    prior = source.prior(image)
    assert prior is not None
    assert prior.n_classes == source.spec.n_classes


def test_maps_take_the_prior_and_the_names_of_a_model(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m.safetensors", prior=PriorSpec(iterations=4))
    maps = save(tmp_path / "maps.nii.gz", np.full((5, 6, 7, 4), 0.25, np.float32))
    plain = open_source(None, CPU, probabilities=[maps])
    assert plain.iterations is None
    assert plain.model is None
    assert plain.path == Path(maps)
    source = open_source(None, CPU, probabilities=[maps], prior=model)
    assert source.iterations == 4
    assert source.spec.class_names[1] == "CSF"
    assert source.prior_source is not None
    assert source.prior(source.predictor.maps) is not None


def test_slices_are_a_region_of_the_volume(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors", dimensions=2, head=HeadSpec(kind="point"))
    roi = RegionOfInterest(axis="z", start=2, count=3)
    source = open_source(path, CPU, roi=roi)
    image = Image.from_array(np.random.default_rng(0).uniform(0.1, 1, (9, 8, 7)))
    assert source.roi == roi
    assert source.region(image) == roi.region((9, 8, 7))
    assert source.prior(image) is None


def test_neither_and_both_are_refused(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match="No model was given"):
        open_source(None, CPU)
    with pytest.raises(ConfigError, match="but both came"):
        open_source(path, CPU, probabilities=["maps.nii.gz"])
    roi = RegionOfInterest(axis="z", start=2)
    with pytest.raises(ConfigError, match="Leave these options out"):
        open_source(None, CPU, probabilities=["maps.nii.gz"], roi=roi)
