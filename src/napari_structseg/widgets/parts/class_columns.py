"""Columns of the rows of classes: names, numbers and plots of all rows stand below each other."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel

from napari_structseg.widgets.parts.class_look import ROOM
from napari_structseg.widgets.parts.section import ShortName
from napari_structseg.widgets.plots.volume_plot import NARROWEST, VolumePlot

# Between parts of a row, and of all its gaps with the eye and the swatch, in pixels.
GAP = 4
_FIXED = 2 * ROOM.width() + 5 * GAP
# Of a column beside its text, in pixels.
_BESIDE = 6


class Columns:
    """Widths of the columns of numbers, the same in all rows; they grow and never clip.

    Rows that stand below each other share one.
    """

    def __init__(self) -> None:
        self._names: list[ShortName] = []
        self._labels: list[tuple[QLabel, QLabel]] = []
        self._plots: list[VolumePlot] = []
        self._widths = (0, 0)

    def add(self, name: ShortName, volume: QLabel, interval: QLabel, plot: VolumePlot) -> None:
        """Keep what is in a row aligned with the others."""
        self._names.append(name)
        self._labels.append((volume, interval))
        self._plots.append(plot)

    def share(self, width: int) -> None:
        """Give the plots of rows of this width, in pixels, what names and numbers leave over.

        Names are whole where that leaves room for a plot that can be read.
        """
        beside = width - sum(self._widths) - _FIXED
        left = beside - max(one.whole_width() for one in self._names)
        if left < NARROWEST:
            left = beside - max(one.minimumSizeHint().width() for one in self._names)
        for plot in self._plots:
            plot.set_width(left)

    def begin(self, *widest: str) -> None:
        """Start again with the widths of these two texts, as after another font or unit."""
        self._widths = (0, 0)
        self.fit(*widest)

    def fit(self, *texts: str) -> None:
        """Make room for two texts: columns do not move while numbers change within it."""
        if not self._labels:
            return
        metrics = self._labels[0][0].fontMetrics()
        needed = tuple(metrics.horizontalAdvance(text) + _BESIDE for text in texts)
        widths = (max(self._widths[0], needed[0]), max(self._widths[1], needed[1]))
        if widths != self._widths:
            self._widths = widths
            for labels in self._labels:
                for label, width in zip(labels, widths, strict=True):
                    label.setFixedWidth(width)
