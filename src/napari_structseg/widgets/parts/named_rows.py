"""Controls below each other, each with its name."""

from __future__ import annotations

from qtpy.QtWidgets import QGridLayout, QLabel, QWidget


def named_rows(*rows: tuple[str, str, QWidget]) -> QWidget:
    """Controls below each other: the name, the tip and the widget of each."""
    page = QWidget()
    grid = QGridLayout(page)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(8)
    grid.setVerticalSpacing(4)
    grid.setColumnStretch(1, 1)
    for row, (name, tip, part) in enumerate(rows):
        label = QLabel(name)
        label.setIndent(0)
        label.setToolTip(tip)
        grid.addWidget(label, row, 0)
        grid.addWidget(part, row, 1)
    return page
