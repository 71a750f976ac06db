"""The Correct dock: say what is wrong, look, take what is right, go on."""

from __future__ import annotations

from functools import partial

from napari.components import ViewerModel
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QWidget

from napari_structseg.distributions import region_shape
from napari_structseg.widgets.binding import bind, follow
from napari_structseg.widgets.close_guard import CloseGuard
from napari_structseg.widgets.panels.banner import ErrorBanner
from napari_structseg.widgets.panels.disputed_panel import DisputedPanel
from napari_structseg.widgets.panels.here_panel import HerePanel
from napari_structseg.widgets.panels.history_row import HistoryRow
from napari_structseg.widgets.panels.larger_panel import LargerPanel
from napari_structseg.widgets.panels.recovery_panel import RecoveryPanel
from napari_structseg.widgets.panels.rerun_row import RerunRow
from napari_structseg.widgets.panels.result_panel import ResultPanel
from napari_structseg.widgets.panels.sides_row import SidesRow
from napari_structseg.widgets.panels.strokes_panel import StrokesPanel
from napari_structseg.widgets.parts.measure import measure_of
from napari_structseg.widgets.parts.section import Caption, Note, Section
from napari_structseg.widgets.session_dock import SessionDock
from napari_structseg.widgets.sessions import join, state_of
from napari_structseg.widgets.shortcuts import BoundShortcuts, Shortcut, ShortcutList
from napari_structseg.widgets.threads.at_exit import delete_closed_windows_at_exit

_SIZE = QSize(360, 560)
_NAMES = ("strokes", "result", "disputed", "here", "larger")
# Strokes and the result are there also where no model has run.
_WITHOUT_MODEL = ("strokes", "result")
_NOTHING_SHOWN = (
    "Open an image and run a model in Explore segmentations; what is wrong is put right here."
)


