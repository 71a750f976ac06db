"""A list to choose from that keeps to the width it is given."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_structseg.widgets.parts.fields import CalmCombo


class NarrowCombo(CalmCombo):
    """A combo box that a long entry does not widen.

    Parameters
    ----------
    placeholder
        Shown while nothing is chosen.
    """

    def __init__(self, placeholder: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setPlaceholderText(placeholder)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumContentsLength(8)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
