"""What a scanner and a program's normalisation do to an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from napari_structseg.training.input.smooth import upsampled
from napari_structseg.training.input.synthesis_settings import SynthesisSettings

Array = npt.NDArray[np.float32]

# Control points of the bias field along an axis, at most.
_BIAS_POINTS = 4
# As in prediction: a voxel with data is never exactly 0.
_SMALLEST = np.float32(1e-6)


def acquired(image: Array, settings: SynthesisSettings, rng: np.random.Generator) -> Array:
    """An image with the resolution, the bias field and the noise of a scanner.

    Parameters
    ----------
    image
        ``(*size)`` float32.
    settings
        Ranges.
    rng
        Source of randomness.

    Returns
    -------
    ndarray
        ``(*size)`` float32, not negative.
    """
    s = settings
    image = _resolved(image, s, rng)
    points = int(rng.integers(2, _BIAS_POINTS + 1))
    coarse = rng.normal(0, rng.uniform(0, s.bias), (1, points, points, points))
    image = image * np.exp(upsampled(coarse.astype(np.float32), image.shape)[0])
    # Of the two channels of a receiver, whose magnitude is the image: Rician noise.
    sigma = np.float32(rng.uniform(0, s.noise / 1.5))
    noisy = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    result: Array = np.abs(noisy)
    if rng.random() < 0.5:
        result = np.hypot(noisy, sigma * rng.standard_normal(image.shape, dtype=np.float32))
    return result


def _resolved(image: Array, s: SynthesisSettings, rng: np.random.Generator) -> Array:
    """Averaged over larger voxels, and interpolated back."""
    size = list(image.shape)
    kind = rng.random()
    if kind < s.thick_probability:
        axis = int(rng.integers(3))
        # Thin slices are more common than thick ones.
        factor = 1.2 + (s.thickest - 1.2) * rng.random() ** 2
        size[axis] = max(2, round(size[axis] / factor))
    elif kind < s.thick_probability + s.coarse_probability:
        factor = rng.uniform(1.1, s.coarsest)
        size = [max(2, round(n / factor)) for n in size]
    else:
        return image
    small = functional.interpolate(torch.from_numpy(image)[None, None], size=size, mode="area")
    # Faces stay where they are, as in resampling to the grid of a network.
    fine = functional.interpolate(small, size=image.shape, mode="trilinear", align_corners=False)
    result: Array = fine[0, 0].numpy()
    return result


def as_normalised(image: Array, settings: SynthesisSettings, rng: np.random.Generator) -> Array:
    """Bent, and scaled as percentile normalisation of the whole head might have.

    A patch does not know the percentile of its head, which may be that of bright fat or of white
    matter: the patch's own is taken times a random number.

    Parameters
    ----------
    image
        ``(*size)`` float32, not negative; exactly 0 where there is no data, which stays so.
    settings
        Ranges.
    rng
        Source of randomness.

    Returns
    -------
    ndarray
        ``(*size)`` float32 in [0, 1].
    """
    inside = image != 0
    gamma = np.float32(np.exp(rng.normal(0, settings.gamma)))
    brightness = np.float32(np.exp(rng.uniform(-0.5, 0.1)))
    if not inside.any():
        return image
    values = image[inside]
    values /= np.float32(np.percentile(values, 99)) or np.float32(1)
    values = np.clip(values**gamma * brightness, _SMALLEST, 1)
    result = np.zeros_like(image)
    result[inside] = values
    return result
