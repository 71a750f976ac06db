"""Running a model on an image in the background."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from psygnal import Signal

from napari_structseg.distributions import LogitDistribution, Region
from napari_structseg.errors import Cancelled, StructSegError
from napari_structseg.image import Image
from napari_structseg.inference.devices import AUTO, resolve_device
from napari_structseg.inference.predictor import Predictor, prior_for
from napari_structseg.io.weights import find_model, load_weights
from napari_structseg.models import ModelSpec
from napari_structseg.priors import MarkovPrior


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run gives.

    Attributes
    ----------
    distribution
        p(eta | x) on the image's grid.
    prior
        The model's prior on the image's axes; None if it has none.
    spec
        The model's specification.
    weights_path
        The model's file.
    seconds
        Since the start of the run, loading included.
    """

    distribution: LogitDistribution
    prior: MarkovPrior | None
    spec: ModelSpec
    weights_path: Path
    seconds: float


class ModelRun:
    """Loads a model and applies it to one image, once.

    Signals are emitted in the worker's thread: ``progressed(done, total)``;
    ``first_ready(outcome)`` once, when the first region is final in a distribution that is
    still growing; then exactly one of ``finished(outcome)``, ``failed(error)``, ``cancelled()``.

    Parameters
    ----------
    model
        Name of a shipped model, or a file.
    image
        The image.
    device
        See :func:`napari_structseg.inference.devices.resolve_device`.
    first
        The region to finish first, usually the visible slice.
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
        synchronous: bool = False,
    ) -> None:
        self._model = str(model)
        self._image = image
        self._device = device
        self._first = first
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
        """Stop after the current tile."""
        self._stop.set()

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
        except (StructSegError, MemoryError, RuntimeError) as error:
            # RuntimeError is what torch raises for a device that fails; the user must hear it.
            self.failed.emit(error)
        else:
            self.finished.emit(outcome)

    def _predict(self) -> RunOutcome:
        started = time.perf_counter()
        path = find_model(self._model)
        device = resolve_device(self._device)
        network, spec = load_weights(path, device)
        prior = prior_for(network, self._image)
        shown = False
        for progress in Predictor(network, spec).stream(self._image, self._first):
            self.progressed.emit(progress.done, progress.total)
            if self._stop.is_set():
                raise Cancelled("The run was cancelled.")
            if progress.distribution is not None:
                outcome = RunOutcome(
                    progress.distribution, prior, spec, path, time.perf_counter() - started
                )
                if progress.complete:
                    return outcome
                if not shown:
                    shown = True
                    self.first_ready.emit(outcome)
        raise AssertionError("a stream ends with a complete prediction")
