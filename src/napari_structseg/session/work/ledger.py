"""What has been delivered: one ledger for everything that the engine works on."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable

from napari_structseg.distributions import Region
from napari_structseg.session.messages import Request
from napari_structseg.session.resolve import KEYS, Part, alone


class Ledger:
    """What each part of the picture was last delivered for.

    A part is worked on when its key, by :data:`napari_structseg.session.resolve.KEYS`, is
    another than that of what is there. Parts that are written slab by slab have a
    :class:`SlabLedger` beside.

    Parameters
    ----------
    regions
        The slabs of every part that is written slab by slab.
    """

    def __init__(self, regions: dict[Part, Iterable[Region]]) -> None:
        self.done: dict[Part, Hashable] = {}
        self.slabs = {part: SlabLedger(its) for part, its in regions.items()}

    def wants(self, part: Part, request: Request) -> bool:
        """Whether a request wants a part that is not there."""
        key = KEYS[part](request)
        return key is not None and self.done.get(part) != key

    def wants_alone(self, part: Part, request: Request) -> bool:
        """Whether it is not even there as the model alone gives it.

        Where no MRF refines samples, that is whether it is not there.
        """
        return self.wants(part, request) and self.wants(part, alone(request))

    def note(self, part: Part, request: Request) -> None:
        """A part is delivered; with ``alone(request)``, as the model alone gives it."""
        self.done[part] = KEYS[part](request)

    def forget(self, *parts: Part) -> None:
        """These parts are no longer there; without any named, nothing is."""
        for part in parts or Part:
            self.done.pop(part, None)
            if part in self.slabs:
                self.slabs[part].clear()


class SlabLedger:
    """What each slab of a layer was last written for, as far as it holds one thing.

    Parameters
    ----------
    regions
        The slabs, along the first axis.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        self.regions = list(regions)
        self._held: list[Hashable] = [None] * len(self.regions)

    def missing(self, key: Hashable) -> list[int]:
        """Slabs that do not hold what a key stands for."""
        return [index for index, held in enumerate(self._held) if held != key]

    def note(self, index: int, key: Hashable) -> None:
        """A slab is written."""
        self._held[index] = key

    def touch(self, region: Region, key: Hashable) -> None:
        """A part of the layer is written: slabs that held something else hold a mixture now.

        Slices may be left out by the listener when a newer one comes, so none makes a slab whole.
        """
        for index, slab in enumerate(self.regions):
            is_hit = region[0].start < slab[0].stop and slab[0].start < region[0].stop
            if is_hit and self._held[index] != key:
                self._held[index] = None

    def clear(self) -> None:
        """Nothing is there now."""
        self._held = [None] * len(self.regions)


def size_of(region: Region) -> int:
    """Voxels of a slab."""
    return math.prod(part.stop - part.start for part in region)
