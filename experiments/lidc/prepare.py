"""LIDC-IDRI slices as a data set that `structseg train` and `structseg evaluate` read.

python experiments/lidc/prepare.py --source DATA/lidc --target FOLDER --hounsfield
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from napari_structseg.prediction.hounsfield import Scale, estimated_scale

# Two slices of every nodule. The second adds to the training alone, so that a nodule counts once
# where anything is measured.
PARTS = ("first", "second")
TRAINED_ON_BOTH = "train"
# Written last: a conversion that was cut off is made again.
# Of slices whose own scale cannot be estimated: the medians of the others.
USUAL_SCALE = (8.3, -981.0)
# What is known of the scales, beside the data.
SCALES_NAME = "hounsfield.json"
_QUANTILES = (5, 25, 50, 75, 95)
DESCRIPTION = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "nodule": 1}}


def prepare(source: Path, target: Path, size: int, *, hounsfield: bool = False) -> Path:
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
    hounsfield
        Write estimated Hounsfield units (int16) in place of the 8-bit numbers; ``hounsfield.json``
        says of how many slices the scale was found, and how much it differs.
    """
    if (target / "dataset.json").is_file():
        return target
    target.mkdir(parents=True, exist_ok=True)
    parts = [_read(source / name, size, first=name == PARTS[0]) for name in PARTS]
    images = np.concatenate([images for images, _, _, _ in parts])
    if hounsfield:
        # Of the whole slices: a part of them may hold no soft tissue.
        scales = [estimated_scale(one) for _, _, _, whole in parts for one in whole]
        images = in_hounsfield(images, [scale or USUAL_SCALE for scale in scales])
        text = json.dumps(spread(scales), indent=2) + "\n"
        (target / SCALES_NAME).write_text(text, encoding="utf-8")
    np.save(target / "images.npy", images)
    np.save(target / "labels.npy", np.concatenate([labels for _, labels, _, _ in parts]))
    with (target / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "patient", "split"))
        for _, _, rows, _ in parts:
            writer.writerows((row["key"], row["patient"], row["split"]) for row in rows)
    (target / "dataset.json").write_text(json.dumps(DESCRIPTION), encoding="utf-8")
    return target


def in_hounsfield(images: npt.NDArray[np.uint8], scales: Sequence[Scale]) -> npt.NDArray[np.int16]:
    """Grey values ``(N, ...)`` in Hounsfield units, each image by its own scale."""
    result = np.empty(images.shape, np.int16)
    for image, (step, lowest), target in zip(images, scales, result, strict=True):
        target[:] = np.round(step * image + lowest)
    return result


def spread(scales: Sequence[Scale | None]) -> dict[str, object]:
    """How many scales were found, and quantiles of both ends and of a grey level in HU."""
    found = np.array([scale for scale in scales if scale is not None])
    values = {
        "hu_of_a_grey_level": found[:, 0],
        "hu_of_grey_0": found[:, 1],
        "hu_of_grey_255": found[:, 1] + 255 * found[:, 0],
    }
    return {
        "slices": len(scales),
        "found": len(found),
        "quantiles": {
            name: {f"{q} %": round(float(np.percentile(one, q)), 1) for q in _QUANTILES}
            for name, one in values.items()
        },
    }


_Pixels = npt.NDArray[np.uint8]


def _read(
    folder: Path, size: int, *, first: bool
) -> tuple[_Pixels, _Pixels, list[dict[str, str]], _Pixels]:
    """Images ``(N, 1, size, size)``, labels ``(N, 4, size, size)``, index, whole images."""
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [n for n, row in enumerate(rows) if first or row["split"] == TRAINED_ON_BOTH]
    with zipfile.ZipFile(folder / "images.zip") as archive:
        images = np.stack([_png(archive.read(rows[n]["key"])) for n in kept])
    with np.load(folder / "masks_packbits.npz") as file:
        labels = np.unpackbits(file["masks"][kept], axis=-1)
    start = (images.shape[-1] - size) // 2
    middle = (..., slice(start, start + size), slice(start, start + size))
    return images[:, None][middle], labels[middle], [rows[n] for n in kept], images


def _png(content: bytes) -> _Pixels:
    with Pillow.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("L"))


def main() -> None:
    """Convert the slices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="holds first and second")
    parser.add_argument("--target", type=Path, required=True, help="folder to make")
    parser.add_argument("--size", type=int, default=128, help="pixels along each side")
    parser.add_argument("--hounsfield", action="store_true", help="estimated HU, not 8-bit")
    options = parser.parse_args()
    prepare(options.source, options.target, options.size, hounsfield=options.hounsfield)


if __name__ == "__main__":
    main()
