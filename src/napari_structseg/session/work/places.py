"""What the engine does for the Correct dock: one place, disputed regions, larger and smaller."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from napari_structseg.render.disputed import Disagreement, disagreement_of
from napari_structseg.render.local_hypotheses import local_hypotheses
from napari_structseg.render.volume_paths import VolumePaths
from napari_structseg.session.messages import (
    Disputed,
    HypothesesHere,
    LargerSmaller,
    Request,
    Result,
)
from napari_structseg.session.resolve import KEYS, Part, alone
from napari_structseg.session.work.counting import CountingWork
from napari_structseg.session.work.maps import samples_of


class PlaceWork(CountingWork):
    """Looks at places, in small steps; what is interrupted goes on for a request that needs it."""

    _begun: tuple[Hashable, Disagreement, Iterator[None]] | None = None
    _paths: tuple[Hashable, VolumePaths, Iterator[None]] | None = None

    def here(self, generation: int, request: Request) -> Iterator[Result]:
        """What the place that is asked for could be: at once, since somebody has clicked."""
        if request.here is None or not self._ledger.wants_alone(Part.HERE, request):
            return
        found = local_hypotheses(
            self._renderer.distribution,
            request.controls,
            request.here,
            self._voxel_volume_ml,
            request.n_grouped,
        )
        self._ledger.note(Part.HERE, alone(request))
        yield HypothesesHere(generation, found, request)

    def disputed(self, generation: int, request: Request) -> Iterator[Result | None]:
        """Disputed regions; None stands for a step with nothing to deliver yet."""
        if not self._ledger.wants_alone(Part.DISPUTED, request):
            return
        key = KEYS[Part.DISPUTED](alone(request))
        if self._begun is None or self._begun[0] != key:
            distribution = self._renderer.distribution
            disagreement = disagreement_of(
                distribution,
                samples_of(request, self._renderer),
                request.controls.weights_of(distribution),
                self._voxel_volume_ml,
            )
            self._begun = key, disagreement, disagreement.steps()
        _, disagreement, steps = self._begun
        yield from steps
        self._begun = None
        self._ledger.note(Part.DISPUTED, alone(request))
        regions = tuple(disagreement.regions())
        yield Disputed(generation, regions, disagreement.exact, request)

    def paths(self, generation: int, request: Request) -> Iterator[Result | None]:
        """The ways of all classes; None stands for a step with nothing to deliver yet."""
        if not self._ledger.wants(Part.PATHS, request):
            return
        key = KEYS[Part.PATHS](request)
        if self._paths is None or self._paths[0] != key:
            found = VolumePaths(
                self._renderer.distribution,
                request.controls,
                self._voxel_volume_ml,
                request.n_grouped,
            )
            self._paths = key, found, found.steps()
        _, found, steps = self._paths
        yield from steps
        self._paths = None
        self._ledger.note(Part.PATHS, request)
        yield LargerSmaller(generation, found.paths, request)
