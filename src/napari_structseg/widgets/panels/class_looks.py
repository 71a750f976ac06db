"""The eyes and the opacities of class rows, as a view of the state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from napari_structseg.session.state import DisplayState
from napari_structseg.widgets.parts.class_row import ClassRow


class ClassLooks:
    """Shows in rows how classes are drawn, and sets it when the user changes it.

    Parameters
    ----------
    rows
        One for each class, in label order.
    display
        Whose hidden classes and opacities they are.
    """

    def __init__(self, rows: Sequence[ClassRow], display: DisplayState) -> None:
        self._rows = tuple(rows)
        self._display = display
        for label, row in enumerate(self._rows):
            row.shown_changed.connect(partial(self._on_shown, label))
            row.opacity_changed.connect(partial(self._on_opacity, label))
        self.show()

    def show(self, _changed: object = None) -> None:
        """Show what the state says."""
        hidden, opacities = self._display.hidden_classes, self._opacities
        for label, row in enumerate(self._rows):
            row.show_look(opacities[label], is_shown=label not in hidden)

    @property
    def _opacities(self) -> tuple[float, ...]:
        """Of every class, hidden or not."""
        given, n_classes = self._display.class_opacity, len(self._rows)
        return given if len(given) == n_classes else (1.0,) * n_classes

    def _on_shown(self, label: int, is_shown: bool) -> None:
        hidden = self._display.hidden_classes
        self._display.hidden_classes = hidden - {label} if is_shown else hidden | {label}

    def _on_opacity(self, label: int, opacity: float) -> None:
        before = self._opacities
        self._display.class_opacity = (*before[:label], opacity, *before[label + 1 :])
