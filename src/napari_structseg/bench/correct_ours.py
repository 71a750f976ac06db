"""From a stroke to the labels of the visible slice. Run as a program by `bench.correct`."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from napari_structseg.bench.correct import CorrectSettings, after_warm_up, dabs
from napari_structseg.bench.memory import megabytes, peak_bytes, resident_bytes
from napari_structseg.bench.ours import random_distribution
from napari_structseg.bench.timing import percentiles
from napari_structseg.controls import Controls
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import Request, Result, SliceLabels, View


def measure(settings: CorrectSettings) -> dict[str, Any]:
    """Ask the engine for sample 1 with one dab of the brush more each time.

    What the engine does behind the slice goes on, as it does while somebody paints.

    Returns
    -------
    dict
        ``stroke_to_labels`` with ``p50_ms`` and ``p95_ms``; ``first_stroke_ms``, which also
        gathers what is confirmed; ``peak_memory_mb``, parameters included.
    """
    before = resident_bytes()
    engine = Engine(random_distribution(settings.shape), 0.001)
    view, controls = View(0, settings.shape[0] // 2), Controls(sample=1)
    arrived = threading.Condition()
    newest = 0

    def receive(result: Result) -> None:
        nonlocal newest
        if isinstance(result, SliceLabels):
            with arrived:
                newest = result.generation
                arrived.notify_all()

    engine.result.connect(receive)

    def ask(request: Request) -> float:
        started = time.perf_counter()
        generation = engine.request(request)
        with arrived:
            arrived.wait_for(lambda: newest >= generation)
        return time.perf_counter() - started

    ask(Request(controls, view))
    seconds = [
        ask(Request(controls, view, strokes=strokes))
        for strokes in dabs(settings.shape, settings.strokes)
    ]
    engine.close()
    engine.join()
    return {
        "stroke_to_labels": percentiles(after_warm_up(seconds)),
        "first_stroke_ms": round(1e3 * seconds[0], 3),
        "peak_memory_mb": megabytes(peak_bytes() - before),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(CorrectSettings.from_command_line())))
