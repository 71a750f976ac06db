"""How the docks of one window share its height."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

# Below this, in pixels, two docks above each other show too little of either.
_HIGH_ENOUGH = 1000


def share_room(own: QWidget, other: QWidget) -> None:
    """Give a dock that has just come its room beside another one of ours in the same area.

    Left alone, Qt gives it what the other does not need at least, a few lines. In a high window
    both get half; in a lower one they become tabs, of which the new one is seen.

    Parameters
    ----------
    own
        What has just come.
    other
        What was there.
    """
    mine, theirs = _dock_of(own), _dock_of(other)
    if mine is None or theirs is None or mine is theirs or mine.isFloating() or theirs.isFloating():
        return
    window = mine.parentWidget()
    if not isinstance(window, QMainWindow) or window is not theirs.parentWidget():
        return
    if window.dockWidgetArea(mine) != window.dockWidgetArea(theirs):
        return
    if theirs in window.tabifiedDockWidgets(mine):
        return
    if window.height() < _HIGH_ENOUGH:
        window.tabifyDockWidget(theirs, mine)
        mine.raise_()
    else:
        window.resizeDocks([theirs, mine], [1, 1], Qt.Orientation.Vertical)


def _dock_of(widget: QWidget) -> QDockWidget | None:
    parent: QWidget | None = widget
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent
