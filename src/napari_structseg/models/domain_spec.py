"""What images a model was made for: ranges of a few statistics, kept in its metadata."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_structseg.models.backbone_spec import FrozenSpec

StatisticName = Literal[
    "dark end",
    "middle",
    "bright end",
    "brightness",
    "data at the edge",
    "tissue at the edge",
    "volume",
    "entropy",
]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class SeenSpec(FrozenSpec):
    """A statistic, what was seen of it, and what is accepted."""

    name: StatisticName = Field(description="Which, see docs/calibration.md.")
    of: str = Field("", max_length=200, description="Of which class or channel.")
    unit: Literal["", "%", "nats", "mL", "mm²"] = Field("", description="Of the numbers.")
    seen: tuple[_Finite, _Finite] = Field(description="Least and largest in the cases.")
    low: _Finite | None = Field(None, description="Less is outside; None: nothing is too little.")
    high: _Finite = Field(description="More is outside.")


class DomainSpec(FrozenSpec):
    """The statistics of cases that a model serves; an image far from them is outside."""

    statistics: tuple[SeenSpec, ...] = Field(min_length=1, max_length=4096)
    data: str = Field("", max_length=200, description="Name of the data set.")
    cases: int = Field(ge=1, description="How many cases.")
    software: str = Field("", max_length=50, description="Version of napari-structseg.")
