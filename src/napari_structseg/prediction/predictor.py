"""From an image to the distribution over its segmentations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from napari_structseg.devices import free_memory
from napari_structseg.distributions import Region
from napari_structseg.distributions.checks import all_finite
from napari_structseg.errors import InputError, MemoryLimitError, WeightsError
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.prediction.boxes import inside, nonzero_box, shifted
from napari_structseg.prediction.intensity_windows import fitting_window, value_range
from napari_structseg.prediction.latent_prior import (
    Piece,
    latent_statistics,
    make_pieces,
    piece_bytes,
    voxels_of_a_piece,
)
from napari_structseg.prediction.maps.kinds import background_maps, voxel_bytes
from napari_structseg.prediction.maps.parameter_maps import ParameterMaps
from napari_structseg.prediction.maps.tiling import Tile, make_tiles
from napari_structseg.prediction.preprocess import normalise, resample, size_at_spacing
from napari_structseg.prediction.protocol import ImagePredictor, Prediction
from napari_structseg.prediction.stopping import stopping
from napari_structseg.priors import MarkovPrior, mirrored
from napari_structseg.refine.refinement import refinement_bytes

_OVERLAP_FRACTION = 4


class Predictor(ImagePredictor):
    """Applies one trained model to images.

    The image is brought to the model's intensities and voxel size, the network runs on
    overlapping tiles, and the *parameters* of the distribution (mean, factor, diagonal) are
    blended and brought back to the image's own grid. Voxels outside the bounding box of the
    image's nonzero voxels are background with certainty.

    A latent vector is one for the whole image, whatever its size. Its prior comes first, and is
    that of one pass of the prior net over the whole image; see `prediction.latent_prior`.

    Parameters
    ----------
    network
        In evaluation mode.
    spec
        Its specification.
    tile
        Tile size in voxels of the model's grid; by default the patch size of training. One that
        the coarsest level sees as a single voxel is replaced by twice as much.
    overlap
        Voxels that neighbouring tiles share; by default a quarter of the tile.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        spec: ModelSpec,
        *,
        tile: Sequence[int] | None = None,
        overlap: Sequence[int] | None = None,
    ) -> None:
        self.network = network
        self.spec: ModelSpec = spec
        self.device = next(network.parameters()).device
        self._tile = tuple(tile or spec.patch)
        if max(self._tile) <= self._stride:
            # The coarsest level would see a single voxel, whose features have no variance.
            self._tile = (2 * self._stride,) * len(self._tile)
        self._overlap = tuple(overlap or (size // _OVERLAP_FRACTION for size in self._tile))

    def with_spec(self, spec: ModelSpec) -> Predictor:
        """The same network and tiles, with another specification of what it sees."""
        return Predictor(self.network, spec, tile=self._tile, overlap=self._overlap)

    @property
    def _stride(self) -> int:
        """Voxels of the grid that the coarsest level of the network sees as one."""
        return 1 << (len(self.spec.backbone.widths) - 1)

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
        if max(grid_shape) <= self._stride:
            raise InputError(
                f"The model {self.spec.name!r} needs more than {self._stride} voxels along at "
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
        """Predict tile by tile.

        A latent prior has its own steps, before those of the tiles. It is that of
        ``latent_view``, if that is given, and not of the image. Where the image is resampled,
        only the last prediction carries a distribution. See :meth:`ImagePredictor.stream`.
        """
        self.check(image)
        grid_shape = self._grid_shape(image)
        resampled = grid_shape != image.spatial_shape
        if resampled:
            first = None
        cropped, box, tiles = self._tiled(image, cancelled)
        n_first = len(tiles)
        if first is not None:
            visible = inside(first, box)
            tiles.sort(key=lambda tile: not tile.touches(visible))
            n_first = sum(tile.touches(visible) for tile in tiles)
        # Networks see volumes in RAS orientation, as in training.
        flips = [axis - image.ndim for axis in image.geometry.axes_against_ras]
        try:
            before, total = 0, len(tiles)
            statistics = torch.zeros(0, device=self.device)
            encoder = self.network.latent_encoder
            if encoder is not None:
                seen = cropped if latent_view is None else self._tiled(latent_view, cancelled)[0]
                pieces = self._pieces(seen)
                before, total = len(pieces), len(pieces) + len(tiles)
                seen = seen.flip(flips) if flips else seen
                watched = partial(self._watched, cancelled)
                so_far = latent_statistics(encoder, seen, pieces, watched)
                for done, statistics_so_far in enumerate(so_far, start=1):
                    statistics = statistics_so_far
                    yield Prediction(done, total, None)
                if not all_finite(statistics):
                    raise self._not_finite("latent prior", box)
            maps = background_maps(self.network, self.spec, grid_shape, statistics)
            maps.clear(box)
            growing = None if resampled else maps.distribution()
            for done, tile in enumerate(tiles, start=1):
                with self._watched(cancelled):
                    self._add(cropped, tile, maps, box, flips)
                if done < len(tiles):
                    yield Prediction(before + done, total, growing if done >= n_first else None)
            if growing is None:
                growing = maps.resampled(image.spatial_shape, cancelled).distribution()
        except torch.OutOfMemoryError as error:
            raise MemoryLimitError(
                f"The device {self.device} ran out of memory on {image.name!r}. Choose the CPU as "
                "device, close other programs that use the GPU, or crop the image."
            ) from error
        yield Prediction(total, total, growing)

    def n_steps(self, image: Image, latent_view: Image | None = None) -> int:
        """Steps that :meth:`stream` takes for an image."""
        seen, _, tiles = self._tiled(image)
        if latent_view is not None and self.network.latent_encoder is not None:
            seen = self._tiled(latent_view)[0]
        return len(self._pieces(seen)) + len(tiles)

    def _tiled(
        self, image: Image, cancelled: Callable[[], bool] | None = None
    ) -> tuple[Tensor, Region, list[Tile]]:
        """The image as the network sees it, cropped to its data, that box, and its tiles."""
        data = normalise(image.data, self._intensity(image))
        data = resample(data, self._grid_shape(image), cancelled=cancelled)
        box = nonzero_box(data, 2 * self._stride)
        tiles = make_tiles([part.stop - part.start for part in box], self._tile, self._overlap)
        return data[(slice(None), *box)], box, tiles

    def _pieces(self, seen: Tensor) -> list[Piece]:
        """What the prior net is shown one after the other; none without a latent prior."""
        encoder = self.network.latent_encoder
        if encoder is None:
            return []
        most = voxels_of_a_piece(encoder.n_features)
        return make_pieces(seen.shape[1:], encoder.stride, encoder.reach, most)

    def prior(self, image: Image) -> MarkovPrior | None:
        """The network's own MRF, see :func:`prior_for`."""
        return prior_for(self.network, image)

    def _watched(self, cancelled: Callable[[], bool] | None) -> AbstractContextManager[None]:
        """Ask before every layer of the network whether to go on."""
        return nullcontext() if cancelled is None else stopping(self.network, cancelled)

    def _add(
        self, data: Tensor, tile: Tile, maps: ParameterMaps, box: Region, flips: list[int]
    ) -> None:
        with torch.inference_mode():
            patch = data[(slice(None), *tile.region)].to(self.device).flip(flips)
            parameters = self.network.tile_parameters(patch[None]).flip(flips)
            wrong = parameters.first_not_finite()
            if wrong is not None:
                raise self._not_finite(wrong, shifted(tile.region, box))
            counts = (patch != 0).any(dim=0).flip(flips) if self.spec.zero_is_background else None
            maps.add(shifted(tile.region, box), parameters, tile.weight.to(self.device), counts)

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
            f"NaN, infinite or beyond half precision in the tile at {place}. {cause}"
        )

    def _intensity(self, image: Image) -> IntensitySpec:
        """Of the model's windows the one that an image fits."""
        intensity = self.spec.intensity
        if intensity.hounsfield is None:
            return intensity
        return fitting_window(intensity, value_range(image), image.name)

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
        encoder = self.network.latent_encoder
        if encoder is not None:
            # The tensors of maps come after the prior net's features, which are let go.
            needed = max(needed, piece_bytes(encoder.n_features, math.prod(grid_shape)))
        return needed + refined * refinement_bytes(self.spec.n_classes, image.spatial_shape)


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
