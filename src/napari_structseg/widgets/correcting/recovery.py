"""What crashed sessions have left: offered from the start, before any model has run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from psygnal import Signal

from napari_structseg.correction.folders import Found, find_sessions, remove, sessions_root
from napari_structseg.correction.identity import ImageIdentity, identify
from napari_structseg.errors import InputError, StructSegError
from napari_structseg.image import Image
from napari_structseg.io.checks import is_nifti_path
from napari_structseg.widgets.threads.background import Background
from napari_structseg.widgets.viewer.sources import source_layers
from napari_structseg.widgets.viewer.viewing import image_of_layer

_READER = "napari-structseg"
_Candidate = tuple[ImageLayer, Image]


class Recovery:
    """Looks for sessions with unsaved work that no program has open, and for their images.

    Signals are emitted in the main thread: ``changed()`` when something else is offered;
    ``wanted(folder, layer, image)`` when the user goes on with a session, and its image is there.

    Parameters
    ----------
    viewer
        Where the image is looked for, and opened where it is not there.
    fail
        Called with what prevented it.
    """

    changed = Signal()
    wanted = Signal(object, object, object)

    def __init__(self, viewer: ViewerModel, fail: Callable[[Exception], object]) -> None:
        self._viewer, self._fail = viewer, fail
        self.found: tuple[Found, ...] = ()
        # What the user does not want to hear of now.
        self._put_off: set[Path] = set()
        self._looking: Background[list[Found]] | None = None
        self._matching: Background[int | None] | None = None
        self.look()

    def is_busy(self) -> bool:
        """Whether sessions, or the image of one, are still looked for."""
        return self._looking is not None or self._matching is not None

    def look(self) -> None:
        """Look for sessions that can be recovered, in the background."""
        root = sessions_root()
        if self._looking is None and root.is_dir():
            self._looking = Background(partial(_recoverable, root), self._on_found)

    def recover(self, found: Found) -> None:
        """Go on with a session; its image is opened if it is not there."""
        if self._matching is None:
            self._match(found, may_open=True)

    def put_off(self, found: Found) -> None:
        """Offer it no longer; the next start of napari does."""
        self._put_off.add(found.folder)
        self._forget(found)

    def delete(self, found: Found) -> None:
        """Remove it for good."""
        try:
            remove(found.folder)
        except InputError as error:
            self._fail(error)
            return
        self._forget(found)

    def take_off(self, folder: Path) -> None:
        """It was recovered."""
        self.found = tuple(one for one in self.found if one.folder != folder)
        self.changed.emit()

    def close(self) -> None:
        """Tell nobody anything."""
        for work in (self._looking, self._matching):
            if work is not None:
                work.close()
        self._looking = self._matching = None

    def _forget(self, found: Found) -> None:
        self.found = tuple(one for one in self.found if one is not found)
        self.changed.emit()

    def _on_found(self, found: list[Found] | Exception) -> None:
        self._looking = None
        if isinstance(found, Exception):
            self._fail(found)
            return
        self.found = tuple(one for one in found if one.folder not in self._put_off)
        self.changed.emit()

    def _match(self, found: Found, *, may_open: bool) -> None:
        if found.header is None:
            return
        identity = found.header.image
        candidates = self._candidates(identity)
        images = [image for _, image in candidates]
        self._matching = Background(
            partial(_index_of, identity, images),
            partial(self._on_matched, found, candidates, may_open),
        )

    def _candidates(self, identity: ImageIdentity) -> list[_Candidate]:
        """Layers that may show the image, as far as their shapes say."""
        candidates = []
        for layer in reversed(source_layers(self._viewer)):
            try:
                image = image_of_layer(layer)
            except InputError:
                # A picture in colours, or of several resolutions, was never segmented.
                continue
            if image.spatial_shape == identity.shape:
                candidates.append((layer, image))
        return candidates

    def _on_matched(
        self,
        found: Found,
        candidates: Sequence[_Candidate],
        may_open: bool,
        index: int | Exception | None,
    ) -> None:
        self._matching = None
        header = found.header
        if isinstance(index, Exception) or header is None:
            self._fail(index if isinstance(index, Exception) else InputError(str(found.error)))
        elif index is not None and candidates[index][0] in self._viewer.layers:
            self.wanted.emit(found.folder, *candidates[index])
        elif may_open and header.image.path is not None and Path(header.image.path).is_file():
            if self._open(Path(header.image.path)):
                self._match(found, may_open=False)
        else:
            self._fail(InputError(_what_to_open(header.image, was_opened=not may_open)))

    def _open(self, path: Path) -> bool:
        """Open a file as napari does."""
        try:
            self._viewer.open(os.fspath(path), plugin=_READER if is_nifti_path(path) else None)
        except (StructSegError, OSError, ValueError, RuntimeError) as error:
            self._fail(
                InputError(
                    f"The image {path} of this work cannot be opened: {error} Open it by hand, "
                    "then press Recover."
                )
            )
            return False
        return True


def _recoverable(root: Path) -> list[Found]:
    return [one for one in find_sessions(root) if one.is_recoverable]


def _index_of(identity: ImageIdentity, images: Sequence[Image]) -> int | None:
    """Which of some images it is."""
    indices = (at for at, one in enumerate(images) if identify(one).is_of_same_image(identity))
    return next(indices, None)


def _what_to_open(image: ImageIdentity, *, was_opened: bool) -> str:
    if was_opened:
        return (
            f"{image.path} now holds another image than the one that was corrected. Open the "
            f"image {image.name!r} of before, then press Recover."
        )
    where = "It came from no file." if image.path is None else f"It was in {image.path}."
    return (
        f"The image {image.name!r} of this work is not open. {where} Open it, then press Recover."
    )
