"""What every dock of a session does while it is shown, closed and told of errors."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import ClassVar

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtGui import QCloseEvent, QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_structseg.errors import StructSegError
from napari_structseg.widgets.binding import let_go
from napari_structseg.widgets.close_guard import CloseGuard
from napari_structseg.widgets.dock_sharing import share_room
from napari_structseg.widgets.panels.banner import ErrorBanner
from napari_structseg.widgets.parts.keyless_scroll import KeylessScrollArea
from napari_structseg.widgets.parts.section import Hairline
from napari_structseg.widgets.sessions import Session

MARGIN = 8
SPACING = 6
_FOOT_SPACING = 4

logger = logging.getLogger(__name__)


class SessionDock(QWidget):
    """A dock that shuts down once, however it is closed.

    A dock of this kind sets the attributes before it is shown, and says in :meth:`shut_down` what
    it lets go of.

    Attributes
    ----------
    banner
        Where errors are shown.
    takes_half
        Whether it shares the height of a high window with the dock that was there before.
    """

    takes_half: ClassVar[bool] = False

    banner: ErrorBanner
    _guard: CloseGuard
    _session: Session
    _is_closed: bool
    _was_shown = False

    def shut_down(self, *, leaves_layers: bool = True) -> None:
        """Let go of the viewer, for good.

        Parameters
        ----------
        leaves_layers
            Whether the viewer goes on without the dock.
        """
        raise NotImplementedError

    def showEvent(self, event: QShowEvent | None) -> None:
        """Ask before the window closes that the dock is in now."""
        super().showEvent(event)
        if self._is_closed:
            return
        self._guard.watch(self)
        if self.takes_half and not self._was_shown:
            # Qt lays the window out after this.
            QTimer.singleShot(0, self._share_room)
        self._was_shown = True

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Shut down where the dock is a window of its own."""
        self.shut_down()
        super().closeEvent(event)

    def event(self, event: QEvent | None) -> bool:
        """Shut down when napari takes the dock out of its window: it never comes back."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
            self.deleteLater()
        return bool(super().event(event))

    def _share_room(self) -> None:
        others = [one for one in self._session.docks if one is not self and one.isVisible()]
        if others and not self._is_closed:
            share_room(self, others[0])

    def _leave(self, *, leaves_layers: bool) -> None:
        """The end of every `shut_down`: what is followed, the window, and the session."""
        let_go(self)
        if leaves_layers:
            # Otherwise Qt has deleted the window.
            self._guard.let_go()
        self._session.leave(self, leaves_layers=leaves_layers)

    def _stack(self, parts: Iterable[QWidget], foot: Iterable[QWidget]) -> None:
        """Parts below each other that scroll; errors and the foot stay in view."""
        page = QWidget()
        inside = QVBoxLayout(page)
        inside.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        inside.setSpacing(SPACING)
        for part in parts:
            inside.addWidget(part)
        inside.addStretch(1)
        self.scroll_area = KeylessScrollArea()
        self.scroll_area.setWidget(page)
        below = QVBoxLayout()
        below.setContentsMargins(MARGIN, _FOOT_SPACING, MARGIN, _FOOT_SPACING)
        below.setSpacing(_FOOT_SPACING)
        for part in foot:
            below.addWidget(part)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.scroll_area, 1)
        layout.addWidget(self.banner)
        layout.addWidget(Hairline())
        layout.addLayout(below)

    def _show_error(self, error: Exception | None) -> None:
        """Show an error until it is dismissed; None: what failed works now."""
        if error is None:
            self.banner.dismiss()
        elif isinstance(error, StructSegError):
            self.banner.show_error(str(error))
        else:
            logger.error("computing failed", exc_info=error)
            what = "The memory ran out." if isinstance(error, MemoryError) else str(error)
            self.banner.show_error(
                f"The computation failed: {what} Try the CPU as device, or a smaller image; if it "
                "goes on, please report it with the log that napari prints."
            )
