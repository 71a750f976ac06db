"""What goes into the engine and what comes out: frozen requests and results.

Longer than other modules since it is the vocabulary between engine and window: declarations
only, which are read together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
import numpy.typing as npt

from napari_structseg.controls import Controls
from napari_structseg.distributions import Region, Strokes, slice_region, whole
from napari_structseg.distributions.conditioning.explanation import Explanation
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.convergence import Convergence
from napari_structseg.refine.solver import EnergyTerms
from napari_structseg.render.contours import Segments
from napari_structseg.render.disputed import DisputedRegion
from napari_structseg.render.hypotheses import Hypotheses
from napari_structseg.render.local_hypotheses import LocalHypotheses
from napari_structseg.render.places import Place
from napari_structseg.render.summaries import DEFAULT_SAMPLES
from napari_structseg.render.volume_paths import VolumePath


class Show(StrEnum):
    """What is shown over the image."""

    LABELS = "labels"
    OUTLINES = "outlines"
    CONTOURS = "contours"
    ENTROPY = "entropy"
    AGREEMENT = "agreement"


class Modes(IntEnum):
    """How many modes samples are grouped into."""

    NONE = -1
    AUTO = 0
    TWO = 2
    THREE = 3
    FOUR = 4
    FIVE = 5
    SIX = 6


@dataclass(frozen=True, slots=True)
class View:
    """What part of the image the user sees.

    Attributes
    ----------
    axis
        Spatial axis that is sliced; ignored for a 2-D image.
    position
        Slice along it, in voxels.
    volume
        Whether the whole volume is seen (3-D display).
    """

    axis: int = 0
    position: int = 0
    volume: bool = False

    def region(self, spatial_shape: tuple[int, ...]) -> Region:
        """The visible slice, its axis kept with length 1; a 2-D image as a whole."""
        if len(spatial_shape) == 2:
            return whole(spatial_shape)
        return slice_region(spatial_shape, self.axis, self.position)

    def plane(self, n_axes: int) -> tuple[int, int]:
        """The two array axes that make up the picture, in ascending order."""
        rows, columns = [axis for axis in range(n_axes) if n_axes == 2 or axis != self.axis]
        return rows, columns


@dataclass(frozen=True, slots=True)
class Request:
    """Everything the picture depends on, apart from the distribution.

    Attributes
    ----------
    controls
        The sliders.
    view
        What is visible.
    show
        What to draw.
    changes
        Which labels that an MRF changed are marked.
    stop_when_converged
        Run an MRF no further than until it has converged.
    n_samples
        Samples behind contours, entropy, agreement and volumes.
    n_outlines
        Samples whose outlines are drawn, beside the chosen one.
    n_thumbnails
        Samples in the strip, the mean not counted; 0: no strip.
    thumbnail_size
        Largest side of a thumbnail in pixels.
    modes
        How many modes the samples are grouped into.
    n_grouped
        Samples that are grouped.
    here
        The place of which hypotheses are asked for; None: none.
    disputed
        Whether disputed regions are looked for.
    strokes
        What the user has said of the image, on the voxels of the distribution; None: nothing.
    refined_samples
        Whether refined samples are counted, where an MRF or a CRF refines what is shown.
    paths
        Whether the ways are looked for along which the volume of each class changes most.
    cut_volume
        Whether a CRF cuts the whole volume, too, or the visible slice alone.
    """

    controls: Controls
    view: View
    show: Show = Show.LABELS
    changes: Changes = Changes.NONE
    stop_when_converged: bool = False
    n_samples: int = DEFAULT_SAMPLES
    n_outlines: int = 5
    n_thumbnails: int = 8
    thumbnail_size: int = 96
    modes: Modes = Modes.NONE
    # A multiple of the usual numbers of heads and of members of ensembles.
    n_grouped: int = 60
    here: Place | None = None
    disputed: bool = False
    strokes: Strokes | None = None
    paths: bool = False
    refined_samples: bool = False
    cut_volume: bool = True

    @property
    def cuts_slices(self) -> bool:
        """Whether a CRF cuts slices alone, each by itself."""
        return self.controls.cuts and not self.cut_volume


@dataclass(frozen=True, slots=True)
class SliceLabels:
    """Labels of the visible slice.

    Attributes
    ----------
    generation
        Number of the request it answers: larger is newer.
    region
        Where the slice lies.
    labels
        ``(*region)``, uint8.
    seconds
        Compute time.
    is_final
        Whether more iterations of an MRF are to come for the same request.
    """

    generation: int
    region: Region
    labels: npt.NDArray[np.uint8]
    seconds: float
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class ChangedLabels:
    """Where an MRF has changed the labels of the visible region, ``(*region)``."""

    generation: int
    region: Region
    changed: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MeanFieldProgress:
    """How many iterations the whole image has, of how many, and how they converge.

    No more of them come if they were to stop once converged, and are.
    """

    generation: int
    reached: int
    target: int
    convergence: Convergence
    is_converged: bool = False


@dataclass(frozen=True, slots=True)
class CutProgress:
    """How far the graph cut of the whole image is, and the energy of the labels shown.

    Attributes
    ----------
    share
        From 0 to 1: of the whole image.
    energy
        Of the visible slice's own cut or, at the end, of the whole image; None: of neither yet.
    is_whole
        Whether the labels shown are those of the whole image.
    """

    generation: int
    share: float
    energy: EnergyTerms | None
    is_whole: bool


@dataclass(frozen=True, slots=True)
class SlabLabels:
    """Labels of one slab of the volume; ``done`` of ``total`` voxels are finished with it."""

    generation: int
    region: Region
    labels: npt.NDArray[np.uint8]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ClassVolumes:
    """Exact volumes of the segmentation shown: mL per class, ``(C,)``.

    They answer ``request``. ``refined``: an MRF refined what was counted.
    """

    generation: int
    volumes_ml: npt.NDArray[np.float64]
    seconds: float
    request: Request
    refined: bool


@dataclass(frozen=True, slots=True)
class VolumeSpread:
    """Volumes over the first samples of the series, as the model alone gives them.

    While an MRF refines what is shown, only those come that it has refined, too, where they are
    asked for: anything else would be another distribution.

    Attributes
    ----------
    volumes_ml
        mL, ``(N, C)``; row i is sample i + 1.
    exact
        Whether every voxel of every sample was counted. Otherwise the samples are estimated
        from a lattice, such that without spread (temperature 0) they are the exact volumes of
        the mean; the sample that is shown is counted exactly, once its labels are there.
    request
        What they answer; its ``n_samples`` is N.
    refined
        Whether an MRF refined the samples.
    """

    generation: int
    volumes_ml: npt.NDArray[np.float64]
    exact: bool
    request: Request
    refined: bool = False


@dataclass(frozen=True, slots=True)
class RefinedProgress:
    """How many samples the MRF has refined, of those wanted; ``reason``: why there are no more."""

    generation: int
    done: int
    total: int
    request: Request
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Small pictures of a slice: sample number (0 is the mean) to labels (h, w).

    ``refined``: an MRF refined them; otherwise they show the model alone.
    """

    generation: int
    labels: dict[int, npt.NDArray[np.uint8]]
    view: View
    refined: bool = False


