"""An offer to go on with work that was never saved; it waits, and stops nothing."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.correcting.correcting import Correcting
from napari_structseg.widgets.parts.section import Note, SmallButton


class RecoveryBanner(QWidget):
    """Says that there is work on the image of before, with a button to restore and one to discard.

    Parameters
    ----------
    correcting
        Knows what was left.
    """

    def __init__(self, correcting: Correcting, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._correcting = correcting
        self.note = Note()
        self.restore_button = SmallButton("Restore", "Go on with it: result, strokes and history.")
        self.discard_button = SmallButton("Discard", "Delete it for good.")
        self.restore_button.clicked.connect(self._restore)
        self.discard_button.clicked.connect(self._discard)
        row = QHBoxLayout()
        row.addWidget(self.restore_button)
        row.addWidget(self.discard_button)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addLayout(row)
        follow(self, correcting.safety.changed, self.show_found)
        follow(self, correcting.result.changed, self.show_found)
        self.show_found()

    def show_found(self) -> None:
        """Offer what was left of the image that is shown."""
        book = self._correcting.book
        found = None if book is None else self._correcting.safety.found.get(book)
        self.setVisible(found is not None)
        if found is not None:
            when = found.changed.astimezone().strftime("%d %b, %H:%M")
            self.note.setText(f"Work on this image, of {when}, was never saved.")

    def _restore(self) -> None:
        if self._correcting.book is not None:
            self._correcting.safety.restore(self._correcting.book)

    def _discard(self) -> None:
        if self._correcting.book is not None:
            self._correcting.safety.discard(self._correcting.book)
