"""How near samples of scenes come to the modes that readers draw from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scenes import (
    CLASSES,
    MODE_PROBABILITIES,
    N_SWITCHABLE,
    SWITCHABLE,
    Labels,
    modes,
)

from napari_structseg.evaluation import (
    diversity,
    mode_frequencies,
    pairwise_overlap,
    total_variation,
)

Floats = npt.NDArray[np.float64]

# Of a class's pixels in a sample, so many may disagree with the others about the flip.
STRAY = 0.05
QUANTILES = (0.05, 0.5, 0.95)
DIGITS = 5


@dataclass(frozen=True, eq=False)
class SceneScores:
    """What samples of one scene come to.

    Attributes
    ----------
    frequencies
        Share of the samples that are nearest to each mode, ``(32,)``.
    energy
        Squared generalised energy distance for each number of samples.
    shares
        Of each sample and class, how much of what is found of the class is flipped, ``(N, 5)``;
        NaN where nothing is found.
    found
        Of each class, the fraction of its pixels under either of its labels, ``(5,)``.
    pixels
        Of each class, how often each of its pixels is flipped.
    """

    frequencies: Floats
    energy: Floats
    shares: Floats
    found: Floats
    pixels: list[Floats]


def score(samples: Labels, layout: Labels, counts: Sequence[int]) -> SceneScores:
    """Compare the samples of a scene with its 32 modes.

    Parameters
    ----------
    samples
        ``(N, Y, X)``.
    layout
        The scene without flips, ``(Y, X)``.
    counts
        Numbers n of samples for the energy distance, of which that of all N // n disjoint groups
        is averaged.
    """
    known, n_classes = modes(layout), len(CLASSES)
    # Kohl 2018 leaves out classes that neither segmentation of a pair has.
    across = pairwise_overlap(samples, known, n_classes).distances("ignore")
    within = pairwise_overlap(samples, samples, n_classes).distances("ignore")
    between = pairwise_overlap(known, known, n_classes).distances("ignore")
    readers = float(MODE_PROBABILITIES @ between @ MODE_PROBABILITIES)
    to_readers = across @ MODE_PROBABILITIES
    energy = []
    for n in counts:
        groups = [slice(start, start + n) for start in range(0, len(samples) - n + 1, n)]
        own = [diversity(within[group, group]) for group in groups]
        nearness = [float(to_readers[group].mean()) for group in groups]
        energy.append(2 * float(np.mean(nearness)) - float(np.mean(own)) - readers)
    shares = np.full((len(samples), N_SWITCHABLE), np.nan)
    found, pixels = np.empty(N_SWITCHABLE), []
    for index in range(N_SWITCHABLE):
        seen = samples[:, layout == index + 1]
        flipped = seen == index + 1 + N_SWITCHABLE
        either = flipped | (seen == index + 1)
        total = either.sum(axis=1)
        np.divide(flipped.sum(axis=1), total, out=shares[:, index], where=total > 0)
        found[index] = either.mean()
        pixels.append(flipped.mean(axis=0))
    return SceneScores(mode_frequencies(across), np.array(energy), shares, found, pixels)


def summarise(rows: Sequence[SceneScores], counts: Sequence[int]) -> dict[str, Any]:
    """Figures over all scenes, as they go into the results."""
    frequencies = np.array([row.frequencies for row in rows])
    energy = np.array([row.energy for row in rows])
    shares = np.concatenate([row.shares for row in rows])
    pure = np.fmin(shares, 1 - shares) <= STRAY
    pixels = [np.concatenate(parts) for parts in zip(*(row.pixels for row in rows), strict=True)]
    flips = {
        name: {
            "pixels": rounded(pixels[index].mean()),
            "quantiles": rounded(np.quantile(pixels[index], QUANTILES)),
            "all_or_nothing": rounded(pure[:, index].mean()),
            "found": rounded(np.mean([row.found[index] for row in rows])),
        }
        for index, name in enumerate(SWITCHABLE)
    }
    return {
        "frequencies": rounded(frequencies.mean(axis=0)),
        "total_variation": rounded(total_variation(frequencies.mean(axis=0), MODE_PROBABILITIES)),
        "total_variation_of_a_scene": rounded(
            np.mean([total_variation(row, MODE_PROBABILITIES) for row in frequencies])
        ),
        "all_or_nothing": rounded(pure.mean()),
        "correlation": largest_correlation(shares),
        "flips": flips,
        "energy": {
            str(n): {
                "mean": rounded(energy[:, index].mean()),
                "standard_error": rounded(energy[:, index].std(ddof=1) / np.sqrt(len(rows))),
            }
            for index, n in enumerate(counts)
        },
    }


def largest_correlation(shares: Floats) -> float | None:
    """Largest absolute correlation of two flips over samples; None where none ever varies.

    The true flips are independent.
    """
    known = shares[~np.isnan(shares).any(axis=1)] > 0.5
    varying = known[:, known.any(axis=0) & ~known.all(axis=0)]
    if varying.shape[1] < 2:
        return None
    correlations = np.corrcoef(varying.astype(float), rowvar=False)
    np.fill_diagonal(correlations, 0)
    return float(rounded(abs(correlations).max()))


def rounded(values: npt.ArrayLike) -> Any:
    """To the digits that are kept, as JSON takes them."""
    return np.round(np.asarray(values, float), DIGITS).tolist()
