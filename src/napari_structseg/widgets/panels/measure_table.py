"""Sizes of every class as a table: shown, the user's result, and the spread over samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.results.measurements import ClassMeasurement, Measurements
from napari_structseg.widgets.measuring import Currency
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.parts.figure import Figure
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.parts.section import ShortName, SteadyCaption
from napari_structseg.widgets.plots.volume_plot import VolumePlot

_SIZES = ("shown", "result", "mean", "median", "range")
_HEADS = {
    "shown": ("Shown", "In the labels that are shown."),
    "result": ("Result", "In your own result."),
    "mean": ("Mean", "Mean over the samples."),
    "median": ("Median", "Half of the samples are smaller, half larger."),
    "range": ("5–95 %", "Nine of ten samples lie between these."),
    "dice": ("Dice", "Overlap of your result with the labels shown; 1 is the same."),
    "surface_mm": ("Surface", "Mean distance of both surfaces in mm."),
    "hd95_mm": ("HD 95 %", "Hausdorff distance in mm, without the furthest 5 %."),
}
_APART = ("dice", "surface_mm", "hd95_mm")
_UNKNOWN = "–"
_GAP = 9
_PLOT_WIDTH = 48
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class MeasureTable(QWidget):
    """One row for each class, the background last.

    Parameters
    ----------
    classes
        In label order.
    """

    def __init__(self, classes: Sequence[ClassSpec], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._measure = Measure()
        self.figures: dict[tuple[int, str], Figure] = {}
        self.plots: dict[int, VolumePlot] = {}
        self._heads: dict[str, QLabel] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(_GAP)
        grid.setVerticalSpacing(2)
        for column, name in enumerate(_SIZES, start=2):
            self._heads[name] = _head(name)
            grid.addWidget(self._heads[name], 0, column, _RIGHT)
        grid.setColumnStretch(1, 1)
        order = [*range(1, len(classes)), *range(min(1, len(classes)))]
        for row, label in enumerate(order, start=1):
            spec = classes[label]
            grid.addWidget(_Swatch(None if label == 0 else QColor(spec.color)), row, 0)
            grid.addWidget(_name(spec), row, 1)
            for column, name in enumerate(_SIZES, start=2):
                grid.addWidget(self._figure(label, name), row, column, _RIGHT)
            plot = VolumePlot(QColor(spec.color) if label else QColor(128, 128, 128))
            plot.setToolTip("The samples; the line is what is shown.")
            self.plots[label] = plot
            grid.addWidget(plot, row, 2 + len(_SIZES))
        grid.setColumnMinimumWidth(2 + len(_SIZES), _PLOT_WIDTH)
        self._show_column("result", is_shown=False)

    def show_measurements(
        self, measurements: Measurements, measure: Measure, currency: Currency
    ) -> None:
        """Show what is known; what is out of date is greyed."""
        self._measure = measure
        has_result = any(one.result is not None for one in measurements.classes)
        self._show_column("result", is_shown=has_result)
        for one in measurements.classes:
            for name in ("shown", "result", "mean", "median"):
                is_current = {"shown": currency.shown, "result": True}.get(name, currency.samples)
                value: float | None = getattr(one, name)
                text = _UNKNOWN if value is None else self._written(value)
                tip = f"{_HEADS[name][1]} In {measure.unit}."
                self.figures[one.label, name].show_text(text, tip, is_current=is_current)
            self._show_range(one, measurements, currency)

    def _show_range(
        self, one: ClassMeasurement, measurements: Measurements, currency: Currency
    ) -> None:
        plot, figure = self.plots[one.label], self.figures[one.label, "range"]
        if one.p5 is None or one.p95 is None:
            figure.show_text(_UNKNOWN, "No samples were counted.")
            plot.clear_volumes()
            return
        text = f"{self._written(one.p5)}–{self._written(one.p95)}"
        tip = f"Between the 5th and the 95th percentile: {measurements.caption}."
        figure.show_text(text, tip, is_current=currency.samples)
        plot.show_volumes(np.array(one.samples))
        plot.show_mark(one.shown)

    def _written(self, value: float) -> str:
        return self._measure.number(value / self._measure.per_ml)

    def _figure(self, label: int, name: str) -> Figure:
        figure = Figure(is_secondary=name not in {"shown", "result"})
        figure.show_text(_UNKNOWN, _HEADS[name][1])
        self.figures[label, name] = figure
        return figure

    def _show_column(self, name: str, *, is_shown: bool) -> None:
        self._heads[name].setVisible(is_shown)
        for (_, column), figure in self.figures.items():
            if column == name:
                figure.setVisible(is_shown)


class AgreementTable(QWidget):
    """How each class of the user's result lies to the labels that are shown."""

    def __init__(self, classes: Sequence[ClassSpec], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.figures: dict[tuple[int, str], Figure] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(_GAP)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for column, name in enumerate(_APART, start=2):
            grid.addWidget(_head(name), 0, column, _RIGHT)
        for label, spec in enumerate(classes[1:], start=1):
            grid.addWidget(_Swatch(QColor(spec.color)), label, 0)
            grid.addWidget(_name(spec), label, 1)
            for column, name in enumerate(_APART, start=2):
                figure = Figure(is_secondary=True)
                figure.show_text(_UNKNOWN, _HEADS[name][1])
                self.figures[label, name] = figure
                grid.addWidget(figure, label, column, _RIGHT)

    def show_measurements(self, measurements: Measurements) -> None:
        """Show what is known."""
        for one in measurements.classes[1:]:
            for name in _APART:
                value = getattr(one.agreement, name, None)
                unit = "" if name == "dice" else " mm"
                text = _UNKNOWN if value is None else f"{value:.2f}{unit}"
                self.figures[one.label, name].show_text(text, _HEADS[name][1])


def _name(spec: ClassSpec) -> QLabel:
    # All of it is in the tooltip: it gives way to the numbers.
    name = ShortName(display_name(spec))
    name.setToolTip(display_name(spec))
    return name


def _head(name: str) -> QLabel:
    text, tip = _HEADS[name]
    head = SteadyCaption(text, text)
    head.setToolTip(tip)
    return head


class _Swatch(QWidget):
    """The colour of a class."""

    def __init__(self, color: QColor | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedSize(10, 10)
        if color is not None:
            self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
            self.setStyleSheet(f"background: {color.name()}; border-radius: 2px;")
