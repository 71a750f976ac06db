"""The Fine-tune dock: the model learns from what was corrected while exploring goes on."""

from __future__ import annotations

from functools import partial

from napari.components import ViewerModel
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QWidget

from napari_structseg.widgets.binding import bind, follow
from napari_structseg.widgets.close_guard import CloseGuard
from napari_structseg.widgets.finetuning.preview import Preview
from napari_structseg.widgets.finetuning.tuning import Tuning
from napari_structseg.widgets.panels.banner import ErrorBanner
from napari_structseg.widgets.panels.compare_panel import ComparePanel
from napari_structseg.widgets.panels.learn_panel import LearnPanel
from napari_structseg.widgets.panels.training_panel import TrainingPanel
from napari_structseg.widgets.panels.versions_panel import VersionsPanel
from napari_structseg.widgets.parts.section import Caption, Section
from napari_structseg.widgets.session_dock import SessionDock
from napari_structseg.widgets.sessions import join, state_of
from napari_structseg.widgets.shortcuts import BoundShortcuts, Shortcut
from napari_structseg.widgets.threads.at_exit import delete_closed_windows_at_exit

_SIZE = QSize(360, 560)
_NAMES = ("learn", "training", "improved", "versions")


class FinetuneWidget(SessionDock):
    """The dock: what learns, the run, what it brings, and the versions that were taken over.

    Parameters
    ----------
    napari_viewer
        The viewer it is docked in. napari's menus go by this name.
    """

    takes_half = True

    def __init__(self, napari_viewer: ViewerModel, parent: QWidget | None = None) -> None:
        self._session = join(napari_viewer, self)
        super().__init__(parent)
        self.state = state_of(napari_viewer)
        self._is_closed = False
        controller = self._session.controller
        self.tuning = Tuning(controller, self._session.correcting)
        self.banner = ErrorBanner()
        self.hint = Caption()
        self.learn = LearnPanel(self.tuning)
        self.training = TrainingPanel(self.tuning, self._show_error)
        self.preview = Preview(controller, self._session.swapping)
        self.compare = ComparePanel(self.tuning, self.preview)
        self.versions = VersionsPanel(controller, self.preview)
        self.sections = (
            Section("Learn from corrections", self.learn),
            Section("Training", self.training),
            Section("Improved prediction", self.compare),
            Section("Versions", self.versions),
        )
        self._keys = BoundShortcuts(napari_viewer, self, KEYS, lambda: not self._is_closed)
        for name, section in zip(_NAMES, self.sections, strict=True):
            section.header.toggled.connect(partial(self._on_fold, name))
        self._stack(self.sections, (self.hint,))
        with self.state.together():
            for name in _NAMES:
                self.state.display.fold(name, is_open=True)
        bind(self, self.state.display, "open_sections", self._show_folds)
        self._guard = CloseGuard(self, self._session.unsaved, self._save_unsaved)
        delete_closed_windows_at_exit()
        follow(self, controller.failed, self._show_error)
        follow(self, controller.said, self._say)
        # A bound method would be disconnected before the signal comes.
        self.destroyed.connect(lambda: self.shut_down(leaves_layers=False))

    def is_busy(self) -> bool:
        """Whether a run is on, or anything is still to be computed, painted or saved."""
        return not self._is_closed and (
            any(part.is_busy() for part in (self.tuning, self.preview, self.versions))
            or self._session.is_busy()
        )

    def sizeHint(self) -> QSize:
        """As wide as the choices need."""
        return _SIZE

    def shut_down(self, *, leaves_layers: bool = True) -> None:
        """Let go of the viewer, for good; a run writes a checkpoint and ends by itself."""
        if self._is_closed:
            return
        self._is_closed = True
        self._keys.unbind()
        self.tuning.close()
        self.preview.close()
        self.versions.close_reading()
        self._leave(leaves_layers=leaves_layers)

    def _say(self, text: str) -> None:
        self.hint.setText(text)
        self.hint.setToolTip(text)

    def _save_unsaved(self) -> None:
        self._say("Save the result in Correct, or the segmentation in Explore segmentations")

    def _on_fold(self, name: str, is_open: bool) -> None:
        self.state.display.fold(name, is_open=is_open)

    def _show_folds(self, open_sections: frozenset[str]) -> None:
        for name, section in zip(_NAMES, self.sections, strict=True):
            section.set_open(name in open_sections)


KEYS: tuple[Shortcut[FinetuneWidget], ...] = (
    Shortcut(
        "Shift-F", "⇧ F", "Old prediction, improved prediction", lambda dock: dock.preview.flip()
    ),
)

# As the manifest calls it. napari looks for the viewer among the parameters of a class, not of
# a function.
make_finetune_widget = FinetuneWidget
