"""From the state to a request, and what of it has to be computed again: pure functions.

``resolve(state, scene)`` says what the picture depends on. Every part of the picture depends on
some of that, its *key*; a part is computed again when its key is another than that of what was
delivered last.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum

from napari_structseg.controls import MEAN, Controls
from napari_structseg.refine.changes import Changes
from napari_structseg.session.messages import Modes, Request, Show, View
from napari_structseg.session.state import ExplorerState

LINES = (Show.OUTLINES, Show.CONTOURS)
MAPS = (Show.ENTROPY, Show.AGREEMENT)


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to look at: facts of the viewer and the distribution, not choices.

    Attributes
    ----------
    view
        What the viewer shows, in the coordinates of the distribution.
    n_classes
        Classes of the model.
    is_stochastic
        Whether samples differ from the mean.
    n_latents
        Dimensions of the latent space; 0: there is none.
    has_prior
        Whether an MRF can refine the labels.
    thumbnail_size
        Largest side of a thumbnail in pixels.
    """

    view: View
    n_classes: int = 2
    is_stochastic: bool = True
    n_latents: int = 0
    has_prior: bool = False
    thumbnail_size: int = 128


def resolve(state: ExplorerState, scene: Scene) -> Request:
    """What to ask the engine for.

    Choices that the scene has no use for fall back to what it can show: the mean where all
    samples are the mean or the latent space has other dimensions, the model alone where there is
    no MRF, labels where lines would be drawn in 3-D.

    Parameters
    ----------
    state
        What the user has chosen.
    scene
        What there is to look at.
    """
    display, controls = state.display, state.controls.frozen()
    if not scene.is_stochastic or (controls.latent and len(controls.latent) != scene.n_latents):
        controls = controls.model_copy(update={"sample": MEAN, "latent": ()})
    if controls.class_scale and len(controls.class_scale) != scene.n_classes:
        controls = controls.model_copy(update={"class_scale": ()})
    if not scene.has_prior:
        controls = controls.model_copy(update={"iterations": 0})
    show = Show.LABELS if scene.view.volume and display.show in LINES else display.show
    has_changes = show is Show.LABELS and controls.refines
    return Request(
        controls,
        scene.view,
        show,
        changes=display.changes if has_changes else Changes.NONE,
        stop_when_converged=display.stop_when_converged,
        n_thumbnails=display.n_thumbnails if scene.is_stochastic else 0,
        thumbnail_size=scene.thumbnail_size,
        modes=display.modes if "hypotheses" in display.open_sections else Modes.NONE,
    )


class Part(Enum):
    """The parts of the picture, in the order in which the engine delivers them."""

    SLICE = "labels of the visible slice"
    CHANGES = "labels there that the MRF changed"
    OVERLAY = "lines or a map over the visible slice"
    THUMBNAILS = "pictures of the samples"
    SPREAD = "volumes over samples"
    MODES = "modes of the samples"
    VOLUME = "labels of the whole image"
    MAP = "entropy or agreement of the whole image"


def of_all_samples(request: Request) -> Hashable:
    """What all samples together depend on: every control but the choice of one."""
    controls = request.controls.model_copy(update={"sample": MEAN, "latent": ()})
    return controls, request.n_samples


def _overlay_key(request: Request) -> Hashable:
    if request.show is Show.LABELS:
        return None
    key = (of_all_samples(request), request.view, request.show, request.n_outlines)
    return (*key, _chosen(request.controls)) if request.show is Show.OUTLINES else key


def _chosen(controls: Controls) -> Hashable:
    return controls.sample, controls.latent


def _map_key(request: Request) -> Hashable:
    is_wanted = request.view.volume and request.show in MAPS
    return (of_all_samples(request), request.show) if is_wanted else None


KEYS: dict[Part, Callable[[Request], Hashable]] = {
    Part.SLICE: lambda request: (
        request.controls,
        request.view,
        request.stop_when_converged,
    ),
    Part.CHANGES: lambda request: (
        request.changes is not Changes.NONE
        and (request.changes, request.controls, request.view, request.stop_when_converged)
    ),
    Part.OVERLAY: _overlay_key,
    Part.THUMBNAILS: lambda request: (
        of_all_samples(request),
        request.view,
        request.n_thumbnails,
        request.thumbnail_size,
    ),
    Part.SPREAD: of_all_samples,
    Part.MODES: lambda request: (
        request.modes is not Modes.NONE
        and (of_all_samples(request), request.modes, request.n_grouped, request.view)
    ),
    Part.VOLUME: lambda request: (request.controls, request.stop_when_converged),
    Part.MAP: _map_key,
}


def difference(before: Request | None, after: Request) -> frozenset[Part]:
    """Which parts of the picture have to be computed again.

    Parameters
    ----------
    before
        The request that was answered last, in full; None: there was none.
    after
        The new one.
    """
    if before is None:
        return frozenset(Part)
    return frozenset(part for part, key in KEYS.items() if key(before) != key(after))
