"""What is drawn over or beside the visible slice: outlines, contours, maps, thumbnails."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable

import numpy as np
import numpy.typing as npt

from napari_structseg.distributions import LatentDistribution, Region
from napari_structseg.render.contours import Segments, class_margin, contour_segments
from napari_structseg.render.lattice import lattice_region
from napari_structseg.render.rendering import LabelArray, Renderer, argmax_labels
from napari_structseg.render.summaries import SampleSummary, noises_of, summarise_logits
from napari_structseg.session.messages import LatentSpace, LineSet, Request, Show, View

CONFIDENCE_LEVELS = (0.05, 0.5, 0.95)
# 0.95 * 20 samples are 19 samples, whatever floating point makes of it.
_ROUNDING = 1e-9
# Directions hardly depend on which voxels are looked at; this many take some milliseconds.
_LATENT_VOXELS = 1 << 13


def summarise_visible(renderer: Renderer, request: Request, region: Region) -> SampleSummary:
    """Summarise the samples of the visible slice."""
    noises = noises_of(request.controls.seed, request.n_samples)
    logits = renderer.visible_samples(request.controls, noises, region)
    return summarise_logits(logits, renderer.visible_distribution(region).mean())


def map_values(summary: SampleSummary, show: Show) -> npt.NDArray[np.float32]:
    """Entropy in nats or agreement as a fraction, ``(*region)``."""
    values = summary.entropy if show is Show.ENTROPY else summary.agreement
    result: npt.NDArray[np.float32] = values.float().cpu().numpy()
    return result


def outline_sets(renderer: Renderer, request: Request, region: Region) -> tuple[LineSet, ...]:
    """Outlines of every class but the background: of the first samples, and of the chosen one."""
    noises = noises_of(request.controls.seed, request.n_outlines)
    chosen = request.controls.noise
    if chosen is not None and chosen not in noises:
        noises.append(chosen)
    samples = renderer.visible_samples(request.controls, noises, region)
    sets: list[LineSet] = []
    for noise, logits in zip(noises, samples, strict=True):
        flat = logits.reshape(logits.shape[0], *plane_shape(request.view, logits.shape[1:]))
        margins = [class_margin(flat, label) for label in range(1, flat.shape[0])]
        sets += _outlines(margins, request, region, noise.sample, is_chosen=noise == chosen)
    return tuple(sets)


def outlines_of_labels(
    labels: LabelArray, n_classes: int, request: Request, region: Region, sample: int
) -> list[LineSet]:
    """Outlines of every class but the background where labels alone are known: between voxels.

    Parameters
    ----------
    labels
        Of a visible slice, ``(*region)``.
    n_classes
        Number of classes.
    request
        What is visible, and what is chosen.
    region
        Where the slice lies.
    sample
        Which sample has these labels; 0: the position that is chosen.
    """
    flat = labels.reshape(plane_shape(request.view, labels.shape))
    margins = [np.where(flat == label, 1.0, -1.0) for label in range(1, n_classes)]
    is_chosen = request.controls.noise is not None and sample == request.controls.noise.sample
    return _outlines(margins, request, region, sample, is_chosen=is_chosen)


def contour_sets(renderer: Renderer, request: Request, region: Region) -> tuple[LineSet, ...]:
    """Confidence contours of every class but the background, see :func:`contours_of_frequency`."""
    frequency = summarise_visible(renderer, request, region).frequency
    return contours_of_frequency(frequency.cpu().numpy(), request, region)


def contours_of_frequency(
    frequency: npt.NDArray[np.float32], request: Request, region: Region
) -> tuple[LineSet, ...]:
    """Confidence contours of every class but the background.

    The contour of level p encloses the pixels that have the label in at least a fraction p of
    the samples: 95 % is the inner contour, 5 % the outer one.

    Parameters
    ----------
    frequency
        Fraction of samples that have each label, ``(C, *region)``.
    request
        What is visible, and how many samples there are.
    region
        Where the slice lies.
    """
    flat = frequency.reshape(len(frequency), *plane_shape(request.view, frequency.shape[1:]))
    sets = []
    for label in range(1, len(flat)):
        for level in CONFIDENCE_LEVELS:
            # Half a sample below the least number of samples that makes up the level.
            least = math.ceil(level * request.n_samples - _ROUNDING)
            segments = contour_segments(flat[label], (least - 0.5) / request.n_samples)
            sets.append(LineSet(label, level, None, _place(segments, request.view, region)))
    return tuple(sets)


def thumbnails(
    renderer: Renderer, request: Request, region: Region, samples: Iterable[int]
) -> Generator[None, None, dict[int, LabelArray]]:
    """Labels of samples (0 is the mean) on a thinned-out visible slice, one in each step."""
    distribution = renderer.visible_distribution(region)
    step = thinning(distribution.spatial_shape, request)
    thinned = distribution.crop(tuple(slice(0, size, step) for size in distribution.spatial_shape))
    shape = plane_shape(request.view, thinned.spatial_shape)
    mean, weights = thinned.mean(), request.controls.weights_of(distribution)
    pictures = {}
    for sample in samples:
        yield None
        controls = request.controls.model_copy(update={"sample": sample, "latent": ()})
        offset = None
        if controls.noise is not None:
            offset = thinned.offset(controls.tempered(controls.noise, thinned))
        pictures[sample] = argmax_labels(mean, offset, weights).cpu().numpy().reshape(shape)
    return pictures


def thinning(shape: tuple[int, ...], request: Request) -> int:
    """Of how many pixels of a slice, along each axis, a thumbnail has one."""
    return max(1, -(-max(shape) // request.thumbnail_size))


def latent_space(decoder: LatentDistribution, generation: int) -> LatentSpace:
    """What moves the segmentation most, looked at on a lattice of voxels."""
    region = lattice_region(decoder.spatial_shape, _LATENT_VOXELS)
    directions, strength = decoder.directions(region)
    return LatentSpace(generation, directions.cpu().numpy(), strength.cpu().numpy())


def plane_shape(view: View, shape: tuple[int, ...]) -> tuple[int, int]:
    """The two sizes of a visible slice without its sliced axis."""
    rows, columns = view.plane(len(shape))
    return shape[rows], shape[columns]


def _outlines(
    margins: Iterable[npt.NDArray[np.floating]],
    request: Request,
    region: Region,
    sample: int,
    *,
    is_chosen: bool,
) -> list[LineSet]:
    """Where the margins of classes 1 to C - 1, each ``(Y, X)``, are zero."""
    sets = []
    for label, margin in enumerate(margins, start=1):
        placed = _place(contour_segments(margin, 0.0), request.view, region)
        sets.append(LineSet(label, None, sample, placed, is_chosen=is_chosen))
    return sets


def _place(segments: Segments, view: View, region: Region) -> Segments:
    """Bring segments of a picture to voxel coordinates of the image."""
    n_axes = len(region)
    placed = np.empty((*segments.shape[:2], n_axes), np.float32)
    if n_axes == 3:
        placed[..., view.axis] = region[view.axis].start
    rows, columns = view.plane(n_axes)
    placed[..., rows] = segments[..., 0]
    placed[..., columns] = segments[..., 1]
    return placed
