"""Synthetic T1-like brain patches from label maps: images no scanner ever made.

After Billot et al., *SynthSeg: Segmentation of brain MRI scans of any contrast and resolution
without retraining*, Medical Image Analysis 2023: a label map is deformed, each label gets a
random intensity distribution, and the result is corrupted as a scanner would. Here the
intensities keep the order CSF < grey < white most of the time, as in T1-weighted MRI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from napari_structseg.training.input.label_maps import (
    BACKGROUND,
    CSF_LABELS,
    GREY_LABELS,
    OUTER_CSF,
    WHITE_LABELS,
    LabelMap,
    Labels,
    tissue_table,
)

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SynthesisSettings:
    """Ranges of the random corruptions. Lengths in voxels, angles in degrees."""

    rotation: float = 15.0
    scaling: float = 0.15
    shear: float = 0.1
    displacement: float = 4.0
    displacement_grid: int = 5
    t1_order_probability: float = 0.9
    stripped_probability: float = 0.5
    loosely_stripped_probability: float = 0.2
    bias: float = 0.25
    noise: float = 0.06
    blur: float = 0.9
    low_resolution_probability: float = 0.4
    low_resolution_factor: float = 2.0
    flip_probability: float = 0.5


class BrainSynthesis:
    """A source of training patches: ``patch(rng)`` gives an image and its tissues.

    Parameters
    ----------
    maps
        Label maps to draw from.
    patch
        Patch size ``(Z, Y, X)``.
    settings
        Ranges of the corruptions.
    """

    def __init__(
        self,
        maps: Sequence[LabelMap],
        patch: tuple[int, ...],
        settings: SynthesisSettings | None = None,
    ) -> None:
        if not maps:
            raise ValueError("at least one label map is needed")
        self.maps = tuple(maps)
        self.patch_size = patch
        self.settings = settings or SynthesisSettings()

    def patch(self, rng: np.random.Generator) -> tuple[Array, Labels]:
        """Draw one patch.

        Parameters
        ----------
        rng
            Source of all randomness: the same state gives the same patch.

        Returns
        -------
        image
            ``(1, Z, Y, X)`` float32, roughly in [0, 1] as after percentile normalisation.
        tissue
            ``(Z, Y, X)`` uint8 in 0..3.
        """
        label_map = self.maps[rng.integers(len(self.maps))]
        labels = self._deformed(label_map, rng)
        tissue = tissue_table(label_map.values)[labels]
        image = self._painted(labels, label_map.values, rng)
        image = self._normalised(self._acquired(image, rng), rng)
        if rng.random() < self.settings.stripped_probability:
            # Last of all: what a program has stripped is exactly 0.
            removed = self._stripped(labels, label_map.values, tissue, rng)
            image[removed] = 0
            tissue[removed] = BACKGROUND
        return image[None], tissue

    def _deformed(self, label_map: LabelMap, rng: np.random.Generator) -> Labels:
        s, size = self.settings, self.patch_size
        angles = np.deg2rad(rng.uniform(-s.rotation, s.rotation, 3))
        matrix = np.eye(3)
        for axis, angle in enumerate(angles):
            a, b = [i for i in range(3) if i != axis]
            turn = np.eye(3)
            turn[a, a] = turn[b, b] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        matrix = matrix @ (np.eye(3) + rng.uniform(-s.shear, s.shear, (3, 3)) * (1 - np.eye(3)))
        matrix = matrix * (1 + rng.uniform(-s.scaling, s.scaling, 3))
        if rng.random() < s.flip_probability:
            # The maps are stored with left-right first (axis 2 in Z, Y, X order).
            matrix[:, 2] *= -1
        centre = np.array(
            np.unravel_index(
                label_map.brain_voxels[rng.integers(len(label_map.brain_voxels))],
                label_map.labels.shape,
            )
        )
        coarse = rng.normal(0, s.displacement / 2, (1, 3, *[s.displacement_grid] * 3))
        field = _upsampled(coarse.astype(np.float32), size)
        axes = [np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in size]
        index = []
        for row in range(3):
            coordinate = field[row] + np.float32(centre[row])
            for column in range(3):
                shape = [1, 1, 1]
                shape[column] = -1
                coordinate += np.float32(matrix[row, column]) * axes[column].reshape(shape)
            limit = label_map.labels.shape[row] - 1
            index.append(np.clip(np.rint(coordinate), 0, limit).astype(np.int32))
        deformed: Labels = label_map.labels[index[0], index[1], index[2]]
        return deformed

    def _painted(
        self, labels: Labels, values: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> Array:
        if rng.random() < self.settings.t1_order_probability:
            white = rng.uniform(0.55, 1.0)
            grey = white * rng.uniform(0.55, 0.87)
            csf = grey * rng.uniform(0.1, 0.75)
        else:
            white, grey, csf = rng.uniform(0.1, 1.0, 3)
        mean = rng.uniform(0.0, 1.2, len(values))
        for groups in (GREY_LABELS, WHITE_LABELS):
            for group, (low, high) in groups.items():
                whiteness = rng.uniform(low, high)
                mean[np.isin(values, group)] = grey + whiteness * (white - grey)
        mean[np.isin(values, CSF_LABELS)] = csf
        mean *= 1 + rng.normal(0, 0.02, len(values))
        mean[0] = rng.choice([0.0, rng.uniform(0, 0.1)])
        spread = rng.uniform(min(0.005, self.settings.noise), self.settings.noise, len(values))
        spread[0] = min(spread[0], mean[0])
        texture = rng.standard_normal(labels.shape, dtype=np.float32)
        painted = mean.astype(np.float32)[labels] + spread.astype(np.float32)[labels] * texture
        result: Array = ndimage.gaussian_filter(painted, rng.uniform(0.2, self.settings.blur))
        return result

    def _stripped(
        self,
        labels: Labels,
        values: npt.NDArray[np.int64],
        tissue: Labels,
        rng: np.random.Generator,
    ) -> npt.NDArray[np.bool_]:
        """Voxels that skull stripping takes away.

        Tight around the brain, with its CSF, or so loosely that something beyond stays.
        """
        kept = tissue > 0
        if rng.random() < self.settings.loosely_stripped_probability:
            kept = ndimage.binary_dilation(kept, iterations=int(rng.integers(1, 4)))
        elif rng.random() < 0.7:
            brain = kept & (values[labels] != OUTER_CSF)
            margin = int(rng.integers(0, 4))
            if margin:
                brain = ndimage.binary_dilation(brain, iterations=margin)
            kept = kept & brain
        return ~kept

    def _acquired(self, image: Array, rng: np.random.Generator) -> Array:
        s = self.settings
        if rng.random() < s.low_resolution_probability:
            axis = int(rng.integers(3))
            size = list(image.shape)
            size[axis] = max(2, round(size[axis] / rng.uniform(1.2, s.low_resolution_factor)))
            small = functional.interpolate(
                torch.from_numpy(image)[None, None], size=size, mode="area"
            )
            image = _upsampled(small.numpy(), image.shape)[0]
        coarse = rng.normal(0, rng.uniform(0, s.bias), (1, 1, 3, 3, 3)).astype(np.float32)
        image = image * np.exp(_upsampled(coarse, image.shape)[0])
        sigma = rng.uniform(0, s.noise / 1.5)
        image = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
        result: Array = np.maximum(image, 0)
        return result

    def _normalised(self, image: Array, rng: np.random.Generator) -> Array:
        """Scale and bend as normalisation of a whole volume might have."""
        top = float(np.percentile(image, 99.5)) or 1.0
        scale = rng.uniform(0.6, 1.05) / top
        bent = np.clip(image * scale, 0, 1.5) ** np.float32(np.exp(rng.normal(0, 0.15)))
        result: Array = bent.astype(np.float32)
        return result


def _upsampled(coarse: Array, size: Sequence[int]) -> Array:
    """Linear upsampling of ``(1, C, z, y, x)`` to ``(C, Z, Y, X)``."""
    fine = functional.interpolate(
        torch.from_numpy(coarse), size=tuple(size), mode="trilinear", align_corners=True
    )
    result: Array = fine[0].numpy()
    return result
