"""What the next fine-tuning learns: from which corrections, which weights, for how long."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_structseg.widgets.binding import bind, follow, quiet
from napari_structseg.widgets.finetuning.tuning import Status, Tuning
from napari_structseg.widgets.panels.replay_row import REPLAY_TIP, ReplayRow
from napari_structseg.widgets.parts.choice import Choice
from napari_structseg.widgets.parts.fields import DecimalField, NumberField
from napari_structseg.widgets.parts.named_rows import named_rows
from napari_structseg.widgets.parts.section import Caption

_LEARN_FROM = {
    "result": ("Whole image", "Every voxel of the result counts, reviewed or not."),
    "locked": ("Reviewed", "Only what is locked in the result counts: locked classes and regions."),
    "strokes": ("Strokes", "Only the voxels of strokes count."),
}
_WHAT = {
    "all": ("All", "All weights learn."),
    "last": ("Last layers", "The last layers and the head learn: faster, and less is forgotten."),
    "head": ("Head", "Only the head learns, which makes the distribution of features."),
}
_LARGEST = 100_000
_MOST_MINUTES = 10_000


class LearnPanel(QWidget):
    """Rows to choose from, all with a default that is fit for most.

    Parameters
    ----------
    tuning
        Whose choices it shows and sets.
    """

    def __init__(self, tuning: Tuning, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tuning = tuning
        choices = tuning.choices
        self.model_caption = Caption()
        self.shown_box = QCheckBox("This image")
        self.shown_box.setToolTip("Learn from what was corrected on the image that is shown.")
        self.shown_box.toggled.connect(partial(setattr, choices, "learns_from_shown"))
        self.other_boxes: dict[str, QCheckBox] = {}
        self.learn_from = Choice(_LEARN_FROM)
        self.learn_from.chosen.connect(partial(setattr, choices, "learn_from"))
        self.what = Choice(_WHAT)
        self.what.chosen.connect(partial(setattr, choices, "what"))
        self._make_fields()
        self.held_box = QCheckBox("Stay near the model")
        self.held_box.setToolTip(
            "Against forgetting: each step leads a little back to the weights of the model."
        )
        self.held_box.toggled.connect(partial(setattr, choices, "is_held"))
        self.replay_row = ReplayRow(choices)
        self._cases = QWidget()
        self._case_rows = QVBoxLayout(self._cases)
        self._case_rows.setContentsMargins(0, 0, 0, 0)
        self._case_rows.setSpacing(2)
        self._case_rows.addWidget(self.shown_box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            named_rows(
                ("Model", "The model whose segmentation is shown.", self.model_caption),
                ("Corrected", "Images that are learned from.", self._cases),
                ("Of them", "Which voxels count.", self.learn_from),
                ("Learns", "Which weights change.", self.what),
                ("Steps", "How long the run is; it says soon how many minutes.", self.steps_field),
                ("Minutes", "It ends then, whatever is left of the steps.", self.minutes_field),
                (
                    "Rate",
                    "How far a step goes: more learns faster, and forgets more.",
                    self.rate_field,
                ),
                ("Look every", "Steps between two looks at the weights.", self.every_field),
                ("", "", self.held_box),
                ("Replay", REPLAY_TIP, self.replay_row),
            )
        )
        bind(self, choices, "learns_from_shown", self._show_shown)
        bind(self, choices, "learn_from", self.learn_from.choose)
        bind(self, choices, "what", self.what.choose)
        bind(self, choices, "steps", self._show_steps)
        bind(self, choices, "weights_every", self._show_every)
        bind(self, choices, "minutes", self._show_minutes)
        bind(self, choices, "learning_rate", self._show_rate)
        bind(self, choices, "is_held", self._show_held)
        bind(self, choices, "sessions", self._show_sessions)
        follow(self, tuning.changed, self.show_cases)
        self.show_cases()

    def _make_fields(self) -> None:
        self.steps_field, self.every_field = NumberField(), NumberField()
        self.minutes_field = NumberField()
        for field, name, smallest, largest in (
            (self.steps_field, "steps", 1, _LARGEST),
            (self.minutes_field, "minutes", 0, _MOST_MINUTES),
            (self.every_field, "weights_every", 1, _LARGEST),
        ):
            field.setRange(smallest, largest)
            field.setKeyboardTracking(False)
            field.valueChanged.connect(partial(setattr, self._tuning.choices, name))
        self.minutes_field.setSpecialValueText("no limit")
        self.minutes_field.setAccessibleName("Minutes at most")
        self.rate_field = DecimalField()
        self.rate_field.setDecimals(5)
        self.rate_field.setRange(1e-5, 1)
        self.rate_field.setSingleStep(1e-4)
        self.rate_field.setKeyboardTracking(False)
        self.rate_field.valueChanged.connect(
            partial(setattr, self._tuning.choices, "learning_rate")
        )

    def show_cases(self) -> None:
        """List what there is to learn from."""
        shown, others = self._tuning.shown, self._tuning.others
        name = "" if shown is None else shown.given.name
        self.model_caption.setText(name)
        self.model_caption.setToolTip("" if shown is None else str(shown.path))
        if shown is not None:
            self.shown_box.setText(shown.image.name)
        self.setEnabled(self._tuning.status is Status.READY)
        wanted = {str(one.folder): one for one in others}
        if list(wanted) == list(self.other_boxes):
            return
        for box in self.other_boxes.values():
            self._case_rows.removeWidget(box)
            box.hide()
            box.deleteLater()
        self.other_boxes = {}
        for folder, one in wanted.items():
            box = QCheckBox(one.name)
            when = one.changed.astimezone().strftime("%d %b, %H:%M")
            box.setToolTip(f"Corrected {when}, kept in {folder}.")
            box.toggled.connect(partial(self._on_session, folder))
            self._case_rows.addWidget(box)
            self.other_boxes[folder] = box
        # What has gone is not learned from.
        choices = self._tuning.choices
        choices.sessions = choices.sessions & frozenset(wanted)
        self._show_sessions(choices.sessions)

    def _on_session(self, folder: str, is_on: bool) -> None:
        others = self._tuning.choices.sessions - {folder}
        self._tuning.choices.sessions = others | {folder} if is_on else others

    def _show_sessions(self, sessions: frozenset[str]) -> None:
        for folder, box in self.other_boxes.items():
            with quiet(box):
                box.setChecked(folder in sessions)

    def _show_shown(self, is_on: bool) -> None:
        with quiet(self.shown_box):
            self.shown_box.setChecked(is_on)

    def _show_held(self, is_on: bool) -> None:
        with quiet(self.held_box):
            self.held_box.setChecked(is_on)

    def _show_steps(self, steps: int) -> None:
        with quiet(self.steps_field):
            self.steps_field.setValue(steps)

    def _show_minutes(self, minutes: int) -> None:
        with quiet(self.minutes_field):
            self.minutes_field.setValue(minutes)

    def _show_rate(self, rate: float) -> None:
        with quiet(self.rate_field):
            self.rate_field.setValue(rate)

    def _show_every(self, steps: int) -> None:
        with quiet(self.every_field):
            self.every_field.setValue(steps)
