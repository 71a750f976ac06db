"""LIDC-IDRI slices as a data set that `structseg train` and `structseg evaluate` read."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import matplotlib.image
import numpy as np
import numpy.typing as npt

# Two slices of every nodule. The second adds to the training alone, so that a nodule counts once
# where anything is measured.
PARTS = ("first", "second")
TRAINED_ON_BOTH = "train"
# Written last: a conversion that was cut off is made again.
DESCRIPTION = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "nodule": 1}}


def prepare(source: Path, target: Path, size: int) -> Path:
    """Convert the slices once, and give the folder of the data set.

    Parameters
    ----------
    source
        Holds ``first`` and ``second``, each with ``images.zip`` (PNG files), ``masks_packbits.npz``
        and ``index.csv``, which has the split of each patient.
    target
        Folder to make.
    size
        Pixels that are kept along each side, around the middle: all 128, or fewer. Each slice is
        centred on its nodule.
    """
    if (target / "dataset.json").is_file():
        return target
    target.mkdir(parents=True, exist_ok=True)
    parts = [_read(source / name, size, first=name == PARTS[0]) for name in PARTS]
    np.save(target / "images.npy", np.concatenate([images for images, _, _ in parts]))
    np.save(target / "labels.npy", np.concatenate([labels for _, labels, _ in parts]))
    with (target / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "patient", "split"))
        for _, _, rows in parts:
            writer.writerows((row["key"], row["patient"], row["split"]) for row in rows)
    (target / "dataset.json").write_text(json.dumps(DESCRIPTION), encoding="utf-8")
    return target


def _read(
    folder: Path, size: int, *, first: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[dict[str, str]]]:
    """Images ``(N, 1, size, size)``, labels ``(N, 4, size, size)``, and lines of the index."""
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [n for n, row in enumerate(rows) if first or row["split"] == TRAINED_ON_BOTH]
    with zipfile.ZipFile(folder / "images.zip") as archive:
        images = np.stack([_png(archive.read(rows[n]["key"])) for n in kept])
    with np.load(folder / "masks_packbits.npz") as file:
        labels = np.unpackbits(file["masks"][kept], axis=-1)
    start = (images.shape[-1] - size) // 2
    middle = (..., slice(start, start + size), slice(start, start + size))
    return images[:, None][middle], labels[middle], [rows[n] for n in kept]


def _png(content: bytes) -> npt.NDArray[np.uint8]:
    grey = matplotlib.image.imread(io.BytesIO(content), format="png")
    return np.round(grey * 255).astype(np.uint8)
