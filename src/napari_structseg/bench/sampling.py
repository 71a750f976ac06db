"""Samples of a latent decoder beside tiling and concatenating."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_structseg.bench.memory import METHOD
from napari_structseg.bench.timing import environment, run_part
from napari_structseg.distributions import LatentNormal, Noise
from napari_structseg.models.heads import LatentHead

N_CLASSES, N_FEATURES, N_LATENTS = 2, 32, 6
FEATURES, LOGITS = "features.npy", "{}.npy"
_SEED = 0
# Logits of a few units, rounded to single precision in another order.
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """What is measured.

    Attributes
    ----------
    shape
        Of the image, 2-D or 3-D.
    samples
        How many samples.
    runs
        Runs behind each median.
    folder
        Where the parts find their input, and leave what they computed.
    device
        Name of the device that computes.
    """

    shape: tuple[int, ...]
    samples: int
    runs: int
    folder: str = ""
    device: str = "cpu"

    @classmethod
    def from_command_line(cls) -> SamplingSettings:
        """The settings that `run_part` handed to this process."""
        values = json.loads(sys.argv[1])
        return cls(**{**values, "shape": tuple(values["shape"])})


def bench_sampling(
    shapes: Sequence[tuple[int, ...]],
    counts: Sequence[int],
    runs: int,
    report: Callable[[str], None],
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure each part in a fresh process.

    Parameters
    ----------
    shapes
        Of the images.
    counts
        Numbers of samples.
    runs
        Runs behind each median.
    report
        Called with what is measured next.
    device
        Name of the device that computes.

    Returns
    -------
    dict
        ``cases``, each with ``shape``, ``samples``, ``seconds`` and ``peak_memory_mb`` of ours
        and under ``direct``, ``speedup`` and ``largest_difference``, of the last sample's logits;
        and ``environment``.
    """
    cases = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shape in shapes:
            rng = np.random.default_rng(_SEED)
            np.save(folder / FEATURES, rng.standard_normal((N_FEATURES, *shape), np.float32))
            for samples in counts:
                settings = SamplingSettings(shape, samples, runs, device=device)
                here = replace(settings, folder=name)
                said = f"{samples} samples of {in_words(shape)}"
                report(f"{said}: ours")
                ours = run_part("sampling_ours", here)
                report(f"{said}: the direct way")
                direct = run_part("sampling_direct", here)
                difference = _largest_difference(folder)
                cases.append(
                    {
                        "shape": list(shape),
                        "samples": samples,
                        **ours,
                        "direct": direct,
                        "speedup": round(direct["seconds"] / ours["seconds"], 2),
                        "largest_difference": difference,
                        "is_within_tolerance": difference < _TOLERANCE,
                    }
                )
    return {
        "classes": N_CLASSES,
        "features": N_FEATURES,
        "latents": N_LATENTS,
        "runs": runs,
        "cases": cases,
        "memory_method": METHOD,
        "environment": environment(device),
    }


def make_head(dimensions: int, device: torch.device) -> LatentHead:
    """The three layers with random weights, the same ones on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return LatentHead(dimensions, N_FEATURES, N_CLASSES, N_LATENTS).to(device)


def make_prior(device: torch.device) -> LatentNormal:
    """N(0, I)."""
    return LatentNormal(torch.zeros(N_LATENTS, device=device), torch.ones(N_LATENTS, device=device))


def noises(samples: int) -> list[Noise]:
    """The noise of every sample."""
    return [Noise(_SEED, sample) for sample in range(1, samples + 1)]


def in_words(shape: Sequence[int]) -> str:
    """A shape for a table."""
    return " x ".join(map(str, shape))


def rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What was measured, ours, the direct way, and how many times faster: for a table."""
    return [
        (
            f"{case['samples']} samples of {in_words(case['shape'])}",
            f"{case['seconds']:.2f} s, {case['peak_memory_mb']:.0f} MB",
            f"{case['direct']['seconds']:.2f} s, {case['direct']['peak_memory_mb']:.0f} MB",
            f"{case['speedup']:.1f} times; differs by {case['largest_difference']:.0e}",
        )
        for case in result["cases"]
    ]


def _largest_difference(folder: Path) -> float:
    """Between the logits of the last sample."""
    ours, direct = (np.load(folder / LOGITS.format(name)) for name in ("ours", "direct"))
    largest = float(np.abs(ours - direct).max())
    return largest if math.isfinite(largest) else math.inf
