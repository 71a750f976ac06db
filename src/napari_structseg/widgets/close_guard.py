"""A question before a window is closed that has unsaved work in it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from napari.qt import QtViewer
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

# Each dock has one; a person is asked once for a window.
_GUARDS: weakref.WeakSet[CloseGuard] = weakref.WeakSet()


class CloseGuard(QObject):
    """Stops a window from closing, once, to ask.

    Only where a person closes a window that is on the screen. A script that calls
    ``viewer.close()`` has taken the canvas away by then, and is never asked.

    Parameters
    ----------
    dock
        In the window.
    unsaved
        What would be lost, in words; nothing is asked where that is nothing.
    save
        Called where the user wants to save; None: there is nothing to save from the dock.
    """

    def __init__(
        self,
        dock: QWidget,
        unsaved: Callable[[], Sequence[str]],
        save: Callable[[], object],
    ) -> None:
        super().__init__(dock)
        self._unsaved = unsaved
        self._save = save
        # Not held: it is deleted when nothing in Python refers to it.
        self._watched: weakref.ref[QMainWindow] | None = None
        self.question: QMessageBox | None = None
        _GUARDS.add(self)

    def watch(self, dock: QWidget) -> None:
        """Guard the window that a dock is in now."""
        parent: QWidget | None = dock
        while parent is not None and not isinstance(parent, QMainWindow):
            parent = parent.parentWidget()
        if parent is not None and parent is not self._window:
            self.let_go()
            self._watched = weakref.ref(parent)
            parent.installEventFilter(self)

    def let_go(self) -> None:
        """Guard nothing from now on."""
        window = self._window
        if window is not None:
            window.removeEventFilter(self)
        self._watched = None

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ask before the window closes."""
        if event is None or event.type() != QEvent.Type.Close or watched is not self._window:
            return False
        unsaved = self._unsaved()
        if not unsaved or not self._is_on_screen():
            return False
        event.ignore()
        self._ask(unsaved)
        return True

    @property
    def _window(self) -> QMainWindow | None:
        return None if self._watched is None else self._watched()

    def _is_on_screen(self) -> bool:
        window = self._window
        canvas = None if window is None else window.findChild(QtViewer)
        return canvas is not None and canvas.isVisible()

    def _ask(self, unsaved: Sequence[str]) -> None:
        window = self._window
        if self.question is not None or window is None:
            return
        question = QMessageBox(window)
        question.setIcon(QMessageBox.Icon.Question)
        question.setWindowTitle("Close without saving?")
        question.setText("Not saved: " + "; ".join(unsaved) + ".")
        question.setInformativeText("Closing the window discards it.")
        save = question.addButton("Save…", QMessageBox.ButtonRole.AcceptRole)
        close = question.addButton("Close without saving", QMessageBox.ButtonRole.DestructiveRole)
        question.setDefaultButton(save)
        question.setEscapeButton(question.addButton(QMessageBox.StandardButton.Cancel))
        self.question = question

        def on_answer(_result: int) -> None:
            answer = question.clickedButton()
            self.question = None
            question.deleteLater()
            if answer is save:
                self._save()
            elif answer is close:
                asked = self._window
                for guard in [one for one in _GUARDS if one._window is asked]:
                    guard.let_go()
                if asked is not None:
                    asked.close()

        question.finished.connect(on_answer)
        # Without a loop of its own: the window goes on working.
        question.open()
