"""From the state to a request, and what of it has to be computed again: pure functions.

``resolve(state, scene)`` says what the picture depends on. Every part of the picture depends on
some of that, its *key*; a part is computed again when its key is another than that of what was
delivered last.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from enum import Enum

from napari_structseg.controls import MEAN, Controls, MeanFieldSettings
from napari_structseg.distributions import Region, Strokes
from napari_structseg.refine.changes import Changes
from napari_structseg.session.messages import Modes, Request, Show, View
from napari_structseg.session.state import ExplorerState

_DEFAULT = dict(Controls())
# What the logits depend on; every other control is about their refinement.
_OF_LOGITS = ("seed", "sample", "temperature", "class_scale", "latent")
_OF_MRF = tuple(MeanFieldSettings.model_fields)
_OF_CUT = ("coupling", "crf")

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
    n_coordinates
        Coordinates of a position that can be chosen, where they are no latents: see
        :attr:`LogitDistribution.n_coordinates`.
    has_prior
        Whether an MRF can refine the labels.
    thumbnail_size
        Largest side of a thumbnail in pixels.
    region
        What of the image the distribution is of; None: all.
    shape
        Of the image; None: strokes are taken as they are.
    """

    view: View
    n_classes: int = 2
    is_stochastic: bool = True
    n_latents: int = 0
    n_coordinates: int = 0
    has_prior: bool = False
    thumbnail_size: int = 128
    region: Region | None = None
    shape: tuple[int, ...] | None = None


def resolve(state: ExplorerState, scene: Scene) -> Request:
    """What to ask the engine for.

    Choices that the scene has no use for fall back to what it can show: the mean where all
    samples are the mean or the latent space has other dimensions, the model alone where there is
    no MRF, labels where lines would be drawn in 3-D, nothing said where strokes are of an image of
    another shape or of a class that the model does not have.

    Parameters
    ----------
    state
        What the user has chosen.
    scene
        What there is to look at.
    """
    display, controls = state.display, state.controls.frozen()
    n_coordinates = scene.n_coordinates or scene.n_latents
    if not scene.is_stochastic or (controls.latent and len(controls.latent) != n_coordinates):
        controls = controls.model_copy(update={"sample": MEAN, "latent": ()})
    if controls.class_scale and len(controls.class_scale) != scene.n_classes:
        controls = controls.model_copy(update={"class_scale": ()})
    if not scene.has_prior:
        controls = controls.model_copy(update={"iterations": 0})
    show = Show.LABELS if scene.view.volume and display.show in LINES else display.show
    has_changes = show is Show.LABELS and controls.is_coupled
    here = state.correction.here if "here" in display.open_sections else None
    if here is not None and scene.region is not None:
        here = here.inside(scene.region)
    return Request(
        controls,
        scene.view,
        show,
        changes=display.changes if has_changes else Changes.NONE,
        stop_when_converged=display.stop_when_converged,
        n_thumbnails=display.n_thumbnails,
        thumbnail_size=scene.thumbnail_size,
        modes=display.modes if "hypotheses" in display.open_sections else Modes.NONE,
        here=here,
        disputed="disputed" in display.open_sections,
        strokes=_strokes_in(state.correction.strokes, scene),
        paths="larger" in display.open_sections,
        refined_samples="measure" in display.open_sections,
        cut_volume=display.cut_volume,
    )


def _strokes_in(strokes: Strokes | None, scene: Scene) -> Strokes | None:
    """What was said of the voxels of the distribution; None: nothing."""
    if strokes is None or (scene.shape is not None and strokes.shape != scene.shape):
        return None
    inside = strokes if scene.region is None else strokes.inside(scene.region)
    if not len(inside) or inside.labels.max() >= scene.n_classes:
        return None
    return inside


class Part(Enum):
    """The parts of the picture, in the order in which the engine delivers them."""

    SLICE = "labels of the visible slice"
    STROKES = "how well the strokes are explained"
    CHANGES = "labels there that the MRF changed"
    OVERLAY = "lines or a map over the visible slice"
    THUMBNAILS = "pictures of the samples"
    LATENT = "directions of the latent space"
    SPREAD = "volumes over samples"
    MODES = "modes of the samples"
    MODE_THUMBNAILS = "pictures of the modes"
    HERE = "hypotheses of one place"
    DISPUTED = "disputed regions"
    PATHS = "larger and smaller"
    REFINED_SPREAD = "volumes over samples that MRF or CRF refined"
    VOLUME = "labels of the whole image"
    CLASS_VOLUMES = "volumes of the classes"
    MAP = "entropy or agreement of the whole image"


def of_all_samples(request: Request) -> Hashable:
    """What the samples of the model alone depend on: not which is chosen, nor what refines it."""
    controls = request.controls
    return controls.seed, controls.temperature, controls.class_scale, request.strokes


