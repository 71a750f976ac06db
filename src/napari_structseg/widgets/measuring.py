"""What is known of the sizes of what is shown in a viewer, for the Measure dock."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_structseg.distributions import region_shape
from napari_structseg.errors import Cancelled, InputError
from napari_structseg.results.measurements import Agreement, Measurements, compared, measured
from napari_structseg.session.messages import (
    ClassVolumes,
    RefinedProgress,
    Request,
    Result,
    VolumeSpread,
)
from napari_structseg.session.resolve import KEYS, Part, of_all_samples, of_refined_samples
from napari_structseg.session.work.whole import WholeLabels
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.correcting.correcting import Correcting
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.keeping import in_words
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.parts.measure import Measure, measure_of
from napari_structseg.widgets.threads.background import Background


@dataclass(frozen=True, slots=True)
class Currency:
    """Whether what is known is of what is wanted now."""

    shown: bool
    samples: bool
    agreement: bool


@dataclass(frozen=True, slots=True)
class _Comparing:
    labels: WholeLabels
    stop: threading.Event
    background: Background[tuple[Agreement, ...] | None]


class Measuring:
    """Notes sizes as they come, and compares the user's result with what is shown.

    ``changed()`` is emitted in the main thread when anything of it is another.

    Parameters
    ----------
    controller
        Tells what is shown, and what was computed of it.
    correcting
        Has the user's own result.
    """

    changed = Signal()

    def __init__(self, controller: Controller, correcting: Correcting) -> None:
        self._controller = controller
        self._correcting = correcting
        self._volumes: ClassVolumes | None = None
        # Over samples of the model alone, and over those that the MRF refined.
        self._alone: VolumeSpread | None = None
        self._refined: VolumeSpread | None = None
        self._progress: RefinedProgress | None = None
        # Of which labels and which state of the result.
        self._agreement: tuple[object, tuple[Agreement, ...]] | None = None
        self._n_changes = 0
        self._last_asked: tuple[Currency, str] | None = None
        self._comparing: _Comparing | None = None
        controller.received.connect(self._receive)
        controller.adopted.connect(self._on_adopted)
        controller.asked.connect(self._on_asked)
        correcting.result.changed.connect(self._on_result)

    @property
    def exploration(self) -> Exploration | None:
        """What is shown."""
        return self._controller.current

    @property
    def measure(self) -> Measure:
        """How sizes are written."""
        shown = self.exploration
        if shown is None:
            return Measure()
        sizes = region_shape(shown.image.spatial_shape, shown.region)
        return measure_of(shown.image, sizes, self._controller.state.source.spacing)

    @property
    def result_ml(self) -> npt.NDArray[np.float64] | None:
        """Volume of each class in the user's own result, ``(C,)``; None: there is none."""
        shown, book = self.exploration, self._correcting.book
        if shown is None or book is None or not book.correction.result.counts[1:].any():
            return None
        return book.correction.result.counts * np.float64(shown.image.voxel_volume_ml)

    @property
    def currency(self) -> Currency:
        """What of it is of what is wanted now."""
        request, volumes, spread = self._controller.request, self._volumes, self._spread
        if request is None:
            return Currency(shown=False, samples=False, agreement=False)
        key = KEYS[Part.CLASS_VOLUMES]
        return Currency(
            volumes is not None and key(volumes.request) == key(request),
            spread is not None and _is_of(spread, request),
            self._agreement is not None and self._agreement[0] == self._agreement_key(request),
        )

    @property
    def _spread(self) -> VolumeSpread | None:
        """The range that says most of what is wanted now: of what the MRF refined, if it does."""
        request = self._controller.request
        refined, alone = self._refined, self._alone
        if request is None or not request.controls.is_coupled:
            return alone
        return refined if refined is not None and _is_of(refined, request) else alone

    @property
    def progress(self) -> RefinedProgress | None:
        """How far the samples are that the MRF refines; None: none of those wanted are counted."""
        request, progress = self._controller.request, self._progress
        if request is None or progress is None:
            return None
        is_of = of_refined_samples(progress.request) == of_refined_samples(request)
        return progress if is_of else None

    def measurements(self, *, current_only: bool = True) -> Measurements | None:
        """All that is known of what is shown; None: nothing is shown.

        Parameters
        ----------
        current_only
            Leave out what is of something else than what is wanted now.
        """
        shown, request = self.exploration, self._controller.request
        if shown is None or request is None:
            return None
        currency, measure = self.currency, self.measure
        volumes = self._volumes if currency.shown or not current_only else None
        spread = self._spread if currency.samples or not current_only else None
        return measured(
            image=shown.image.name,
            shown=in_words(request.controls),
            names=[display_name(one) for one in shown.spec.classes],
            unit=measure.unit,
            per_ml=measure.per_ml,
            controls=request.controls,
            refined=request.controls.is_coupled,
            shown_ml=None if volumes is None else volumes.volumes_ml,
            result_ml=self.result_ml,
            samples_ml=None if spread is None else spread.volumes_ml,
            samples_exact=spread is None or spread.exact,
            samples_refined=spread is not None and spread.refined,
            agreement=self._agreement[1] if self._agreement and currency.agreement else None,
        )

    def compare(self) -> None:
        """Compare the user's result with the labels that are shown, in the background.

        Raises
        ------
        InputError
            If there is no result, or the model still runs.
        """
        shown, request, book = self.exploration, self._controller.request, self._correcting.book
        if shown is None or request is None or book is None or self.result_ml is None:
            raise InputError("There is no result to compare. Accept or paint something first.")
        if not shown.is_complete:
            raise InputError("The model still runs. Compare when the whole image is segmented.")
        self.cancel()
        labels = shown.engine.whole_labels(request)
        result, key = book.correction.result.labels.copy(), self._agreement_key(request)
        n_classes = shown.spec.n_classes
        spacing: tuple[float, ...] | None = shown.image.spacing
        if not shown.image.has_spacing:
            spacing = self._controller.state.source.spacing

        stop = threading.Event()

        def work() -> tuple[Agreement, ...] | None:
            whole = shown.on_image(labels.result())
            return compared(result, whole, n_classes, spacing, stop.is_set)

        def receive(found: tuple[Agreement, ...] | Exception | None) -> None:
            self._comparing = None
            if isinstance(found, Exception):
                if not isinstance(found, Cancelled):
                    self._controller.failed.emit(found)
            elif found is not None:
                self._agreement = key, found
            self.changed.emit()

        self._comparing = _Comparing(labels, stop, Background(work, receive))
        self.changed.emit()

    def is_busy(self) -> bool:
        """Whether it compares."""
        return self._comparing is not None

    def cancel(self) -> None:
        """Compare no longer."""
        if self._comparing is not None:
            self._comparing.background.close()
            self._comparing.stop.set()
            self._comparing.labels.cancel()
            self._comparing = None

    def close(self) -> None:
        """Listen no longer."""
        self.cancel()
        self._controller.received.disconnect(self._receive)
        self._controller.adopted.disconnect(self._on_adopted)
        self._controller.asked.disconnect(self._on_asked)
        self._correcting.result.changed.disconnect(self._on_result)

    def _agreement_key(self, request: Request) -> object:
        return KEYS[Part.VOLUME](request), self._n_changes

    def _receive(self, results: Sequence[Result]) -> None:
        is_news = False
        for one in results:
            if isinstance(one, ClassVolumes):
                self._volumes = one
            elif isinstance(one, RefinedProgress):
                self._progress = one
            elif isinstance(one, VolumeSpread) and one.refined:
                self._refined = one
            elif isinstance(one, VolumeSpread):
                self._alone = one
            else:
                continue
            is_news = True
        if is_news:
            # What is asked for next may make it out of date.
            self._last_asked = None
            self.changed.emit()

    def _on_adopted(self, exploration: Exploration | None, is_continued: bool) -> None:
        if not is_continued or exploration is None:
            self.cancel()
            self._volumes = self._alone = self._refined = None
            self._agreement = self._progress = None
        self.changed.emit()

    def _on_asked(self, request: Request) -> None:
        before, self._last_asked = self._last_asked, (self.currency, in_words(request.controls))
        # While a slider moves, nothing more than that goes out of date.
        if self._last_asked != before:
            self.changed.emit()

    def _on_result(self) -> None:
        self._n_changes += 1
        self.changed.emit()


def _is_of(spread: VolumeSpread, request: Request) -> bool:
    """Whether a range is of the samples that are wanted, as the model alone or the MRF has them."""
    if spread.refined:
        return of_refined_samples(spread.request) == of_refined_samples(request)
    is_as_many = spread.request.n_samples == request.n_samples
    return is_as_many and of_all_samples(spread.request) == of_all_samples(request)
