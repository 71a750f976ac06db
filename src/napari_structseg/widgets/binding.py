"""How widgets follow fields of the state, and show values without setting them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod

from psygnal import EventedModel, SignalInstance
from qtpy.compat import isalive
from qtpy.QtWidgets import QWidget

# Of each widget: the signals it follows, and the methods that they call.
_FOLLOWED: WeakKeyDictionary[QWidget, list[tuple[SignalInstance, WeakMethod[Any]]]] = (
    WeakKeyDictionary()
)


def follow(owner: QWidget, signal: SignalInstance, slot: Callable[..., Any]) -> None:
    """Call a method with whatever a signal emits, until :func:`let_go`.

    Parameters
    ----------
    owner
        A widget.
    signal
        Of the state or of what computes.
    slot
        A method. Neither it nor its object is kept alive.
    """
    signal.connect(slot)
    _FOLLOWED.setdefault(owner, []).append((signal, WeakMethod(slot)))


def let_go(widget: QWidget) -> None:
    """Have a widget, and all within it, follow nothing from now on: before Qt deletes them.

    Qt says itself when it deletes a widget, but in the middle of Python's garbage collection,
    where nothing of Python can be called. Where a window takes the widget with it, Qt has deleted
    it before anybody is told: then all that are gone let go.
    """
    if _is_alive(widget):
        owners = [widget, *widget.findChildren(QWidget)]
    else:
        owners = [owner for owner in list(_FOLLOWED) if not _is_alive(owner)]
    for owner in owners:
        for signal, reference in _FOLLOWED.pop(owner, []):
            slot = reference()
            if slot is not None:
                signal.disconnect(slot, missing_ok=True)


def _is_alive(widget: QWidget) -> bool:
    return bool(isalive(widget))  # type: ignore[no-untyped-call]


def bind(owner: QWidget, part: EventedModel, field: str, show: Callable[..., Any]) -> None:
    """Show the value of a field now, and whenever it changes.

    Parameters
    ----------
    owner
        The widget that shows it.
    part
        Of the state.
    field
        Its name.
    show
        A method of the owner that is given the value.
    """
    follow(owner, part.events[field], show)
    show(getattr(part, field))


@contextmanager
def quiet(*widgets: QWidget) -> Iterator[None]:
    """Set widgets without their signals: what they show comes from the state already."""
    blocked = [widget.blockSignals(True) for widget in widgets]
    try:
        yield
    finally:
        for widget, was_blocked in zip(widgets, blocked, strict=True):
            widget.blockSignals(was_blocked)
