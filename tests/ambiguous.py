"""An image whose samples are nothing, a small disk or a large one, as a number decides."""

from __future__ import annotations

import numpy as np
import torch

from napari_structseg.distributions import (
    Combination,
    LatentDecoder,
    LatentNormal,
    LowRankNormal,
    Noise,
)

# A sample is a disk where its one number z exceeds the threshold of a pixel.
SMALL_FROM, LARGE_FROM = 0.25, 1.2
SMALL_RADIUS, LARGE_RADIUS = 5, 11
_GAIN = 100.0


def disks(shape: tuple[int, ...]) -> LowRankNormal:
    """Two classes; rank 1; the disks are cylinders along the first of three axes."""
    rows, columns = np.indices(shape[-2:])
    centre = np.array(shape[-2:]) / 2
    radius = np.hypot(rows - centre[0], columns - centre[1])
    threshold = np.where(radius < SMALL_RADIUS, SMALL_FROM, np.inf)
    threshold = np.where((radius >= SMALL_RADIUS) & (radius < LARGE_RADIUS), LARGE_FROM, threshold)
    is_inside = np.isfinite(threshold)
    mean = np.zeros((2, *shape), np.float32)
    factor = np.zeros((1, 2, *shape), np.float32)
    mean[1] = np.where(is_inside, -_GAIN * np.where(is_inside, threshold, 0), -_GAIN)
    factor[0, 1] = np.where(is_inside, _GAIN, 0)
    return LowRankNormal(torch.from_numpy(mean), torch.from_numpy(factor), torch.zeros((2, *shape)))


def kind_of(seed: int, sample: int, temperature: float = 1.0) -> int:
    """0 for nothing, 1 for a small disk, 2 for a large one."""
    z = temperature * float(Noise(seed, sample).factors(1)[0])
    return int(z > SMALL_FROM) + int(z > LARGE_FROM)


def latent_disks(shape: tuple[int, ...], n_latents: int = 3) -> LatentDecoder:
    """A disk, decoded: the first latent grows it, the second a little its left half.

    Further latents change nothing. The prior has standard deviation 2 and mean 1.
    """
    rows, columns = np.indices(shape)
    radius = np.hypot(rows - shape[0] / 2, columns - shape[1] / 2)
    # Far from 0: where a rectifier lets through anything, it is linear.
    lift = np.float32(100)
    is_left = columns < shape[1] / 2
    first = np.stack(
        [np.where(is_left, lift, 2 * lift) - radius, np.where(is_left, lift, -lift)]
    ).astype(np.float32)
    latent = torch.zeros((2, n_latents))
    latent[0, 0] = 1.5
    if n_latents > 1:
        latent[1, 1] = 0.25
    combination = Combination(
        latent=latent,
        second=torch.eye(2),
        second_bias=torch.zeros(2),
        last=torch.tensor([[0.0, 0.0], [1.0, 1.0]]),
        last_bias=torch.tensor([0.0, -2 * float(lift) + 2.0]),
    )
    prior = LatentNormal(torch.ones(n_latents), torch.full((n_latents,), 2.0))
    return LatentDecoder(torch.from_numpy(first), combination, prior)
