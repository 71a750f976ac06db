"""What to show over the image: labels, lines, or a map of uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.session.messages import Lines, Request, Show
from napari_structseg.session.resolve import LINES
from napari_structseg.session.state import ExplorerState, LatentPosition, Sample
from napari_structseg.widgets.binding import bind
from napari_structseg.widgets.parts.legend import Legend
from napari_structseg.widgets.parts.section import Caption

EXPLANATIONS = {
    Show.LABELS: "The segmentation: the class with the largest logit at each voxel.",
    Show.OUTLINES: "The outlines of the first samples over each other: where they part, the "
    "boundary is uncertain. The sample that is chosen is among them, and drawn stronger.",
    Show.CONTOURS: "Confidence contours: inside the inner one are voxels that have the label in "
    "95 % of the samples, outside the outer one those that have it in fewer than 5 %.",
    Show.ENTROPY: "Entropy of the class probabilities, averaged over samples: 0 where the class "
    "is certain, ln(number of classes) nats where all are equally probable.",
    Show.AGREEMENT: "The fraction of samples whose label is that of the mean.",
}
_ALONE = "Of the model alone, without neighbours."
# They compare samples, and say nothing where there is but one.
NEED_SAMPLES = (Show.OUTLINES, Show.CONTOURS, Show.AGREEMENT)


class ShowPanel(QWidget):
    """A row of buttons, one of them chosen, and a legend.

    Parameters
    ----------
    state
        Whose ``display.show`` it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self.buttons: dict[Show, QPushButton] = {}
        self.legend = Legend()
        self._group = QButtonGroup(self)
        self._classes: tuple[ClassSpec, ...] = ()
        self._n_outlines = 0
        self._request: Request | None = None
        # The lines that were drawn last.
        self._lines: Lines | None = None
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        for show, tip in EXPLANATIONS.items():
            button = QPushButton(show.value.capitalize())
            button.setCheckable(True)
            button.setToolTip(tip)
            button.setSizePolicy(QSizePolicy.Policy.MinimumExpanding, QSizePolicy.Policy.Fixed)
            self._group.addButton(button)
            row.addWidget(button, 1)
            self.buttons[show] = button
        self._group.buttonClicked.connect(self._on_click)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.legend)
        self.alone_note = Caption()
        self.alone_note.setVisible(False)
        layout.addWidget(self.alone_note)
        bind(self, state.display, "show", self._mark)
        bind(self, state.controls, "chosen", self._explain)

    def choose(self, show: Show) -> None:
        """Show something else, if the model has it."""
        if self.buttons[show].isEnabled():
            self._state.display.show = show

    def show_request(self, request: Request, *, has_prior: bool) -> None:
        """Take note of what is asked for now: whether lines and maps are of the model alone.

        Parameters
        ----------
        request
            What is asked for.
        has_prior
            Whether an MRF can refine the labels: then the line keeps its place.
        """
        self._request = request
        # Also while it is empty: a line that comes and goes would move what is below.
        self.alone_note.setFixedHeight(self.alone_note.fontMetrics().height())
        self.alone_note.setVisible(has_prior)
        self._say_alone()

    def show_lines(self, lines: Lines) -> None:
        """Take note of lines that were drawn."""
        self._lines = lines
        self._say_alone()

    def _say_alone(self) -> None:
        request, lines = self._request, self._lines
        is_alone = request is not None and request.controls.is_coupled
        if request is not None and request.show in LINES and lines is not None:
            is_alone = is_alone and not (lines.refined and lines.show is request.show)
        if request is None or request.show is Show.LABELS:
            is_alone = False
        self.alone_note.setText(_ALONE if is_alone else "")

    def set_classes(
        self, classes: Sequence[ClassSpec], *, n_outlines: int, is_stochastic: bool
    ) -> None:
        """Take a model's classes for the legend, and offer what its distribution has."""
        self._classes = tuple(classes)
        self._n_outlines = n_outlines
        for show in NEED_SAMPLES:
            self.buttons[show].setEnabled(is_stochastic)
        self._explain()

    def _mark(self, show: Show) -> None:
        self.buttons[show].setChecked(True)
        self._explain()

    def _on_click(self) -> None:
        self._state.display.show = next(
            show for show, button in self.buttons.items() if button.isChecked()
        )

    def _explain(self, _chosen: object = None) -> None:
        show, chosen = self._state.display.show, self._state.controls.chosen
        strong = str(chosen.number) if isinstance(chosen, Sample) else ""
        if isinstance(chosen, LatentPosition):
            strong = "the position"
        self.legend.explain(show, self._classes, self._n_outlines, strong)
        self.legend.setToolTip(EXPLANATIONS[show])
