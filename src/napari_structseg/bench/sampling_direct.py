"""The direct way: latents tiled over the image and concatenated with the features, per sample.

Run as a program by `bench.sampling`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

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

_CONVOLUTION = {2: functional.conv2d, 3: functional.conv3d}


def measure(settings: SamplingSettings) -> dict[str, Any]:
    """As in the published code, but that ReLU works in place and features are computed once.

    Returns
    -------
    dict
        ``seconds`` for all samples, and ``peak_memory_mb``.
    """
    folder = Path(settings.folder)
    dimensions = len(settings.shape)
    device = resolve_device(settings.device)
    head, prior = make_head(dimensions, device), make_prior(device)
    features = torch.from_numpy(np.load(folder / FEATURES))[None].to(device)
    before = resident_bytes()
    seconds = []
    ones = [1] * dimensions
    with torch.inference_mode():
        latent = head.latent.weight.reshape(*head.latent.weight.shape, *ones)
        weight = torch.cat([head.first.weight, latent], dim=1)
        convolution = _CONVOLUTION[dimensions]
        for _ in range(settings.runs):
            started = time.perf_counter()
            for noise in noises(settings.samples):
                z = prior.mean + prior.sigma * noise.factors(len(prior.mean)).to(device)
                tiled = z.reshape(1, -1, *ones).expand(-1, -1, *settings.shape)
                x = torch.cat([features, tiled], dim=1)
                x = functional.relu_(convolution(x, weight, head.first.bias))
                x = functional.relu_(head.second(x))
                logits = head.mean(x)[0]
            finish(device)
            seconds.append(time.perf_counter() - started)
        peak = peak_bytes() - before
    np.save(folder / LOGITS.format("direct"), logits.cpu().numpy())
    return {
        "seconds": round(float(np.median(seconds)), 4),
        "peak_memory_mb": megabytes(peak),
        **gpu_memory(device),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(SamplingSettings.from_command_line())))
