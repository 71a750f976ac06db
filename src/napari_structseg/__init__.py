"""Explore the uncertainty of medical image segmentation, in napari and without a window.

What is named here is the public Python API; see docs/python-api.md. Every name is imported when
it is first used: importing the package alone loads neither torch nor napari.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_structseg.calibration.run import calibrate
    from napari_structseg.cohort.models_on_data import evaluate
    from napari_structseg.controls import Controls
    from napari_structseg.distributions import (
        FiniteSet,
        LatentDecoder,
        LogitDistribution,
        LowRankNormal,
        Noise,
        PointLogits,
    )
    from napari_structseg.errors import StructSegError
    from napari_structseg.evaluation import generalised_energy_distance
    from napari_structseg.image import Geometry, Image
    from napari_structseg.io.channels import read_channels
    from napari_structseg.io.images import read_image
    from napari_structseg.io.nifti import write_volume
    from napari_structseg.io.weights import save_weights as save_model
    from napari_structseg.many.run import predict_many
    from napari_structseg.models import ModelSpec, build_network
    from napari_structseg.named_controls import make_controls
    from napari_structseg.prediction.predictor import Predictor, prior_for
    from napari_structseg.prediction.region_of_interest import RegionOfInterest
    from napari_structseg.prediction.slices import SlicePredictor
    from napari_structseg.prediction.tensors import distribution_of_tensors
    from napari_structseg.refine.labels import render_labels
    from napari_structseg.refine.refinement import Refinement
    from napari_structseg.render.rendering import Renderer
    from napari_structseg.results.batch import load_model, predict, reproduce
    from napari_structseg.sample_data import load_mni152
    from napari_structseg.training.train import train
    from napari_structseg.widgets.explorer import Explorer, explorer

    __version__: str

__all__ = [
    "Controls",
    "Explorer",
    "FiniteSet",
    "Geometry",
    "Image",
    "LatentDecoder",
    "LogitDistribution",
    "LowRankNormal",
    "ModelSpec",
    "Noise",
    "PointLogits",
    "Predictor",
    "Refinement",
    "RegionOfInterest",
    "Renderer",
    "SlicePredictor",
    "StructSegError",
    "__version__",
    "build_network",
    "calibrate",
    "distribution_of_tensors",
    "evaluate",
    "explorer",
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
]

# Public name: module, and the name it has there.
_SOURCES = {
    "Controls": ("controls", "Controls"),
    "FiniteSet": ("distributions", "FiniteSet"),
    "Geometry": ("image", "Geometry"),
    "Image": ("image", "Image"),
    "LatentDecoder": ("distributions", "LatentDecoder"),
    "LogitDistribution": ("distributions", "LogitDistribution"),
    "LowRankNormal": ("distributions", "LowRankNormal"),
    "RegionOfInterest": ("prediction.region_of_interest", "RegionOfInterest"),
    "ModelSpec": ("models", "ModelSpec"),
    "Noise": ("distributions", "Noise"),
    "PointLogits": ("distributions", "PointLogits"),
    "Predictor": ("prediction.predictor", "Predictor"),
    "Refinement": ("refine.refinement", "Refinement"),
    "Renderer": ("render.rendering", "Renderer"),
    "SlicePredictor": ("prediction.slices", "SlicePredictor"),
    "StructSegError": ("errors", "StructSegError"),
    "Explorer": ("widgets.explorer", "Explorer"),
    "explorer": ("widgets.explorer", "explorer"),
    "build_network": ("models", "build_network"),
    "calibrate": ("calibration.run", "calibrate"),
    "distribution_of_tensors": ("prediction.tensors", "distribution_of_tensors"),
    "evaluate": ("cohort.models_on_data", "evaluate"),
    "generalised_energy_distance": ("evaluation", "generalised_energy_distance"),
    "load_mni152": ("sample_data", "load_mni152"),
    "load_model": ("results.batch", "load_model"),
    "make_controls": ("named_controls", "make_controls"),
    "predict": ("results.batch", "predict"),
    "predict_many": ("many.run", "predict_many"),
    "prior_for": ("prediction.predictor", "prior_for"),
    "read_channels": ("io.channels", "read_channels"),
    "read_image": ("io.images", "read_image"),
    "render_labels": ("refine.labels", "render_labels"),
    "reproduce": ("results.batch", "reproduce"),
    "save_model": ("io.weights", "save_weights"),
    "train": ("training.train", "train"),
    "write_volume": ("io.nifti", "write_volume"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- whatever the name stands for
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-structseg")
    if name not in _SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, its_name = _SOURCES[name]
    return getattr(import_module(f"{__name__}.{module}"), its_name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