@dataclass(frozen=True, slots=True)
class SampleModes:
    """The modes of the samples, and the controls by which these were drawn.

    ``refined``: an MRF refined the samples; otherwise they are of the model alone.
    """

    generation: int
    hypotheses: Hypotheses
    controls: Controls
    refined: bool = False


@dataclass(frozen=True, slots=True)
class ModeThumbnails:
    """Small pictures of a slice in the representatives of modes: sample to labels (h, w)."""

    generation: int
    labels: dict[int, npt.NDArray[np.uint8]]
    view: View


@dataclass(frozen=True, slots=True)
class HypothesesHere:
    """What a place could be: they answer ``request.here``.

    Attributes
    ----------
    hypotheses
        The most frequent first.
    request
        What they answer.
    refined
        Whether an MRF refined the samples; otherwise they are of the model alone.
    """

    generation: int
    hypotheses: LocalHypotheses
    request: Request
    refined: bool = False


@dataclass(frozen=True, slots=True)
class Disputed:
    """Disputed regions of the whole image, the most disagreement first.

    Attributes
    ----------
    regions
        At most :data:`napari_structseg.render.disputed.MAX_REGIONS`.
    exact
        Whether every voxel was looked at, or those of a lattice.
    request
        What they answer.
    refined
        Whether an MRF refined the samples; otherwise they are of the model alone.
    """

    generation: int
    regions: tuple[DisputedRegion, ...]
    exact: bool
    request: Request
    refined: bool = False


@dataclass(frozen=True, slots=True)
class StrokesExplained:
    """How well the model explains the strokes of a request: they are honoured in any case."""

    generation: int
    explanation: Explanation
    request: Request


@dataclass(frozen=True, slots=True)
class LargerSmaller:
    """Along which way the volume of each class changes most, by the model alone.

    Attributes
    ----------
    paths
        One for each class, in label order.
    request
        What they answer: seed, temperature and class scales are its own.
    """

    generation: int
    paths: tuple[VolumePath, ...]
    request: Request


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """Directions of a latent space by how much they change the segmentation.

    Attributes
    ----------
    directions
        Rows are orthogonal unit vectors in standard deviations of the latent prior, ``(L, L)``.
    strength
        Root mean square change of a probability for one standard deviation along each,
        descending, ``(L,)``.
    """

    generation: int
    directions: npt.NDArray[np.float32]
    strength: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LineSet:
    """Contour lines of one class on the visible slice.

    Attributes
    ----------
    label
        Which class.
    level
        Confidence in (0, 1) of a contour; None for the outline of a sample.
    sample
        Sample of an outline, 0 for a latent position; None for a confidence contour.
    segments
        ``(N, 2, ndim)``: start and end in voxels of the image.
    is_chosen
        Whether it is the outline of the sample or latent position that is chosen.
    """

    label: int
    level: float | None
    sample: int | None
    segments: Segments
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """Outlines of samples, or confidence contours, on the visible slice.

    ``refined``: an MRF refined the samples; otherwise they are of the model alone.
    """

    generation: int
    show: Show
    sets: tuple[LineSet, ...]
    refined: bool = False


@dataclass(frozen=True, slots=True)
class MapRegion:
    """Entropy (nats) or agreement (fraction) of a region, ``(*region)``, float32.

    ``done`` of ``total`` voxels are finished with it; a visible slice counts 0 of total.
    """

    generation: int
    show: Show
    region: Region
    values: npt.NDArray[np.float32]
    done: int
    total: int


Result = (
    SliceLabels
    | SlabLabels
    | ClassVolumes
    | VolumeSpread
    | RefinedProgress
    | Thumbnails
    | SampleModes
    | ModeThumbnails
    | StrokesExplained
    | HypothesesHere
    | Disputed
    | LargerSmaller
    | LatentSpace
    | Lines
    | MapRegion
    | ChangedLabels
    | MeanFieldProgress
    | CutProgress
)
