"""When what was written to a layer is on the screen."""

from __future__ import annotations

import time
from collections.abc import Callable

from napari.layers import Layer
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication

# Longer than a model takes on a slow machine.
_TIMEOUT_SECONDS = 3600.0
# Conditions that no event announces are looked at this often.
_LOOK_MS = 20


def find_canvas() -> QOpenGLWidget:
    """The widget that napari draws layers on, of the only viewer there is."""
    (canvas,) = (
        widget
        for widget in QApplication.allWidgets()
        if isinstance(widget, QOpenGLWidget) and widget.isVisible()
    )
    return canvas


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Let Qt work until a condition holds.

    Parameters
    ----------
    condition
        Asked after whatever Qt has done.
    what
        What is awaited, for the error message.

    Raises
    ------
    TimeoutError
        If it does not hold within an hour: something hangs.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    timer = QTimer()
    timer.start(_LOOK_MS)
    flags = QEventLoop.ProcessEventsFlag.AllEvents | QEventLoop.ProcessEventsFlag.WaitForMoreEvents
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took longer than {_TIMEOUT_SECONDS:g} s")
        QApplication.processEvents(flags)
    timer.stop()


class Frames:
    """Times the way from a change to the first frame on the screen that shows it.

    Parameters
    ----------
    canvas
        What napari draws on.
    """

    def __init__(self, canvas: QOpenGLWidget) -> None:
        self._canvas = canvas
        self._is_written = False
        self._shown_at: float | None = None
        self._listeners: list[Callable[[], None]] = []
        # Emitted when the window with everything in it has been brought to the screen.
        canvas.frameSwapped.connect(self._on_frame)

    def watch(self, layer: Layer, when: Callable[[], bool] | None = None) -> None:
        """Count what is written to a layer as a change.

        Parameters
        ----------
        layer
            The layer.
        when
            Whether what has just been written counts; None: it always does.
        """

        def on_write() -> None:
            if when is None or when():
                self._is_written = True

        # Events hold on to functions weakly.
        self._listeners.append(on_write)
        layer.events.set_data.connect(on_write)

    def seconds(
        self, change: Callable[[], None], or_until: Callable[[], bool] | None = None
    ) -> float:
        """Make a change, and wait for the frame.

        Parameters
        ----------
        change
            Writes to a watched layer, now or later.
        or_until
            Wait no longer than until this holds.

        Returns
        -------
        float
            From before the change until the frame is on the screen.
        """
        self._is_written = False
        self._shown_at = None
        started = time.perf_counter()
        change()
        wait_until(
            lambda: self._shown_at is not None or (or_until is not None and or_until()), "A frame"
        )
        return (self._shown_at or time.perf_counter()) - started

    def _on_frame(self) -> None:
        if self._is_written and self._shown_at is None:
            self._shown_at = time.perf_counter()
