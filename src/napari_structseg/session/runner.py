"""Running a model on an image in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from psygnal import Signal

from napari_structseg.devices import AUTO, resolve_device
from napari_structseg.distributions import DomainCheck, LogitDistribution, Region
from napari_structseg.errors import Cancelled, StructSegError
from napari_structseg.image import Image
from napari_structseg.io.checks import is_nifti_path
from napari_structseg.io.other_programs.members import is_given
from napari_structseg.prediction.augmented import Augmentation
from napari_structseg.prediction.domain import check_domain
from napari_structseg.prediction.given import MembersAs
from napari_structseg.prediction.intensity_windows import Range
from napari_structseg.prediction.other_prior import OtherPrior, WantedPrior
from napari_structseg.prediction.precision import Precision
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.prediction.source import open_source
from napari_structseg.prediction.specs import Spec
from napari_structseg.priors import MarkovPrior

logger = logging.getLogger(__name__)

_CANCELLED = "The run was cancelled."


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run gives.

    Attributes
    ----------
    distribution
        p(eta | x) on the image's grid.
    prior
        The model's own MRF on the image's axes; None if it has none.
    spec
        The model's specification, or that of maps of probabilities.
    path
        The model's file, or that of the maps.
    seconds
        Since the start of the run, loading included.
    region
        The part of the image that the distribution is of; None: all of it.
    other_prior
        The MRF of another model that the run was asked to read, or why it cannot be used; None:
        it was asked for none, or for one that was chosen for something else.
    domain
        Whether the model serves the image; None: it does not say, or the run is not over.
    """

    distribution: LogitDistribution
    prior: MarkovPrior | None
    spec: Spec
    path: Path
    seconds: float
    region: Region | None = None
    other_prior: OtherPrior | Exception | None = None
    domain: DomainCheck | None = None


class ModelRun:
    """Loads a model and applies it to one image, once.

    Signals are emitted in the worker's thread: ``progressed(done, total)``;
    ``first_ready(outcome)`` once, when the first region is final in a distribution that is
    still growing; then exactly one of ``finished(outcome)``, ``failed(error)``, ``cancelled()``.

    Parameters
    ----------
    model
        Name of a shipped model, a file, or in its place a NIfTI file of class probabilities, or a
        folder or .npz of predictions of other programs.
    image
        The image.
    device
        See :func:`napari_structseg.devices.resolve_device`.
    first
        The region to finish first, usually the visible slice.
    roi
        Slices of a volume that a 2-D model is applied to.
    window
        Intensities that the model sees as 0 and 1; None: as the model says.
    precision
        What a network computes in, see :class:`Predictor`; once it is loaded, what this came to.
    members_as
        Of predictions of other programs, and of test-time augmentation: members, or a normal.
    augment
        Changes of the image in test-time augmentation of a deterministic model; empty: none.
    wanted_prior
        The MRF of another model, to be read as well. Where it cannot be, the run goes on.
    synchronous
        Run inside :meth:`start`.
    """

    progressed = Signal(int, int)
    first_ready = Signal(object)
    finished = Signal(object)
    failed = Signal(object)
    cancelled = Signal()

    def __init__(
        self,
        model: str | Path,
        image: Image,
        *,
        device: str = AUTO,
        first: Region | None = None,
        roi: RegionOfInterest | None = None,
        window: Range | None = None,
        precision: Precision = "auto",
        members_as: MembersAs = "members",
        augment: Sequence[Augmentation] = (),
        wanted_prior: WantedPrior | None = None,
        synchronous: bool = False,
    ) -> None:
        self.model = str(model)
        self._image = image
        self.device = device
        self._first = first
        self.roi = roi
        self.window = window
        self.precision: Precision = precision
        self.members_as: MembersAs = members_as
        self.augment = tuple(augment)
        self.wanted_prior = wanted_prior
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if not synchronous:
            self._thread = threading.Thread(target=self._run, name="structseg-run", daemon=True)

    def start(self) -> None:
        """Begin."""
        if self._thread is None:
            self._run()
        else:
            self._thread.start()

    def cancel(self) -> None:
        """Stop after the current layer of the network."""
        self._stop.set()

    @property
    def worker(self) -> threading.Thread | None:
        """The thread that predicts; None: whoever starts it does."""
        return self._thread

    def is_running(self) -> bool:
        """Whether the worker is alive."""
        return self._thread is not None and self._thread.is_alive()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the worker; False if ``timeout`` seconds were not enough."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.is_running()

    def _run(self) -> None:
        try:
            outcome = self._predict()
        except Cancelled:
            self.cancelled.emit()
        except Exception as error:
            if not isinstance(error, StructSegError):
                logger.error("the run of %s failed", self.model, exc_info=error)
            self.failed.emit(error)
        else:
            self.finished.emit(outcome)

    def _predict(self) -> RunOutcome:
        started = time.perf_counter()
        maps = [self.model] if is_nifti_path(self.model) else []
        members = [self.model] if is_given(self.model) else []
        is_model = not maps and not members
        device = resolve_device(self.device)
        source = open_source(
            self.model if is_model else None,
            device,
            probabilities=maps,
            members=members,
            members_as=self.members_as,
            case=self._image.name,
            augment=self.augment if is_model else (),
            roi=self.roi if is_model else None,
            window=self.window if is_model else None,
            precision=self.precision,
        )
        self.precision = source.predictor.precision
        if self._stop.is_set():
            raise Cancelled(_CANCELLED)
        image = self._image
        image.check_finite()
        prior, region = source.prior(image), source.region(image)
        other = self._read_prior(source.spec, device)
        source.predictor.check(image, refined=prior is not None)
        shown = False
        for progress in source.predictor.stream(image, self._first, self._stop.is_set):
            self.progressed.emit(progress.done, progress.total)
            if self._stop.is_set():
                raise Cancelled(_CANCELLED)
            if progress.distribution is not None:
                seconds = time.perf_counter() - started
                outcome = RunOutcome(
                    progress.distribution, prior, source.spec, source.path, seconds, region, other
                )
                if progress.complete:
                    # Before any volume is shown.
                    domain = check_domain(source.spec, image, progress.distribution, region)
                    seconds = time.perf_counter() - started
                    return replace(outcome, domain=domain, seconds=seconds)
                if not shown:
                    shown = True
                    self.first_ready.emit(outcome)
        raise AssertionError("a stream ends with a complete prediction")

    def _read_prior(self, refined: Spec, device: torch.device) -> OtherPrior | Exception | None:
        if self.wanted_prior is None:
            return None
        try:
            return self.wanted_prior.open(refined, device)
        except (StructSegError, MemoryError, RuntimeError) as error:
            # What the model gives can be shown without it.
            logger.debug("the prior of %s cannot be used", self.wanted_prior.model, exc_info=True)
            return error
