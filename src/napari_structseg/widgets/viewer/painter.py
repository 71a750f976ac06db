"""Results of one engine, written into the plugin's layers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from napari_structseg.distributions import Region
from napari_structseg.session.messages import (
    ChangedLabels,
    Lines,
    MapRegion,
    Request,
    Result,
    SlabLabels,
    SliceLabels,
)
from napari_structseg.session.placement import placed, view_outside
from napari_structseg.session.resolve import of_labels
from napari_structseg.widgets.viewer.layers import ResultLayers


class Painter:
    """Knows which request each result answers, and what the labels layer holds.

    Parameters
    ----------
    layers
        To paint on.
    region
        The part of the image that results are of; None: all of it.
    """

    def __init__(self, layers: ResultLayers, region: Region | None) -> None:
        self._layers = layers
        self._region = region
        # Those that results are still to come for.
        self._requests: dict[int, Request] = {}
        # What the labels of the layer depend on where they are whole; None: they are a mixture.
        self._whole: Hashable = None

    def expect(self, generation: int, request: Request) -> None:
        """Take note of what the engine was asked for."""
        self._requests[generation] = request

    def forget(self) -> None:
        """Expect nothing more."""
        self._requests.clear()

    def is_whole(self, request: Request) -> bool:
        """Whether the layer holds all labels of a request."""
        return self._whole == of_labels(request)

    def paint(self, results: Sequence[Result]) -> None:
        """Write results into the layers."""
        newest = max((r.generation for r in results if isinstance(r, SliceLabels)), default=0)
        for own in results:
            request = self._requests[own.generation]
            result, view = own, request.view
            if self._region is not None:
                result, view = placed(own, self._region), view_outside(view, self._region)
            if isinstance(result, SliceLabels):
                # Slices pile up only while the main thread is busy: one of them is enough.
                if result.generation == newest:
                    self._layers.write_slice(result.region, result.labels)
                    self._note(request, is_last=False)
            elif isinstance(result, SlabLabels):
                self._layers.write_slab(result, view)
                self._note(request, is_last=result.done == result.total)
            elif isinstance(result, Lines):
                self._layers.write_lines(result)
            elif isinstance(result, MapRegion):
                self._layers.write_map(result, view)
            elif isinstance(result, ChangedLabels):
                self._layers.write_changes(result)
        if results:
            # Results come in the order of requests.
            for generation in [one for one in self._requests if one < results[-1].generation]:
                del self._requests[generation]

    def _note(self, request: Request, *, is_last: bool) -> None:
        """Note what the layer holds after some labels of a request were written."""
        key = of_labels(request)
        if is_last:
            self._whole = key
        elif key != self._whole:
            self._whole = None
