"""What else could it be, here: the hypotheses of one place, to see and to accept there alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.render.local_hypotheses import LocalHypotheses, LocalHypothesis
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, follow
from napari_structseg.widgets.correcting.correcting import Correcting
from napari_structseg.widgets.correcting.places import Voxel
from napari_structseg.widgets.panels.history_row import NamedButton
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton

_HOW = "Press Ask and click on a place: what the samples say there is listed."
_ASKED = "Asking the samples about this place…"
_ONE = "All samples say the same here."


class HypothesisHere(QWidget):
    """One hypothesis of a place: a button to see it, and one to accept it there."""

    def __init__(self, text: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.see_button = NamedButton()
        self.see_button.setText(text)
        self.see_button.setToolTip(tip)
        self.see_button.setCheckable(True)
        self.accept_button = SmallButton("Accept here", "Take it over, in this place alone.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.see_button, 1)
        row.addWidget(self.accept_button)


class HerePanel(QWidget):
    """Hypotheses of the place that was asked about; the button that asks is :attr:`ask_button`.

    Parameters
    ----------
    correcting
        Asks and accepts.
    state
        Whose sample is shown.
    """

    def __init__(
        self, correcting: Correcting, state: ExplorerState, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._correcting, self._state = correcting, state
        self._classes: tuple[ClassSpec, ...] = ()
        self._measure = Measure()
        self._shown: LocalHypotheses | None = None
        self.rows: tuple[HypothesisHere, ...] = ()
        self.ask_button = SmallButton("Ask", "Then click on a place (Shift W: under the mouse).")
        self.ask_button.setCheckable(True)
        self.ask_button.clicked.connect(self._on_ask)
        self.note = Note(_HOW)
        self._rows = QVBoxLayout()
        self._rows.setSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addLayout(self._rows)
        self.alone_note = Caption()
        self.alone_note.setVisible(False)
        layout.addWidget(self.alone_note)
        follow(self, state.settled, self._say_alone)
        follow(self, correcting.places.changed, self.show_here)
        follow(self, state.correction.events.here, self.show_here)
        bind(self, state.controls, "chosen", self._mark)

    def set_classes(self, classes: Sequence[ClassSpec], measure: Measure) -> None:
        """Name classes, and write sizes, so from now on."""
        self._classes, self._measure = tuple(classes), measure
        self._shown = None
        self.show_here()

    def show_here(self, _place: object = None) -> None:
        """List the hypotheses of the place that is asked about."""
        places, wanted = self._correcting.places, self._state.correction.here
        self.ask_button.setChecked(places.is_picking(self))
        answer = None if places.here is None or wanted is None else places.here.hypotheses
        if wanted is None:
            self._say(_HOW)
        elif answer is None:
            self._say(_ASKED)
        else:
            self._say(_ONE if len(answer.found) < 2 else "")
        if answer is self._shown:
            self._say_alone()
            return
        self._shown = answer
        for row in self.rows:
            self._rows.removeWidget(row)
            row.hide()
            row.deleteLater()
        made = []
        for one in () if answer is None else answer.found:
            row = HypothesisHere(*self._words(answer, one))
            row.see_button.clicked.connect(partial(self._see, one.representative))
            row.accept_button.clicked.connect(partial(self._accept, one.representative))
            self._rows.addWidget(row)
            made.append(row)
        self.rows = tuple(made)
        self._say_alone()
        self._mark()

    def ask(self, voxel: Voxel) -> None:
        """Ask about a voxel, or the region that is marked around it."""
        self._correcting.places.ask_here(voxel, self._correcting.regions.mask())

    def _words(self, answer: LocalHypotheses | None, one: LocalHypothesis) -> tuple[str, str]:
        """What a row says, and its tooltip."""
        percent = f"{100 * one.frequency:.0f} %"
        main = display_name(self._classes[one.main_class])
        if answer is not None and not answer.is_about_classes:
            label = answer.changed_class(one)
            change = float(one.change_ml[label])
            size = self._measure.write(abs(change))
            how = "larger" if change > 0 else "smaller"
            main = f"{display_name(self._classes[label])} {size} {how}"
        lines = [
            f"{display_name(spec)}: {100 * float(share):.0f} % of the place"
            for spec, share in zip(self._classes, one.share, strict=True)
        ]
        said = f"{len(one.samples)} of {one.of} samples; the most typical is {one.representative}."
        return f"{percent}  {main}", "\n".join((said, *lines))

    def _say_alone(self, _touched: object = None) -> None:
        """Say that the rows are of the model alone, where an MRF refines what is shown."""
        places = self._correcting.places
        says = places.alone_in_words(places.here if self._shown is not None else None)
        self.alone_note.setText(says[:1].upper() + says[1:])
        self.alone_note.setToolTip(self.alone_note.text())
        self.alone_note.setVisible(bool(says))

    def _say(self, text: str) -> None:
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def _mark(self, _chosen: object = None) -> None:
        if self._shown is not None:
            sample = self._state.controls.sample
            for row, one in zip(self.rows, self._shown.found, strict=True):
                row.see_button.setChecked(sample in one.samples)

    def _see(self, sample: int) -> None:
        self._state.controls.sample = sample
        self._mark()

    def _accept(self, sample: int) -> None:
        if self._shown is not None and self._correcting.book is not None:
            mask = self._shown.place.to_mask(self._correcting.book.strokes.shape)
            self._correcting.result.accept_region(mask, sample=sample)

    def _on_ask(self, is_on: bool) -> None:
        if is_on:
            self._correcting.places.pick(self, self.ask, "the place that you ask about")
        else:
            self._correcting.places.stop_picking()
        self.show_here()
