"""A figure of what two of the models say about some slices, beside the four raters."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from report import FIGURES, TITLES, save

from napari_structseg.cohort.draws import DrawSettings, draw_case
from napari_structseg.data.stack import Stack, read_stack
from napari_structseg.data.stack_table import TEST, StackCase
from napari_structseg.io.weights import load_weights
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.training.trainer import WEIGHTS_NAME

SHOWN_HALF = "all"
SHOWN = ("prob-unet", "ssn-low-rank")
N_SAMPLES = 6
# Pixels that are shown of each side, around the middle.
SHOWN_SIZE = 64
COLOR = "#f0e442"


def draw_gallery(stack_folder: Path, work: Path) -> None:
    """Draw the figure of the models there are; without any, nothing.

    Parameters
    ----------
    stack_folder
        The converted data.
    work
        Folder with a folder for each model.
    """
    paths = {name: work / name / WEIGHTS_NAME for name in SHOWN}
    predictors = {
        name: Predictor(*load_weights(path)) for name, path in paths.items() if path.exists()
    }
    if not predictors:
        return
    stack = read_stack(stack_folder)
    cases = chosen(stack)
    n_raters = len(stack.raters)
    n_columns = 1 + n_raters + len(predictors) * (1 + N_SAMPLES)
    mpl.rcParams.update({"font.size": 7, "savefig.dpi": 130, "savefig.bbox": "tight"})
    figure, axes = plt.subplots(
        len(cases), n_columns, figsize=(0.72 * n_columns, 0.78 * len(cases)), squeeze=False
    )
    for n_row, (row, case) in enumerate(zip(axes, cases, strict=True)):
        image = stack.image(case)
        columns = [("slice", None)]
        columns += [(f"rater {n + 1}", one) for n, one in enumerate(stack.labels(case))]
        for name, predictor in predictors.items():
            drawn = draw_case(predictor, image, case.name, DrawSettings(N_SAMPLES))
            columns.append((f"{TITLES[name]}:\nmean", drawn.mean))
            columns += [(f"sample {n + 1}", one) for n, one in enumerate(drawn.samples)]
        for axis, (title, labels) in zip(row, columns, strict=True):
            _show(axis, image.data[0], labels)
            if n_row == 0:
                axis.set_title(title, fontsize=6)
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    save(figure, FIGURES / "lidc-samples.png")


def chosen(stack: Stack) -> list[StackCase]:
    """For 1, 2, 3 and 4 raters who marked a nodule, the slice with the median size of it."""
    by_number: dict[int, list[tuple[int, StackCase]]] = {}
    for case in stack.of_split(TEST):
        labels = stack.labels(case)
        n_marked = int(labels.any(axis=(1, 2)).sum())
        by_number.setdefault(n_marked, []).append((int(labels.sum()), case))
    ordered = [
        sorted(by_number[n], key=lambda one: (one[0], one[1].name)) for n in sorted(by_number)
    ]
    return [cases[len(cases) // 2][1] for cases in ordered]


def _show(
    axis: plt.Axes, image: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8] | None
) -> None:
    start = (len(image) - SHOWN_SIZE) // 2
    shown = (slice(start, start + SHOWN_SIZE), slice(start, start + SHOWN_SIZE))
    axis.imshow(image[shown], cmap="gray", vmin=0, vmax=255)
    if labels is not None and labels[shown].any():
        axis.contour(labels[shown], [0.5], colors=COLOR, linewidths=0.7)
    axis.set(xticks=[], yticks=[])
