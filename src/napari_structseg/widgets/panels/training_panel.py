"""A run: begin it, hold it, end it, see how far it is; or go on with one of before."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_structseg.errors import StructSegError
from napari_structseg.finetuning.course import Course
from napari_structseg.widgets.binding import follow
from napari_structseg.widgets.finetuning.tuning import Status, Tuning
from napari_structseg.widgets.parts.section import Caption, Note, SmallButton
from napari_structseg.widgets.plots.tuning_plot import TuningPlot

_BAR_HEIGHT = 4


class TrainingPanel(QWidget):
    """Buttons, progress, and the plot of loss and validation.

    Parameters
    ----------
    tuning
        The run that it shows.
    fail
        Called with what prevents a run.
    """

    def __init__(
        self,
        tuning: Tuning,
        fail: Callable[[Exception | None], object],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._tuning, self._fail = tuning, fail
        self.note = Note()
        self.start_button = QPushButton("Fine-tune")
        self.start_button.setToolTip(
            "Let the model learn from the corrections, in the background: explore on meanwhile."
        )
        self.start_button.setStyleSheet("QPushButton { font-weight: 600; }")
        self.pause_button = SmallButton("Pause", "Hold the run; it goes on where it was.")
        self.cancel_button = SmallButton("Cancel", "End the run; it can go on later.")
        self.start_button.clicked.connect(self.start)
        self.pause_button.clicked.connect(tuning.pause)
        self.cancel_button.clicked.connect(tuning.cancel)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(_BAR_HEIGHT)
        self.progress.setStyleSheet("QProgressBar { border: none; }")
        self.caption = Caption()
        self.plot = TuningPlot()
        self.resume_note = Note()
        self.resume_button = SmallButton("Go on", "Go on with it from its checkpoint.")
        self.discard_button = SmallButton("Discard", "Delete it for good.")
        self.resume_button.clicked.connect(self._on_resume)
        self.discard_button.clicked.connect(self._on_discard)
        self._resume_row = QWidget()
        self._lay_out()
        follow(self, tuning.changed, self.show_run)
        follow(self, tuning.stepped, self.show_steps)
        self.show_run()

    def start(self) -> None:
        """Begin a run; what prevents it is shown."""
        try:
            self._tuning.start()
        except StructSegError as error:
            self._fail(error)
        else:
            self._fail(None)

    def show_run(self) -> None:
        """Show what the run is doing."""
        tuning, course = self._tuning, self._tuning.course
        status = tuning.status
        is_on = status is not Status.READY
        obstacle = tuning.obstacle()
        self.note.setText(obstacle)
        self.note.setVisible(bool(obstacle) and not is_on)
        self.start_button.setVisible(not is_on)
        self.start_button.setEnabled(not obstacle)
        is_paused = course is not None and course.is_paused
        self.pause_button.setText("Go on" if is_paused else "Pause")
        for button in (self.pause_button, self.cancel_button):
            button.setVisible(is_on)
        self.pause_button.setEnabled(status is Status.RUNNING)
        self.cancel_button.setEnabled(status in (Status.PREPARING, Status.RUNNING))
        found = tuning.unfinished[0] if tuning.unfinished and not is_on else None
        self._resume_row.setVisible(found is not None)
        if found is not None:
            when = found.changed.astimezone().strftime("%d %b, %H:%M")
            self.resume_note.setText(
                f"A run of {found.model_name}, of {when}, was not finished ({found.steps} steps)."
            )
        self.plot.setVisible(course is not None)
        self.progress.setVisible(is_on)
        self.show_steps()

    def show_steps(self) -> None:
        """Show how far it is."""
        course = self._tuning.course
        self.plot.show_course(course)
        says = "" if course is None else in_words(course, self._tuning.status)
        self.caption.setText(says)
        self.caption.setToolTip(says)
        if course is not None:
            # A moving bar, until steps are counted.
            self.progress.setRange(0, course.steps)
            self.progress.setValue(course.step)

    def _on_resume(self) -> None:
        if self._tuning.unfinished:
            try:
                self._tuning.resume(self._tuning.unfinished[0].folder)
            except StructSegError as error:
                self._fail(error)

    def _on_discard(self) -> None:
        if self._tuning.unfinished:
            self._tuning.discard(self._tuning.unfinished[0].folder)

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.start_button, 1)
        row.addWidget(self.pause_button)
        row.addWidget(self.cancel_button)
        row.addStretch(0)
        resume = QVBoxLayout(self._resume_row)
        resume.setContentsMargins(0, 0, 0, 0)
        resume.setSpacing(4)
        resume.addWidget(self.resume_note)
        buttons = QHBoxLayout()
        buttons.addWidget(self.resume_button)
        buttons.addWidget(self.discard_button)
        buttons.addStretch(1)
        resume.addLayout(buttons)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addWidget(self._resume_row)
        layout.addLayout(row)
        for widget in (self.progress, self.caption, self.plot):
            layout.addWidget(widget)


def in_words(course: Course, status: Status) -> str:
    """How far a run is, in a line."""
    ended = course.ended
    if ended is not None:
        if ended.reason == "finished":
            helped = {True: "better than before", False: "not better than before", None: ""}
            parts = [f"Finished {course.step} steps", helped[ended.helped]]
            return " · ".join(part for part in parts if part)
        return f"Ended after step {course.step}: {ended.reason}"
    if status is Status.ENDING:
        return "Ending: the checkpoint is written…"
    if course.doing:
        return f"{course.doing}…"
    parts = [f"Step {course.step:,} of {course.steps:,}", clock(course.elapsed)]
    if course.is_paused:
        parts.append("paused")
    elif course.remaining is not None:
        parts.append(f"{clock(course.remaining)} left")
    return " · ".join(parts)


def clock(seconds: float) -> str:
    """A duration as 1:05 or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
