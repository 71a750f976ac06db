"""The labellings whose constraints a program knows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


class WorkingSet:
    """Labellings of images with two classes, each kept once, one bit for each voxel.

    Nothing else is stored of a constraint: its features are those under the network of the
    moment. Two equal constraints would share a multiplier in any way, and gradients would depend
    on how.

    Parameters
    ----------
    truths
        The ground truth of each image, ``(*spatial)`` boolean; their shapes may differ.
    """

    def __init__(self, truths: list[BoolArray]) -> None:
        self._truths = truths
        self._packed: list[dict[bytes, None]] = [{} for _ in truths]

    def __len__(self) -> int:
        """Labellings of all images."""
        return sum(len(known) for known in self._packed)

    @property
    def n_images(self) -> int:
        """Images."""
        return len(self._truths)

    def add(self, image: int, labels: BoolArray) -> bool:
        """Add a labelling; False where it is known, or is the ground truth.

        Raises
        ------
        ValueError
            If its shape is not that of the image.
        """
        truth = self._truths[image]
        if labels.shape != truth.shape:
            raise ValueError(f"labels {labels.shape} do not fit an image of {truth.shape}")
        key = np.packbits(labels).tobytes()
        if key in self._packed[image] or np.array_equal(labels, truth):
            return False
        self._packed[image][key] = None
        return True

    def add_packed(self, image: int, packed: npt.NDArray[np.uint8]) -> None:
        """Add what :meth:`packed` gave for the same image."""
        for row in packed:
            self.add(image, self._unpacked(image, row))

    def labellings(self, image: int) -> Iterator[BoolArray]:
        """Those of an image, in the order in which they came."""
        for key in self._packed[image]:
            yield self._unpacked(image, np.frombuffer(key, np.uint8))

    def packed(self, image: int) -> npt.NDArray[np.uint8]:
        """Those of an image as bits, ``(K, bytes)``."""
        n_bytes = -(-self._truths[image].size // 8)
        rows = [np.frombuffer(key, np.uint8) for key in self._packed[image]]
        return np.stack(rows) if rows else np.empty((0, n_bytes), np.uint8)

    def _unpacked(self, image: int, packed: npt.NDArray[np.uint8]) -> BoolArray:
        truth = self._truths[image]
        return np.unpackbits(packed, count=truth.size).astype(bool).reshape(truth.shape)
