"""Cardiac slices with scribbles as a data set that `structseg train` and `run.py` read.

    python experiments/correction/acdc.py --source DATA/acdc --target FOLDER
    structseg train FOLDER --config experiments/correction/acdc.toml --out RUN

DATA/acdc holds ``patientNNN_frameNN.h5`` with ``image``, ``label`` and ``scribble`` (4: nothing
said) of ACDC (Bernard et al. 2018), as WSL4MIS publishes them. Needs h5py.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

# The central pixels of a slice: the heart with a margin.
SIZE = 128
TESTED = ("patient061", "patient081")
SCRIBBLES_NAME = "scribbles.npy"
DESCRIPTION = {
    "channel_names": {"0": "cine MR"},
    "labels": {
        "background": 0,
        "right ventricle": 1,
        "myocardium": 2,
        "left ventricle": 3,
    },
}


def prepare(source: Path, target: Path) -> None:
    """Write every slice that shows the heart; two of five patients are for the test."""
    images, labels, scribbles, rows = [], [], [], []
    for path in sorted(source.glob("*.h5")):
        with h5py.File(path) as file:
            image, label, scribble = (file[key][()] for key in ("image", "label", "scribble"))
        patient = path.stem.partition("_")[0]
        split = "test" if patient in TESTED else "train"
        for place in np.flatnonzero(label.any(axis=(1, 2))):
            images.append(central(image[place]))
            labels.append(central(label[place]))
            scribbles.append(central(scribble[place]))
            rows.append((f"{path.stem}_{place:02d}", patient, split))
    if not rows:
        raise SystemExit(f"{source} was expected to hold patientNNN_frameNN.h5 files of ACDC.")
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / "images.npy", np.stack(images).astype(np.float32)[:, None])
    np.save(target / "labels.npy", np.stack(labels).astype(np.uint8)[:, None])
    np.save(target / SCRIBBLES_NAME, np.stack(scribbles).astype(np.uint8))
    with (target / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "patient", "split"))
        writer.writerows(rows)
    (target / "dataset.json").write_text(json.dumps(DESCRIPTION), encoding="utf-8")


def central(plane: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The middle of a plane, ``(SIZE, SIZE)``."""
    top, left = ((size - SIZE) // 2 for size in plane.shape)
    return plane[top : top + SIZE, left : left + SIZE]


def main() -> int:
    """Prepare the slices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    options = parser.parse_args()
    prepare(options.source, options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
