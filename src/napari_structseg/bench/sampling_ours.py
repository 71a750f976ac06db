"""Our samples of a latent decoder. Run as a program by `bench.sampling`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_structseg.bench.gpu import finish, gpu_memory
from napari_structseg.bench.memory import megabytes, peak_bytes, resident_bytes
from napari_structseg.bench.sampling import (
    FEATURES,
    LOGITS,
    SamplingSettings,
    make_head,
    make_prior,
    noises,
)
from napari_structseg.devices import resolve_device
from napari_structseg.distributions import LatentDecoder


def measure(settings: SamplingSettings) -> dict[str, Any]:
    """The features' part of the first layer and the mean once, then every sample.

    Returns
    -------
    dict
        ``seconds`` for all samples, everything included, and ``peak_memory_mb``.
    """
    folder = Path(settings.folder)
    device = resolve_device(settings.device)
    head, prior = make_head(len(settings.shape), device), make_prior(device)
    features = torch.from_numpy(np.load(folder / FEATURES))[None].to(device)
    before = resident_bytes()
    seconds = []
    with torch.inference_mode():
        for _ in range(settings.runs):
            started = time.perf_counter()
            decoder = LatentDecoder(head.first(features)[0], head.combination(), prior)
            for noise in noises(settings.samples):
                logits = decoder.mean() + decoder.offset(noise)
            finish(device)
            seconds.append(time.perf_counter() - started)
        peak = peak_bytes() - before
    np.save(folder / LOGITS.format("ours"), logits.cpu().numpy())
    return {
        "seconds": round(float(np.median(seconds)), 4),
        "peak_memory_mb": megabytes(peak),
        **gpu_memory(device),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(SamplingSettings.from_command_line())))
