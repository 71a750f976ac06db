"""A run of fine-tuning from the window: begun with what was corrected, followed, held, ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.folders import FolderLock, sessions_root
from napari_structseg.correction.journal import read_work
from napari_structseg.errors import InputError, StructSegError
from napari_structseg.finetuning.course import Course
from napari_structseg.finetuning.events import Ended, Event, Stepped
from napari_structseg.finetuning.folders import (
    Unfinished,
    new_run_folder,
    note_ended,
    remove_run,
    runs_root,
    unfinished_runs,
)
from napari_structseg.finetuning.other_cases import OtherCase, other_cases
from napari_structseg.finetuning.process import FinetuneProcess
from napari_structseg.finetuning.settings import CaseFiles, FinetuneSettings, make_settings
from napari_structseg.finetuning.snapshot import check_said, write_case
from napari_structseg.image import Image
from napari_structseg.layer_geometry import IMAGE_KEY
from napari_structseg.models import ModelSpec
from napari_structseg.session.state import FinetuningState
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.correcting.correcting import Correcting
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.threads.background import Background
from napari_structseg.widgets.threads.inbox import Inbox

logger = logging.getLogger(__name__)

# A slider that moves asks for more pictures than the process has to be told of.
_TELL_SECONDS = 0.1
_NOT_SHOWN = "Run a model on an image in Explore segmentations first."


class Status(Enum):
    """What a run is doing."""

    READY = "ready"
    PREPARING = "preparing"
    RUNNING = "running"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class _Begun:
    process: FinetuneProcess
    folder: Path


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a run is made of, as it was when it was asked for."""

    model: str
    device: str
    image: Image
    image_file: Path | None
    correction: Correction
    choices: FinetuningState


