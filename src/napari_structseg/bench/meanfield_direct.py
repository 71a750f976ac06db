"""The direct way: what the paper says, in torch, over the whole volume.

Run as a program by `bench.meanfield`.
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
from napari_structseg.bench.meanfield import (
    LOGITS,
    RESULT,
    MeanFieldSettings,
    demo_image,
    model_and_prior,
)
from napari_structseg.bench.memory import megabytes, peak_bytes, resident_bytes
from napari_structseg.devices import resolve_device
from napari_structseg.priors import NetworkPrior


def measure(settings: MeanFieldSettings) -> dict[str, Any]:
    """Convolution, leaky ReLU, convolution, softmax; in place where that is possible.

    Returns
    -------
    dict
        ``ms_per_iteration`` and ``peak_memory_mb``.
    """
    folder = Path(settings.folder)
    device = resolve_device(settings.device)
    _, prior = model_and_prior(demo_image(settings.shape), device)
    if not isinstance(prior, NetworkPrior):
        raise TypeError("the direct way is written for the network prior")
    before = resident_bytes()
    seconds = []
    with torch.inference_mode():
        logits = torch.from_numpy(np.load(folder / LOGITS)).to(device)
        unary = torch.log_softmax(logits[None], dim=1)
        kernel, bias = prior.kernel(), prior.first_bias()
        mixing = prior.combine.weight[..., None, None, None]
        for _ in range(settings.runs):
            current = torch.full_like(unary, 1 / prior.n_classes)
            started = time.perf_counter()
            for _ in range(settings.iterations):
                hidden = functional.conv3d(current, kernel, bias, padding=1)
                functional.leaky_relu_(hidden, 0.2)
                message = functional.conv3d(hidden, mixing, prior.combine.bias)
                current = torch.softmax(message.add_(unary), dim=1)
            finish(device)
            seconds.append(time.perf_counter() - started)
        peak = peak_bytes() - before
    np.save(folder / RESULT.format("direct"), current[0].cpu().numpy())
    return {
        "ms_per_iteration": round(1e3 * float(np.median(seconds)) / settings.iterations, 2),
        "peak_memory_mb": megabytes(peak),
        **gpu_memory(device),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(MeanFieldSettings.from_command_line())))
