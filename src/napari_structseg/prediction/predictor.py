"""From an image to the distribution over its segmentations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from napari_structseg.devices import free_memory
from napari_structseg.distributions import LogitDistribution, Region
from napari_structseg.distributions.checks import all_finite
from napari_structseg.errors import Cancelled, InputError, MemoryLimitError, WeightsError
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.prediction.field import (
    Field,
    make_field,
    most_seen,
    stride_of,
    working_bytes,
)
from napari_structseg.prediction.intensity_windows import fitting_window, value_range
from napari_structseg.prediction.latent_prior import (
    Piece,
    latent_statistics,
    make_pieces,
    piece_bytes,
    voxels_of_a_piece,
)
from napari_structseg.prediction.maps.kinds import background_maps, voxel_bytes
from napari_structseg.prediction.network_run import NetworkRun, n_kept
from napari_structseg.prediction.precision import TYPES, Precision, resolve_precision
from napari_structseg.prediction.preprocess import normalise, resample, size_at_spacing
from napari_structseg.prediction.program_run import ProgramRun, program_bytes
from napari_structseg.prediction.protocol import ImagePredictor, Prediction
from napari_structseg.prediction.stopping import stopping
from napari_structseg.priors import MarkovPrior, mirrored
from napari_structseg.refine.refinement import refinement_bytes

# Voxels of a piece along each axis: on a processor small enough for its caches (and, times the
# channels, of more than 20,480 voxels along the first two: torch has a slow way for less),
# elsewhere large enough to keep a GPU busy.
_PIECE = {2: (256, 256), 3: (32, 64, 32)}
_LARGER = 4


class Predictor(ImagePredictor):
    """Applies one trained model to images.

    The image is brought to the model's intensities and voxel size, the network runs once over all
    of it, level by level, the finest one in pieces (see `prediction.one_pass`), and the
    *parameters* of the distribution (mean, factor, diagonal) are brought back to the image's own
    grid. Voxels outside the bounding box of the image's nonzero voxels are background with
    certainty.

    A latent vector is one for the whole image, whatever its size. Its prior comes first, and is
    that of one pass of the prior net over the whole image; see `prediction.latent_prior`.

    Parameters
    ----------
    network
        In evaluation mode.
    spec
        Its specification.
    tile
        Size of a piece in voxels of the model's grid. It changes how much memory a step takes, and
        how early the first region is there; never the result, but for rounding.
    precision
        What features are computed in. With ``bfloat16``, twice as fast on processors that have
        it, parameters differ in the third digit, and rounding depends on the pieces. A program
        of other origin computes in float32 always.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        spec: ModelSpec,
        *,
        tile: Sequence[int] | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.network = network
        self.spec: ModelSpec = spec
        self.device = network.device
        if tile is None:
            factor = 1 if self.device.type == "cpu" else _LARGER
            tile = [factor * side for side in _PIECE[spec.dimensions]]
        self._tile = tuple(tile)
        # A program computes in what it was saved with.
        asked: Precision = precision if spec.program is None else "float32"
        self.precision = resolve_precision(asked, self.device, bfloat16_serves=spec.bfloat16)

    def with_spec(self, spec: ModelSpec) -> Predictor:
        """The same network and pieces, with another specification of what it sees."""
        return Predictor(self.network, spec, tile=self._tile, precision=self.precision)

    def check(self, image: Image, *, refined: bool = False) -> None:
        """Refuse an image that does not fit the model, see :meth:`ImagePredictor.check`."""
        if image.ndim != self.spec.dimensions:
            came = f"{image.name!r} has {image.ndim} spatial dimensions {image.spatial_shape}"
            advice = (
                "Open a whole volume."
                if self.spec.dimensions == 3
                else "Mark slices of it (--slice, or Where in the dock), or choose a 3-D model."
            )
            raise InputError(
                f"The model {self.spec.name!r} works on {self.spec.dimensions}-D images, "
                f"but {came}. {advice}"
            )
        wanted = self.spec.channels
        if image.n_channels != len(wanted):
            raise InputError(
                f"The model {self.spec.name!r} expects {len(wanted)} "
                f"channel{'s' * (len(wanted) > 1)} ({', '.join(wanted)}), but {image.name!r} has "
                f"{image.n_channels}. Choose an image with these channels."
            )
        grid_shape = self._grid_shape(image)
        stride = stride_of(self.spec)
        if self.spec.program is None and max(grid_shape) <= stride:
            # The coarsest level would see a single voxel, whose features have no variance.
            raise InputError(
                f"The model {self.spec.name!r} needs more than {stride} voxels along at "
                f"least one axis, but at its voxel size {image.name!r} has {grid_shape}. Open a "
                "larger image."
            )
        self._intensity(image)
        check_memory(
            self.required_bytes(image, refined=refined),
            f"Running {self.spec.name!r} on {image.name!r}",
            free_memory(self.device),
        )

    def stream(
        self,
        image: Image,
        first: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
        *,
        latent_view: Image | None = None,
    ) -> Iterator[Prediction]:
        """Predict in pieces.

        A latent prior has its own steps, then come those of the coarser levels, then the pieces.
        The prior is that of ``latent_view``, if that is given. Where the image is resampled, only
        the last prediction carries a distribution. See :meth:`ImagePredictor.stream`.
        """
        self.check(image)
        resampled = self._grid_shape(image) != image.spatial_shape
        field = self._field(image, cancelled)
        run = self._run(field)
        n_first = 0 if first is None or resampled else run.put_first(first)
        watched = partial(self._watched, cancelled)
        steps = _Steps(run.n_steps)
        try:
            statistics = torch.zeros(0, device=self.device)
            encoder = self.network.latent_encoder
            if encoder is not None:
                looked_at = field if latent_view is None else self._field(latent_view, cancelled)
                parts = self._encoder_pieces(looked_at)
                steps.total += len(parts)
                for so_far in latent_statistics(encoder, looked_at.boxed, parts, watched):
                    statistics = so_far
                    yield from steps.take()
                if not all_finite(statistics):
                    raise self._not_finite("latent prior", field.on_grid(field.box))
            maps = background_maps(self.network, self.spec, field.grid_shape, statistics)
            for _ in run.prepare(watched):
                yield from steps.take()
            growing = None if resampled else maps.distribution()
            for index, piece in enumerate(run.pieces, start=1):
                wrong = run.write(piece, maps, watched)
                if wrong is not None:
                    raise self._not_finite(wrong, run.place(piece))
                yield from steps.take(growing if index >= n_first else None)
            if growing is None:
                growing = maps.resampled(image.spatial_shape, cancelled).distribution()
        except torch.OutOfMemoryError as error:
            raise MemoryLimitError(
                f"The device {self.device} ran out of memory on {image.name!r}. Choose the CPU as "
                "device, close other programs that use the GPU, or crop the image."
            ) from error
        yield Prediction(steps.total, steps.total, growing)

    def n_steps(self, image: Image, latent_view: Image | None = None) -> int:
        """Steps that :meth:`stream` takes for an image."""
        field = self._field(image)
        looked_at = field if latent_view is None else self._field(latent_view)
        return max(1, self._run(field).n_steps + len(self._encoder_pieces(looked_at)))

    def _field(self, image: Image, cancelled: Callable[[], bool] | None = None) -> Field:
        """What the network sees of an image."""
        data = normalise(image.data, self._intensity(image))
        data = resample(data, self._grid_shape(image), cancelled=cancelled)
        return make_field(
            data, self.spec, [axis - image.ndim for axis in image.geometry.axes_against_ras]
        )

    def _encoder_pieces(self, field: Field) -> list[Piece]:
        """What the prior net is shown one after the other; none without a latent prior."""
        encoder = self.network.latent_encoder
        if encoder is None:
            return []
        most = voxels_of_a_piece(encoder.n_features)
        return make_pieces(field.boxed.shape[1:], encoder.stride, encoder.reach, most)

    def _run(self, field: Field) -> NetworkRun | ProgramRun:
        if self.spec.program is not None:
            return ProgramRun(self.network, self.spec, self.spec.program, field)
        return NetworkRun(self.network, self.spec, field, self._tile, TYPES[self.precision])

    def prior(self, image: Image) -> MarkovPrior | None:
        """The network's own MRF, see :func:`prior_for`."""
        return prior_for(self.network, image)

    def _watched(self, cancelled: Callable[[], bool] | None) -> AbstractContextManager[None]:
        """Ask now, and before every layer of the network, whether to go on."""
        if cancelled is None:
            return nullcontext()
        if cancelled():
            raise Cancelled("The run was cancelled.")
        return stopping(self.network, cancelled)

    def _not_finite(self, what: str, region: Region) -> WeightsError:
        """What is said of a network that gives NaN or infinity; it would look like background."""
        state = self.network.state_dict()
        bad = [name for name, one in state.items() if one.is_floating_point()]
        bad = [name for name in bad if not all_finite(state[name])]
        cause = "Its weights are finite: check that the intensity window suits the image."
        if bad:
            cause = (
                f"{len(bad)} of its tensors hold such values, the first is {bad[0]!r}: its "
                "training failed. Use an earlier checkpoint, or train it with a lower rate."
            )
        place = ", ".join(f"{part.start} to {part.stop}" for part in region)
        return WeightsError(
            f"Finite numbers were expected from the model {self.spec.name!r}, but its {what} is "
            f"NaN, infinite or beyond half precision in the piece at {place}. {cause}"
        )

    def _intensity(self, image: Image) -> IntensitySpec:
        """Of the model's windows the one that an image fits."""
        intensity = self.spec.intensity
        if not intensity.depends_on_values:
            return intensity
        return fitting_window(intensity, value_range(image), image.name, image.data)

    def _grid_shape(self, image: Image) -> tuple[int, ...]:
        return size_at_spacing(image.spatial_shape, image.spacing, self.spec.spacing)

    def required_bytes(self, image: Image, *, refined: bool = False) -> int:
        """Memory of the parameters, on the grids of the model and of the image."""
        grid_shape = self._grid_shape(image)
        voxels = math.prod(image.spatial_shape)
        if grid_shape != image.spatial_shape:
            voxels += math.prod(grid_shape)
        stored = voxel_bytes(self.spec)
        # One float32 offset and the image itself come on top.
        needed = voxels * (stored + (self.spec.n_classes + image.n_channels) * 4)
        if self.spec.program is not None:
            seen = most_seen(grid_shape, self.spec)
            needed += program_bytes(self.spec, self.spec.program, seen)
            return needed + refined * refinement_bytes(self.spec.n_classes, image.spatial_shape)
        kept = n_kept(self.network, self.spec, math.prod(most_seen(grid_shape, self.spec)))
        needed += working_bytes(self.spec, grid_shape, len(self.network.passes()), kept)
        encoder = self.network.latent_encoder
        if encoder is not None:
            # The tensors of maps come after the prior net's features, which are let go.
            needed = max(needed, piece_bytes(encoder.n_features, math.prod(grid_shape)))
        return needed + refined * refinement_bytes(self.spec.n_classes, image.spatial_shape)


class _Steps:
    """Counts steps; the last one is for whoever has the whole to show."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._done = 0

    def take(self, distribution: LogitDistribution | None = None) -> Iterator[Prediction]:
        """One more step is done; nothing comes of the last one."""
        self._done += 1
        if self._done < self.total:
            yield Prediction(self._done, self.total, distribution)


def prior_for(network: SegmentationNetwork, image: Image) -> MarkovPrior | None:
    """A network's prior, on the axes of an image's array.

    Networks and their priors are trained on images in RAS orientation, while the axes of arrays
    run towards inferior, posterior and left.

    Parameters
    ----------
    network
        It is not changed.
    image
        What its prior is to be applied to.

    Returns
    -------
    MarkovPrior or None
        On the network's device, in evaluation mode and without gradients; None if the network
        has no prior.
    """
    if network.prior is None:
        return None
    return mirrored(network.prior, image.geometry.axes_against_ras).eval().requires_grad_(False)
