"""One run of a model, its signals brought to the main thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from napari.layers import Image as ImageLayer

from napari_structseg.distributions import Region
from napari_structseg.image import Image
from napari_structseg.prediction.augmented import Augmentation
from napari_structseg.prediction.given import MembersAs
from napari_structseg.prediction.intensity_windows import Range
from napari_structseg.prediction.other_prior import WantedPrior
from napari_structseg.prediction.precision import Precision
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.session.runner import ModelRun, RunOutcome
from napari_structseg.widgets.threads.at_exit import cancel_at_exit
from napari_structseg.widgets.threads.inbox import Inbox


class RunListener(Protocol):
    """Who is told how a run goes, in the main thread."""

    def on_progress(self, done: int, total: int) -> None:
        """So many steps are done."""
        ...

    def on_first(self, outcome: RunOutcome) -> None:
        """The visible slice is done."""
        ...

    def on_finished(self, outcome: RunOutcome) -> None:
        """Everything is done."""
        ...

    def on_failed(self, error: Exception) -> None:
        """It went wrong."""
        ...

    def on_cancelled(self) -> None:
        """It was cancelled."""
        ...


class Job:
    """A run on a layer.

    Parameters
    ----------
    model
        Name of a shipped model, or a file.
    image, layer
        What to segment, and the layer that shows it.
    device
        Name of the device.
    first
        The visible slice.
    roi, window, precision, members_as, augment, wanted_prior
        See :class:`ModelRun`.
    """

    def __init__(
        self,
        model: str,
        image: Image,
        layer: ImageLayer,
        *,
        device: str,
        first: Region,
        roi: RegionOfInterest | None = None,
        window: Range | None = None,
        precision: Precision = "auto",
        members_as: MembersAs = "members",
        augment: Sequence[Augmentation] = (),
        wanted_prior: WantedPrior | None = None,
    ) -> None:
        self.image = image
        self.layer = layer
        self.first = first
        self.run = ModelRun(
            model,
            image,
            device=device,
            first=first,
            roi=roi,
            window=window,
            precision=precision,
            members_as=members_as,
            augment=augment,
            wanted_prior=wanted_prior,
        )
        self._inbox: Inbox[Callable[[], None]] = Inbox(_call_each)

    def start(self, listener: RunListener) -> None:
        """Begin, and tell the listener how it goes."""
        put = self._inbox.put
        run = self.run
        run.progressed.connect(lambda done, total: put(partial(listener.on_progress, done, total)))
        run.first_ready.connect(lambda outcome: put(partial(listener.on_first, outcome)))
        run.finished.connect(lambda outcome: put(partial(listener.on_finished, outcome)))
        run.failed.connect(lambda error: put(partial(listener.on_failed, error)))
        run.cancelled.connect(lambda: put(listener.on_cancelled))
        run.start()
        cancel_at_exit(run)

    def close(self) -> None:
        """Stop, without waiting, and tell nobody."""
        self._inbox.close()
        self.run.cancel()


def _call_each(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
