"""What a backbone is, in words, and the frame that a network is built in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Numbers from a file are bounded before a network is built of them: nobody needs more.
PositiveInt = Annotated[int, Field(gt=0, le=65536)]
Convolutions = Annotated[int, Field(gt=0, le=32)]
MAX_LEVELS = 12


class FrozenSpec(BaseModel):
    """A part of a specification: nothing is added to it, and nothing of it changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneSpec(FrozenSpec):
    """A U-Net: widths from the finest level to the coarsest."""

    kind: Literal["unet"] = Field("unet", description="The architecture.")
    widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64, 128),
        min_length=1,
        max_length=MAX_LEVELS,
        description="Feature channels of each level.",
    )
    convolutions: tuple[Convolutions, ...] = Field(
        (2, 2, 2, 2),
        max_length=MAX_LEVELS,
        description="Convolutions of each level, on the way down and up.",
    )
    norm: Literal["instance", "batch", "weight", "none"] = Field(
        "instance",
        description="Normalisation of each convolution: of what comes out of it, by the image or "
        "by the batch, or of its weights.",
    )

    @property
    def norm_for_averages(self) -> Literal["batch", "weight", "none"]:
        """The normalisation of nets that speak of averages over space, such as latents.

        From each channel, instance normalisation would take away that average: they have none.
        """
        return "none" if self.norm == "instance" else self.norm

    @model_validator(mode="after")
    def _levels_agree(self) -> BackboneSpec:
        if len(self.convolutions) != len(self.widths):
            raise ValueError(
                f"widths has {len(self.widths)} levels and convolutions has "
                f"{len(self.convolutions)}: give one number of convolutions per level"
            )
        return self


@dataclass(frozen=True, slots=True)
class Frame:
    """What every network is built in, whatever its head.

    Attributes
    ----------
    dimensions
        2 or 3.
    n_channels
        Channels of the image.
    n_classes
        Classes C, background included.
    backbone
        The U-Net.
    """

    dimensions: int
    n_channels: int
    n_classes: int
    backbone: BackboneSpec
