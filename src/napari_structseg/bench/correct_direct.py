"""The full-volume way: the same posterior, and the labels of every voxel for each stroke.

Run as a program by `bench.correct`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import torch

from napari_structseg.bench.correct import CorrectSettings, after_warm_up, dabs
from napari_structseg.bench.memory import megabytes, peak_bytes, resident_bytes
from napari_structseg.bench.timing import N_CLASSES, RANK, percentiles

_NEWTON_STEPS = 8


def measure(settings: CorrectSettings) -> dict[str, Any]:
    """Newton's method on the factors in torch, then mean, sample and labels of the whole volume.

    The sample's own noise is drawn once and kept.

    Returns
    -------
    dict
        ``p50_ms``, ``p95_ms`` and ``peak_memory_mb``.
    """
    before = resident_bytes()
    torch.manual_seed(0)
    size = math.prod(settings.shape)
    mean, own = torch.randn(N_CLASSES, size), torch.randn(N_CLASSES, size)
    factor = torch.randn(RANK, N_CLASSES * size)
    z, seconds = torch.randn(RANK), []
    for strokes in dabs(settings.shape, settings.direct_strokes):
        started = time.perf_counter()
        voxels = torch.from_numpy(strokes.voxels)
        labels = torch.from_numpy(strokes.labels).long()
        at_mean, at_factor = mean[:, voxels].T, factor.unflatten(1, mean.shape)[:, :, voxels]
        posterior, covariance = _posterior(at_mean, at_factor.permute(2, 1, 0), labels)
        moved = posterior + torch.linalg.cholesky(covariance) @ z
        logits = torch.addmv(mean.flatten(), factor.T, moved).unflatten(0, mean.shape)
        logits += own
        logits.argmax(dim=0).to(torch.uint8)
        seconds.append(time.perf_counter() - started)
    return {
        **percentiles(after_warm_up(seconds)),
        "peak_memory_mb": megabytes(peak_bytes() - before),
    }


def _posterior(
    mean: torch.Tensor, factor: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mode of the factors and inverse curvature there; mean (n, C), factor (n, C, R)."""
    z, target = torch.zeros(RANK), torch.nn.functional.one_hot(labels, N_CLASSES).float()
    precision = torch.eye(RANK)
    for _ in range(_NEWTON_STEPS):
        p = (mean + factor @ z).softmax(dim=1)
        gradient = torch.einsum("ncr,nc->r", factor, target - p) - z
        centred = factor - (p[..., None] * factor).sum(dim=1, keepdim=True)
        precision = torch.eye(RANK) + torch.einsum("ncr,nc,ncs->rs", centred, p, centred)
        z = z + torch.linalg.solve(precision, gradient)
    return z, torch.linalg.inv(precision)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(CorrectSettings.from_command_line())))
