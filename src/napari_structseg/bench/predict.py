"""From an image to its distribution and labels, beside a sliding window over the same network."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.bench.memory import METHOD
from napari_structseg.bench.timing import environment, run_part
from napari_structseg.image import Image
from napari_structseg.prediction.precision import Precision
from napari_structseg.sample_data import load_mni152

IMAGE, LABELS = "image.npy", "{}.npy"


@dataclass(frozen=True, slots=True)
class PredictSettings:
    """What is measured.

    Attributes
    ----------
    model
        Name of a shipped 3-D model, or its file.
    shape
        (Z, Y, X) of the middle of MNI152 that is predicted; empty: all of it.
    direct
        Whether the sliding window is measured, too.
    device
        Name of the device.
    precision
        What our features are computed in.
    folder
        Where the parts find their input, and leave what they computed.
    """

    model: str
    shape: tuple[int, ...] = ()
    direct: bool = True
    device: str = "cpu"
    precision: Precision = "float32"
    folder: str = ""

    @classmethod
    def from_command_line(cls) -> PredictSettings:
        """The settings that `run_part` handed to this process."""
        values = json.loads(sys.argv[1])
        return cls(**{**values, "shape": tuple(values["shape"])})

    def image(self) -> Image:
        """What is predicted, with the voxel size of MNI152: 1 mm."""
        return Image.from_array(np.load(Path(self.folder) / IMAGE), spacing=(1, 1, 1))


def bench_predict(settings: PredictSettings, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure each part in a fresh process.

    Parameters
    ----------
    settings
        What is measured.
    report
        Called with what is measured next.

    Returns
    -------
    dict
        ``first_slice_s``, ``complete_s``, ``peak_memory_mb``; ``complete_s`` and
        ``peak_memory_mb`` under ``direct``, with the ``way`` that was taken; ``speedup``;
        ``same_labels``, the share of voxels; ``shape`` and ``environment``.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = _middle(load_mni152().data[0], settings.shape)
        np.save(folder / IMAGE, data)
        here = replace(settings, folder=name)
        report("ours")
        result = run_part("predict_ours", here)
        direct = None
        if settings.direct:
            report("the sliding window")
            direct = run_part("predict_direct", here)
            ours, theirs = (np.load(folder / LABELS.format(way)) for way in ("ours", "direct"))
            result["speedup"] = round(direct["complete_s"] / result["complete_s"], 2)
            result["same_labels"] = round(float((ours == theirs).mean()), 5)
    return {
        "model": settings.model,
        "shape": list(data.shape),
        **result,
        "direct": direct,
        "memory_method": METHOD,
        "environment": environment(),
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What was measured, ours, and the sliding window: for a table."""
    direct = result["direct"] or {}

    def said(key: str, unit: str) -> str:
        return f"{direct[key]:.1f} {unit}" if direct else ""

    table = [
        ("visible slice", f"{result['first_slice_s']:.1f} s", ""),
        ("distribution and all labels", f"{result['complete_s']:.1f} s", said("complete_s", "s")),
        ("peak memory", f"{result['peak_memory_mb']:.0f} MB", said("peak_memory_mb", "MB")),
    ]
    if direct:
        table.append(("ours is faster", f"{result['speedup']:.1f} times", direct["way"]))
    return table


def _middle(data: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The middle part of a volume, of this shape where it is smaller."""
    region = []
    for size, wanted in zip(data.shape, shape or data.shape, strict=True):
        length = min(size, wanted)
        start = (size - length) // 2
        region.append(slice(start, start + length))
    return data[tuple(region)]
