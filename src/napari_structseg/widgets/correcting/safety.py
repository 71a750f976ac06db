"""Nothing is lost: every action is kept in a session folder, and what a crash left comes back."""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from psygnal import Signal
from pydantic import JsonValue

from napari_structseg.correction.autosave import Autosave
from napari_structseg.correction.export import save_result
from napari_structseg.correction.identity import ImageIdentity, identify
from napari_structseg.correction.journal import Work
from napari_structseg.errors import InputError
from napari_structseg.session.messages import Request
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.correcting.book import Book
from napari_structseg.widgets.exploration import Exploration
from napari_structseg.widgets.threads.serial import Serial

logger = logging.getLogger(__name__)


class Safety:
    """Keeps corrections on disk, in the thread in which they are made.

    Signals are emitted in the main thread: ``changed()`` when something was saved;
    ``restored(book, state, folder)`` when a book has the work of a session, with the state that was
    noted beside it (JSON, or None).

    Parameters
    ----------
    actions
        In whose thread everything is done.
    state
        Kept beside every action.
    say, fail
        Called in the main thread with what happened, and with what could not be written.
    """

    changed = Signal()
    restored = Signal(object, object, object)

    def __init__(
        self,
        actions: Serial,
        state: ExplorerState,
        say: Callable[[str], object],
        fail: Callable[[Exception], object],
    ) -> None:
        self._actions, self._state, self._say, self._fail = actions, state, say, fail
        self._origins: dict[Book, _Origin] = {}
        self._identities: dict[Book, ImageIdentity] = {}
        self._kept: dict[Book, Autosave] = {}

    def open(self, book: Book, exploration: Exploration) -> None:
        """Work on an image, and on what a model has made of it."""
        self._origins[book] = _Origin(book, exploration)

    def prepare(self, book: Book) -> None:
        """Have every action from now on kept; in the thread, before the first of them."""
        if book in self._kept:
            return
        autosave = Autosave(book.correction, self._identity(book), book.classes)
        self._keep(book, autosave)

    def note(self, book: Book) -> None:
        """Keep the state beside the action that was just done."""
        autosave = self._kept.get(book)
        if autosave is not None:
            source = self._origins[book].source()
            recipe = None if source is None else json.dumps(source)
            autosave.note(state=self._state.model_dump_json(), recipe=recipe)

    def is_unsaved(self, book: Book) -> bool:
        """Whether there is work that is in no file of the user."""
        autosave = self._kept.get(book)
        return autosave is not None and autosave.is_unsaved

    def restore(self, book: Book, folder: Path) -> None:
        """Go on with what a crash has left."""
        self._origins.setdefault(book, _Origin(book))
        self._actions.do(partial(self._reopen, book, folder), self._on_done)

    def save(self, book: Book, path: str, *, keep_patient: bool = False) -> None:
        """Write the result as files, after all that was done before.

        Parameters
        ----------
        book
            Whose result.
        path
            Its suffix is the format.
        keep_patient
            Whether a DICOM file says who the patient is.
        """
        self._say(f"Saving {Path(path).name}…")
        self._actions.do(partial(self._write, book, Path(path), keep_patient), self._on_done)

    def close(self) -> None:
        """Write what is left, after all that was asked for, and end."""
        self._actions.do(self._close, lambda _error: None)

    def _identity(self, book: Book) -> ImageIdentity:
        """In the thread."""
        if book not in self._identities:
            origin = self._origins[book]
            self._identities[book] = identify(origin.image, origin.file)
        return self._identities[book]

    def _reopen(self, book: Book, folder: Path) -> None:
        if book.correction.past.steps:
            raise InputError(
                "The work of before can be recovered before anything else is corrected. Undo is "
                "not enough: close the image, open it again, and recover then."
            )
        autosave, work = Autosave.reopen(folder)
        self._keep(book, autosave)
        self._actions.tell(partial(self._on_reopened, book, work, folder))

    def _keep(self, book: Book, autosave: Autosave) -> None:
        self._kept[book] = autosave
        autosave.failed.connect(lambda error: self._actions.tell(partial(self._fail, error)))

    def _write(self, book: Book, path: Path, keep_patient: bool) -> None:
        origin, autosave = self._origins[book], self._kept.get(book)
        file = origin.file
        image_path = None if file is None or not Path(file).is_file() else Path(file)
        paths = save_result(
            path,
            book.correction,
            origin.image,
            book.classes,
            image_path=image_path,
            source=origin.source(),
            keep_patient=keep_patient,
        )
        if autosave is not None:
            autosave.note_saved()
        done = {id(entry) for entry in book.correction.past.done}
        kept = [
            (what, by) for entry, what, by in book.accepted if entry is None or id(entry) in done
        ]
        self._actions.tell(partial(origin.note_saved, kept))
        names = ", ".join(one.name for one in paths)
        self._actions.tell(partial(self._say, f"Saved {names}"))
        self._actions.tell(self.changed.emit)

    def _close(self) -> None:
        for autosave in self._kept.values():
            autosave.close()

    def _on_reopened(self, book: Book, work: Work, folder: Path) -> None:
        book.correction = work.correction
        self._origins[book].remember(work.recipe)
        self.restored.emit(book, work.state, folder)
        self.changed.emit()

    def _on_done(self, error: Exception | None) -> None:
        if error is not None:
            self._fail(error)


class _Origin:
    """Where a segmentation that is corrected came from.

    It does not hold what was computed: an older result can be let go of where memory is short.
    """

    def __init__(self, book: Book, shown: Exploration | None = None) -> None:
        self.image = book.image
        self.file = book.image_layer.source.path
        self._shown = None if shown is None else weakref.ref(shown)
        self._last: dict[str, JsonValue] | None = None if shown is None else _source(shown)

    def remember(self, recipe: str | None) -> None:
        """Take what was noted in a session, where nothing was computed since."""
        if self._last is None and recipe is not None:
            self._last = json.loads(recipe)

    def note_saved(self, kept: Sequence[tuple[Request, str | None]]) -> None:
        """Labellings are in a file, within the result that they were accepted into."""
        shown = None if self._shown is None else self._shown()
        if shown is not None:
            for request, prior_model in kept:
                shown.note_saved(request, prior_model)

    def source(self) -> dict[str, JsonValue] | None:
        """What made it, with the controls as they are, or as they were last; None: nobody knows."""
        shown = None if self._shown is None else self._shown()
        if shown is not None:
            self._last = _source(shown)
        return self._last


def _source(shown: Exploration) -> dict[str, JsonValue]:
    """What made the segmentation that is corrected, as JSON has it."""
    wanted = shown.wanted
    return {
        "model": shown.spec.name,
        "file": str(shown.path),
        "prior": shown.prior_model,
        "controls": None if wanted is None else wanted.controls.model_dump(mode="json"),
    }
