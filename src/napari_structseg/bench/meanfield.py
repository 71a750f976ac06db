"""Mean field beside the direct way: convolution, leaky ReLU, convolution, softmax, everywhere."""

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
import torch

from napari_structseg.bench.memory import METHOD
from napari_structseg.bench.timing import environment, run_part
from napari_structseg.errors import ConfigError
from napari_structseg.image import Image
from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import load_weights
from napari_structseg.models import SegmentationNetwork
from napari_structseg.prediction.predictor import Predictor, prior_for
from napari_structseg.priors import MarkovPrior, NetworkPrior
from napari_structseg.sample_data import load_mni152

MODEL = "brain-tissue"
IMAGE, LOGITS, RESULT = "image.npy", "logits.npy", "{}.npy"
_DENSE_SPREAD = 2.0
# What comes together is allowed to differ by this much in probability.
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class MeanFieldSettings:
    """What is measured.

    Attributes
    ----------
    shape
        (Z, Y, X) of the image.
    iterations
        Iterations of each run.
    runs
        Runs behind each median.
    moves
        Slider moves behind each percentile.
    window
        Whether frames are painted, in a real viewer.
    folder
        Where the parts find their input, and leave what they computed.
    device
        Name of the device that computes.
    """

    shape: tuple[int, int, int]
    iterations: int
    runs: int
    moves: int
    window: bool
    folder: str = ""
    device: str = "cpu"

    @classmethod
    def from_command_line(cls) -> MeanFieldSettings:
        """The settings that `run_part` handed to this process."""
        values = json.loads(sys.argv[1])
        return cls(**{**values, "shape": tuple(values["shape"])})


def bench_meanfield(settings: MeanFieldSettings, report: Callable[[str], None]) -> dict[str, Any]:
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
        ``demo_brain`` and ``dense_random``, each with ``ms_per_iteration`` and
        ``peak_memory_mb``, the same under ``direct``, ``speedup`` and
        ``largest_difference``; ``first_iteration`` and ``environment``.

    Raises
    ------
    ConfigError
        If the shipped model has no MRF of the network kind.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report("the input")
        image = demo_image(settings.shape)
        network, prior = model_and_prior(image)
        np.save(folder / IMAGE, image.data[0])
        with torch.inference_mode():
            logits = Predictor(network, load_weights(find_model(MODEL))[1]).predict(image).mean()
        inputs = {
            "demo_brain": logits.numpy(),
            "dense_random": _DENSE_SPREAD
            * np.random.default_rng(0).standard_normal(logits.shape, dtype=np.float32),
        }
        del logits, network, prior
        here = replace(settings, folder=name)
        result: dict[str, Any] = {}
        for case, array in inputs.items():
            np.save(folder / LOGITS, array)
            report(f"{case.replace('_', ' ')}: ours")
            ours = run_part("meanfield_ours", here)
            report(f"{case.replace('_', ' ')}: the direct way")
            direct = run_part("meanfield_direct", here)
            difference = _largest_difference(folder)
            result[case] = {
                **ours,
                "direct": direct,
                "speedup": round(direct["ms_per_iteration"] / ours["ms_per_iteration"], 2),
                "largest_difference": difference,
                "is_within_tolerance": difference < _TOLERANCE,
            }
        first = None
        if settings.window:
            report("the first painted iteration")
            first = run_part("meanfield_painted", here)
    return {
        "shape": list(settings.shape),
        "classes": len(inputs["demo_brain"]),
        "iterations": settings.iterations,
        **result,
        "first_iteration": first,
        "memory_method": METHOD,
        "environment": environment(settings.device),
    }


def demo_image(shape: tuple[int, int, int]) -> Image:
    """The MNI152 brain in the middle of a volume of another shape, cut or padded."""
    brain = load_mni152()
    data = np.zeros(shape, brain.data.dtype)
    source, target = [], []
    for theirs, ours in zip(brain.spatial_shape, shape, strict=True):
        size = min(theirs, ours)
        source.append(slice((theirs - size) // 2, (theirs - size) // 2 + size))
        target.append(slice((ours - size) // 2, (ours - size) // 2 + size))
    data[tuple(target)] = brain.data[0][tuple(source)]
    return Image.from_array(data, spacing=brain.spacing, name="MNI152 T1")


def model_and_prior(
    image: Image, device: torch.device | str = "cpu"
) -> tuple[SegmentationNetwork, MarkovPrior]:
    """The shipped model, and its MRF on the axes of an image.

    Raises
    ------
    ConfigError
        If it has none of the kind that the direct way is written for.
    """
    network, _ = load_weights(find_model(MODEL), device)
    prior = prior_for(network, image)
    if not isinstance(prior, NetworkPrior):
        raise ConfigError(f"{MODEL} has no prior of the kind 'network' that could be measured.")
    return network, prior


def rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What was measured, ours, the direct way, and how many times faster: for a table."""
    table = []
    for case in ("demo_brain", "dense_random"):
        ours, direct = result[case], result[case]["direct"]
        name = case.replace("_", " ")
        table += [
            (
                f"{name}, per iteration",
                f"{ours['ms_per_iteration']:.0f} ms",
                f"{direct['ms_per_iteration']:.0f} ms",
                f"{ours['speedup']:.1f} times",
            ),
            (
                f"{name}, peak memory",
                f"{ours['peak_memory_mb']:.0f} MB",
                f"{direct['peak_memory_mb']:.0f} MB",
                f"differs by {ours['largest_difference']:.1e}",
            ),
        ]
    first = result["first_iteration"]
    if first is not None:
        said = f"{first['p50_ms']:.0f} / {first['p95_ms']:.0f} ms"
        table.append(("strength to first painted iteration, p50 / p95", said, "", ""))
    return table


def _largest_difference(folder: Path) -> float:
    ours: npt.NDArray[np.float32] = np.load(folder / RESULT.format("ours"), mmap_mode="r")
    direct: npt.NDArray[np.float32] = np.load(folder / RESULT.format("direct"), mmap_mode="r")
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, direct, strict=True))
