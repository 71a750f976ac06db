"""Dropout in training and in prediction. Kendall et al., *Bayesian SegNet*, BMVC 2017."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from napari_structseg.models.backbone_spec import Frame
from napari_structseg.models.head_spec import Loss
from napari_structseg.models.kinds.finite import FiniteSpec
from napari_structseg.models.members import DropoutNetwork
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.priors import MarkovPrior


class DropoutSpec(FiniteSpec):
    """One member for each mask."""

    loss: ClassVar[Loss] = "masks"

    kind: Literal["dropout"] = Field("dropout", description="Several masks.")
    dropout: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5,
        description="Probability of dropout, in the three innermost blocks on the way down and up.",
    )

    @property
    def title(self) -> str:
        """The kind in words."""
        return f"dropout of {self.dropout:g} ({self.members} masks)"

    def build(self, frame: Frame, prior: MarkovPrior | None) -> SegmentationNetwork:
        """A U-Net with dropout."""
        return DropoutNetwork(frame, self.dropout, self.members, prior)
