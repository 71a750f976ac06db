"""What all heads share whose samples are a finite set."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from napari_structseg.models.head_spec import Family, HeadSpec


class FiniteSpec(HeadSpec):
    """A finite set of segmentations, all equally probable."""

    family: ClassVar[Family] = "members"

    members: Annotated[int, Field(ge=2, le=100)] = Field(
        4, description="Members of the finite set."
    )

    @property
    def n_members(self) -> int:
        """Members of the finite set."""
        return self.members
