"""Synthetic street scenes whose classes appear under one of two labels: a truth that is known.

Kohl et al., *A Probabilistic U-Net for Segmentation of Ambiguous Images*, NeurIPS 2018, section
4.2, flip five classes of Cityscapes at random and independently. Here every scene contains all
five, so that each of the 2^5 combinations of flips, the modes, is a segmentation of its own.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Labels = npt.NDArray[np.uint8]
Image = npt.NDArray[np.float32]

SWITCHABLE = ("sidewalk", "person", "car", "vegetation", "road")
N_SWITCHABLE = len(SWITCHABLE)
# Label c of the switchable classes is shown as c, or as c + N_SWITCHABLE where it is flipped.
CLASSES = ("building", *SWITCHABLE, *(f"{name} 2" for name in SWITCHABLE))
FLIP_PROBABILITIES = np.array([8, 7, 6, 5, 4]) / 17
MODES = np.array(list(itertools.product((False, True), repeat=N_SWITCHABLE)))
MODE_PROBABILITIES = np.where(MODES, FLIP_PROBABILITIES, 1 - FLIP_PROBABILITIES).prod(axis=1)

# Streams of random numbers that must not overlap.
TRAINING_STREAM, TEST_STREAM, TRUTH_STREAM = 1, 2, 3
SIZE = 32
N_CHANNELS = 3
_FEWEST_PIXELS = 24
# Red, green and blue of each class, building first, and how far those of a scene stray from them.
_COLORS = np.array(
    [
        [0.55, 0.45, 0.40],
        [0.70, 0.45, 0.70],
        [0.80, 0.20, 0.25],
        [0.20, 0.25, 0.75],
        [0.30, 0.60, 0.25],
        [0.40, 0.35, 0.45],
    ]
)
_COLOR_SPREAD = 0.03
_TEXTURE_SPREAD, _TEXTURE_WIDTH = 0.1, 1.5
_NOISE = 0.06


class Scenes:
    """A set of scenes.

    Parameters
    ----------
    n_scenes
        How many.
    rng
        Source of them.

    Attributes
    ----------
    layouts
        Labels without flips, ``(n_scenes, 32, 32)``.
    images
        ``(n_scenes, 3, 32, 32)``.
    """

    def __init__(self, n_scenes: int, rng: np.random.Generator) -> None:
        self.layouts: Labels = np.stack([draw_layout(rng) for _ in range(n_scenes)])
        self.images: Image = np.stack([paint(layout, rng) for layout in self.layouts])


class ScenePatches:
    """A source of training patches: a scene under five new coins each time, as if by new readers.

    Parameters
    ----------
    scenes
        To draw from.
    """

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes

    def patch(self, rng: np.random.Generator) -> tuple[Image, Labels]:
        """Draw an image ``(3, 32, 32)`` and the labels of one reader."""
        index = int(rng.integers(len(self.scenes.layouts)))
        flips = rng.random(N_SWITCHABLE) < FLIP_PROBABILITIES
        return self.scenes.images[index], flipped(self.scenes.layouts[index], flips)


def draw_layout(rng: np.random.Generator) -> Labels:
    """Draw a scene without flips, ``(32, 32)``, that contains all five switchable classes."""
    while True:
        labels = _layout(rng)
        if np.bincount(labels.ravel(), minlength=N_SWITCHABLE + 1).min() >= _FEWEST_PIXELS:
            return labels


def flipped(labels: Labels, flips: npt.NDArray[np.bool_]) -> Labels:
    """The scene with some of the five classes under their other label."""
    shown = np.arange(N_SWITCHABLE + 1, dtype=np.uint8)
    shown[1:] += np.where(flips, N_SWITCHABLE, 0).astype(np.uint8)
    result: Labels = shown[labels]
    return result


def modes(labels: Labels) -> Labels:
    """The scene under every combination of flips, ``(32, 32, 32)`` in the order of MODES."""
    return np.stack([flipped(labels, flips) for flips in MODES])


def paint(labels: Labels, rng: np.random.Generator) -> Image:
    """An image of a scene, ``(3, 32, 32)``: a colour for each class, texture and noise."""
    colors = _COLORS + rng.normal(0, _COLOR_SPREAD, _COLORS.shape)
    texture = ndimage.gaussian_filter(rng.normal(size=labels.shape), _TEXTURE_WIDTH)
    brightness = 1 + _TEXTURE_SPREAD * texture / texture.std()
    image = np.moveaxis(colors[labels], -1, 0) * brightness
    return (image + rng.normal(0, _NOISE, image.shape)).astype(np.float32)


def _layout(rng: np.random.Generator) -> Labels:
    """A building behind vegetation; a road with a car, a sidewalk with a person."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    labels = np.zeros((SIZE, SIZE), np.uint8)
    horizon = rng.uniform(13, 17)
    for _ in range(rng.integers(1, 4)):
        centre = rng.uniform(horizon - 7, horizon - 1), rng.uniform(2, SIZE - 2)
        radii = rng.uniform(3, 6), rng.uniform(3, 6)
        bumps = 1 + 0.25 * np.sin(4 * np.arctan2(y - centre[0], x - centre[1]) + rng.uniform(0, 6))
        labels[_ellipse(y, x, centre, radii) < bumps] = 4
    kerb = rng.uniform(9, 13) + rng.uniform(-0.3, 0.3) * (y - horizon)
    ground = y >= horizon
    labels[ground] = np.where(x < kerb, 1, 5)[ground]
    top, left = rng.uniform(horizon - 2, SIZE - 10), rng.uniform(16, SIZE - 11)
    height, width = rng.uniform(6, 9), rng.uniform(9, 12)
    body = (abs(y - top - height / 2) < height / 2) & (abs(x - left - width / 2) < width / 2)
    labels[body] = 3
    feet = rng.uniform(horizon + 4, SIZE - 2)
    centre = feet - rng.uniform(4.5, 6), rng.uniform(3, 7)
    labels[_ellipse(y, x, centre, (feet - centre[0], rng.uniform(2.5, 3.3))) < 1] = 2
    return np.ascontiguousarray(labels[:, ::-1]) if rng.random() < 0.5 else labels


def _ellipse(
    y: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
    centre: tuple[float, float],
    radii: tuple[float, float],
) -> npt.NDArray[np.float64]:
    """Below 1 inside of an ellipse."""
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2
