"""Our mean field over a whole volume. Run as a program by `bench.meanfield`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
from napari_structseg.refine.iterations.trajectory import MeanField, Trajectory


def measure(settings: MeanFieldSettings) -> dict[str, Any]:
    """Every iteration of every slice, and the labels of each kept.

    Returns
    -------
    dict
        ``ms_per_iteration`` of a whole run, log-softmax included, and ``peak_memory_mb``.
    """
    folder = Path(settings.folder)
    device = resolve_device(settings.device)
    _, prior = model_and_prior(demo_image(settings.shape), device)
    before = resident_bytes()
    logits = torch.from_numpy(np.load(folder / LOGITS)).to(device)
    trajectory = Trajectory(prior, settings.shape, lambda slab: logits[:, slab], MeanField())
    seconds = []
    with torch.inference_mode():
        for _ in range(settings.runs):
            trajectory.forget_unaries()
            started = time.perf_counter()
            while trajectory.advance(0, settings.iterations) is not None:
                pass
            finish(device)
            seconds.append(time.perf_counter() - started)
        peak = peak_bytes() - before
        slabs = [trajectory.responsibilities(slab) for slab in range(trajectory.n_slabs)]
    np.save(folder / RESULT.format("ours"), torch.stack(slabs, dim=1).cpu().numpy())
    return {
        "ms_per_iteration": round(1e3 * float(np.median(seconds)) / settings.iterations, 2),
        "peak_memory_mb": megabytes(peak),
        **gpu_memory(device),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(MeanFieldSettings.from_command_line())))
