"""What `structseg calibrate` found for a model, kept in its metadata."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_structseg.distributions import Spread
from napari_structseg.models.backbone_spec import FrozenSpec

ScoreName = Literal["likelihood", "crps", "ged"]
"""Proper scores: of the labels of voxels, of the volumes of classes, of whole segmentations."""

# The range of the controls, which are built on models.
_Scale = Annotated[float, Field(ge=0, le=3, allow_inf_nan=False)]
_Score = Annotated[float, Field(allow_inf_nan=False)]


class CalibrationSpec(FrozenSpec):
    """Temperature and class scales that fit labelled cases, and how they were found."""

    temperature: _Scale = Field(description="How far samples stray, all classes together.")
    class_scale: tuple[_Scale, ...] = Field(
        description="How far each class strays, in label order."
    )
    score: ScoreName = Field(description="The proper score that was minimised.")
    before: dict[str, _Score] = Field(description="Every score where all of these are 1.")
    after: dict[str, _Score] = Field(description="Every score with these, on the same cases.")
    data: str = Field("", max_length=200, description="Name of the data set.")
    cases: int = Field(ge=1, description="How many cases.")
    samples: int = Field(ge=2, description="Samples of each case.")
    seed: int = Field(ge=0, description="From which the seed of each case follows.")
    software: str = Field("", max_length=50, description="Version of napari-structseg.")

    @property
    def calibrated(self) -> Spread:
        """Where temperature and class scales start, to two decimals, as the sliders have them."""
        return Spread(round(self.temperature, 2), tuple(round(one, 2) for one in self.class_scale))
