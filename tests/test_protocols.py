"""Synthetic heads labelled as raters of several protocols would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from napari_structseg.training.config import TrainConfig
from napari_structseg.training.input.label_maps import LabelMap, tissue_table
from napari_structseg.training.input.protocols import as_drawn
from napari_structseg.training.input.synthesis import BrainSynthesis
from napari_structseg.training.input.synthesis_settings import SynthesisSettings

VALUES = np.array([0, 2, 3, 13, 24])
WHITE, CORTEX, PALLIDUM, OUTER = 1, 2, 3, 4


def slab_head() -> np.ndarray:
    """Layers along z: outside, CSF, cortex with a narrow sulcus, white matter with a pallidum."""
    labels = np.zeros((32, 24, 24), np.uint8)
    labels[4:8] = OUTER
    labels[8:14] = CORTEX
    labels[8:13, 11:13] = OUTER
    labels[14:28] = WHITE
    labels[20:24, 8:16, 8:16] = PALLIDUM
    return labels


def drawn_by(seed: int) -> tuple[np.ndarray, np.ndarray]:
    labels = slab_head()
    tissue = tissue_table(VALUES)[labels]
    return tissue, as_drawn(labels, VALUES, tissue, np.random.default_rng(seed))


def test_raters_agree_away_from_borders_and_disputed_structures() -> None:
    labels = slab_head()
    for seed in range(40):
        tissue, drawn = drawn_by(seed)
        changed = drawn != tissue
        assert not changed[tissue == 0].any()
        assert drawn[tissue > 0].min() > 0
        border = np.zeros(tissue.shape, bool)
        for first, second in ((1, 2), (2, 3)):
            one, other = drawn == first, drawn == second
            border |= ndimage.binary_dilation(one) & ndimage.binary_dilation(other)
            one, other = tissue == first, tissue == second
            border |= ndimage.binary_dilation(one) & ndimage.binary_dilation(other)
        elsewhere = ~border & (labels != PALLIDUM)
        elsewhere[8:13, 11:13] = False
        assert not changed[elsewhere].any()


def test_raters_differ_where_raters_do() -> None:
    labels = slab_head()
    sulcus = np.zeros(labels.shape, bool)
    sulcus[9:13, 11:13] = True
    inside_pallidum = ndimage.binary_erosion(labels == PALLIDUM, iterations=1)
    sulcus_grey, pallidum_white, thicker, thinner = 0, 0, 0, 0
    n_raters = 60
    for seed in range(n_raters):
        tissue, drawn = drawn_by(seed)
        sulcus_grey += (drawn[sulcus] == 2).mean() > 0.5
        pallidum_white += (drawn[inside_pallidum] == 3).mean() > 0.5
        white = (drawn[14:18] == 3).sum() - (tissue[14:18] == 3).sum()
        thicker += white < -100
        thinner += (drawn[10:14] == 3).sum() > 100
    # Probabilities of .5 and .4, and borders that move far enough in about one of ten.
    assert 15 <= sulcus_grey <= 45
    assert 12 <= pallidum_white <= 36
    assert 1 <= thicker <= 30
    assert 1 <= thinner <= 30


def test_the_map_itself_is_not_changed() -> None:
    labels = slab_head()
    tissue = tissue_table(VALUES)[labels]
    before = tissue.copy()
    as_drawn(labels, VALUES, tissue, np.random.default_rng(3))
    assert np.array_equal(tissue, before)


def test_the_image_does_not_show_its_rater() -> None:
    one = SynthesisSettings(several_protocols=False)
    label_map = LabelMap.from_freesurfer(VALUES[slab_head()])
    different = 0
    for seed in range(6):
        plain, tissue = BrainSynthesis([label_map], (20, 20, 20), one).patch(
            np.random.default_rng(seed)
        )
        several = replace(one, several_protocols=True)
        image, drawn = BrainSynthesis([label_map], (20, 20, 20), several).patch(
            np.random.default_rng(seed)
        )
        assert np.array_equal(plain, image)
        assert not drawn[image[0] == 0].any() or tissue[image[0] == 0].any()
        different += not np.array_equal(tissue, drawn)
    assert different >= 3


def test_protocols_belong_to_label_maps() -> None:
    with pytest.raises(ValidationError, match="several_protocols belongs to source"):
        TrainConfig(name="m", dimensions=3, patch=(8, 8, 8), several_protocols=True)
