"""The Measure dock: how large everything is, how sure that is, and where the result differs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from napari.components import ViewerModel
from qtpy.QtCore import QSize
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_structseg.errors import InputError
from napari_structseg.io.checks import file_stem
from napari_structseg.models import ClassSpec
from napari_structseg.results.measurements import Measurements, write_measurements
from napari_structseg.widgets.binding import bind, follow, let_go
from napari_structseg.widgets.close_guard import CloseGuard
from napari_structseg.widgets.panels.banner import ErrorBanner
from napari_structseg.widgets.panels.measure_table import AgreementTable, MeasureTable
from napari_structseg.widgets.parts.refined_words import progress_in_words
from napari_structseg.widgets.parts.section import Caption, Note, Section, SmallButton
from napari_structseg.widgets.session_dock import SPACING, SessionDock
from napari_structseg.widgets.sessions import join, state_of
from napari_structseg.widgets.threads.at_exit import delete_closed_windows_at_exit

_SIZE = QSize(440, 360)
# Of the sections, in the state.
VOLUMES, AGREEMENT = "measure", "compare"
_NAMES = (VOLUMES, AGREEMENT)
_NOTHING_SHOWN = (
    "Open an image and run a model in Explore segmentations; what it finds is measured here."
)
_NO_RESULT = "Accept or paint something in Correct: then it is compared with the labels shown."
_SUFFIXES = "Table (*.csv);;All that is known (*.json)"


class MeasureWidget(SessionDock):
    """The dock: a view of the sizes of what is shown in its viewer.

    Parameters
    ----------
    napari_viewer
        The viewer it is docked in. napari's menus go by this name.
    """

    def __init__(self, napari_viewer: ViewerModel, parent: QWidget | None = None) -> None:
        self._session = join(napari_viewer, self)
        super().__init__(parent)
        self.state = state_of(napari_viewer)
        self.measuring = self._session.measuring
        self._is_closed = False
        self._classes: tuple[ClassSpec, ...] = ()
        self.table = MeasureTable(())
        self.agreement = AgreementTable(())
        self.welcome = Note(_NOTHING_SHOWN)
        self.no_result = Note(_NO_RESULT)
        self.subject, self.caption, self.hint = Caption(), Caption(), Caption()
        self.banner = ErrorBanner()
        self.copy_button = SmallButton("Copy", "Copy the table, for a spreadsheet or a report.")
        self.save_button = SmallButton(
            "Save…", "Save as a table (CSV), or with all samples (JSON)."
        )
        self.compare_button = SmallButton(
            "Compare", "Compare your result with the labels shown: Dice and surface distances."
        )
        self.copy_button.clicked.connect(self.copy)
        self.save_button.clicked.connect(self.save)
        self.compare_button.clicked.connect(self.compare)
        self.save_dialog: QFileDialog | None = None
        self._volumes, self._apart = QWidget(), QWidget()
        self.sections = (
            Section("Volumes", self._volumes, self.copy_button, self.save_button),
            Section("Result and labels shown", self._apart, self.compare_button),
        )
        self._lay_out()
        for name, section in zip(_NAMES, self.sections, strict=True):
            section.header.toggled.connect(partial(self._on_fold, name))
        with self.state.together():
            for name in _NAMES:
                self.state.display.fold(name, is_open=True)
        bind(self, self.state.display, "open_sections", self._show_folds)
        self._guard = CloseGuard(self, self._session.unsaved, self._save_unsaved)
        delete_closed_windows_at_exit()
        follow(self, self.measuring.changed, self._show)
        follow(self, self._session.controller.failed, self._show_error)
        follow(self, self.state.source.events.spacing, self._show)
        # A bound method would be disconnected before the signal comes.
        self.destroyed.connect(lambda: self.shut_down(leaves_layers=False))
        self._show()

    def is_busy(self) -> bool:
        """Whether anything is still to be computed, painted, compared or saved."""
        return not self._is_closed and self._session.is_busy()

    def sizeHint(self) -> QSize:
        """As wide as a table with a result."""
        return _SIZE

    def copy(self) -> None:
        """Put the table onto the clipboard, its columns between tabs."""
        known, clipboard = self.measuring.measurements(), QGuiApplication.clipboard()
        if known is not None and clipboard is not None:
            clipboard.setText(known.to_csv("\t"))
            self._say("Copied: paste it into a spreadsheet")

    def save(self) -> None:
        """Ask where to save what is measured, and save it there."""
        known, shown = self.measuring.measurements(), self.measuring.exploration
        if known is None or shown is None:
            return
        path = shown.layer.source.path
        folder = "" if path is None else str(Path(path).parent)
        dialog = QFileDialog(self, "Save the measurements", folder)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter(_SUFFIXES)
        dialog.setDefaultSuffix("csv")
        dialog.selectFile(f"{file_stem(Path(known.image))}_volumes.csv")
        dialog.filterSelected.connect(
            lambda chosen: dialog.setDefaultSuffix("json" if "json" in chosen else "csv")
        )
        dialog.fileSelected.connect(self.save_as)
        dialog.open()
        self.save_dialog = dialog

    def save_as(self, path: str) -> None:
        """Save what is measured; an error is shown."""
        known = self.measuring.measurements()
        if known is None:
            return
        try:
            written = write_measurements(path, known)
        except InputError as error:
            self._show_error(error)
            return
        self._show_error(None)
        self._say(f"Saved {written.name}")

    def compare(self) -> None:
        """Compare the result with the labels shown, in the background."""
        try:
            self.measuring.compare()
        except InputError as error:
            self._show_error(error)

    def shut_down(self, *, leaves_layers: bool = True) -> None:
        """Let go of the viewer, for good; see `ExploreWidget.shut_down`."""
        if self._is_closed:
            return
        self._is_closed = True
        # Before sections are folded: Qt may have deleted them.
        let_go(self)
        others = [one for one in self._session.docks if isinstance(one, MeasureWidget)]
        if others == [self]:
            with self.state.together():
                for name in _NAMES:
                    # What nobody looks at is not computed.
                    self.state.display.fold(name, is_open=False)
        self._leave(leaves_layers=leaves_layers)

    def _lay_out(self) -> None:
        for widget, parts in (
            (self._volumes, (self.subject, self.table, self.caption)),
            (self._apart, (self.no_result, self.agreement)),
        ):
            inner = QVBoxLayout(widget)
            inner.setContentsMargins(0, 0, 0, 0)
            inner.setSpacing(SPACING)
            for part in parts:
                inner.addWidget(part)
        self._stack((self.welcome, *self.sections), (self.hint,))

    def _show(self, _changed: object = None) -> None:
        """Everything that is known now."""
        known = self.measuring.measurements(current_only=False)
        shown = self.measuring.exploration
        self.welcome.setVisible(known is None)
        for section in self.sections:
            section.setVisible(known is not None)
        if known is None or shown is None:
            return
        if shown.spec.classes != self._classes:
            self._classes = shown.spec.classes
            self._replace_tables()
        currency = self.measuring.currency
        self.table.show_measurements(known, self.measuring.measure, currency)
        self.agreement.show_measurements(known)
        self.subject.setText(f"{known.image} · {known.shown} · {known.unit}")
        is_current = currency.shown and (currency.samples or not known.n_samples)
        says = _in_words(known, is_current=is_current)
        progress = self.measuring.progress
        if known.refined and not known.samples_refined and progress is not None:
            says += f" · {progress_in_words(progress)}"
        self.caption.setText(says)
        self.caption.setToolTip(says)
        has_result = self.measuring.result_ml is not None
        self.no_result.setVisible(not has_result)
        self.agreement.setVisible(has_result)
        self.compare_button.setEnabled(has_result and not self.measuring.is_busy())
        self.compare_button.setText("Comparing…" if self.measuring.is_busy() else "Compare")

    def _replace_tables(self) -> None:
        for name, made in (
            ("table", MeasureTable(self._classes)),
            ("agreement", AgreementTable(self._classes)),
        ):
            old: QWidget = getattr(self, name)
            layout = old.parentWidget().layout()  # type: ignore[union-attr]
            layout.replaceWidget(old, made)  # type: ignore[union-attr]
            old.hide()
            old.deleteLater()
            setattr(self, name, made)

    def _say(self, text: str) -> None:
        self.hint.setText(text)
        self.hint.setToolTip(text)

    def _save_unsaved(self) -> None:
        self._say("Save the segmentation in Explore, or the layer with File ▸ Save…")

    def _on_fold(self, name: str, is_open: bool) -> None:
        self.state.display.fold(name, is_open=is_open)

    def _show_folds(self, open_sections: frozenset[str]) -> None:
        for name, section in zip(_NAMES, self.sections, strict=True):
            section.set_open(name in open_sections)


def _in_words(known: Measurements, *, is_current: bool) -> str:
    """What mean, median and range are of."""
    says = [known.caption[0].upper() + known.caption[1:]]
    if known.n_samples and not known.exact:
        says.append("estimated on a lattice of voxels")
    if not is_current:
        says.append("updating…")
    return " · ".join(says)


# As the manifest calls it. napari looks for the viewer among the parameters of a class, not of
# a function.
make_measure_widget = MeasureWidget
