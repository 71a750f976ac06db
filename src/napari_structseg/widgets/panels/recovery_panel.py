"""An offer to go on with work that is in no file; it waits, and stops nothing."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_structseg.correction.folders import Found
from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.correcting.recovery import Recovery
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton

_MOST = 3
_SURE = "Delete for good"


class RecoveryRow(QWidget):
    """One session: what it is about, and what to do with it.

    Parameters
    ----------
    found
        The session.
    recovery
        Does it.
    """

    def __init__(self, found: Found, recovery: Recovery, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._found, self._recovery = found, recovery
        self.note = Note(_in_words(found))
        self.recover_button = SmallButton(
            "Recover", "Go on with it: image, result, strokes, locks and history come back."
        )
        self.later_button = SmallButton("Later", "Keep it; it is offered at the next start.")
        self.delete_button = SmallButton("Delete", "Remove it for good; press twice.")
        self.recover_button.clicked.connect(partial(recovery.recover, found))
        self.later_button.clicked.connect(partial(recovery.put_off, found))
        self.delete_button.clicked.connect(self._on_delete)
        row = QHBoxLayout()
        row.setSpacing(4)
        for button in (self.recover_button, self.later_button, self.delete_button):
            row.addWidget(button)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.note)
        layout.addLayout(row)

    def _on_delete(self) -> None:
        if self.delete_button.text() == _SURE:
            self._recovery.delete(self._found)
        else:
            self.delete_button.setText(_SURE)


class RecoveryPanel(QWidget):
    """A row for each of the sessions that were written to last; hidden where there is none.

    Parameters
    ----------
    recovery
        Knows what was left.
    """

    def __init__(self, recovery: Recovery, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._recovery = recovery
        self.rows: tuple[RecoveryRow, ...] = ()
        self._shown: tuple[Found, ...] = ()
        self.caption = Caption()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(6)
        self._layout.addWidget(self.caption)
        follow(self, recovery.changed, self.show_found)
        self.show_found()

    def show_found(self) -> None:
        """Offer what there is."""
        found = self._recovery.found
        self.setVisible(bool(found))
        n_more = len(found) - _MOST
        more = f" (and {n_more} more, see structseg sessions)" if n_more > 0 else ""
        self.caption.setText(f"Work that is in no file{more}")
        if found == self._shown:
            return
        self._shown = found
        for row in self.rows:
            self._layout.removeWidget(row)
            row.hide()
            row.deleteLater()
        self.rows = tuple(RecoveryRow(one, self._recovery) for one in found[:_MOST])
        for row in self.rows:
            self._layout.addWidget(row)


def _in_words(found: Found) -> str:
    name = "an image" if found.header is None else found.header.image.name
    when = found.changed.astimezone().strftime("%d %b, %H:%M")
    n = found.n_unsaved
    return f"{name}: {n} action{'s' * (n != 1)}, the last of {when}"
