"""What all docks of one viewer share: the state, what asks for results, and runs."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from napari.components import ViewerModel
from qtpy.QtWidgets import QWidget

from napari_structseg.session.history import History
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.correcting.correcting import Correcting
from napari_structseg.widgets.correcting.undoing import Undoing
from napari_structseg.widgets.keeping import in_words
from napari_structseg.widgets.measuring import Measuring
from napari_structseg.widgets.runs import Runs
from napari_structseg.widgets.saving import Saving
from napari_structseg.widgets.swapping import Swapping


class Session:
    """Lives as long as there is a dock of its viewer.

    Parameters
    ----------
    viewer
        Whose images are explored.
    state
        What was chosen in it; outlives the docks.
    """

    def __init__(self, viewer: ViewerModel, state: ExplorerState) -> None:
        self.viewer = viewer
        self.state = state
        self.controller = Controller(viewer, state)
        self.history = History(state)
        self.swapping = Swapping(self.controller, self.history)
        self.runs = Runs(self.controller, self.swapping)
        self.controller.adopted.connect(self._on_adopted)
        self.saving = Saving(self.controller)
        self.correcting = Correcting(self.controller, self.history)
        self.undoing = Undoing(self.history, self.correcting, self.controller.said.emit)
        self.measuring = Measuring(self.controller, self.correcting)
        self.docks: list[QWidget] = []

    def is_busy(self) -> bool:
        """Whether a run is on, or anything is still to be computed, painted or saved."""
        if self.runs.job is not None or self.controller.is_loading or self.saving.is_busy():
            return True
        if self.controller.keeping.is_busy() or self.correcting.is_busy():
            return True
        if self.measuring.is_busy() or self.undoing.is_busy():
            return True
        current = self.controller.current
        return current is not None and current.is_busy()

    def unsaved(self) -> list[str]:
        """What would be lost with the viewer, in words."""
        labellings = [
            f"{in_words(one.wanted.controls)} of {one.image.name}"
            for one in (*self.controller.unsaved, *self.runs.unsaved)
            if one.wanted is not None
        ]
        layers = [f"layer {layer.name}" for layer in self.controller.keeping.unsaved_layers]
        return [*labellings, *layers, *self.correcting.unsaved()]

    def leave(self, dock: QWidget, *, leaves_layers: bool = True) -> None:
        """Take a dock away; with the last one, all work stops.

        Parameters
        ----------
        dock
            One that has joined.
        leaves_layers
            Whether the viewer goes on without it, see :meth:`Controller.close`.
        """
        self.docks.remove(dock)
        if not self.docks:
            self.history.close()
            self.swapping.close(leaves_layers=leaves_layers)
            self.saving.close()
            self.measuring.close()
            self.correcting.close()
            self.runs.close(leaves_layers=leaves_layers)
            self.controller.close(leaves_layers=leaves_layers)
            del _SESSIONS[_itself(self.viewer)]

    def _on_adopted(self, _exploration: object, is_continued: bool) -> None:
        if not is_continued and not self.history.is_moving:
            # The controls before are those of another picture.
            self.history.forget()


# A session refers to its viewer, so that it has to be taken out here; what was chosen stays.
_SESSIONS: dict[ViewerModel, Session] = {}
_STATES: WeakKeyDictionary[ViewerModel, ExplorerState] = WeakKeyDictionary()


def join(viewer: ViewerModel, dock: QWidget) -> Session:
    """The session of a viewer, with another dock in it.

    Parameters
    ----------
    viewer
        napari hands plugins a stand-in for the viewer: all of these have one session.
    dock
        Leaves when it is closed.
    """
    key = _itself(viewer)
    if key not in _SESSIONS:
        _SESSIONS[key] = Session(viewer, state_of(viewer))
    _SESSIONS[key].docks.append(dock)
    return _SESSIONS[key]


def session_of(viewer: ViewerModel) -> Session | None:
    """The session of a viewer; None: it has no dock."""
    return _SESSIONS.get(_itself(viewer))


def state_of(viewer: ViewerModel) -> ExplorerState:
    """What was chosen in a viewer."""
    return _STATES.setdefault(_itself(viewer), ExplorerState())


def _itself(viewer: ViewerModel) -> ViewerModel:
    itself: ViewerModel = getattr(viewer, "__wrapped__", viewer)
    return itself
