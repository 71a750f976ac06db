"""What every dock of a session does while it is shown, closed and told of errors."""

from __future__ import annotations

import logging

from qtpy.QtCore import QEvent
from qtpy.QtGui import QCloseEvent, QShowEvent
from qtpy.QtWidgets import QWidget

from napari_structseg.errors import StructSegError
from napari_structseg.widgets.close_guard import CloseGuard
from napari_structseg.widgets.panels.banner import ErrorBanner

logger = logging.getLogger(__name__)


class SessionDock(QWidget):
    """A dock that shuts down once, however it is closed.

    A dock of this kind sets the attributes before it is shown, and says in :meth:`shut_down` what
    it lets go of.

    Attributes
    ----------
    banner
        Where errors are shown.
    """

    banner: ErrorBanner
    _guard: CloseGuard
    _is_closed: bool

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
        if not self._is_closed:
            self._guard.watch(self)

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
