"""The strip of samples: the mean and samples, as pictures of the current slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_structseg.controls import MEAN, Controls
from napari_structseg.models import ClassSpec
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, quiet
from napari_structseg.widgets.parts.colors import label_colors
from napari_structseg.widgets.parts.fields import NumberField
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton
from napari_structseg.widgets.parts.thumbnail import Thumbnail, overlay

COLUMNS = 5
# More than anyone compares by eye, and few enough to redraw with every slider move.
MAX_SAMPLES = 8 * COLUMNS - 1
_ALONE = "Pictures show the model alone, without neighbours."
_SEED_MAX = 2**31 - 1


class SampleStrip(QWidget):
    """Browse samples: by click, by arrow keys, by buttons.

    The seed and the buttons are in :attr:`tools`, for the header above the strip.

    Parameters
    ----------
    state
        Whose chosen sample, seed and number of thumbnails it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._thumbnails: list[Thumbnail] = []
        self._colors: npt.NDArray[np.float32] = np.zeros((1, 4), np.float32)
        self._group = QButtonGroup(self)
        self._group.idClicked.connect(self._on_click)
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(1)
        for column in range(COLUMNS):
            self._grid.setColumnStretch(column, 1)
        self._is_stochastic = True
        self.note = Note(
            "This model is deterministic: it gives one segmentation, and no samples to browse."
        )
        self.note.setVisible(False)
        self.alone_note = Caption()
        self.alone_note.setVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(self._grid)
        layout.addWidget(self.note)
        layout.addWidget(self.alone_note)
        self.tools = self._make_tools()
        bind(self, state.display, "n_thumbnails", self._show_number)
        bind(self, state.controls, "chosen", self._mark)
        bind(self, state.controls, "seed", self._show_seed)

    @property
    def n_samples(self) -> int:
        """How many samples the strip has room for, the mean not counted."""
        return len(self._thumbnails) - 1

    @property
    def thumbnails(self) -> tuple[Thumbnail, ...]:
        """The mean and the samples, in order."""
        return tuple(self._thumbnails)

    def select(self, sample: int) -> None:
        """Choose a sample; the strip grows by a row where that takes it there."""
        sample = max(sample, MEAN)
        with self._state.together():
            if self.n_samples < sample <= self.n_samples + COLUMNS:
                self.extend()
            self._state.controls.sample = sample
        if sample <= self.n_samples and any(one.hasFocus() for one in self._thumbnails):
            self._thumbnails[sample].setFocus()

    def step(self, distance: int, _checked: bool = False) -> None:
        """Choose a sample so many places on."""
        if self._is_stochastic:
            self.select(self._state.controls.sample + distance)

    def extend(self) -> None:
        """Add a row of samples."""
        self._state.display.n_thumbnails = min(self.n_samples + COLUMNS, MAX_SAMPLES)

    def set_model(self, classes: Sequence[ClassSpec], *, is_stochastic: bool) -> None:
        """Take a model's classes, and empty the pictures.

        Where all samples are the mean, the strip says so and offers no others.
        """
        self._colors = label_colors(classes)
        self._is_stochastic = is_stochastic
        self.tools.setEnabled(is_stochastic)
        self.note.setVisible(not is_stochastic)
        for thumbnail in self._thumbnails:
            thumbnail.set_picture(None)
            thumbnail.setVisible(is_stochastic or thumbnail.sample == MEAN)

    def say_alone(self, *, has_prior: bool, is_alone: bool) -> None:
        """Say that the pictures are of the model alone, where the segmentation is not.

        Parameters
        ----------
        has_prior
            Whether an MRF can refine the labels: then the line keeps its place.
        is_alone
            Whether it refines the segmentation, and not the pictures.
        """
        # Also while it is empty: a line that comes and goes would move what is below.
        self.alone_note.setFixedHeight(self.alone_note.fontMetrics().height())
        self.alone_note.setVisible(has_prior)
        self.alone_note.setText(_ALONE if is_alone else "")

    def set_samples(
        self,
        samples: Mapping[int, npt.NDArray[np.uint8]],
        grey: npt.NDArray[np.uint8] | None,
        aspect: float,
    ) -> None:
        """Show pictures.

        Parameters
        ----------
        samples
            Labels by sample, each ``(h, w)``.
        grey
            The image below them, ``(h, w)``.
        aspect
            Width by height on screen.
        """
        for thumbnail in self._thumbnails:
            labels = samples.get(thumbnail.sample)
            if labels is not None:
                thumbnail.set_picture(overlay(labels, self._colors, grey), aspect)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Browse with the arrow keys."""
        steps = {
            Qt.Key.Key_Left: -1,
            Qt.Key.Key_Right: 1,
            Qt.Key.Key_Up: -COLUMNS,
            Qt.Key.Key_Down: COLUMNS,
        }
        distance = None if event is None else steps.get(Qt.Key(event.key()))
        if distance is None or event is None or event.modifiers() & _MODIFIERS:
            super().keyPressEvent(event)
        else:
            self.step(distance)

    def _mark(self, _chosen: object = None) -> None:
        """Mark the chosen sample; none, where a latent position is chosen."""
        controls = self._state.controls
        marked = None if controls.latent else controls.sample
        # An exclusive group would not let all go.
        self._group.setExclusive(False)
        for thumbnail in self._thumbnails:
            thumbnail.setChecked(thumbnail.sample == marked)
        self._group.setExclusive(True)

    def _on_click(self, sample: int) -> None:
        self._state.controls.sample = sample
        # What is marked follows from the state, also where the click has changed nothing.
        self._mark()

    def _show_seed(self, seed: int) -> None:
        with quiet(self.seed_box):
            self.seed_box.setValue(seed)

    def _on_seed(self, seed: int) -> None:
        self._state.controls.seed = seed

    def _show_number(self, n_samples: int) -> None:
        """Have room for so many samples."""
        n_samples = min(n_samples, MAX_SAMPLES)
        for sample in range(len(self._thumbnails), n_samples + 1):
            thumbnail = Thumbnail(sample, self)
            self._group.addButton(thumbnail, sample)
            self._grid.addWidget(thumbnail, sample // COLUMNS, sample % COLUMNS)
            self._thumbnails.append(thumbnail)
        for thumbnail in self._thumbnails[n_samples + 1 :]:
            self._group.removeButton(thumbnail)
            self._grid.removeWidget(thumbnail)
            thumbnail.hide()
            thumbnail.deleteLater()
        del self._thumbnails[n_samples + 1 :]
        self.more.setEnabled(n_samples < MAX_SAMPLES)
        self._mark()

    def _make_tools(self) -> QWidget:
        tools = QWidget(self)
        self.previous = SmallButton("‹", "Previous sample")
        self.next = SmallButton("›", "Next sample")
        for button, distance in ((self.previous, -1), (self.next, 1)):
            button.setAutoRepeat(True)
            button.clicked.connect(partial(self.step, distance))
        self.more = SmallButton("More", f"Draw {COLUMNS} more samples of this series.")
        self.more.clicked.connect(self.extend)
        field = Controls.model_fields["seed"]
        label = QLabel("Seed")
        label.setIndent(0)
        self.seed_box = NumberField()
        self.seed_box.setRange(0, _SEED_MAX)
        # A seed that is being typed is not yet one to draw samples for.
        self.seed_box.setKeyboardTracking(False)
        self.seed_box.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.seed_box.valueChanged.connect(self._on_seed)
        for widget in (label, self.seed_box):
            widget.setToolTip(field.description or "")
        row = QHBoxLayout(tools)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for part in (label, self.seed_box, self.previous, self.next, self.more):
            row.addWidget(part)
        return tools


_MODIFIERS = (
    Qt.KeyboardModifier.ShiftModifier
    | Qt.KeyboardModifier.ControlModifier
    | Qt.KeyboardModifier.AltModifier
)
