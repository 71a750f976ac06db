"""Undo of full-volume actions on the user's own result, beside keeping a copy of each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.bench.timing import N_CLASSES, environment, percentiles
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.autosave import Autosave
from napari_structseg.correction.identity import identify
from napari_structseg.image import Image
from napari_structseg.models import ClassSpec

_CORNERS = 8
# Weight of what is drawn for a sample beside what all samples share: a tenth of the voxels change.
_OF_SAMPLE = 0.15


def bench_history(
    shape: tuple[int, int, int], actions: int, report: Callable[[str], None]
) -> dict[str, Any]:
    """Accept whole labellings, undo all and redo all, with autosave to a temporary folder.

    Parameters
    ----------
    shape
        (Z, Y, X) of the image.
    actions
        How many labellings are accepted: two samples of one distribution and an unrelated one, of
        which most voxels are other, in turn.
    report
        Told what is measured now.

    Returns
    -------
    result
        Times in ms, bytes of a step, and the same of keeping copies under ``direct``.
    """
    report("labellings")
    labellings = _labellings(shape)
    order = [labellings[at % len(labellings)] for at in range(actions)]
    with tempfile.TemporaryDirectory() as folder:
        correction = Correction(shape, N_CLASSES)
        image = identify(Image.from_array(labellings[0]))
        classes = [ClassSpec(name=f"{label}", color="#808080") for label in range(N_CLASSES)]
        autosave = Autosave(correction, image, classes, root=Path(folder))
        report("accept")
        acts = [partial(correction.accept, one, name=f"{at}") for at, one in enumerate(order)]
        accept = _each(acts, autosave)
        n_bytes = [entry.n_bytes for entry in correction.past.done]
        report("undo")
        undo = _each([correction.undo] * len(n_bytes), autosave)
        is_same = not correction.result.labels.any()
        report("redo")
        redo = _each([correction.redo] * len(n_bytes), autosave)
        is_same &= bool(np.array_equal(correction.result.labels, order[-1]))
        autosave.close()
    return {
        "shape": list(shape),
        "classes": N_CLASSES,
        "actions": len(n_bytes),
        "accept": percentiles(accept),
        "undo": percentiles(undo),
        "redo": percentiles(redo),
        "bytes_per_step": round(float(np.mean(n_bytes))),
        "is_same": is_same,
        "direct": _direct(order),
        "environment": environment(),
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What the terminal shows: name, ours, copies."""
    direct = result["direct"]

    def times(part: dict[str, Any], name: str) -> str:
        return f"{part[name]['p50_ms']:.1f} ms (p95 {part[name]['p95_ms']:.1f})"

    return [
        *((name, times(result, name), times(direct, name)) for name in ("accept", "undo", "redo")),
        (
            "memory of a step",
            f"{result['bytes_per_step'] / 1e6:.2f} MB",
            f"{direct['bytes_per_step'] / 1e6:.2f} MB",
        ),
    ]


def _labellings(shape: tuple[int, ...]) -> list[npt.NDArray[np.uint8]]:
    """Two samples of one distribution, and an unrelated labelling; all classes are smooth."""
    random = np.random.default_rng(0)
    zoom = [size / _CORNERS for size in shape]

    def field() -> npt.NDArray[np.float32]:
        coarse = random.standard_normal((N_CLASSES, *[_CORNERS] * len(shape))).astype(np.float32)
        return np.stack([ndimage.zoom(one, zoom, order=1) for one in coarse])

    shared = field()
    samples = [np.argmax(shared + _OF_SAMPLE * field(), axis=0) for _ in range(2)]
    return [one.astype(np.uint8) for one in (*samples, np.argmax(field(), axis=0))]


def _direct(order: list[npt.NDArray[np.uint8]]) -> dict[str, Any]:
    """A copy of the whole volume for each step."""
    labels = np.zeros_like(order[0])
    copies: list[npt.NDArray[np.uint8]] = [labels.copy()]

    def take(labelling: npt.NDArray[np.uint8]) -> None:
        labels[...] = labelling
        copies.append(labels.copy())

    accept = [_seconds(partial(take, labelling)) for labelling in order]
    undo = [_seconds(partial(np.copyto, labels, copy)) for copy in reversed(copies[:-1])]
    redo = [_seconds(partial(np.copyto, labels, copy)) for copy in copies[1:]]
    times = {"accept": accept, "undo": undo, "redo": redo}
    return {
        **{name: percentiles(seconds) for name, seconds in times.items()},
        "bytes_per_step": labels.nbytes,
    }


def _each(acts: Sequence[Callable[[], object]], autosave: Autosave) -> list[float]:
    """Seconds of each, with time to write it to disk before the next."""
    seconds = []
    for act in acts:
        seconds.append(_seconds(act))
        autosave.flush()
    return seconds


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
