"""Pictures of a scan, its reference, the mean and samples on three planes, to be looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from cases import TISSUES, Scan
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from measures import SEED, Labeller

from napari_structseg.controls import Controls

COLORS = ListedColormap(["#000000", "#56b4e9", "#e69f00", "#cc79a7"])
N_SAMPLES = 6
N_PLANES = 3


def draw_montage(labeller: Labeller, scan: Scan, iterations: int, path: Path) -> None:
    """Write a picture with a row for each plane.

    Parameters
    ----------
    labeller
        Labels of the whole scan for controls.
    scan
        With its reference.
    iterations
        Of mean field.
    path
        Of the PNG.
    """
    reference = np.zeros(scan.image.spatial_shape, np.uint8)
    for label, name in TISSUES.items():
        if name in scan.reference:
            reference[scan.reference[name]] = label
    columns: list[tuple[str, npt.NDArray[np.generic]]] = [("scan", scan.image.data[0])]
    columns.append(("reference", reference))
    for number in range(N_SAMPLES + 1):
        controls = Controls(seed=SEED, sample=number, iterations=iterations)
        columns.append((f"sample {number}" if number else "mean", labeller(controls)))
    figure, axes = plt.subplots(
        N_PLANES, len(columns), figsize=(2.2 * len(columns), 2.4 * N_PLANES), squeeze=False
    )
    where = _middle(reference)
    for row, axis in enumerate(range(reference.ndim)):
        for panel, (title, volume) in zip(axes[row], columns, strict=True):
            plane = np.take(volume, where[axis], axis=axis)
            labels = volume.dtype == np.uint8 and title != "scan"
            panel.imshow(
                plane,
                cmap=COLORS if labels else "gray",
                vmin=0,
                vmax=len(TISSUES) if labels else np.percentile(volume, 99.5),
                interpolation="nearest",
            )
            panel.set_axis_off()
            if row == 0:
                panel.set_title(title, fontsize=9)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=0.95, wspace=0.02, hspace=0.02)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, facecolor="black")
    plt.close(figure)


def _middle(labels: npt.NDArray[np.uint8]) -> list[int]:
    """A slice along each axis a little before the middle of the reference."""
    places = []
    for axis in range(labels.ndim):
        others = tuple(other for other in range(labels.ndim) if other != axis)
        found = np.flatnonzero(labels.any(axis=others))
        places.append(int(found[len(found) * 45 // 100]))
    return places
