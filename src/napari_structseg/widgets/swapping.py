"""Another distribution of the same image in the place of the one shown, as one action to undo."""

from __future__ import annotations

from functools import partial

from napari_structseg.session.history import Exchange, History
from napari_structseg.widgets.controller import Controller
from napari_structseg.widgets.exploration import Exploration


class Swapping:
    """Swaps what is shown, and holds what was shown before as long as it can come back.

    One swap is held: two distributions of an image are as many as should be in memory. Once
    there is another, an earlier one can no longer be undone.

    Parameters
    ----------
    controller
        Shows them.
    history
        In which a swap is an entry.
    """

    def __init__(self, controller: Controller, history: History) -> None:
        self._controller, self._history = controller, history
        self._exchange: Exchange | None = None
        # What is not shown now.
        self._held: Exploration | None = None
        history.moved.connect(self._on_moved)

    def swap(self, new: Exploration, name: str) -> None:
        """Show another result of what is shown, complete, from one moment to the next.

        Parameters
        ----------
        new
            It has the layers of what is shown. Sliders stay as they are.
        name
            Of the action.
        """
        old = self._controller.current
        if old is None or new.layers is not old.layers:
            raise AssertionError("a swap is of what is shown")
        if self._exchange is not None:
            self._history.forget()
        new.left_with = self._controller.state.controls.frozen()
        exchange = Exchange(
            name, undo=partial(self._show, old, new), redo=partial(self._show, new, old)
        )
        self._history.exchange(exchange)
        self._exchange = exchange

    @property
    def held(self) -> Exploration | None:
        """What can come back by undo, and takes memory; None: nothing."""
        return self._held

    def let_go(self) -> None:
        """Close what is held: a run needs its memory. What was done before is no longer undone."""
        if self._held is not None:
            self._history.forget()

    def close(self, *, leaves_layers: bool) -> None:
        """Let go of what is held."""
        self._history.moved.disconnect(self._on_moved)
        self._drop(keeps=leaves_layers)

    def _show(self, shown: Exploration, held: Exploration) -> None:
        """Never a mixture: the layers are emptied, and everything is painted from one of them."""
        state = self._controller.state
        display, window = state.display, state.source.intensity_window
        looks = {
            name: getattr(display, name)
            for name in ("show", "changes", "hidden_classes", "class_opacity", "latent_axes")
        }
        held.left_with = state.controls.frozen()
        held.stop()
        self._held = held
        with state.together():
            if shown.run is not None:
                state.source.model = shown.run.model
            state.source.intensity_window = window
        shown.layers.set_classes(shown.spec.classes)
        self._controller.adopt(shown, is_continued=False)
        display.update(looks)

    def _on_moved(self, _what: str) -> None:
        if self._exchange is not None and not self._history.has(self._exchange):
            self._drop(keeps=True)

    def _drop(self, *, keeps: bool) -> None:
        held, self._held, self._exchange = self._held, None, None
        if held is None:
            return
        if keeps:
            # A labelling that was chosen by hand there is no less the user's.
            self._controller.keeping.replace(held)
        else:
            held.close()
