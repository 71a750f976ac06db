"""What a segment is in files that hold several: a name, a colour, and where its voxels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_structseg.models import ClassSpec
from napari_structseg.render.hypotheses import Hypotheses


@dataclass(frozen=True, slots=True)
class Segment:
    """One class of one labelling.

    Attributes
    ----------
    name
        As it is listed.
    color
        As #rrggbb.
    label
        Its value in the labelling.
    layer
        Which of several labellings.
    class_name
        What it is of; in files that have codes for it.
    """

    name: str
    color: str
    label: int
    layer: int = 0
    class_name: str = ""


def segments_of(classes: Sequence[ClassSpec]) -> list[Segment]:
    """The segments of one labelling: every class but the background, also where it is empty."""
    return [
        Segment(one.name, one.color, label, class_name=one.name)
        for label, one in enumerate(classes)
        if label
    ]


def segments_of_modes(classes: Sequence[ClassSpec], found: Hypotheses) -> list[Segment]:
    """The segments of hypotheses: layer k is the representative of mode k.

    Their names say how frequent a mode is.
    """
    return [
        Segment(
            f"{mode.name} ({len(mode.samples)} of {mode.of} samples): {one.name}",
            one.color,
            one.label,
            layer,
            one.class_name,
        )
        for layer, mode in enumerate(found.modes)
        for one in segments_of(classes)
    ]
