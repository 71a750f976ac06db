"""Whether members are shown as they are; and how a deterministic model gets some."""

from __future__ import annotations

from typing import cast, get_args

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_structseg.io.other_programs.members import is_given
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.augmented import PASSES, Augmentation
from napari_structseg.prediction.given import MembersAs
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, quiet
from napari_structseg.widgets.parts.choice import Choice

_OPTIONS = {
    "members": ("Members", "Every sample is one of them, as it is."),
    "normal": (
        "Normal",
        "Samples are drawn from a low-rank normal that is fitted to their logits: the sliders move "
        "continuously between the members, and beyond them.",
    ),
}
_TIPS = {
    "flips": "Turn the image round along its axes.",
    "intensity": "Make the image brighter and darker.",
    "rotations": "Turn the image by up to 10 degrees.",
}


class MembersRow(QWidget):
    """Members or the normal; above, the changes of test-time augmentation.

    Parameters
    ----------
    state
        Whose ``source.members_as`` and ``source.augment`` it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._source = state.source
        self._is_model = False
        self.choice = Choice(_OPTIONS)
        self.choice.chosen.connect(self._on_choice)
        self.changes = QWidget()
        self.buttons: dict[Augmentation, QPushButton] = {}
        changes = QHBoxLayout(self.changes)
        changes.setContentsMargins(0, 0, 0, 0)
        changes.setSpacing(2)
        for kind in cast("tuple[Augmentation, ...]", get_args(Augmentation)):
            button = QPushButton(kind.capitalize())
            button.setCheckable(True)
            button.setSizePolicy(QSizePolicy.Policy.MinimumExpanding, QSizePolicy.Policy.Fixed)
            button.setToolTip(
                f"Test-time augmentation: {_TIPS[kind]} The model is applied {PASSES} times, and "
                "what it says each time is a sample. It has no distribution of its own."
            )
            button.toggled.connect(self._on_change)
            self.buttons[kind] = button
            changes.addWidget(button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.changes)
        layout.addWidget(self.choice)
        bind(self, state.source, "members_as", self._show_choice)
        bind(self, state.source, "augment", self._show_changes)

    @property
    def controls(self) -> tuple[QWidget, ...]:
        """What is as high as the fields of other rows."""
        return (*self.choice.buttons.values(), *self.buttons.values())

    def set_model(self, model: str | None, spec: ModelSpec | None, is_for_slices: bool) -> bool:
        """Offer what the chosen model has a use for; whether that is anything.

        Parameters
        ----------
        model, spec
            The model that is chosen, and what it says of itself.
        is_for_slices
            Whether it is applied to slices of a volume, which are not changed.
        """
        self._is_model = spec is not None and spec.kind == "point" and not is_for_slices
        self.changes.setVisible(self._is_model)
        is_members = model is not None and is_given(model)
        self.choice.setVisible(is_members or (self._is_model and bool(self._source.augment)))
        return is_members or self._is_model

    def _show_choice(self, members_as: MembersAs) -> None:
        with quiet(self.choice):
            self.choice.choose(members_as)

    def _show_changes(self, augment: tuple[Augmentation, ...]) -> None:
        for kind, button in self.buttons.items():
            with quiet(button):
                button.setChecked(kind in augment)
        if self._is_model:
            self.choice.setVisible(bool(augment))

    def _on_choice(self, option: str) -> None:
        self._source.members_as = cast("MembersAs", option)

    def _on_change(self) -> None:
        chosen = (kind for kind, button in self.buttons.items() if button.isChecked())
        self._source.augment = tuple(chosen)
