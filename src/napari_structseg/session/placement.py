"""Between the voxels of an image and those of the region that a distribution is of."""

from __future__ import annotations

from dataclasses import replace

from napari_structseg.distributions import Region
from napari_structseg.session.messages import (
    ChangedLabels,
    Disputed,
    HypothesesHere,
    Lines,
    MapRegion,
    Result,
    SlabLabels,
    SliceLabels,
    View,
)


def view_inside(view: View, region: Region) -> View:
    """The view as the region sees it: its nearest slice, counted from its own first one."""
    if len(region) == 2:
        return view
    part = region[view.axis]
    position = min(max(view.position, part.start), part.stop - 1)
    return replace(view, position=position - part.start)


def view_outside(view: View, region: Region) -> View:
    """The view of the region as the image sees it."""
    if len(region) == 2:
        return view
    return replace(view, position=view.position + region[view.axis].start)


def placed(result: Result, region: Region) -> Result:
    """A result about the region, in the coordinates of the image."""
    starts = [part.start for part in region]
    if isinstance(result, Lines):
        sets = tuple(replace(one, segments=one.segments + starts) for one in result.sets)
        return replace(result, sets=sets)
    if isinstance(result, HypothesesHere):
        place = result.hypotheses.place.outside(region)
        return replace(result, hypotheses=replace(result.hypotheses, place=place))
    if isinstance(result, Disputed):
        return replace(result, regions=tuple(one.outside(region) for one in result.regions))
    if isinstance(result, SliceLabels | SlabLabels | MapRegion | ChangedLabels):
        moved = tuple(
            slice(part.start + start, part.stop + start)
            for part, start in zip(result.region, starts, strict=True)
        )
        return replace(result, region=moved)
    return result
