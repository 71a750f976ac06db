"""The weights of an MRF as a picture, and nudges of the pairs of classes in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from napari_structseg.controls import NUDGE_MAX, USEFUL_NUDGE, Nudge
from napari_structseg.models import ClassSpec
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.parts.section import Caption, SmallButton
from napari_structseg.widgets.plots.compatibility_grid import CompatibilityGrid
from napari_structseg.widgets.plots.compatibility_layout import Pair

_NONE_CHOSEN = "Click a pair of classes to nudge it."


class CompatibilityPicture(QWidget):
    """A grid of weights; below it, a slider for the pair of classes chosen in it."""

    nudges_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: tuple[ClassSpec, ...] = ()
        self._amounts: dict[Pair, float] = {}
        self.grid = CompatibilityGrid()
        self.grid.pair_chosen.connect(self._on_pair)
        self.pair = Caption(_NONE_CHOSEN)
        self.clear_button = SmallButton("Clear", "Take back the nudges of all pairs.")
        self.clear_button.clicked.connect(self.clear_nudges)
        self.slider = _NudgeSlider()
        self.slider.changed.connect(self._on_amount)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.pair, 1)
        row.addWidget(self.clear_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.grid)
        layout.addLayout(row)
        layout.addWidget(self.slider)
        self.show_compatibility((), None)

    @property
    def nudges(self) -> tuple[Nudge, ...]:
        """The pairs that are nudged, in label order."""
        return tuple(
            Nudge(first=first, second=second, amount=amount)
            for (first, second), amount in sorted(self._amounts.items())
        )

    def show_compatibility(
        self, classes: Sequence[ClassSpec], compatibility: npt.NDArray[np.float32] | None
    ) -> None:
        """Show the weights of another MRF; nudges stay.

        Parameters
        ----------
        classes
            The K classes, in label order.
        compatibility
            What a neighbour of class l at an offset adds to the log-likelihood of class k,
            ``(K, K, 3, 3[, 3])``; None: no MRF.
        """
        self._classes = tuple(classes)
        self.grid.show_weights(classes, compatibility)
        self._show_nudges()
        self._show_pair()

    def show_nudges(self, nudges: Sequence[Nudge]) -> None:
        """Show pairs that are nudged, and do not say so."""
        self._amounts = {
            (min(one.first, one.second), max(one.first, one.second)): one.amount for one in nudges
        }
        self._show_nudges()
        self._show_pair()

    def select(self, first: int, second: int) -> None:
        """Choose a pair of labels for the slider."""
        self.grid.select((first, second))

    def clear_nudges(self) -> None:
        """Take back all nudges, as one change."""
        if self._amounts:
            self._amounts = {}
            self._show_nudges()
            self._show_pair()
            self.nudges_changed.emit()

    def _on_pair(self, _first: int, _second: int) -> None:
        self._show_pair()

    def _on_amount(self, amount: float) -> None:
        chosen = self.grid.selected
        if chosen is None:
            return
        pair = min(chosen), max(chosen)
        self._amounts.pop(pair, None)
        if amount:
            self._amounts[pair] = amount
        self._show_nudges()
        self.nudges_changed.emit()

    def _show_nudges(self) -> None:
        self.grid.mark(self._amounts)
        self.clear_button.setEnabled(bool(self._amounts))

    def _show_pair(self) -> None:
        """The pair chosen and how much it is nudged."""
        chosen = self.grid.selected
        blocked = self.slider.blockSignals(True)
        if chosen is None:
            self.pair.setText(_NONE_CHOSEN)
            self.slider.reset()
        else:
            first, second = (display_name(self._classes[label]) for label in chosen)
            self.pair.setText(f"{first} and {'itself' if first == second else second}")
            self.slider.set_value(self._amounts.get((min(chosen), max(chosen)), 0.0))
        self.slider.blockSignals(blocked)
        self.slider.setEnabled(chosen is not None)


class _NudgeSlider(ScaleSlider):
    """A slider that says what its ends mean."""

    def __init__(self) -> None:
        super().__init__(
            -NUDGE_MAX,
            NUDGE_MAX,
            default=0.0,
            name="Nudge",
            tip="Each class of the pair gains this times the mean probability of the other "
            "among its neighbours.",
            dragged=(-USEFUL_NUDGE, USEFUL_NUDGE),
        )
        row = self.layout()
        if isinstance(row, QHBoxLayout):
            row.insertWidget(0, _end("Touch less"))
            row.insertWidget(2, _end("more"))


def _end(text: str) -> Caption:
    caption = Caption(text)
    caption.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    return caption
