"""The pictures of docs/walkthrough.md: the docks, driven as a user would.

    python experiments/walkthrough/run.py --out docs/images/walkthrough

Needs a display (or xvfb-run) and nilearn, which carries the brain. Sessions, runs and versions go
to a folder of their own, which is removed. Seeds are fixed; the figures are printed, and written
beside the pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
import torch
from scans import CLASSES, scan
from skimage.io import imsave

from napari_structseg.bench.frames import wait_until
from napari_structseg.distributions import Strokes
from napari_structseg.evaluation.dice import dice_per_class
from napari_structseg.reader import image_layers
from napari_structseg.widgets.correct import CorrectWidget
from napari_structseg.widgets.explore import ExploreWidget
from napari_structseg.widgets.finetune_dock import FinetuneWidget

HERE = Path(__file__).resolve().parent
# The simulated user of the experiment on corrections.
sys.path.append(str(HERE.parent / "correction"))
from user import next_dab  # noqa: E402

_WINDOW = (1720, 1000)
_N_STROKES, _RADIUS = 6, 3.0
# Slices that the user corrects entirely and locks, counted from the middle.
_REVIEWED = (-6, 0, 6)


def main() -> int:
    """Take the walk, and write pictures and figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("SESSIONS", "FINETUNING", "VERSIONS"):
            os.environ[f"STRUCTSEG_{name}"] = str(Path(folder) / name.lower())
        found = Walk(options.out).take(options.steps, options.rate)
    text = json.dumps(found, indent=1) + "\n"
    (options.out / "figures.json").write_text(text, encoding="utf-8")
    return 0


class Walk:
    """The window with all three docks.

    Parameters
    ----------
    out
        Folder for pictures.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._began = out, time.monotonic()
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*_WINDOW)
        self.explore = ExploreWidget(self.viewer)
        self.correct = CorrectWidget(self.viewer)
        self.finetune = FinetuneWidget(self.viewer)
        self._docks = [
            self.viewer.window.add_dock_widget(dock, name=name, tabify=True)
            for dock, name in (
                (self.explore, "Explore segmentations"),
                (self.correct, "Correct the segmentation"),
                (self.finetune, "Fine-tune the model"),
            )
        ]

    def take(self, steps: int, rate: float) -> dict[str, object]:
        """The loop of docs/walkthrough.md."""
        state = self.explore.state
        truth = self.open(1)
        self.explore.source.choose_model("brain-tissue")
        self.run()
        found: dict[str, object] = {"1, as it is": self.dice(truth)}
        self.picture("1-explore", 0)
        self.explore.strip.select(3)
        self.picture("2-sample", 0)
        self.explore.strip.select(0)
        self.settle()

        self.say_strokes(truth)
        self.picture("3-strokes", 1)
        found["1, after strokes"] = self.dice(truth)
        self.review(truth)
        self.picture("4-reviewed", 1)

        state.finetuning.update(
            {"steps": steps, "weights_every": steps, "learning_rate": rate, "learn_from": "locked"}
        )
        self.finetune.training.start_button.click()
        tuning = self.finetune.tuning
        self.wait(lambda: bool(tuning.course and tuning.course.step > steps // 2) or self.failed())
        self.picture("5-training", 2, waits=False)
        self.wait(lambda: not tuning.is_busy())
        self.finetune.compare.look()
        self.settle()
        self.picture("6-improved", 2)
        self.finetune.preview.adopt()
        self.settle()
        found["1, tuned"] = self.dice(truth)

        truth = self.open(2)
        self.run()
        found["2, tuned"] = self.dice(truth)
        self.picture("7-next", 2)
        better = self.labels.copy()
        versions = self.finetune.versions
        versions.list.setCurrentRow(1)
        versions.back_button.click()
        self.settle()
        found["2, as it is"] = self.dice(truth)
        found["voxels that changed"] = int(np.count_nonzero(better != self.labels))
        self.picture("8-back", 2)
        found |= {"steps": steps, "rate": rate, "minutes": round(self.seconds / 60, 1)}
        self.viewer.close()
        return found

    @property
    def seconds(self) -> float:
        """Since the walk began."""
        return time.monotonic() - self._began

    @property
    def labels(self) -> np.ndarray:
        """What is shown."""
        return self.explore.layers.segmentation.data

    def open(self, number: int) -> np.ndarray:
        """Open a scan, choose it, and give what is right."""
        image, truth = scan(number)
        for data, settings, _kind in image_layers(image):
            layer = self.viewer.add_image(data, **settings)
        self.explore.source.choose_image(layer)
        self.viewer.dims.set_point(0, image.spatial_shape[0] // 2 * image.spacing[0])
        return truth

    def run(self) -> None:
        """Press Run."""
        self.explore.source.run_button.click()
        self.settle()

    def say_strokes(self, truth: np.ndarray) -> None:
        """Dabs into the largest mistakes of what is shown, each answered before the next."""
        for _ in range(_N_STROKES):
            said = self.explore.state.correction.strokes or Strokes.none(truth.shape)
            dab = next_dab(self.labels, truth, said, radius=_RADIUS, reviewed=truth > 0)
            if dab is None:
                return
            label = int(dab.labels[0])
            self.correct.strokes.class_buttons[label].click()
            layer = self.correct.correcting.book.strokes_layer
            places = np.unravel_index(dab.voxels, truth.shape)
            with layer.block_history():
                layer.data_setitem(tuple(places), label + 1)
            self.settle()

    def review(self, truth: np.ndarray) -> None:
        """Accept everything, correct some slices entirely with the brush, and lock these."""
        correcting = self.correct.correcting
        correcting.result.accept_all()
        self.settle()
        layer, middle = correcting.book.result_layer, len(truth) // 2
        reviewed = np.zeros(truth.shape, bool)
        reviewed[[middle + offset for offset in _REVIEWED]] = True
        with layer.block_history():
            for label in range(len(CLASSES)):
                wrong = reviewed & (truth == label) & (np.asarray(layer.data) != label)
                if wrong.any():
                    layer.data_setitem(np.nonzero(wrong), label)
        self.settle()
        correcting.result.lock_region(reviewed, is_locked=True)
        self.settle()

    def dice(self, truth: np.ndarray) -> dict[str, float]:
        """Of each class in what is shown."""
        per_class = dice_per_class(self.labels, truth, len(CLASSES))
        found = {name: round(float(one), 3) for name, one in zip(CLASSES, per_class, strict=True)}
        sys.stdout.write(f"{self.seconds:.0f} s: {found}\n")
        sys.stdout.flush()
        return found

    def failed(self) -> bool:
        """Whether an error is shown, which ends the walk."""
        for dock in (self.explore, self.correct, self.finetune):
            if dock.banner.message:
                raise SystemExit(dock.banner.message)
        return False

    def settle(self) -> None:
        """Wait until everything is computed and painted."""
        docks = (self.explore, self.correct, self.finetune)
        self.wait(lambda: self.failed() or not any(dock.is_busy() for dock in docks))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait as long as it takes."""
        wait_until(condition, "The walk")

    def picture(self, name: str, dock: int, *, waits: bool = True) -> None:
        """Save the whole window, with a dock in front."""
        self._docks[dock].raise_()
        if waits:
            self.settle()
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        imsave(self._out / f"{name}.png", pixels[..., :3], check_contrast=False)


if __name__ == "__main__":
    sys.exit(main())
