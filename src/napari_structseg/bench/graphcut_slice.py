"""How long the visible slice takes under a CRF whose sliders move, as the dock asks for it."""

from __future__ import annotations

import threading
import time

import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.bench.timing import percentiles, slider_values
from napari_structseg.controls import Controls
from napari_structseg.distributions import PointLogits
from napari_structseg.errors import StructSegError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import Request, Result, SliceLabels, View

_WARM_UP = 3
_PATIENCE_SECONDS = 120.0


def slice_times(
    logits: npt.NDArray[np.float32], data: npt.NDArray[np.float32], moves: int
) -> dict[str, float]:
    """Wall time from a moved weight to the labels of the slice in the middle.

    The engine works in a thread of its own, with the whole volume to be cut behind the slice, as
    in the dock; the next move comes when the slice is there. w2 and w3 move in turn, from 0.5 to 2.

    Parameters
    ----------
    logits
        Of the classes, ``(K, *spatial)``.
    data
        The image, ``(1, *spatial)``.
    moves
        How many are timed.

    Returns
    -------
    dict
        ``p50_ms`` and ``p95_ms``.
    """
    shape = data.shape[1:]
    image = Image(data, Geometry.from_affine(shape, np.eye(4)), ("image",))
    engine = Engine(PointLogits(torch.from_numpy(logits)), 1e-3, image=image)
    waiting = _Waiting(engine)
    view = View(0, shape[0] // 2) if len(shape) > 2 else View(0, 0)
    try:
        spec, seconds = CRFSpec(), []
        for what, value in slider_values(_WARM_UP + moves):
            field = "smooth" if what == "temperature" else "contrast"
            spec = spec.model_copy(update={field: value})
            request = Request(Controls(coupling="crf", crf=spec), view, n_thumbnails=0)
            seconds.append(waiting.seconds(request))
    finally:
        engine.close()
        engine.join(_PATIENCE_SECONDS)
    return percentiles(seconds[_WARM_UP:])


class _Waiting:
    """Asks, and waits for the slice."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._answered = 0
        self._is_there = threading.Event()
        self._error: StructSegError | None = None
        engine.result.connect(self._take)
        engine.failed.connect(self._fail)

    def seconds(self, request: Request) -> float:
        self._is_there.clear()
        began = time.perf_counter()
        generation = self._engine.request(request)
        if not self._is_there.wait(_PATIENCE_SECONDS):
            raise TimeoutError(f"no slice came within {_PATIENCE_SECONDS:.0f} s")
        if self._error is not None:
            raise self._error
        seconds = time.perf_counter() - began
        self._answered = generation
        return seconds

    def _take(self, result: Result) -> None:
        if isinstance(result, SliceLabels) and result.generation > self._answered:
            self._is_there.set()

    def _fail(self, error: StructSegError) -> None:
        self._error = error
        self._is_there.set()
