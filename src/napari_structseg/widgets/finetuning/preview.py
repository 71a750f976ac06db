"""What other weights predict of the image, beside what is shown: to be taken over, or not."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_structseg.errors import Cancelled, StructSegError
from napari_structseg.finetuning.adoption import adopt_weights, copy_weights
from napari_structseg.finetuning.made_for import dropped_in_words
from napari_structseg.finetuning.versions import Version, Versions
from napari_structseg.models import ModelSpec
from napari_structseg.session.resolve import KEYS, Part
from napari_structseg.session.runner import RunOutcome
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.swapping import Swapping
from napari_structseg.widgets.threads.background import Background
from napari_structseg.widgets.threads.job import Job
from napari_structseg.widgets.viewer.own_layers import (
    add_above,
    make_changed_layer,
    make_improved_layer,
)
from napari_structseg.widgets.viewer.painted import Labels
from napari_structseg.widgets.viewer.viewing import current_view

Volume = npt.NDArray[np.uint8]

TUNED, WENT_BACK = "fine-tune swap", "version swap"


class Stage(Enum):
    """How far it is."""

    NONE = "none"
    RUNNING = "running"
    SHOWN = "shown"
    ADOPTING = "adopting"


class Preview:
    """Runs other weights in the background, shows what differs, and swaps.

    ``changed()`` is emitted in the main thread when anything of it is another.

    Parameters
    ----------
    controller
        Knows what is shown.
    swapping
        Takes over.
    """

    changed = Signal()

    def __init__(self, controller: Controller, swapping: Swapping) -> None:
        self._controller, self._swapping = controller, swapping
        self.stage = Stage.NONE
        self.step = 0
        # Of how many; None: not counted yet.
        self.n_changed: int | None = None
        self.n_voxels = 0
        self.is_new_seen = False
        # Whether the old one is seen in one half, and the new one in the other.
        self.is_split = False
        self._labels: tuple[Volume, Volume] | None = None
        self.improved: Labels | None = None
        self.changes: Labels | None = None
        self._base: Exploration | None = None
        self._candidate: Exploration | None = None
        self._weights: Path | None = None
        # A version to go back to; None: what is run is looked at first.
        self._version: tuple[Versions, Version] | None = None
        self._job: Job | None = None
        self._compared: object = None
        self._working: set[Background[Any]] = set()
        controller.adopted.connect(self._on_adopted)
        controller.rested.connect(self._compare)

    @property
    def dropped(self) -> str:
        """What the model goes without once new weights are adopted, in words; empty: nothing."""
        given = None if self._base is None else self._base.given
        return dropped_in_words(given) if isinstance(given, ModelSpec) else ""

    def is_busy(self) -> bool:
        """Whether anything is still to be computed."""
        return self._job is not None or bool(self._working)

    def look(self, weights: Path, step: int) -> None:
        """Run the weights of a step on the image, and show what they predict beside what is shown.

        Nothing happens while others are run.
        """
        if self.stage in (Stage.RUNNING, Stage.ADOPTING) or not self._begin():
            return
        self.step = step
        self._work(partial(copy_weights, weights, step), self._run)

    def go_back(self, family: Versions, version: Version) -> None:
        """Put a version in the place of the model, exactly."""
        if self.stage in (Stage.RUNNING, Stage.ADOPTING) or not self._begin():
            return
        self._version = (family, version)
        self._work(version.checked_weights, self._run)

    def flip(self) -> None:
        """Show the old instead of the new, or the new instead of the old."""
        if self.stage is not Stage.SHOWN or self._base is None or self.improved is None:
            return
        self.is_new_seen = not self.is_new_seen
        self.improved.visible = self.is_new_seen
        self._base.layers.segmentation.visible = not self.is_new_seen
        self.changed.emit()

    def split(self, *, is_on: bool) -> None:
        """Show the old in the left half of what is displayed and the new in the right one, or not.

        The halves are those of the image, along the axis that is displayed from left to right.
        """
        if self.stage is not Stage.SHOWN or self.improved is None or self._labels is None:
            return
        self.is_split = is_on
        self._write(self.improved, *self._labels)
        if not self.is_new_seen:
            self.flip()
        self.changed.emit()

    def adopt(self) -> None:
        """Keep the weights as a version, and show what they predict from now on."""
        if self.stage is not Stage.SHOWN or self._weights is None:
            return
        self.stage = Stage.ADOPTING
        self.changed.emit()
        self._work(partial(adopt_weights, self._weights, self.step), partial(self._swap, TUNED))

    def reject(self) -> None:
        """Not now: what was shown stays."""
        self._let_go()
        self.changed.emit()

    def close(self) -> None:
        """Let go of everything."""
        self._controller.adopted.disconnect(self._on_adopted)
        self._controller.rested.disconnect(self._compare)
        self._let_go()

    def on_progress(self, done: int, total: int) -> None:
        """Say how far the run is."""
        self._controller.said.emit(f"Segmenting with other weights: {done} of {total} steps")

    def on_first(self, outcome: RunOutcome) -> None:
        """What is shown stays whole until everything is there."""

    def on_finished(self, outcome: RunOutcome) -> None:
        """Compare it with what is shown, or take it over."""
        job, base, self._job = self._job, self._base, None
        if job is None or base is None or base is not self._controller.current:
            return
        candidate = Exploration(
            self._controller.viewer,
            job.run,
            outcome,
            job.image,
            job.layer,
            base.layers,
            is_complete=True,
        )
        self._candidate = candidate
        if base.other_prior is not None:
            try:
                candidate.take_prior(base.other_prior)
            except StructSegError as error:
                self.on_failed(error)
                return
        self._controller.said.emit("")
        if self._version is None:
            self.stage = Stage.SHOWN
            self._compare()
        else:
            family, version = self._version
            self.stage = Stage.ADOPTING
            self._work(partial(family.use, version), partial(self._swap, WENT_BACK))
        self.changed.emit()

    def on_failed(self, error: Exception) -> None:
        """Say why; what is shown stays."""
        self._job = None
        self._let_go()
        self._controller.failed.emit(error)
        self.changed.emit()

    def on_cancelled(self) -> None:
        """What is shown stays."""
        self._job = None
        self._let_go()
        self.changed.emit()

    def _begin(self) -> bool:
        base = self._controller.current
        self._let_go()
        if base is None or base.run is None or not base.is_complete:
            self._controller.said.emit("Run a model on the image first")
            return False
        self._base, self.stage = base, Stage.RUNNING
        self.changed.emit()
        return True

    def _run(self, weights: Path) -> None:
        base = self._base
        if base is None or base.run is None or self.stage is not Stage.RUNNING:
            return
        run = base.run
        self._weights = weights
        self._job = Job(
            str(weights),
            base.image,
            base.layer,
            device=run.device,
            first=current_view(self._controller.viewer.dims, base.layer).region(
                base.image.spatial_shape
            ),
            roi=run.roi,
            window=run.window,
            precision=run.precision,
            members_as=run.members_as,
            augment=run.augment,
        )
        self._job.start(self)

    def _compare(self) -> None:
        """Compare the labels that are chosen now, unless they were compared."""
        base, candidate, request = self._base, self._candidate, self._controller.request
        if self.stage is not Stage.SHOWN or base is None or candidate is None or request is None:
            return
        key = KEYS[Part.VOLUME](request)
        if key == self._compared:
            return
        self._compared = key
        old, new = base.engine.whole_labels(request), candidate.engine.whole_labels(request)

        def work() -> tuple[Volume, Volume, npt.NDArray[np.bool_]]:
            before, after = base.on_image(old.result()), candidate.on_image(new.result())
            return before, after, before != after

        self._work(work, partial(self._show, candidate))

    def _show(
        self, candidate: Exploration, found: tuple[Volume, Volume, npt.NDArray[np.bool_]]
    ) -> None:
        base = self._base
        if candidate is not self._candidate or base is None or self.stage is not Stage.SHOWN:
            return
        before, labels, changed = found
        self._labels = before, labels
        self.n_changed, self.n_voxels = int(np.count_nonzero(changed)), changed.size
        viewer, is_first = self._controller.viewer, self.improved is None
        everything = tuple(slice(0, size) for size in labels.shape)
        if self.improved is None or self.changes is None:
            like = base.layers.segmentation
            self.improved = make_improved_layer(like, candidate.spec.classes, labels.copy())
            self.changes = make_changed_layer(like, changed)
        else:
            self._write(self.improved, before, labels)
            self.changes.write(everything, changed.astype(np.uint8))
        # The last one lies lowest.
        for layer in (self.changes, self.improved):
            if is_first:
                add_above(viewer, layer, (base.layer, *base.layers.all))
        if is_first:
            self.is_new_seen = False
            self.improved.visible = False
            self.flip()
        self.changed.emit()

    def _write(self, layer: Labels, before: Volume, after: Volume) -> None:
        """What is seen of the new labels, and in a split view of the old ones."""
        shown = after
        if self.is_split:
            dims = self._controller.viewer.dims
            axis = max(0, dims.displayed[-1] - (dims.ndim - after.ndim))
            left = [slice(None)] * after.ndim
            left[axis] = slice(0, after.shape[axis] // 2)
            shown = after.copy()
            shown[tuple(left)] = before[tuple(left)]
        layer.write(tuple(slice(0, size) for size in shown.shape), shown)

    def _swap(self, name: str, version: Version) -> None:
        candidate, base = self._candidate, self._base
        if candidate is None or base is None or candidate.run is None:
            return
        if base is not self._controller.current:
            self.reject()
            return
        # The version is the file that stays.
        candidate.run.model, candidate.path = str(version.weights), version.weights
        self._candidate = None
        self._let_go()
        self._swapping.swap(candidate, name)
        number = version.record.number
        self._controller.said.emit(f"Version {number} is in use; Ctrl Z takes it back")
        self.changed.emit()

    def _on_adopted(self, exploration: Exploration | None, is_continued: bool) -> None:
        if exploration is not self._base and self._base is not None:
            self._let_go()
        self.changed.emit()

    def _let_go(self) -> None:
        """Take the layers away, and close what is not taken over."""
        if self._job is not None:
            self._job.close()
        if self._candidate is not None:
            self._candidate.close()
        viewer, base = self._controller.viewer, self._base
        for layer in (self.improved, self.changes):
            if layer is not None and layer in viewer.layers:
                viewer.layers.remove(layer)
        if self.is_new_seen and base is not None:
            base.layers.segmentation.visible = True
        self._job = self._candidate = self._base = self._weights = self._version = None
        self.improved = self.changes = self._compared = self.n_changed = None
        self._labels = None
        self.is_new_seen = self.is_split = False
        self.stage = Stage.NONE

    def _work(self, work: Callable[[], Any], receive: Callable[[Any], None]) -> None:
        base = self._base

        def done(outcome: object) -> None:
            self._working.discard(one)
            if base is not self._base or isinstance(outcome, Cancelled):
                return
            if isinstance(outcome, Exception):
                self.on_failed(outcome)
            else:
                receive(outcome)

        one = Background(work, done)
        # What nobody holds is collected before its outcome comes.
        self._working.add(one)
