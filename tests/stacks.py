"""Tiny data sets as arrays, with raters who disagree."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

SPLITS = ("train",) * 6 + ("val",) * 3 + ("test",)
# Fits such a data set; two steps take a second.
TRAINING = """
name = "tiny"
dimensions = 2
patch = [8, 8]
batch = 1
steps = 2
validation_cases = 1

[backbone]
widths = [2, 4]
convolutions = [1, 1]

[head]
rank = 2

[loss]
samples = 2
"""


def write_stack(folder: Path, size: int = 12) -> Path:
    """Ten images with a bright square, which the first rater outlines and the second does not."""
    rng = np.random.default_rng(1)
    images = rng.integers(60, 90, (len(SPLITS), 1, size, size)).astype(np.uint8)
    labels = np.zeros((len(SPLITS), 2, size, size), np.uint8)
    for image, (first, _) in zip(images, labels, strict=True):
        top, left = rng.integers(1, size - 6, 2)
        image[0, top : top + 5, left : left + 5] += 100
        first[top : top + 5, left : left + 5] = 1
    folder.mkdir()
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "nodule": 1}}
    (folder / "dataset.json").write_text(json.dumps(description))
    with (folder / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "split"])
        writer.writerows([f"case-{n}", f"patient-{n}", split] for n, split in enumerate(SPLITS))
    return folder