class Tuning:
    """One run at a time, in a process of its own.

    ``changed()`` is emitted in the main thread when anything about the run is another;
    ``stepped()`` when it took steps and nothing else has happened.

    Parameters
    ----------
    controller
        Knows what is shown, and when a slider moves.
    correcting
        Has the corrections.
    """

    changed = Signal()
    stepped = Signal()

    def __init__(self, controller: Controller, correcting: Correcting) -> None:
        self._controller, self._correcting = controller, correcting
        self.status = Status.READY
        self.course: Course | None = None
        self.folder: Path | None = None
        self.process: FinetuneProcess | None = None
        self.unfinished: tuple[Unfinished, ...] = ()
        self.others: tuple[OtherCase, ...] = ()
        self._stop = threading.Event()
        self._is_closed = False
        self._told = 0.0
        self._n_looking = 0
        self._working: set[Background[Any]] = set()
        self._events: Inbox[Event] | None = None
        controller.asked.connect(self._on_asked)
        controller.adopted.connect(self._on_adopted)
        self.look_for_runs()
        self.look_for_cases()

    @property
    def choices(self) -> FinetuningState:
        """What the next run is asked for."""
        return self._controller.state.finetuning

    @property
    def shown(self) -> Exploration | None:
        """What is explored."""
        return self._controller.current

    @property
    def newest_weights(self) -> tuple[Path, int] | None:
        """The weights to look at, and their step; None: there are none yet."""
        course = self.course
        if course is None:
            return None
        ended = course.ended
        if ended is not None and ended.reason == "finished" and ended.weights is not None:
            return Path(ended.weights), course.step
        if course.written is None:
            return None
        return Path(course.written.path), course.written.step

    def is_busy(self) -> bool:
        """Whether a run is on, or folders are being read."""
        return self.status is not Status.READY or self._n_looking > 0

    def obstacle(self) -> str:
        """Why what is shown cannot be learned from; empty: it can."""
        shown = self.shown
        if shown is None:
            return _NOT_SHOWN
        if shown.run is None or not isinstance(shown.given, ModelSpec):
            return "Fine-tuning needs a model: class probabilities have no weights that learn."
        if shown.given.dimensions != shown.image.ndim:
            return (
                f"{shown.given.name} is a {shown.given.dimensions}-D model on a "
                f"{shown.image.ndim}-D image: open a single slice, correct that, and learn from it."
            )
        return ""

    def start(self) -> None:
        """Begin a run with what was corrected until now.

        Raises
        ------
        InputError
            If there is nothing to learn from, or a run is on.
        """
        shown, book = self.shown, self._correcting.book
        if self.status is not Status.READY:
            raise InputError("A fine-tuning run is on already. Wait for it, or cancel it.")
        obstacle = self.obstacle()
        if obstacle or shown is None or shown.run is None or book is None:
            raise InputError(obstacle or _NOT_SHOWN)
        choices = FinetuningState.model_validate(self.choices.model_dump())
        if not choices.learns_from_shown and not choices.sessions:
            raise InputError("No corrected image is chosen. Choose this one, or another.")
        self._begin()
        model, device = shown.run.model, shown.run.device
        copied: list[Correction] = []
        image, image_file = shown.image, _file_of(shown)

        def on_copied(error: Exception | None) -> None:
            if error is not None or not copied or self._stop.is_set():
                self._on_begun(error or InputError("The run was cancelled."))
                return
            wanted = _Wanted(model, device, image, image_file, copied[0], choices)
            self._work(partial(self._prepare, wanted, self._events_inbox()), self._on_begun)

        # After every action that was asked for before.
        self._correcting.read(lambda: copied.append(book.correction.copy()), on_copied)

    def resume(self, folder: Path) -> None:
        """Go on with a run that was interrupted."""
        if self.status is not Status.READY:
            raise InputError("A fine-tuning run is on already. Wait for it, or cancel it.")
        self._begin()
        self._work(partial(self._launch, None, folder, self._events_inbox()), self._on_begun)

    def discard(self, folder: Path) -> None:
        """Remove a run that was interrupted."""
        self.unfinished = tuple(one for one in self.unfinished if one.folder != folder)
        self._look(partial(remove_run, folder), lambda _nothing: None)
        self.changed.emit()

    def pause(self) -> None:
        """Hold the run, or let it go on."""
        if self.process is not None and self.course is not None:
            if self.course.is_paused:
                self.process.resume()
            else:
                self.process.pause()

    def cancel(self) -> None:
        """End the run after its step; its checkpoint stays."""
        if self.status not in (Status.PREPARING, Status.RUNNING):
            return
        self._stop.set()
        self.status = Status.ENDING
        if self.process is not None:
            self.process.cancel()
        self.changed.emit()

    def look_for_runs(self) -> None:
        """Look for runs that were interrupted."""

        def take(found: list[Unfinished]) -> None:
            self.unfinished = tuple(one for one in found if one.folder != self.folder)
            if self.status is Status.READY:
                self.unfinished = tuple(found)

        self._look(partial(unfinished_runs, runs_root()), take)

    def look_for_cases(self) -> None:
        """Look for corrections of other images."""
        shown = self.shown
        if shown is None:
            self.others = ()
            return

        def take(found: list[OtherCase]) -> None:
            if self.shown is shown:
                self.others = tuple(found)

        self._look(partial(other_cases, sessions_root(), shown.spec.class_names, shown.image), take)

    def close(self) -> None:
        """Let go of everything; a run writes a checkpoint and ends by itself."""
        self._is_closed = True
        self._stop.set()
        self._controller.asked.disconnect(self._on_asked)
        self._controller.adopted.disconnect(self._on_adopted)
        if self._events is not None:
            self._events.close()
        if self.process is not None:
            # Without waiting.
            self.process.close(0)
        self.status = Status.READY

    def _begin(self) -> None:
        self.status, self.course = Status.PREPARING, Course()
        self.folder = self.process = None
        self._stop.clear()
        self.changed.emit()

    def _events_inbox(self) -> Inbox[Event]:
        if self._events is not None:
            self._events.close()
        self._events = Inbox(self._take)
        return self._events

    def _prepare(self, wanted: _Wanted, events: Inbox[Event]) -> _Begun:
        """Write what is learned from into the folder of a new run, and start it; in a thread."""
        folder = new_run_folder(runs_root())
        try:
            settings = _settings(wanted, folder, self._stop)
            return self._launch(settings, folder, events)
        except Exception:
            remove_run(folder)
            raise

    def _launch(
        self, settings: FinetuneSettings | None, folder: Path, events: Inbox[Event]
    ) -> _Begun:
        process = FinetuneProcess(settings, folder)
        lock = FolderLock(folder)

        def on_told(event: Event) -> None:
            """In the thread that reads events."""
            if isinstance(event, Ended):
                try:
                    note_ended(folder, event)
                finally:
                    lock.release()
            events.put(event)

        process.told.connect(on_told)
        process.start()
        if self._stop.is_set():
            process.cancel()
        return _Begun(process, folder)

    def _on_begun(self, begun: _Begun | Exception) -> None:
        if isinstance(begun, Exception):
            is_wanted = not self._stop.is_set()
            self.status, self.course = Status.READY, None
            self.changed.emit()
            if is_wanted:
                self._controller.failed.emit(begun)
            return
        if self._is_closed:
            begun.process.close(0)
            return
        self.process, self.folder = begun.process, begun.folder
        if self.course is not None and self.course.ended is not None:
            # It has ended before we were told that it began.
            self._on_ended(self.course.ended)
        elif self.status is Status.PREPARING:
            self.status = Status.RUNNING
        self.changed.emit()

    def _take(self, events: Sequence[Event]) -> None:
        course = self.course
        if course is None:
            return
        for event in events:
            course.take(event)
        if course.ended is not None and self.process is not None:
            self._on_ended(course.ended)
        if all(isinstance(event, Stepped) for event in events):
            self.stepped.emit()
        else:
            self.changed.emit()

    def _on_ended(self, ended: Ended) -> None:
        self.status = Status.READY
        self.process = None
        if ended.message:
            self._controller.failed.emit(InputError(ended.message))
        self.look_for_runs()

    def _on_asked(self, _request: object) -> None:
        """Something moves: the processor is its."""
        now, process = time.monotonic(), self.process
        if process is not None and now - self._told > _TELL_SECONDS:
            self._told = now
            process.step_aside()

    def _on_adopted(self, _exploration: object, is_continued: bool) -> None:
        if not is_continued:
            self.look_for_cases()
            self.changed.emit()

    def _look(self, work: Callable[[], object], take: Callable[..., None]) -> None:
        """Read or remove folders in a thread."""
        self._n_looking += 1

        def receive(found: object) -> None:
            self._n_looking -= 1
            if self._is_closed:
                return
            if isinstance(found, Exception):
                if not isinstance(found, StructSegError):
                    logger.error("folders could not be read", exc_info=found)
                self._controller.failed.emit(found)
            else:
                take(found)
            self.changed.emit()

        self._work(work, receive)

    def _work(self, work: Callable[[], Any], receive: Callable[[Any], None]) -> None:
        def done(outcome: object) -> None:
            self._working.discard(one)
            receive(outcome)

        one = Background(work, done)
        # What nobody holds is collected before its outcome comes.
        self._working.add(one)


