"""Training patches from images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.data.cases import UNREVIEWED, PreparedCase
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.input.augmentation import (
    beside_marked,
    change_intensities,
    moves_voxels,
    random_flips,
    sampling_points,
)

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]


# Apart from the streams of random numbers of the objective.
ORDER_STREAM = 4


class ImagePatches:
    """A source of training patches: ``patch(rng)`` gives an image and one rater's labels.

    Each patch is of a random case and a random rater of it. With the probability
    ``config.foreground`` it is centred on a random voxel that this rater did not call background,
    where there is one; otherwise it lies anywhere, or, where only a part of the case was reviewed,
    about a random voxel of that part. Patches reach beyond the image only where the image is
    smaller; there the image is 0 and the label background, or unreviewed.

    Parameters
    ----------
    cases
        To draw from, at least one.
    config
        Patch size, foreground fraction and augmentation.
    """

    def __init__(self, cases: Sequence[PreparedCase], config: TrainConfig) -> None:
        if not cases:
            raise ValueError("at least one case is needed")
        self.cases = cases
        self.size = config.patch
        self.foreground = config.foreground
        self.augmentation = config.augmentation
        self.rater = config.rater
        self.seed = config.seed
        self._voxels: dict[tuple[int, int], _Voxels] = {}

    def patch(self, rng: np.random.Generator) -> tuple[Array, Labels]:
        """Draw one patch.

        Parameters
        ----------
        rng
            Source of all randomness: the same state gives the same patch.

        Returns
        -------
        image
            ``(C, *patch)`` float32.
        labels
            ``(*patch)`` uint8.
        """
        return self._patch(int(rng.integers(len(self.cases))), rng)

    def patch_in_turn(self, rng: np.random.Generator, number: int) -> tuple[Array, Labels]:
        """Draw one patch of the case whose turn it is.

        Parameters
        ----------
        rng
            Source of what is random apart from the case.
        number
            Of the patch, from 0: each case comes once, then each once more in another order.
        """
        turn, place = divmod(number, len(self.cases))
        order = np.random.default_rng((self.seed, ORDER_STREAM, turn))
        return self._patch(int(order.permutation(len(self.cases))[place]), rng)

    def _patch(self, index: int, rng: np.random.Generator) -> tuple[Array, Labels]:
        case = self.cases[index]
        rater = int(rng.integers(len(case.labels))) if self.rater is None else self.rater
        empty = self._without(case, rng)
        if empty is not None:
            return self._turned(*empty, rng)
        if (index, rater) not in self._voxels:
            self._voxels[index, rater] = _Voxels.of(case.labels[rater])
        voxels = self._voxels[index, rater]
        start = self._start(case.labels[rater].shape, voxels, rng)
        if moves_voxels(self.augmentation):
            image, labels = self._interpolated(case, rater, start, voxels.beyond, rng)
        else:
            image, labels = self._cut_out(case, rater, start, voxels.beyond)
        return self._turned(image, labels, rng)

    def _turned(
        self, image: Array, labels: Labels, rng: np.random.Generator
    ) -> tuple[Array, Labels]:
        """With other intensities, mirrored and turned by quarters."""
        image = change_intensities(image, self.augmentation, rng)
        flips = random_flips(self.augmentation, rng)
        image = np.flip(image, tuple(axis + 1 for axis in flips))
        labels = np.flip(labels, flips)
        turns = int(rng.integers(4)) if self.augmentation.quarter_turns else 0
        image, labels = np.rot90(image, turns, (-2, -1)), np.rot90(labels, turns, (-2, -1))
        return np.ascontiguousarray(image), np.ascontiguousarray(labels)

    def _start(
        self, shape: tuple[int, ...], voxels: _Voxels, rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Index of the patch's first voxel; negative where the image is smaller than the patch."""
        room = np.array(shape) - self.size
        chosen = voxels.reviewed
        if rng.random() < self.foreground and len(voxels.foreground):
            chosen = voxels.foreground
        if chosen is not None:
            centre = np.array(np.unravel_index(chosen[rng.integers(len(chosen))], shape))
            wanted = centre - np.array(self.size) // 2
        else:
            wanted = rng.integers(0, np.maximum(room, 0) + 1)
        inside: npt.NDArray[np.int64] = np.clip(wanted, 0, np.maximum(room, 0))
        return np.where(room < 0, room // 2, inside)

    def _without(self, case: PreparedCase, rng: np.random.Generator) -> tuple[Array, Labels] | None:
        """A patch in which no rater marked anything, for a share of the draws."""
        if not self.augmentation.without or rng.random() >= self.augmentation.without:
            return None
        side = beside_marked(np.any(np.stack(case.labels), axis=0), self.size, rng)
        if side is None:
            return None
        part = case.image[(slice(None), *side)]
        ends = []
        for have, wanted in zip(part.shape[1:], self.size, strict=True):
            before = int(rng.integers(max(wanted - have, 0) + 1))
            ends.append((before, max(wanted - have, 0) - before))
        image = np.pad(part, ((0, 0), *ends), mode="symmetric")
        # Where the image is larger than a patch, any piece of it.
        starts = [
            int(rng.integers(n - k + 1)) for n, k in zip(image.shape[1:], self.size, strict=True)
        ]
        cut = tuple(slice(a, a + k) for a, k in zip(starts, self.size, strict=True))
        return image[(slice(None), *cut)], np.zeros(self.size, np.uint8)

    def _cut_out(
        self, case: PreparedCase, rater: int, start: npt.NDArray[np.int64], beyond_label: int
    ) -> tuple[Array, Labels]:
        image = np.zeros((len(case.image), *self.size), np.float32)
        labels = np.full(self.size, beyond_label, np.uint8)
        stop = start + self.size
        source = tuple(
            slice(max(int(a), 0), min(int(b), n))
            for a, b, n in zip(start, stop, case.image.shape[1:], strict=True)
        )
        target = tuple(
            slice(part.start - int(a), part.stop - int(a))
            for part, a in zip(source, start, strict=True)
        )
        image[(slice(None), *target)] = case.image[(slice(None), *source)]
        labels[target] = case.labels[rater][source]
        return image, labels

    def _interpolated(
        self,
        case: PreparedCase,
        rater: int,
        start: npt.NDArray[np.int64],
        beyond_label: int,
        rng: np.random.Generator,
    ) -> tuple[Array, Labels]:
        centre = start + (np.array(self.size) - 1) / 2
        points = sampling_points(centre, self.size, case.spacing, self.augmentation, rng)
        # Beyond the edge all is 0, as it is where an image is smaller than a patch; unless it is
        # moved there at will.
        beyond = "mirror" if self.augmentation.shift else "constant"
        image = np.stack(
            [
                ndimage.map_coordinates(channel, points, order=1, mode=beyond)
                for channel in case.image
            ]
        )
        labels: Labels = ndimage.map_coordinates(
            case.labels[rater], points, order=0, mode=beyond, cval=beyond_label
        )
        return image, labels


@dataclass(frozen=True, slots=True)
class _Voxels:
    """Flat indices of voxels that patches are centred on.

    Attributes
    ----------
    foreground
        Those that are not background.
    reviewed
        Those of which the class was said; None: all of them.
    """

    foreground: npt.NDArray[np.integer]
    reviewed: npt.NDArray[np.integer] | None

    @property
    def beyond(self) -> int:
        """The label of what lies beyond the edge of the image."""
        return 0 if self.reviewed is None else UNREVIEWED

    @classmethod
    def of(cls, labels: Labels) -> _Voxels:
        unreviewed = labels == UNREVIEWED
        if not unreviewed.any():
            return cls(_indices(labels), None)
        return cls(_indices((labels != 0) & ~unreviewed), _indices(~unreviewed))


def _indices(mask: npt.NDArray[np.uint8] | npt.NDArray[np.bool_]) -> npt.NDArray[np.integer]:
    voxels = np.flatnonzero(mask)
    return voxels.astype(np.uint32) if mask.size <= np.iinfo(np.uint32).max else voxels
