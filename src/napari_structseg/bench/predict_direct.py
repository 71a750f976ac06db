"""The direct way: a sliding window of the same network. Run as a program by `bench.predict`.

MONAI's `sliding_window_inference` where it is installed, else the same in plain torch: windows of
the size of the training patches, half of which overlap, weighted by a Gaussian.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_structseg.bench.memory import megabytes, peak_bytes, resident_bytes
from napari_structseg.bench.predict import LABELS, PredictSettings
from napari_structseg.devices import resolve_device
from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import load_weights
from napari_structseg.prediction.field import make_field
from napari_structseg.prediction.preprocess import normalise, resample, size_at_spacing

_OVERLAP = 0.5
# Of the Gaussian, as a share of the window: MONAI's default.
_SIGMA = 0.125
_LEAST_WEIGHT = 1e-3


def measure(settings: PredictSettings) -> dict[str, Any]:
    """All parameters of the distribution at once, and the labels of the mean.

    The window goes over the same part of the image that our prediction sees.

    Returns
    -------
    dict
        ``complete_s``, ``peak_memory_mb`` and ``way``.
    """
    image, device = settings.image(), resolve_device(settings.device)
    before = resident_bytes()
    started = time.perf_counter()
    network, spec = load_weights(find_model(settings.model), device)
    data = normalise(image.data, spec.intensity)
    data = resample(data, size_at_spacing(image.spatial_shape, image.spacing, spec.spacing))
    field = make_field(data, spec, [axis - image.ndim for axis in image.geometry.axes_against_ras])

    def run(windows: Tensor) -> Tensor:
        parameters = network(windows)
        parts = [parameters.mean, parameters.diagonal, parameters.factor, parameters.members]
        return torch.cat([part.flatten(1, -4) for part in parts if part is not None], dim=1)

    slide = _of_monai() if find_spec("monai") else sliding_window
    with torch.inference_mode():
        parameters = slide(field.seen[None].to(device), spec.patch, run)
    labels = np.zeros(tuple(data.shape[1:]), np.uint8)
    inside = parameters[0, : spec.n_classes][(slice(None), *field.box)].argmax(dim=0)
    labels[field.on_grid(field.box)] = inside.flip(field.flips).cpu().numpy()
    if spec.zero_is_background:
        labels[(data == 0).all(dim=0).numpy()] = 0
    seconds = time.perf_counter() - started
    peak = peak_bytes() - before
    np.save(Path(settings.folder) / LABELS.format("direct"), labels)
    return {
        "complete_s": round(seconds, 2),
        "peak_memory_mb": megabytes(peak),
        "way": "MONAI" if find_spec("monai") else "plain torch, as MONAI does it",
    }


def sliding_window(x: Tensor, size: Sequence[int], run: Callable[[Tensor], Tensor]) -> Tensor:
    """What a network says of overlapping windows, blended by a Gaussian.

    Parameters
    ----------
    x
        ``(1, channels, *spatial)``.
    size
        Of a window; where the image is smaller, it is padded with zeros at the far end.
    run
        Gives ``(1, N, *size)`` for a window.
    """
    shape = tuple(x.shape[2:])
    padded = tuple(max(n, width) for n, width in zip(shape, size, strict=True))
    far = [p for n, m in zip(reversed(shape), reversed(padded), strict=True) for p in (0, m - n)]
    x = torch.nn.functional.pad(x, far)
    weight = _gaussian(size).to(x.device)
    axes = [
        sorted({min(start, n - width) for start in range(0, n, int(width * (1 - _OVERLAP)) or 1)})
        for n, width in zip(padded, size, strict=True)
    ]
    total: Tensor | None = None
    count = torch.zeros(padded, device=x.device)
    for corner in itertools.product(*axes):
        region = tuple(slice(a, a + width) for a, width in zip(corner, size, strict=True))
        said = run(x[(slice(None), slice(None), *region)])
        if total is None:
            total = torch.zeros((1, said.shape[1], *padded), device=x.device)
        total[(slice(None), slice(None), *region)] += said * weight
        count[region] += weight
    if total is None:
        raise ValueError("an image without voxels has no windows")
    total /= count
    return total[(slice(None), slice(None), *(slice(0, n) for n in shape))]


def _gaussian(size: Sequence[int]) -> Tensor:
    weight = torch.ones(())
    for width in size:
        positions = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (positions / (_SIGMA * width)) ** 2)
    return weight.clamp(min=_LEAST_WEIGHT)


def _of_monai() -> Callable[[Tensor, Sequence[int], Callable[[Tensor], Tensor]], Tensor]:
    inferers = import_module("monai.inferers")

    def slide(x: Tensor, size: Sequence[int], run: Callable[[Tensor], Tensor]) -> Tensor:
        said: Tensor = inferers.sliding_window_inference(
            x, tuple(size), 1, run, overlap=_OVERLAP, mode="gaussian", sigma_scale=_SIGMA
        )
        return said

    return slide


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(PredictSettings.from_command_line())))
