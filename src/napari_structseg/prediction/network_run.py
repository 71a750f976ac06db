"""A network on one image: its passes, the pieces of the finest level, and what they give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from napari_structseg.distributions import Region
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.prediction.field import Field
from napari_structseg.prediction.maps.parameter_maps import ParameterMaps
from napari_structseg.prediction.one_pass import OnePass
from napari_structseg.prediction.pieces import cut, shifted, touch

# Finest features of the way down are kept up to so many bytes, and computed again beyond.
_KEPT_BYTES = 1 << 30
_END = object()


class Watch(Protocol):
    """What each step runs in, so that it can be stopped."""

    def __call__(self) -> AbstractContextManager[None]:
        """A context for one step."""
        ...


class NetworkRun:
    """Evaluates a network on a field, step by step.

    Parameters
    ----------
    network, spec
        The model.
    field
        What it sees of an image.
    size
        Of a piece.
    dtype
        What features are computed in.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        spec: ModelSpec,
        field: Field,
        size: Sequence[int],
        dtype: torch.dtype,
    ) -> None:
        self._network = network
        self._spec = spec
        self.field = field
        self._passes: list[OnePass] = []
        keeps = n_kept(network, spec, field.data[0].numel()) > 0
        for one in network.passes():
            descent = self._passes[-1].descent if self._passes and one.shares_descent else None
            self._passes.append(
                OnePass(one, field.data, size, keeps=keeps, dtype=dtype, descent=descent)
            )
        starts = [part.start for part in field.box]
        pieces = cut([part.stop - part.start for part in field.box], size)
        self.pieces = [
            piece
            for piece in (shifted(piece, starts) for piece in pieces)
            if not spec.zero_is_background or field.data[(slice(None), *piece)].any()
        ]

    @property
    def n_steps(self) -> int:
        """Steps of :meth:`prepare`, and pieces."""
        return sum(one.n_steps for one in self._passes) + len(self.pieces)

    def put_first(self, region: Region) -> int:
        """Begin with the pieces that touch a region of the image's grid; how many there are."""
        later = {
            index: not touch(self.field.on_grid(piece), region)
            for index, piece in enumerate(self.pieces)
        }
        order = sorted(later, key=lambda index: later[index])
        self.pieces = [self.pieces[index] for index in order]
        return len(later) - sum(later.values())

    def place(self, piece: Region) -> Region:
        """Where a piece lies on the image's grid."""
        return self.field.on_grid(piece)

    def prepare(self, watch: Watch) -> Iterator[None]:
        """All that comes before the pieces.

        Inference mode is left between steps: whoever waits for the next may train.
        """
        for one in self._passes:
            steps = one.prepare()
            while True:
                with torch.inference_mode(), watch():
                    if next(steps, _END) is _END:
                        break
                yield

    def write(self, piece: Region, maps: ParameterMaps, watch: Watch) -> str | None:
        """Write the parameters of a piece; what is not finite of them, nothing: None."""
        field = self.field
        with torch.inference_mode(), watch():
            parameters = self._network.joined([one(piece) for one in self._passes])
            parameters = parameters.flip(field.flips)
            wrong = parameters.first_not_finite()
            if wrong is not None:
                return wrong
            counts = None
            if self._spec.zero_is_background:
                data = field.data[(slice(None), *piece)]
                counts = (data != 0).any(dim=0).flip(field.flips).to(parameters.mean.device)
            maps.write(field.on_grid(piece), parameters, counts)
        return None


def n_kept(network: SegmentationNetwork, spec: ModelSpec, n_voxels: int) -> int:
    """How many of the passes keep their finest features on the way down: all or none."""
    n_descents = sum(not one.shares_descent for one in network.passes()) or 1
    one_bytes = n_voxels * spec.backbone.widths[0] * torch.float32.itemsize
    return n_descents if n_descents * one_bytes <= _KEPT_BYTES else 0
