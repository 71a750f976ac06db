"""Saving what is chosen: one whole labelling, never a mixture of what was looked at."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from psygnal import Signal

from napari_structseg.errors import Cancelled, InputError, StructSegError
from napari_structseg.exports.report.page import write_report
from napari_structseg.exports.samples import SampleSet
from napari_structseg.render.rendering import LabelArray
from napari_structseg.render.summaries import DEFAULT_SAMPLES
from napari_structseg.results.kept_files import check_folder, check_name, is_report
from napari_structseg.results.labelling import Origin, labelling_record, write_labelling
from napari_structseg.results.reporting import content_of_labelling
from napari_structseg.session.messages import Request, Result, VolumeSpread
from napari_structseg.session.resolve import of_all_samples, of_refined_samples
from napari_structseg.session.work.whole import WholeLabels
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.threads.inbox import Inbox

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Progress:
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of saving.

    Attributes
    ----------
    paths
        The files that were written, the labelling first.
    error
        Why there are none.
    """

    paths: tuple[Path, ...] = ()
    error: Exception | None = None


class Saving:
    """Saves what is chosen in one viewer, in the background.

    ``finished(saved)`` is emitted in the main thread, and kept as :attr:`last`.

    Parameters
    ----------
    controller
        Knows what is chosen.
    """

    finished = Signal(object)

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._spread: VolumeSpread | None = None
        self.last = Saved()
        self._work: WholeLabels | None = None
        self._on_written: partial[None] | None = None
        self._writer: threading.Thread | None = None
        self._is_cancelled = threading.Event()
        self._inbox: Inbox[_Progress | Saved] = Inbox(self._receive)
        controller.received.connect(self._note_spread)
        controller.adopted.connect(self._forget_spread)

    def is_busy(self) -> bool:
        """Whether something is being saved."""
        return self._work is not None

    def save(self, path: str | Path, *, keep_patient: bool = False) -> None:
        """Save the labels of the whole image that are chosen now, whatever is chosen meanwhile.

        Parameters
        ----------
        path
            Ends in .nii.gz, .nii, .seg.nrrd or .dcm: a record and a table of volumes are written
            beside it. Or in .html: a report on the labels and on samples of the same series.
        keep_patient
            Whether a DICOM file says who the patient is.

        Raises
        ------
        InputError
            If there is nothing to save yet, something is being saved, or the name cannot be used.
        """
        controller = self._controller
        exploration, request = controller.current, controller.request
        if exploration is None or request is None:
            raise InputError("There is no segmentation to save yet. Press Run first.")
        if not exploration.is_complete:
            raise InputError("The model still runs. Save when the whole image is segmented.")
        if self._work is not None:
            raise InputError("Another segmentation is being saved. Wait until it is written.")
        target = Path(path)
        if is_report(target):
            check_folder(target)
        else:
            check_name(target, exploration.image)
        spread = self._spread_of(request)
        self._is_cancelled.clear()
        self._work = exploration.engine.whole_labels(request)
        self._work.progressed.connect(self._on_progress)
        unsaved = exploration.unsaved
        self._on_written = partial(unsaved.note_saved, request, exploration.prior_model)
        controller.said.emit(f"Saving {target.name}…")
        write = partial(
            self._write, target, exploration, request, spread=spread, keep_patient=keep_patient
        )
        if is_report(target):
            write = partial(self._write_report, target, exploration, request)
            # The labelling itself is in no file yet.
            self._on_written = None
        # The engine's thread goes on rendering while the file is written.
        self._work.add_done_callback(partial(self._start_writing, write))

    def cancel(self) -> None:
        """Give up, unless the file is being written already."""
        self._is_cancelled.set()
        if self._work is not None:
            self._work.cancel()

    def close(self) -> None:
        """Give up, and tell nobody; a file that is being written is finished."""
        self._controller.received.disconnect(self._note_spread)
        self._controller.adopted.disconnect(self._forget_spread)
        self.cancel()
        self._inbox.close()
        if self._writer is not None:
            self._writer.join()

    def _start_writing(self, write: partial[None], work: WholeLabels) -> None:
        self._writer = threading.Thread(target=write, args=(work,), name="structseg-save")
        self._writer.start()

    def _write(
        self,
        path: Path,
        exploration: Exploration,
        request: Request,
        work: WholeLabels,
        *,
        spread: VolumeSpread | None,
        keep_patient: bool,
    ) -> None:
        self._end_with(
            lambda: write_labelling(
                path,
                exploration.on_image(work.result()),
                exploration.image,
                exploration.spec.classes,
                controls=request.controls,
                origin=_origin(exploration, request),
                volumes_over_samples=None if spread is None else spread.volumes_ml,
                keep_patient=keep_patient,
            )
        )

    def _write_report(
        self, path: Path, exploration: Exploration, request: Request, work: WholeLabels
    ) -> None:
        self._end_with(lambda: [self._report(path, exploration, request, work)])

    def _report(
        self, path: Path, exploration: Exploration, request: Request, work: WholeLabels
    ) -> Path:
        """Compute samples one after the other, and write the report."""
        spec, image = exploration.spec, exploration.image
        labels = exploration.on_image(work.result())
        origin, controls = _origin(exploration, request), request.controls
        samples = SampleSet(image, spec.n_classes, labels)
        for number in range(1, 1 + DEFAULT_SAMPLES * exploration.is_stochastic):
            wanted = controls.model_copy(update={"sample": number, "latent": ()})
            samples.add(self._whole(exploration, replace(request, controls=wanted)))
            self._inbox.put(_Progress(number, DEFAULT_SAMPLES))
        record = labelling_record(
            path, labels, image, spec.classes, controls=controls, origin=origin
        )
        content = content_of_labelling(
            record, image, samples, spec, domain=exploration.domain, window=origin.window
        )
        return write_report(path, content)

    def _whole(self, exploration: Exploration, request: Request) -> LabelArray:
        """The labels of another request, on the image, unless it is cancelled."""
        work = exploration.engine.whole_labels(request)
        self._work = work
        if self._is_cancelled.is_set():
            work.cancel()
        return exploration.on_image(work.result())

    def _end_with(self, write: Callable[[], Sequence[Path]]) -> None:
        """At the top of the thread: write, and tell what came of it."""
        try:
            paths = write()
        except Exception as error:
            if not isinstance(error, StructSegError):
                logger.exception("saving failed")
            self._inbox.put(Saved(error=error))
        else:
            self._inbox.put(Saved(tuple(paths)))

    def _on_progress(self, done: int, total: int) -> None:
        self._inbox.put(_Progress(done, total))

    def _receive(self, items: Sequence[_Progress | Saved]) -> None:
        for item in items:
            if isinstance(item, Saved):
                self._end(item)
            elif item is items[-1] and item.total:
                percent = 100 * item.done // item.total
                self._controller.said.emit(f"Computing the whole segmentation: {percent} %")

    def _end(self, saved: Saved) -> None:
        self._work, self.last = None, saved
        if saved.paths:
            if self._on_written is not None:
                self._on_written()
            names = ", ".join(path.name for path in saved.paths)
            self._controller.said.emit(f"Saved {names}")
        elif isinstance(saved.error, Cancelled):
            self._controller.said.emit("Nothing was saved: cancelled")
        elif saved.error is not None:
            self._controller.said.emit("Nothing was saved")
            self._controller.failed.emit(saved.error)
        self.finished.emit(saved)

    def _note_spread(self, results: Sequence[Result]) -> None:
        for result in results:
            if isinstance(result, VolumeSpread):
                self._spread = result

    def _forget_spread(self, _exploration: object, _is_continued: bool) -> None:
        self._spread = None

    def _spread_of(self, request: Request) -> VolumeSpread | None:
        """The volumes of samples, where they are of the distribution that is saved."""
        spread = self._spread
        if spread is None or request.controls.is_coupled != spread.refined:
            return None
        of = of_refined_samples if spread.refined else of_all_samples
        return spread if of(spread.request) == of(request) else None


def _origin(exploration: Exploration, request: Request) -> Origin:
    run, source = exploration.run, exploration.layer.source.path
    if run is None:
        return Origin(
            until_converged=request.stop_when_converged,
            strokes=request.strokes,
            domain=exploration.domain,
        )
    path = None if source is None else Path(source)
    return Origin(
        image_path=path if path is not None and path.is_file() else None,
        model=run.model,
        model_path=exploration.path,
        prior=exploration.prior_model,
        domain=exploration.domain,
        roi=run.roi,
        window=run.window,
        device=str(exploration.engine.distribution.device),
        precision=run.precision,
        members_as=run.members_as,
        augment=run.augment,
        until_converged=request.stop_when_converged,
        has_prior=exploration.prior is not None,
        strokes=request.strokes,
    )
