"""Kinds of heads, one module each: fields, title, network, family of distributions, loss.

A new kind is a module here and an entry in :data:`AnyHead`. Only a new *family* of distributions
needs more: its maps, in `prediction.kinds`; and only a new loss, in `training.objective`.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Discriminator, Tag

from napari_structseg.models.head_spec import DEFAULT_KIND, register
from napari_structseg.models.kinds.dropout import DropoutSpec
from napari_structseg.models.kinds.ensemble import EnsembleSpec
from napari_structseg.models.kinds.heads import HeadsSpec
from napari_structseg.models.kinds.hierarchical import HierarchicalSpec
from napari_structseg.models.kinds.image2image_vae import ImageToImageSpec
from napari_structseg.models.kinds.latent import LatentSpec
from napari_structseg.models.kinds.low_rank import LowRankSpec
from napari_structseg.models.kinds.point import PointSpec

__all__ = [
    "AnyHead",
    "DropoutSpec",
    "EnsembleSpec",
    "HeadsSpec",
    "HierarchicalSpec",
    "ImageToImageSpec",
    "LatentSpec",
    "LowRankSpec",
    "PointSpec",
]


def _kind(head: object) -> str | None:
    """The kind that a file, or a specification, names."""
    if isinstance(head, dict):
        kind = head.get("kind", DEFAULT_KIND)
        return kind if isinstance(kind, str) else None
    return getattr(head, "kind", None)


AnyHead = Annotated[
    Annotated[PointSpec, Tag("point")]
    | Annotated[LowRankSpec, Tag("low_rank")]
    | Annotated[LatentSpec, Tag("latent")]
    | Annotated[HierarchicalSpec, Tag("hierarchical")]
    | Annotated[HeadsSpec, Tag("heads")]
    | Annotated[EnsembleSpec, Tag("ensemble")]
    | Annotated[DropoutSpec, Tag("dropout")]
    | Annotated[ImageToImageSpec, Tag("image2image_vae")],
    Discriminator(_kind),
]
"""The specification of any head, told apart by ``kind``; without one it is a low-rank normal."""

register(*(get_args(entry)[0] for entry in get_args(get_args(AnyHead)[0])))
