"""A session goes on: what was chosen when it ended is chosen again."""

from __future__ import annotations

from pathlib import Path

from napari.layers import Image as ImageLayer
from pydantic import ValidationError

from napari_structseg.io.model_files import shipped_models
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.controller import Controller

# The layer of a box, and a device, may be others on this machine; what is shown folds by itself.
_OF_A_RUN = (
    "roi",
    "n_slices",
    "intensity_window",
    "precision",
    "members_as",
    "augment",
    "prior",
    "spacing",
)
_UNREADABLE = "The sliders could not be brought back: another version of this program wrote them"


def take_up(
    controller: Controller, layer: ImageLayer, written: str | None, *, is_shown: bool
) -> None:
    """Choose what was chosen of the image of a session; nothing is run.

    Parameters
    ----------
    controller
        Of the viewer.
    layer
        The image.
    written
        JSON of the state of before; None: it was not noted.
    is_shown
        Whether something is shown of the image: then its sliders are as they were left. Otherwise
        the model is chosen, and the sliders come with its run.
    """
    state = controller.state
    if written is None:
        return
    try:
        before = ExplorerState.model_validate_json(written)
    except ValidationError:
        controller.said.emit(_UNREADABLE)
        return
    if is_shown:
        state.controls.take(before.controls.frozen())
        return
    model = before.source.model
    if model is None or not (model in shipped_models() or Path(model).exists()):
        return
    with state.together():
        state.source.model = model
        # What belongs to an image and a model comes after these.
        state.source.update({name: getattr(before.source, name) for name in _OF_A_RUN})
    controller.expect(layer, model, before)
