"""The last line of the dock: what just happened, and how long it took."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from napari_structseg.widgets.parts.section import Caption, SmallButton

_INSTANT = 1e-3


class StatusLine(QWidget):
    """A hint on the left, timings on the right, and the button that lists the keys.

    Attributes
    ----------
    slice_seconds, volume_seconds
        Compute time of the visible slice, and of the whole volume; None: not known.
    """

    help_requested = Signal()
    save_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slice_seconds: float | None = None
        self.volume_seconds: float | None = None
        self.hint = Caption()
        # As wide as it is, before the times get any room: those can be looked up.
        self.hint.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.timing = Caption()
        self.timing.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.timing.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.timing.setToolTip(
            "Compute time of the visible slice, and of the whole volume behind it."
        )
        self.help_button = SmallButton("?", "Keyboard shortcuts")
        self.help_button.clicked.connect(self.help_requested.emit)
        self.save_button = SmallButton(
            "Save…",
            "Save the whole segmentation that is chosen, as NIfTI on the image's own voxel grid, "
            "with a record of how it was made and a table of volumes beside it.",
        )
        self.save_button.clicked.connect(self.save_requested.emit)
        self.save_button.setEnabled(False)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.hint)
        row.addWidget(self.timing, 1)
        row.addWidget(self.save_button)
        row.addWidget(self.help_button)

    def say(self, hint: str) -> None:
        """Show a hint until the next one."""
        self.hint.setText(hint)
        self.hint.setToolTip(hint)

    def forget_times(self) -> None:
        """Show no timings."""
        self.slice_seconds = self.volume_seconds = None
        self.show_times()

    def show_times(self) -> None:
        """Show the timings that are known: when nothing moves, for it costs a new layout."""
        parts = []
        if self.slice_seconds is not None:
            parts.append(f"slice {_short(self.slice_seconds)}")
        if self.volume_seconds is not None:
            parts.append(f"volume {self.volume_seconds:.1f} s")
        self.timing.setText(" · ".join(parts))


def _short(seconds: float) -> str:
    if seconds < _INSTANT:
        return "< 1 ms"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
