"""Dice of a network in training, on cases it does not train on.

The prediction is the argmax of the mean logits, for a stochastic network too, or of mean field
where there is a prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.data.cases import PreparedCase
from napari_structseg.evaluation.dice import dice_per_class, mean_dice, overlap
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.prediction.tiling import make_tiles
from napari_structseg.priors import MarkovPrior, parallel_step, uniform
from napari_structseg.training.losses import background_outside
from napari_structseg.training.trainer import Validator

# Neighbouring tiles share this fraction of their size, as in prediction.
_OVERLAP_FRACTION = 4
# Planes that mean field updates at a time.
_SLAB = 16


def predict_logits(
    network: SegmentationNetwork,
    spec: ModelSpec,
    image: npt.NDArray[np.float32],
    tile: Sequence[int] | None = None,
) -> Tensor:
    """Mean logits, computed tile by tile and blended; what comes before the prior.

    Parameters
    ----------
    network
        In evaluation mode.
    spec
        Its specification.
    image
        ``(C, *spatial)``, prepared for the network.
    tile
        Tile size; None: the patch of training.

    Returns
    -------
    Tensor
        ``(1, K, *spatial)`` on the network's device.
    """
    device = next(network.parameters()).device
    voxels = torch.from_numpy(image).to(device)
    tile = tile or spec.patch
    tiles = make_tiles(image.shape[1:], tile, [size // _OVERLAP_FRACTION for size in tile])
    logits = torch.zeros((1, spec.n_classes, *image.shape[1:]), device=device)
    with torch.inference_mode():
        for part in tiles:
            index = (slice(None), slice(None), *part.region)
            logits[index] += network(voxels[None][index]).mean * part.weight.to(device)
        if spec.roi:
            logits = background_outside(logits, (voxels != 0).any(dim=0)[None])
    return logits


def predict_labels(
    network: SegmentationNetwork,
    spec: ModelSpec,
    image: npt.NDArray[np.float32],
    tile: Sequence[int] | None = None,
) -> npt.NDArray[np.uint8]:
    """Argmax of the mean logits; with a prior, of mean field after the iterations in use.

    Parameters
    ----------
    network, spec, image, tile
        As for :func:`predict_logits`.

    Returns
    -------
    labels
        ``(*spatial)`` uint8.
    """
    scores = predict_logits(network, spec, image, tile)
    if network.prior is not None and spec.prior is not None:
        with torch.inference_mode():
            unary = torch.log_softmax(scores, dim=1)
            scores = refine_in_slabs(network.prior, unary, spec.prior.iterations)
    labels: npt.NDArray[np.uint8] = scores[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
    return labels


def refine_in_slabs(prior: MarkovPrior, unary: Tensor, n_iterations: int) -> Tensor:
    """:func:`refine` with parallel updates, in the memory of a few planes.

    The first stage of a network prior has K^2 channels, too many for a whole volume at once.

    Parameters
    ----------
    prior
        The prior.
    unary
        U, ``(B, K, *spatial)``.
    n_iterations
        At least 1.

    Returns
    -------
    Tensor
        R, ``(B, K, *spatial)``.
    """
    depth = unary.shape[2]
    current, updated = uniform(unary), torch.empty_like(unary)
    for _ in range(n_iterations):
        for start in range(0, depth, _SLAB):
            stop = min(start + _SLAB, depth)
            # Neighbours reach one plane further.
            low, high = max(start - 1, 0), min(stop + 1, depth)
            message = prior.message(current[:, :, low:high])[:, :, start - low : stop - low]
            slab = (slice(None), slice(None), slice(start, stop))
            updated[slab] = parallel_step(unary[slab], current[slab], message)
        current, updated = updated, current
    return current


def validate_on_cases(cases: Sequence[PreparedCase], spec: ModelSpec) -> Validator:
    """Dice of each class but the background: the mean over cases and their raters.

    Parameters
    ----------
    cases
        Held-out cases.
    spec
        Of the network.
    """

    def validate(network: SegmentationNetwork) -> dict[str, float]:
        scores = []
        for case in cases:
            prediction = predict_labels(network, spec, case.image)
            scores += [dice_per_class(prediction, labels, spec.n_classes) for labels in case.labels]
        return _named(mean_dice(scores), spec.class_names)

    return validate


def validate_on_patches(
    patches: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]], spec: ModelSpec
) -> Validator:
    """Dice of each class but the background, pooled over the voxels of fixed patches.

    Parameters
    ----------
    patches
        Images ``(C, *patch)`` and their labels.
    spec
        Of the network.
    """

    def validate(network: SegmentationNetwork) -> dict[str, float]:
        counts = [
            overlap(predict_labels(network, spec, image), labels, spec.n_classes)
            for image, labels in patches
        ]
        return _named(reduce(add, counts).dice(), spec.class_names)

    return validate


def _named(dice: npt.NDArray[np.float64], classes: Sequence[str]) -> dict[str, float]:
    """Without the background, and without classes that have no Dice."""
    named = zip(classes, dice, strict=True)
    return {name: float(value) for name, value in list(named)[1:] if not np.isnan(value)}
