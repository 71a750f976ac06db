"""Dice of a network in training, on cases it does not train on.

The prediction is the argmax of the mean logits, for a stochastic network too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.evaluation.dice import dice_per_class, mean_dice, overlap
from napari_structseg.inference.tiling import make_tiles
from napari_structseg.models import SegmentationNetwork
from napari_structseg.training.cases import PreparedCase
from napari_structseg.training.trainer import Validator

# Neighbouring tiles share this fraction of their size, as in prediction.
_OVERLAP_FRACTION = 4


def predict_labels(
    network: SegmentationNetwork, image: npt.NDArray[np.float32], tile: Sequence[int]
) -> npt.NDArray[np.uint8]:
    """Argmax of the mean logits, computed tile by tile and blended.

    Parameters
    ----------
    network
        In evaluation mode.
    image
        ``(C, *spatial)``, prepared for the network.
    tile
        Tile size.

    Returns
    -------
    labels
        ``(*spatial)`` uint8.
    """
    device = next(network.parameters()).device
    voxels = torch.from_numpy(image)
    tiles = make_tiles(image.shape[1:], tile, [size // _OVERLAP_FRACTION for size in tile])
    logits: torch.Tensor | None = None
    with torch.inference_mode():
        for part in tiles:
            mean = network(voxels[(slice(None), *part.region)][None].to(device)).mean[0]
            if logits is None:
                logits = mean.new_zeros((len(mean), *image.shape[1:]))
            logits[(slice(None), *part.region)] += mean * part.weight.to(device)
    if logits is None:
        raise ValueError("an image has at least one tile")
    labels: npt.NDArray[np.uint8] = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
    return labels


def validate_on_cases(
    cases: Sequence[PreparedCase], classes: Sequence[str], tile: Sequence[int]
) -> Validator:
    """Dice of each class but the background: the mean over cases and their raters.

    Parameters
    ----------
    cases
        Held-out cases.
    classes
        Names, background first.
    tile
        Tile size.
    """

    def validate(network: SegmentationNetwork) -> dict[str, float]:
        scores = []
        for case in cases:
            prediction = predict_labels(network, case.image, tile)
            scores += [dice_per_class(prediction, labels, len(classes)) for labels in case.labels]
        return _named(mean_dice(scores), classes)

    return validate


def validate_on_patches(
    patches: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]],
    classes: Sequence[str],
) -> Validator:
    """Dice of each class but the background, pooled over the voxels of fixed patches.

    Parameters
    ----------
    patches
        Images ``(C, *patch)`` and their labels.
    classes
        Names, background first.
    """

    def validate(network: SegmentationNetwork) -> dict[str, float]:
        counts = [
            overlap(predict_labels(network, image, labels.shape), labels, len(classes))
            for image, labels in patches
        ]
        return _named(reduce(add, counts).dice(), classes)

    return validate


def _named(dice: npt.NDArray[np.float64], classes: Sequence[str]) -> dict[str, float]:
    """Without the background, and without classes that have no Dice."""
    named = zip(classes, dice, strict=True)
    return {name: float(value) for name, value in list(named)[1:] if not np.isnan(value)}