def of_samples(request: Request) -> Hashable:
    """What the samples depend on, those that are refined included: not which is chosen."""
    controls = request.controls
    if controls.cuts:
        return of_all_samples(request), controls.crf, request.cut_volume
    if not controls.refines:
        return of_all_samples(request)
    settings = controls.model_copy(update={"sample": MEAN, "latent": ()})
    return of_all_samples(request), settings, request.stop_when_converged


def alone(request: Request) -> Request:
    """The same, of the model alone: what is shown until all samples are refined."""
    return replace(request, controls=request.controls.unrefined)


def of_labels(request: Request) -> Hashable:
    """What the labels that are pictured depend on.

    The mean has neither seed nor temperature, a latent position is no sample, and settings of
    MRF or CRF count only where it has a say. The class scale counts for the mean, too: one that
    does not fit the model is an error.
    """
    controls = request.controls
    unused: dict[str, object] = {}
    if controls.latent:
        unused["sample"] = MEAN
    elif controls.sample == MEAN:
        unused |= {name: _DEFAULT[name] for name in ("seed", "temperature")}
    used = (*_OF_LOGITS, *(_OF_CUT if controls.cuts else _OF_MRF if controls.refines else ()))
    unused |= {name: value for name, value in _DEFAULT.items() if name not in used}
    stops = controls.refines and request.stop_when_converged
    return controls.model_copy(update=unused), stops, request.strokes


def _changes_key(request: Request) -> Hashable:
    if request.changes is Changes.NONE:
        return None
    return request.changes, of_labels(request), request.view


def _overlay_key(request: Request) -> Hashable:
    if request.show is Show.LABELS:
        return None
    if request.show is Show.OUTLINES:
        chosen = request.controls.latent or request.controls.sample
        return of_samples(request), request.view, request.show, request.n_outlines, chosen
    # Maps are of the model alone.
    samples = of_samples(request) if request.show in LINES else of_all_samples(request)
    return samples, request.view, request.show, request.n_samples


def _thumbnails_key(request: Request) -> Hashable:
    if not request.n_thumbnails:
        return None
    key = (of_samples(request), request.view)
    return (*key, request.n_thumbnails, request.thumbnail_size)


def _spread_key(request: Request) -> Hashable:
    if request.controls.is_coupled:
        # Over samples whose neighbours agree it would have to be counted: the one of the model
        # alone is no range of what is shown.
        return None
    return of_all_samples(request), request.n_samples


def _modes_key(request: Request) -> Hashable:
    if request.modes is Modes.NONE:
        return None
    return of_samples(request), request.modes, request.n_grouped


def _mode_thumbnails_key(request: Request) -> Hashable:
    modes = _modes_key(request)
    return modes and (modes, request.view, request.thumbnail_size)


def _here_key(request: Request) -> Hashable:
    if request.here is None:
        return None
    return of_samples(request), request.n_grouped, request.here


def _disputed_key(request: Request) -> Hashable:
    if not request.disputed:
        return None
    return of_samples(request), request.n_samples


def _paths_key(request: Request) -> Hashable:
    if not request.paths:
        return None
    return of_all_samples(request), request.n_grouped


def of_refined_samples(request: Request) -> Hashable:
    """What the volumes of refined samples depend on."""
    return of_samples(request), request.n_samples


def _refined_spread_key(request: Request) -> Hashable:
    if not (request.refined_samples and request.controls.is_coupled):
        return None
    return of_refined_samples(request)


def _map_key(request: Request) -> Hashable:
    if not request.view.volume or request.show not in MAPS:
        return None
    return of_map(request)


def of_map(request: Request) -> Hashable:
    """What a map of entropy or agreement depends on, wherever it is looked at."""
    return of_all_samples(request), request.n_samples, request.show


KEYS: dict[Part, Callable[[Request], Hashable]] = {
    Part.SLICE: lambda request: (of_labels(request), request.view),
    Part.STROKES: lambda request: request.strokes,
    Part.CHANGES: _changes_key,
    Part.OVERLAY: _overlay_key,
    Part.THUMBNAILS: _thumbnails_key,
    Part.LATENT: lambda request: ("whatever the controls", request.strokes),
    Part.SPREAD: _spread_key,
    Part.MODES: _modes_key,
    Part.MODE_THUMBNAILS: _mode_thumbnails_key,
    Part.HERE: _here_key,
    Part.DISPUTED: _disputed_key,
    Part.PATHS: _paths_key,
    Part.REFINED_SPREAD: _refined_spread_key,
    Part.VOLUME: of_labels,
    Part.CLASS_VOLUMES: of_labels,
    Part.MAP: _map_key,
}
"""What each part of the picture depends on, all of it and nothing else; None: it is not wanted."""


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
