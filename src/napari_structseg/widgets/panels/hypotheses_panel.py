"""Hypotheses: the few different segmentations that the samples amount to, and how frequent.

Over 300 lines: rows, tools and what is said of them are one small panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_structseg.controls import Controls
from napari_structseg.models import ClassSpec
from napari_structseg.render.hypotheses import Hypotheses
from napari_structseg.session.messages import Modes, RefinedProgress, Request
from napari_structseg.session.state import ExplorerState
from napari_structseg.session.work.hypotheses import samples_key
from napari_structseg.widgets.binding import bind, follow, quiet
from napari_structseg.widgets.parts.fields import CalmCombo
from napari_structseg.widgets.parts.hypothesis_row import HEIGHT, HypothesisRow
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.parts.refined_words import alone_in_words
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton
from napari_structseg.widgets.plots.distance_picture import DistancePicture

_ALIKE = "All {n} samples are alike."
_GRADUAL = (
    "The samples differ gradually: no separate hypotheses stand out among them. Choose a number "
    "of modes to divide them all the same."
)
# Kaufman and Rousseeuw 1990, Table 4.
_STRENGTHS = ((0.7, "well apart"), (0.5, "apart"), (0.25, "weakly apart"))
_HARDLY = "hardly apart"
_SILHOUETTE = (
    "Average silhouette width: how much nearer a sample is to its own mode than to the next "
    "one, from -1 to 1 where they are well apart."
)
# Between rows, in pixels.
_SPACING = 2
# So many modes are expected where the samples decide.
_USUAL = 2
_STEPS = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}


class HypothesesPanel(QWidget):
    """A row for each mode; where wanted, the distances of all pairs of samples.

    How many modes, and the button for the distances, are in :attr:`tools`, for the header.

    Parameters
    ----------
    state
        Whose controls it compares with those of the modes, and whose chosen sample it sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self.rows: tuple[HypothesisRow, ...] = ()
        self._classes: tuple[ClassSpec, ...] = ()
        self._measure = Measure()
        self._doubt = ""
        self._drawn_with: Controls | None = None
        self._is_refined = False
        self._request: Request | None = None
        self._progress: RefinedProgress | None = None
        self._says: tuple[str, str] = ("", "")
        self._n_samples = 0
        self.note = Note()
        self.caption = Caption()
        self.picture = DistancePicture()
        self.picture.sample_chosen.connect(self._choose)
        self.tools = self._make_tools()
        # Keeps the place of the rows while there are none: what is below stays where it is.
        self._place = QWidget()
        place = QVBoxLayout(self._place)
        place.setContentsMargins(0, 0, 0, 0)
        place.setSpacing(_SPACING)
        self._rows_layout = QVBoxLayout()
        self._rows_layout.setSpacing(_SPACING)
        place.addLayout(self._rows_layout)
        place.addWidget(self.note)
        place.addStretch(1)
        policy = self.caption.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.caption.setSizePolicy(policy)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._place)
        layout.addWidget(self.caption)
        layout.addWidget(self.picture)
        self.forget()
        bind(self, state.display, "modes", self._show_modes)
        bind(self, state.display, "open_sections", self._show_pairs)
        follow(self, state.settled, self._mark_all)

    @property
    def chosen(self) -> int | None:
        """Which row has the sample that is shown."""
        return next((n for n, row in enumerate(self.rows) if row.isChecked()), None)

    def set_model(
        self, classes: Sequence[ClassSpec], measure: Measure, *, is_stochastic: bool
    ) -> None:
        """Take a model's classes, and forget the modes of another."""
        self._classes = tuple(classes)
        self._measure = measure
        self.tools.setEnabled(is_stochastic)
        self.forget()
        if is_stochastic:
            self._keep_place()
        else:
            self._place.setMinimumHeight(0)
            self._say("This model is deterministic: there is but one hypothesis.")

    def set_measure(self, measure: Measure) -> None:
        """Write sizes so from now on."""
        self._measure = measure
        for row in self.rows:
            row.set_measure(measure)

    def set_doubt(self, doubt: str) -> None:
        """Grey the sizes, and say why they may be wrong; empty: nothing speaks against them."""
        self._doubt = doubt
        for row in self.rows:
            row.set_doubt(doubt)

    def forget(self) -> None:
        """Show no modes until new ones come."""
        self._drawn_with = None
        self._set_rows(())
        self._says = ("", "")
        self._say_caption()
        self.caption.setVisible(False)
        self.picture.show_hypotheses(None)
        self._say("Drawing samples…")

    def show_request(self, request: Request) -> None:
        """Take note of what is asked for now: whether these modes are still of the model alone."""
        self._request = request
        self._say_caption()

    def show_progress(self, progress: RefinedProgress) -> None:
        """Say how far the samples are that the MRF refines."""
        self._progress = progress
        self._say_caption()

    def show_hypotheses(
        self, hypotheses: Hypotheses, controls: Controls, *, refined: bool = False
    ) -> None:
        """Show modes.

        Parameters
        ----------
        hypotheses
            The modes.
        controls
            By which their samples were drawn.
        refined
            Whether an MRF refined the samples.
        """
        self._drawn_with, self._is_refined = controls, refined
        self._n_samples = len(hypotheses.distances)
        self._set_rows(
            tuple(HypothesisRow(mode, self._classes, self._measure) for mode in hypotheses.modes)
        )
        self.set_doubt(self._doubt)
        self.picture.show_hypotheses(hypotheses)
        self._explain(hypotheses)

    def show_slices(
        self,
        labels: Mapping[int, npt.NDArray[np.uint8]],
        grey: npt.NDArray[np.uint8],
        aspect: float,
    ) -> None:
        """Show the representatives on a slice, see `HypothesisRow.show_slice`.

        Parameters
        ----------
        labels
            By sample, each ``(h, w)``.
        grey
            The image, ``(h, w)``.
        aspect
            Width by height on screen.
        """
        for row in self.rows:
            picture = labels.get(row.mode.representative)
            if picture is not None:
                row.show_slice(picture, grey, aspect)

    def _mark_all(self, touched: frozenset[str]) -> None:
        if any(name.startswith("controls.") for name in touched):
            for row in self.rows:
                self._mark(row)

    def step(self, distance: int) -> None:
        """Go to the representative of a mode so many rows on, around the ends."""
        if not self.rows:
            return
        start = self.chosen
        if start is None:
            start = -1 if distance > 0 else len(self.rows)
        row = self.rows[(start + distance) % len(self.rows)]
        if any(one.hasFocus() for one in self.rows):
            row.setFocus()
        self._choose(row.mode.representative)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Go from row to row with the arrow keys."""
        distance = None if event is None else _STEPS.get(Qt.Key(event.key()))
        if event is None or distance is None or event.modifiers() & _MODIFIERS:
            super().keyPressEvent(event)
        else:
            self.step(distance)

    def _explain(self, hypotheses: Hypotheses) -> None:
        n = len(hypotheses.distances)
        if len(hypotheses.modes) > 1:
            self._say("")
        else:
            self._say(_GRADUAL if hypotheses.distances.any() else _ALIKE.format(n=n))
        parts, said = [f"{n} samples"], ""
        if hypotheses.silhouette is not None:
            width = hypotheses.silhouette
            words = next((text for least, text in _STRENGTHS if width > least), _HARDLY)
            parts.append(words)
            said = f" Here it is {width:.2f}."
        if not hypotheses.exact:
            parts.append("estimated")
        estimated = "" if hypotheses.exact else " Distances and sizes are estimated on a lattice."
        self._says = " · ".join(parts), _SILHOUETTE + said + estimated
        self._say_caption()
        self.caption.setVisible(True)

    def _say_caption(self) -> None:
        said, tip = self._says
        alone = alone_in_words(self._request, self._progress, is_refined=self._is_refined)
        if said and alone:
            said, tip = f"{said} · {alone}", f"{tip}\nThese modes are of the {alone}."
        self.caption.setText(said)
        self.caption.setToolTip(tip)

    def _keep_place(self) -> None:
        """Make room for as many rows as are to come, or as there were; it never shrinks."""
        modes = self._state.display.modes
        n = max(len(self.rows), _USUAL if modes <= Modes.AUTO else int(modes))
        height = n * (HEIGHT + _SPACING) - _SPACING
        self._place.setMinimumHeight(max(height, self._place.minimumHeight()))

    def _say(self, text: str) -> None:
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def _set_rows(self, rows: tuple[HypothesisRow, ...]) -> None:
        focused = next((n for n, row in enumerate(self.rows) if row.hasFocus()), None)
        for row in self.rows:
            self._rows_layout.removeWidget(row)
            row.hide()
            row.deleteLater()
        self.rows = rows
        for row in rows:
            self._mark(row)
            row.clicked.connect(self._on_click)
            self._rows_layout.addWidget(row)
        if rows:
            self._keep_place()
        if rows and focused is not None:
            rows[min(focused, len(rows) - 1)].setFocus()

    def _mark(self, row: HypothesisRow) -> None:
        """Check the mode of the sample shown; pale are modes of samples drawn otherwise."""
        controls, drawn = self._state.controls.frozen(), self._drawn_with
        n, refined = self._n_samples, self._is_refined
        is_stale = drawn is not None and (
            samples_key(drawn, n, refined=refined) != samples_key(controls, n, refined=refined)
        )
        row.set_stale(is_stale)
        is_sample = not is_stale and not controls.latent
        row.setChecked(is_sample and controls.sample in row.mode.samples)

    def _on_click(self) -> None:
        row = self.sender()
        if isinstance(row, HypothesisRow):
            # Which row is chosen follows from the sample, not from the click.
            self._mark(row)
            self._choose(row.mode.representative)

    def _choose(self, sample: int) -> None:
        self._state.controls.sample = sample

    def _show_modes(self, modes: Modes) -> None:
        with quiet(self.number_box):
            self.number_box.setCurrentIndex(self.number_box.findData(modes))

    def _on_modes(self, _index: int) -> None:
        self._state.display.modes = Modes(self.number_box.currentData())

    def _show_pairs(self, open_sections: frozenset[str]) -> None:
        with quiet(self.pairs_button):
            self.pairs_button.setChecked("pairs" in open_sections)
        self.picture.setVisible("pairs" in open_sections)

    def _on_pairs(self, is_open: bool) -> None:
        self._state.display.fold("pairs", is_open=is_open)

    def _make_tools(self) -> QWidget:
        tools = QWidget(self)
        label = QLabel("Modes")
        label.setIndent(0)
        self.number_box = CalmCombo()
        for modes in Modes:
            if modes is Modes.AUTO:
                self.number_box.addItem("auto", modes)
            elif modes is not Modes.NONE:
                self.number_box.addItem(str(int(modes)), modes)
        self.number_box.setAccessibleName("Number of modes")
        for widget in (label, self.number_box):
            widget.setToolTip(
                "How many groups the samples are divided into; auto takes the number that keeps "
                "them apart best, by the silhouette."
            )
        self.number_box.currentIndexChanged.connect(self._on_modes)
        self.pairs_button = SmallButton("Pairs", "See the distance between every two samples.")
        self.pairs_button.setCheckable(True)
        self.pairs_button.toggled.connect(self._on_pairs)
        row = QHBoxLayout(tools)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for part in (label, self.number_box, self.pairs_button):
            row.addWidget(part)
        return tools


_MODIFIERS = (
    Qt.KeyboardModifier.ShiftModifier
    | Qt.KeyboardModifier.ControlModifier
    | Qt.KeyboardModifier.AltModifier
)
