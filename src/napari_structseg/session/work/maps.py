"""What is drawn over the picture: lines and maps of the visible slice, maps of the volume."""

from __future__ import annotations

import math
from collections.abc import Iterator

from napari_structseg.distributions import Noise
from napari_structseg.render.rendering import Renderer
from napari_structseg.render.summaries import noises_of, summarise
from napari_structseg.session.messages import Lines, MapRegion, Request, Result, Show
from napari_structseg.session.resolve import LINES, Part, alone, of_map
from napari_structseg.session.work.ledger import Ledger, size_of
from napari_structseg.session.work.overlays import (
    contour_sets,
    map_values,
    outline_sets,
    summarise_visible,
)


class MapWork:
    """The steps behind lines and maps.

    Parameters
    ----------
    renderer
        Of the distribution.
    ledger
        What has been delivered.
    """

    def __init__(self, renderer: Renderer, ledger: Ledger) -> None:
        self._renderer = renderer
        self._ledger = ledger

    def visible(self, generation: int, request: Request) -> Iterator[Result]:
        """What is drawn over the visible slice, as the model alone gives it."""
        if not self._ledger.wants_alone(Part.OVERLAY, request):
            return
        region = request.view.region(self._renderer.distribution.spatial_shape)
        overlay: Lines | MapRegion
        if request.show in LINES:
            trace = outline_sets if request.show is Show.OUTLINES else contour_sets
            overlay = Lines(generation, request.show, trace(self._renderer, request, region))
        else:
            values = map_values(summarise_visible(self._renderer, request, region), request.show)
            total = math.prod(self._renderer.distribution.spatial_shape)
            overlay = MapRegion(generation, request.show, region, values, 0, total)
            self._ledger.slabs[Part.MAP].touch(region, of_map(request))
        self._ledger.note(Part.OVERLAY, alone(request))
        yield overlay

    def volume(self, generation: int, request: Request) -> Iterator[Result]:
        """The map of the slabs that hold another one, where the whole volume is seen."""
        if not self._ledger.wants(Part.MAP, request):
            return
        key, held = of_map(request), self._ledger.slabs[Part.MAP]
        distribution, missing = self._renderer.distribution, held.missing(key)
        weights = request.controls.weights_of(distribution)
        noises = samples_of(request, self._renderer)
        total = math.prod(distribution.spatial_shape)
        done = total - sum(size_of(held.regions[index]) for index in missing)
        for index in missing:
            region = held.regions[index]
            values = map_values(summarise(distribution, noises, weights, region), request.show)
            held.note(index, key)
            done += values.size
            yield MapRegion(generation, request.show, region, values, done, total)


def samples_of(request: Request, renderer: Renderer) -> tuple[Noise, ...]:
    """All samples of the series that a request counts, as the distribution sees them."""
    controls, distribution = request.controls, renderer.distribution
    drawn = noises_of(controls.seed, request.n_samples)
    return tuple(controls.tempered(noise, distribution) for noise in drawn)
