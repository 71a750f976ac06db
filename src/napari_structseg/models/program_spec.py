"""What a program of another origin is: its file, what it is shown, and what it returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from napari_structseg.models.backbone_spec import FrozenSpec, PositiveInt

ProgramKind = Literal["torchscript", "export"]
Key = Annotated[int, Field(ge=0, le=63)] | Annotated[str, Field(min_length=1, max_length=64)]

MAX_PROGRAM_BYTES = 1 << 32
_Finite = Annotated[float, Field(allow_inf_nan=False)]
# Axes x, y and z, as medical images call the directions that they run to.
_RAS = "RAS"


class OutputsSpec(FrozenSpec):
    """Where the parameters are in what a program returns, and how they are laid out.

    Entries of a tuple are named by their number, those of a dict by their key.
    """

    mean: Key | None = Field(
        None, description="Logits; None: the first entry, or 'mean' or 'logits'."
    )
    diagonal: Key | None = Field(None, description="None: the second entry, or 'diagonal'.")
    factor: Key | None = Field(None, description="None: the third entry, or 'factor'.")
    features: Key | None = Field(
        None, description="What a head that is learned here reads; None: image and logits."
    )
    values: Literal["logits", "probabilities"] = Field(
        "logits", description="What the mean is: before softmax or after it."
    )
    diagonal_is: Literal["variance", "log_variance"] = Field(
        "variance", description="What the diagonal is."
    )
    factor_order: Literal["rank_class", "class_rank"] = Field(
        "rank_class", description="Which of the two runs slower in the factor."
    )

    @model_validator(mode="after")
    def _spread_needs_logits(self) -> OutputsSpec:
        if self.values == "probabilities" and (
            self.diagonal is not None or self.factor is not None
        ):
            raise ValueError("factor and diagonal are of logits, but values = 'probabilities'")
        return self


class ProgramSpec(FrozenSpec):
    """A TorchScript or torch.export program in the place of a network of ours.

    Attributes
    ----------
    kind
        Which of the two.
    n_bytes
        Size of its file, which is kept inside the model's.
    """

    kind: ProgramKind = Field(description="torchscript (.pt) or export (.pt2).")
    n_bytes: Annotated[int, Field(gt=0, le=MAX_PROGRAM_BYTES)] = Field(
        description="Size of the program, which is a tensor of the model's file."
    )
    n_outputs: PositiveInt = Field(
        description="Channels that it returns as mean: as many as classes, or 1 of two classes."
    )
    n_features: Annotated[int, Field(ge=0, le=65536)] = Field(
        0, description="Channels of its features; 0: it returns none."
    )
    head_is_own: bool = Field(
        False, description="Whether factor and diagonal are of a head that was learned here."
    )
    sizes: Literal["patch", "multiple"] = Field(
        "patch",
        description="What sizes it takes: the patch alone, or any multiple of the divisor.",
    )
    divisor: Annotated[int, Field(gt=0, le=1024)] = Field(
        1, description="Sizes along each axis are multiples of it."
    )
    overlap: Annotated[float, Field(ge=0, le=0.75)] = Field(
        0.5, description="Share of a tile that the next one overlaps along each axis."
    )
    axes: Literal["zyx", "xyz"] = Field(
        "zyx", description="Order of the spatial axes that it is shown."
    )
    orientation: Annotated[str, Field(pattern="^[RL][AP][SI]$")] = Field(
        _RAS, description="Directions that the axes x, y and z run to, where it is shown volumes."
    )
    span: tuple[_Finite, _Finite] = Field(
        (0.0, 1.0), description="What the ends of the intensity range become, in place of 0 and 1."
    )
    outputs: OutputsSpec = OutputsSpec()

    @model_validator(mode="after")
    def _span_ascends(self) -> ProgramSpec:
        if self.span[0] >= self.span[1]:
            raise ValueError(f"span must be two ascending numbers, but it is {self.span}")
        return self

    def flips(self, dimensions: int) -> list[int]:
        """Axes, as negative numbers, that run the other way round than ours in RAS.

        Images are mirrored to RAS before a network sees them.
        """
        if dimensions != 3:
            return []
        # x is the last axis of our arrays.
        return [
            -1 - axis
            for axis, (theirs, ours) in enumerate(zip(self.orientation, _RAS, strict=True))
            if theirs != ours
        ]

    def tile(self, patch: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
        """Size of a tile for a field of a shape: never larger than the patch.

        Parameters
        ----------
        patch
            Of the model.
        shape
            Of the field, in multiples of the divisor.
        """
        if self.sizes == "patch":
            return tuple(patch)
        sizes = zip(patch, shape, strict=True)
        return tuple(min(self.whole(ours), theirs) for ours, theirs in sizes)

    def whole(self, size: int) -> int:
        """The next size that it takes."""
        return math.ceil(size / self.divisor) * self.divisor