class CorrectWidget(SessionDock):
    """The dock: a view of the strokes and of the result of what is shown in its viewer.

    Parameters
    ----------
    napari_viewer
        The viewer it is docked in. napari's menus go by this name.
    """

    takes_half = True

    def __init__(self, napari_viewer: ViewerModel, parent: QWidget | None = None) -> None:
        self._session = join(napari_viewer, self)
        super().__init__(parent)
        self._viewer = napari_viewer
        self.state = state_of(napari_viewer)
        self._is_closed = False
        correcting = self.correcting = self._session.correcting
        self.strokes = StrokesPanel(correcting)
        self.result = ResultPanel(correcting)
        self.disputed = DisputedPanel(correcting.places)
        self.here = HerePanel(correcting, self.state)
        self.larger = LargerPanel(self.state)
        self.history = HistoryRow(correcting)
        self.sides = SidesRow(correcting.sides)
        self.recovery = RecoveryPanel(correcting.recovery)
        self.rerun = RerunRow(self.state.source)
        self.rerun.run_button.clicked.connect(self._run)
        self.banner = ErrorBanner()
        self.hint = Caption()
        self.welcome = Note(_NOTHING_SHOWN)
        self.sections = (
            Section("Strokes", self.strokes, self.strokes.tools),
            Section("Result", self.result, self.result.save_button),
            Section("Disputed", self.disputed),
            Section("Here, what else could it be?", self.here, self.here.ask_button),
            Section("Larger, smaller", self.larger),
        )
        for name, section in zip(_NAMES, self.sections, strict=True):
            section.header.toggled.connect(partial(self._on_fold, name))
        bind(self, self.state.display, "open_sections", self._show_folds)
        self._lay_out()
        self._keys = BoundShortcuts(napari_viewer, self, KEYS, self.is_correcting)
        self._guard = CloseGuard(self, self._session.unsaved, self._save_unsaved)
        delete_closed_windows_at_exit()
        controller = self._session.controller
        for signal, hear in (
            (correcting.opened, self._on_opened),
            (self._session.runs.changed, self._show_rerun),
            (controller.failed, self._show_error),
            (controller.said, self._say),
            (controller.received, self.larger.receive),
            (controller.received, self.strokes.receive),
        ):
            follow(self, signal, hear)
        self._viewer.layers.selection.events.active.connect(self._on_active)
        # A bound method would be disconnected before the signal comes.
        self.destroyed.connect(lambda: self.shut_down(leaves_layers=False))
        self._on_opened(is_continued=False)

    def is_busy(self) -> bool:
        """Whether anything is still to be computed, painted or saved."""
        return not self._is_closed and self._session.is_busy()

    def is_correcting(self) -> bool:
        """Whether there is anything to correct."""
        return self.correcting.book is not None

    def accept_here(self) -> None:
        """Accept the component under the mouse."""
        voxel = self.correcting.places.under_mouse()
        if voxel is not None:
            self.correcting.result.accept_component(voxel)

    def ask_here(self) -> None:
        """Ask what else the place under the mouse could be."""
        voxel = self.correcting.places.under_mouse()
        if voxel is not None:
            self.here.ask(voxel)

    def review(self) -> None:
        """Mark the disputed region as reviewed, and jump to the next."""
        self.correcting.places.review()
        self.correcting.places.step(1)

    def sizeHint(self) -> QSize:
        """As wide as the buttons need."""
        return _SIZE

    def shut_down(self, *, leaves_layers: bool = True) -> None:
        """Let go of the viewer, for good; see `ExploreWidget.shut_down`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._keys.unbind()
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        self._leave(leaves_layers=leaves_layers)

    def _lay_out(self) -> None:
        self.keys_section = Section("Keyboard", ShortcutList(KEYS))
        self.keys_section.set_open(False)
        parts = (self.recovery, self.welcome, self.rerun, *self.sections, self.keys_section)
        self._stack(parts, (self.sides, self.history, self.hint))

    def _on_opened(self, is_continued: bool) -> None:
        book, shown = self.correcting.book, self.correcting.exploration
        self.welcome.setVisible(book is None)
        self.history.setVisible(book is not None)
        for name, section in zip(_NAMES, self.sections, strict=True):
            is_of_model = name not in _WITHOUT_MODEL
            section.setVisible(book is not None if not is_of_model else shown is not None)
        self._show_rerun()
        if book is None or is_continued:
            return
        sizes, classes = book.image.spatial_shape, book.classes
        if shown is not None:
            sizes, classes = region_shape(sizes, shown.region), shown.spec.classes
        measure = measure_of(book.image, sizes, self.state.source.spacing)
        self.strokes.set_classes(classes)
        self.result.set_classes(classes, measure, book.image.voxel_volume_ml)
        for panel in (self.disputed, self.here, self.larger):
            panel.set_classes(classes, measure)

    def _show_rerun(self, _state: object = None) -> None:
        is_alone = self.correcting.book is not None and self.correcting.exploration is None
        self.rerun.setVisible(is_alone and self._session.runs.job is None)

    def _run(self) -> None:
        self.banner.dismiss()
        self._session.runs.start()

    def _on_active(self, _event: object = None) -> None:
        shown, active = self.correcting.exploration, self._viewer.layers.selection.active
        is_ours = shown is not None and active == shown.layers.segmentation
        self.result.show_locked(is_selected=is_ours)

    def _say(self, text: str) -> None:
        self.hint.setText(text)
        self.hint.setToolTip(text)

    def _save_unsaved(self) -> None:
        if self.correcting.unsaved():
            self.result.save()
        else:
            self._say("Save the segmentation in the dock Explore segmentations")

    def _on_fold(self, name: str, is_open: bool) -> None:
        self.state.display.fold(name, is_open=is_open)

    def _show_folds(self, open_sections: frozenset[str]) -> None:
        for name, section in zip(_NAMES, self.sections, strict=True):
            section.set_open(name in open_sections)


KEYS: tuple[Shortcut[CorrectWidget], ...] = (
    Shortcut(
        "Shift-A", "⇧ A", "Accept the component under the mouse", lambda dock: dock.accept_here()
    ),
    Shortcut("Shift-K", "⇧ K", "Accept all", lambda dock: dock.correcting.result.accept_all()),
    Shortcut("Shift-T", "⇧ T", "Model or result", lambda dock: dock.correcting.sides.toggle()),
    Shortcut(
        "Shift-W", "⇧ W", "What else could it be, under the mouse", lambda dock: dock.ask_here()
    ),
    Shortcut("Shift-D", "⇧ D", "Next disputed region", lambda dock: dock.correcting.places.step(1)),
    Shortcut(
        "Shift-S", "⇧ S", "Previous disputed region", lambda dock: dock.correcting.places.step(-1)
    ),
    Shortcut("Shift-X", "⇧ X", "Reviewed: go to the next", lambda dock: dock.review()),
)

# As the manifest calls it. napari looks for the viewer among the parameters of a class, not of
# a function.
make_correct_widget = CorrectWidget