def _settings(wanted: _Wanted, folder: Path, stop: threading.Event) -> FinetuneSettings:
    """Write the corrections as they are into the folder, and say what the run is."""
    choices = wanted.choices
    cases: tuple[CaseFiles, ...] = ()
    if choices.learns_from_shown:
        case = write_case(
            folder / "case",
            wanted.image,
            wanted.correction,
            choices.learn_from,
            image_file=wanted.image_file,
        )
        cases = (case,)
    for one in sorted(choices.sessions):
        if stop.is_set():
            raise InputError("The run was cancelled.")
        check_said(read_work(Path(one)).correction, choices.learn_from)
    held: dict[str, object] = {} if choices.is_held else {"pull": 0}
    every = min(choices.weights_every, choices.steps)
    return make_settings(
        model=wanted.model,
        cases=cases,
        sessions=[{"folder": one} for one in sorted(choices.sessions)],
        learn_from=choices.learn_from,
        what=choices.what,
        steps=choices.steps,
        minutes=choices.minutes or None,
        learning_rate=choices.learning_rate,
        replay=choices.replay or None,
        weights_every=every,
        validate_every=every,
        device=wanted.device,
        **held,
    )


def _file_of(shown: Exploration) -> Path | None:
    """The file with the image that is shown, unless it was moved or changed since."""
    path, known = shown.layer.source.path, shown.layer.metadata.get(IMAGE_KEY)
    is_same = isinstance(known, Image) and known is shown.image
    return Path(path) if is_same and path is not None and Path(path).is_file() else None
