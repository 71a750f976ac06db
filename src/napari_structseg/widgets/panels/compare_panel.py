"""What the weights of a run predict, beside what is shown; adopt it, or not now."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_structseg.widgets.binding import bind, follow, quiet
from napari_structseg.widgets.finetuning.preview import Preview, Stage
from napari_structseg.widgets.finetuning.tuning import Tuning
from napari_structseg.widgets.parts.section import Note, SmallButton

_NOTHING = "As soon as the run has written weights, they can be looked at here."


class ComparePanel(QWidget):
    """A button to look, one to flip between old and new, and one to adopt.

    Parameters
    ----------
    tuning
        Whose weights are looked at.
    preview
        What runs and shows them.
    """

    def __init__(self, tuning: Tuning, preview: Preview, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tuning, self._preview = tuning, preview
        self._looked_at: tuple[object, int] | None = None
        self.look_button = QPushButton("See the improved prediction")
        self.look_button.setToolTip(
            "Run the newest weights of the run on the image, in the background."
        )
        self.look_button.clicked.connect(self.look)
        self.each_box = QCheckBox("Whenever there are new weights")
        self.each_box.setToolTip("Look by itself, as often as is chosen above.")
        self.each_box.toggled.connect(partial(setattr, tuning.choices, "shows_each"))
        self.note = Note()
        self.flip_button = SmallButton("Flip", "Show old and new in turn (Shift F).")
        self.flip_button.setCheckable(True)
        self.split_button = SmallButton(
            "Split", "Old in the left half of the image, new in the right one."
        )
        self.split_button.setCheckable(True)
        self.split_button.clicked.connect(self._on_split)
        self.adopt_button = SmallButton(
            "Adopt", "Use the new weights from now on; undo takes it back exactly."
        )
        self.reject_button = SmallButton("Not now", "Go on with the model as it is.")
        self.flip_button.clicked.connect(preview.flip)
        self.adopt_button.clicked.connect(preview.adopt)
        self.reject_button.clicked.connect(preview.reject)
        row = QHBoxLayout()
        row.setSpacing(4)
        buttons = self.flip_button, self.split_button, self.adopt_button, self.reject_button
        for button in buttons:
            row.addWidget(button)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.look_button)
        layout.addWidget(self.each_box)
        layout.addWidget(self.note)
        layout.addLayout(row)
        bind(self, tuning.choices, "shows_each", self._show_each)
        follow(self, tuning.changed, self._on_tuning)
        follow(self, preview.changed, self.show_preview)
        self.show_preview()

    def look(self) -> None:
        """Look at the newest weights."""
        newest = self._tuning.newest_weights
        if newest is not None:
            self._looked_at = self._tuning.folder, newest[1]
            self._preview.look(*newest)

    def show_preview(self) -> None:
        """Show how far it is, and what it brings."""
        preview, newest = self._preview, self._tuning.newest_weights
        is_free = preview.stage in (Stage.NONE, Stage.SHOWN)
        self.look_button.setEnabled(newest is not None and is_free)
        is_compared = preview.stage is Stage.SHOWN and preview.n_changed is not None
        for button in (self.flip_button, self.split_button, self.adopt_button):
            button.setVisible(preview.stage is Stage.SHOWN)
            button.setEnabled(is_compared)
        self.reject_button.setVisible(preview.stage in (Stage.RUNNING, Stage.SHOWN))
        with quiet(self.flip_button):
            self.flip_button.setChecked(preview.is_new_seen)
        with quiet(self.split_button):
            self.split_button.setChecked(preview.is_split)
        seen = "Both" if preview.is_split else "New"
        self.flip_button.setText(seen if preview.is_new_seen else "Old")
        self.note.setText(self._in_words(has_weights=newest is not None))

    def _in_words(self, *, has_weights: bool) -> str:
        preview = self._preview
        if preview.stage is Stage.RUNNING:
            return "The new weights segment the image…"
        if preview.stage is Stage.ADOPTING:
            return "Taking them over…"
        if preview.stage is Stage.SHOWN and preview.n_changed is None:
            return "Comparing…"
        if preview.stage is Stage.SHOWN and preview.n_changed is not None:
            share = 100 * preview.n_changed / max(1, preview.n_voxels)
            return (
                f"Step {preview.step:,}: {preview.n_changed:,} voxels changed ({share:.2g} %). "
                f"Their outline is in green. {preview.dropped}"
            ).rstrip()
        return "" if has_weights else _NOTHING

    def _on_split(self, is_on: bool) -> None:
        self._preview.split(is_on=is_on)

    def _on_tuning(self) -> None:
        newest = self._tuning.newest_weights
        is_new = newest is not None and self._looked_at != (self._tuning.folder, newest[1])
        is_free = self._preview.stage in (Stage.NONE, Stage.SHOWN)
        if self._tuning.choices.shows_each and is_new and is_free:
            self.look()
        self.show_preview()

    def _show_each(self, is_on: bool) -> None:
        with quiet(self.each_box):
            self.each_box.setChecked(is_on)
