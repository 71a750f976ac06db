"""Labels of the model alone: the visible slice, and the volume slab by slab."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator

import numpy as np
import numpy.typing as npt

from napari_structseg.render.rendering import Renderer
from napari_structseg.render.summaries import class_volumes
from napari_structseg.session.messages import (
    ClassVolumes,
    Request,
    Result,
    SlabLabels,
    SliceLabels,
)
from napari_structseg.session.resolve import KEYS, Part
from napari_structseg.session.work.counting import CountingWork
from napari_structseg.session.work.ledger import Ledger, size_of


class PlainWork(CountingWork):
    """The steps behind a request in which nothing refines the labels."""

    def __init__(self, renderer: Renderer, voxel_volume_ml: float, ledger: Ledger) -> None:
        super().__init__(renderer, voxel_volume_ml, ledger)
        # Of each class in each slab of the last pass: they outlast what is written over it.
        self._voxels: dict[int, npt.NDArray[np.float64]] = {}
        self._counted: Hashable = None
        self._seconds = 0.0

    def visible(self, generation: int, request: Request) -> Iterator[Result]:
        """The visible slice."""
        started = time.perf_counter()
        region = request.view.region(self._renderer.distribution.spatial_shape)
        labels = self._renderer.visible_labels(request.controls, region)
        self._ledger.slabs[Part.VOLUME].touch(region, KEYS[Part.VOLUME](request))
        yield SliceLabels(generation, region, labels, time.perf_counter() - started)

    def volume(self, generation: int, request: Request) -> Iterator[Result]:
        """Labels of the slabs that hold others, and then the volumes of the classes."""
        key, held = KEYS[Part.VOLUME](request), self._ledger.slabs[Part.VOLUME]
        if self._counted != key:
            self._counted = key
            self._voxels.clear()
            self._seconds = 0.0
        # A slab may hold the right labels since before another pass, which began, was counted.
        uncounted = set(range(len(held.regions))) - self._voxels.keys()
        missing = sorted(uncounted | set(held.missing(key)))
        total = math.prod(self._renderer.distribution.spatial_shape)
        left = sum(size_of(held.regions[index]) for index in missing)
        started = time.perf_counter()
        rendered = self._renderer.volume_labels(request.controls, missing)
        for index, (region, labels) in zip(missing, rendered, strict=True):
            n_classes = self._renderer.distribution.n_classes
            self._voxels[index] = class_volumes(labels, n_classes, 1)
            left -= labels.size
            held.note(index, key)
            self._seconds += time.perf_counter() - started
            yield SlabLabels(generation, region, labels, total - left, total)
            started = time.perf_counter()
        if self._ledger.wants(Part.CLASS_VOLUMES, request):
            self._ledger.note(Part.CLASS_VOLUMES, request)
            yield ClassVolumes(generation, self.volumes_ml(), self._seconds, request, refined=False)

    def volumes_ml(self) -> npt.NDArray[np.float64]:
        """Volumes of the classes, mL, ``(C,)``, as :meth:`volume` has last counted them."""
        # Whole numbers have no rounding error, in whatever order they are added.
        voxels: npt.NDArray[np.float64] = np.sum(list(self._voxels.values()), axis=0)
        return voxels * self._voxel_volume_ml
