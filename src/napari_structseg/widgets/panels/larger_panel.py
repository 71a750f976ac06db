"""Larger, smaller: a handle for each class, along the way on which its volume changes most."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.render.volume_paths import FURTHEST, VolumePath, in_words
from napari_structseg.session.messages import LargerSmaller, Result
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from napari_structseg.widgets.parts.section import Caption, Note, ShortName

_LOOKING = "Looking for what makes each class larger or smaller…"
_HOW = "The whole segmentation follows, as the samples have it; the strokes stay as they are."
_TIP = (
    "From the smallest {name} that the samples know to the largest, along the direction of the "
    "distribution on which its volume changes most."
)
_WAITS = " Where its volume would fall, the handle waits."


class LargerPanel(QWidget):
    """A slider for each class but the background, labelled with its percentile.

    Parameters
    ----------
    state
        Whose chosen position, or sample, it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._classes: tuple[ClassSpec, ...] = ()
        self._measure = Measure()
        self._paths: tuple[VolumePath, ...] = ()
        self.sliders: tuple[ScaleSlider, ...] = ()
        self.words: tuple[Caption, ...] = ()
        self.note = Note(_LOOKING)
        self._page = QWidget()
        self._grid = QGridLayout(self._page)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._grid.setColumnStretch(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addWidget(self._page)
        follow(self, state.controls.events.chosen, self._show)

    def set_classes(self, classes: Sequence[ClassSpec], measure: Measure) -> None:
        """Make a slider for each class, to be used once its way is known."""
        self._classes, self._measure, self._paths = tuple(classes), measure, ()
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        sliders, words = [], []
        for label, spec in enumerate(classes[1:], start=1):
            name = display_name(spec)
            slider = ScaleSlider(
                -FURTHEST,
                FURTHEST,
                default=0.0,
                color=QColor(spec.color),
                name=f"{name}: smaller to larger",
                tip=_TIP.format(name=name),
            )
            slider.changed.connect(partial(self._on_moved, label))
            said = Caption()
            row = 2 * (label - 1)
            self._grid.addWidget(ShortName(name), row, 0)
            self._grid.addWidget(slider, row, 1)
            self._grid.addWidget(said, row + 1, 1)
            sliders.append(slider)
            words.append(said)
        self.sliders, self.words = tuple(sliders), tuple(words)
        self._show()

    def receive(self, results: Sequence[Result]) -> None:
        """Take the ways that the engine has found."""
        for result in results:
            if isinstance(result, LargerSmaller):
                self._paths = result.paths
                self._show()

    def _show(self, _chosen: object = None) -> None:
        """Put the handles where what is chosen is, and say how large that is."""
        self._page.setEnabled(bool(self._paths))
        self.note.setText(_HOW if self._paths else _LOOKING)
        controls = self._state.controls.frozen()
        for path in self._paths[1:]:
            slider, said = self.sliders[path.label - 1], self.words[path.label - 1]
            t = path.t_of(controls)
            slider.show_value(0.0 if t is None else t)
            if t is None:
                said.setText("")
                continue
            volume = path.volume_at(t)
            said.setText(f"{self._measure.write(volume)}, {in_words(path.percentile_at(t))}")
            said.setToolTip(said.text() + ("" if path.is_monotone else _WAITS))

    def _on_moved(self, label: int, t: float) -> None:
        path = next((one for one in self._paths if one.label == label), None)
        if path is None:
            return
        latent = path.latent_at(t)
        if latent:
            self._state.controls.latent = latent
        else:
            self._state.controls.sample = path.sample_at(t)
