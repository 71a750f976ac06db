"""Synthetic T1-like brain patches from label maps: images no scanner ever made.

After Billot et al., *SynthSeg: Segmentation of brain MRI scans of any contrast and resolution
without retraining*, Medical Image Analysis 2023: a label map is deformed, each label gets a
random intensity distribution, and the result is corrupted as a scanner would. Here the
intensities keep the order CSF < grey < white most of the time, as in T1-weighted MRI.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_structseg.training.input.acquisition import acquired, as_normalised
from napari_structseg.training.input.head_shape import deformed, with_other_sulci
from napari_structseg.training.input.label_maps import BACKGROUND, LabelMap, Labels, tissue_table
from napari_structseg.training.input.painting import painted
from napari_structseg.training.input.protocols import as_drawn
from napari_structseg.training.input.stripping import cut_off, stripped
from napari_structseg.training.input.synthesis_settings import SynthesisSettings

Array = npt.NDArray[np.float32]


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
            ``(1, Z, Y, X)`` float32 in [0, 1], as after percentile normalisation; exactly 0
            where the skull was stripped and beyond the field of view.
        tissue
            ``(Z, Y, X)`` uint8 in 0..3.
        """
        s = self.settings
        label_map = self.maps[rng.integers(len(self.maps))]
        labels = deformed(label_map, self.patch_size, s, rng)
        if rng.random() < s.other_sulci_probability:
            labels = with_other_sulci(labels, label_map.values, rng)
        tissue = tissue_table(label_map.values)[labels]
        image = acquired(painted(labels, label_map.values, s, rng), s, rng)
        # Last of all: what a program has stripped is exactly 0.
        removed = np.zeros(tissue.shape, bool)
        if rng.random() < s.stripped_probability:
            loosely = rng.random() < s.loosely_stripped_probability
            removed = stripped(labels, label_map.values, tissue, rng, loosely=loosely)
        if rng.random() < s.cut_probability:
            removed |= cut_off(tissue.shape, rng)
        image[removed] = 0
        image = as_normalised(image, s, rng)
        if s.several_protocols:
            # After everything else: the image does not depend on who looks at it.
            tissue = as_drawn(labels, label_map.values, tissue, rng)
        tissue[removed] = BACKGROUND
        return image[None], tissue
