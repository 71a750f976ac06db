"""The keys of the dock: one table, bound while the dock is open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_structseg.controls import MEAN
from napari_structseg.session.messages import Show
from napari_structseg.widgets.panels.neighbours_panel import NeighboursPanel
from napari_structseg.widgets.panels.sample_strip import SampleStrip
from napari_structseg.widgets.panels.show_panel import ShowPanel
from napari_structseg.widgets.panels.spread_panel import SpreadPanel
from napari_structseg.widgets.parts.section import Caption

_TEMPERATURE_STEP = 0.1


class KeyedDock(Protocol):
    """What keys do something with."""

    strip: SampleStrip
    spread: SpreadPanel
    neighbours: NeighboursPanel
    show_panel: ShowPanel

    def is_exploring(self) -> bool:
        """Whether keys do anything yet."""
        ...

    def step_hypothesis(self, distance: int) -> None:
        """Show the mode so many on."""
        ...

    def reset(self) -> None:
        """Every slider back to its default."""
        ...

    def undo(self) -> None:
        """The sliders as they were."""
        ...

    def redo(self) -> None:
        """Take back the last undo."""
        ...


AnyDock = TypeVar("AnyDock")


@dataclass(frozen=True)
class Shortcut(Generic[AnyDock]):
    """A key and what it does.

    Attributes
    ----------
    key
        As napari writes it.
    symbol
        As people read it.
    says
        What it does.
    act
        Does it.
    """

    key: str
    symbol: str
    says: str
    act: Callable[[AnyDock], object]


# Shift and a letter, or Shift and an arrow: napari's own keys for viewer, labels, image and
# vectors layers leave these free.
SHORTCUTS: tuple[Shortcut[KeyedDock], ...] = (
    Shortcut("Shift-Right", "⇧ →", "Next sample", lambda dock: dock.strip.step(1)),
    Shortcut("Shift-Left", "⇧ ←", "Previous sample", lambda dock: dock.strip.step(-1)),
    Shortcut("Shift-M", "⇧ M", "The mean", lambda dock: dock.strip.select(MEAN)),
    Shortcut("Shift-H", "⇧ H", "Next hypothesis", lambda dock: dock.step_hypothesis(1)),
    Shortcut("Shift-N", "⇧ N", "Next seed", lambda dock: dock.strip.seed_box.stepUp()),
    Shortcut(
        "Shift-Up",
        "⇧ ↑",
        "Temperature up",
        lambda dock: dock.spread.step_temperature(_TEMPERATURE_STEP),
    ),
    Shortcut(
        "Shift-Down",
        "⇧ ↓",
        "Temperature down",
        lambda dock: dock.spread.step_temperature(-_TEMPERATURE_STEP),
    ),
    Shortcut("Shift-I", "⇧ I", "More iterations", lambda dock: dock.neighbours.step_iterations(1)),
    Shortcut(
        "Shift-U", "⇧ U", "Fewer iterations", lambda dock: dock.neighbours.step_iterations(-1)
    ),
    Shortcut("Shift-R", "⇧ R", "Reset all sliders", lambda dock: dock.reset()),
    Shortcut("Shift-B", "⇧ B", "Show labels", lambda dock: dock.show_panel.choose(Show.LABELS)),
    Shortcut("Shift-O", "⇧ O", "Show outlines", lambda dock: dock.show_panel.choose(Show.OUTLINES)),
    Shortcut("Shift-C", "⇧ C", "Show contours", lambda dock: dock.show_panel.choose(Show.CONTOURS)),
    Shortcut("Shift-E", "⇧ E", "Show entropy", lambda dock: dock.show_panel.choose(Show.ENTROPY)),
    Shortcut(
        "Shift-G", "⇧ G", "Show agreement", lambda dock: dock.show_panel.choose(Show.AGREEMENT)
    ),
    # While a layer is selected that has these keys itself, they are the layer's: painting in a
    # labels layer is undone there.
    Shortcut("Control-Z", "Ctrl Z", "Undo", lambda dock: dock.undo()),
    Shortcut("Control-Y", "Ctrl Y", "Redo", lambda dock: dock.redo()),
)


class BoundShortcuts(Generic[AnyDock]):
    """The keys bound in one viewer for one dock.

    A key that the user, or another plugin, has bound in this viewer already is left alone.

    Parameters
    ----------
    viewer
        Where they are bound.
    dock
        What they do something with, while ``is_active()``.
    shortcuts
        The keys.
    is_active
        Whether keys do anything.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        dock: AnyDock,
        shortcuts: Sequence[Shortcut[AnyDock]],
        is_active: Callable[[], bool],
    ) -> None:
        self._viewer = viewer
        self._dock = dock
        self._shortcuts, self._is_active = shortcuts, is_active
        self._bound: list[str] = []
        self.bind()

    def bind(self) -> None:
        """Bind the keys that are free."""
        for shortcut in self._shortcuts:
            if shortcut.key in self._bound:
                continue
            try:
                self._viewer.bind_key(shortcut.key, self._handler(shortcut))
            except ValueError:
                continue
            self._bound.append(shortcut.key)

    def _handler(self, shortcut: Shortcut[AnyDock]) -> Callable[[ViewerModel], None]:
        # A function: napari asks for its name, which a partial has not.
        def press(_viewer: ViewerModel) -> None:
            if self._is_active():
                shortcut.act(self._dock)

        return press

    def unbind(self) -> None:
        """Free the keys."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound = []


class ShortcutList(QWidget):
    """The keys, in two columns."""

    def __init__(
        self, shortcuts: Iterable[Shortcut[Any]] = SHORTCUTS, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        listed = list(shortcuts)
        n_rows = -(-len(listed) // 2)
        for index, shortcut in enumerate(listed):
            column, row = divmod(index, n_rows)
            key = QLabel(shortcut.symbol)
            key.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            grid.addWidget(key, row, 2 * column)
            grid.addWidget(Caption(shortcut.says), row, 2 * column + 1)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)
