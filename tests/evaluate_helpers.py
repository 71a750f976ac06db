"""A small data set, a model and the command `structseg evaluate`, for its tests."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from napari_structseg.cli import main
from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.models import ClassSpec
from tiny_models import tiny_model

SIZE = 24
N_SAMPLES = 6
CLASSES = (ClassSpec(name="background", color="#000000"), ClassSpec(name="nodule", color="#ff0000"))
DESCRIPTION = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "nodule": 1},
    "file_ending": ".png",
}


def disc(radius: float) -> np.ndarray:
    axis = np.arange(SIZE) - SIZE // 2
    return (axis[:, None] ** 2 + axis**2 < radius**2).astype(np.uint8)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two cases of each of three patients, by two raters; nobody marked the last."""
    folder = tmp_path / "Dataset001_Nodule"
    rng = np.random.default_rng(0)
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    for index, (patient, nodule) in enumerate(itertools.product("abc", "12")):
        image = rng.integers(1, 60, (SIZE, SIZE)) + 150 * disc(5)
        save(folder / "imagesTr" / f"{patient}-{nodule}_0000.png", image)
        for rater, radius in (("ann", 5 + index % 3), ("bea", 4 * (index % 2))):
            labels = disc(radius) if index < 5 else disc(0)
            save(folder / "labelsTr" / f"{patient}-{nodule}__{rater}.png", labels)
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    return folder


def stacked(dataset: Path, folder: Path) -> Path:
    """The same cases as arrays; those of patient a are of the split train."""
    folder.mkdir()
    cases = list(Cohort(dataset, Selection()))
    np.save(folder / "images.npy", np.stack([case.image.data for case in cases]))
    np.save(folder / "labels.npy", np.stack([case.raters for case in cases]))
    lines = [f"{c.name},{c.name[0]},{'train' if c.name[0] == 'a' else 'test'}" for c in cases]
    (folder / "cases.csv").write_text("\n".join(["case,patient,split", *lines]) + "\n")
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION | {"raters": ["ann", "bea"]}))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return two_class_model(tmp_path / "ssn.safetensors")


def two_class_model(path: Path, **fields) -> Path:
    return tiny_model(path, dimensions=2, **{"classes": CLASSES, **fields})


def save(path: Path, pixels: np.ndarray) -> None:
    imsave(path, pixels.astype(np.uint8), check_contrast=False)


def evaluate(dataset: Path, *arguments: object, samples: int = N_SAMPLES) -> int:
    command = ["evaluate", str(dataset), "--samples", str(samples), "--device", "cpu"]
    return main([*command, *map(str, arguments)])


def rows_of(path: Path) -> list[dict]:
    lines = path.with_name(f"{path.stem}.rows.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def write_table(path: Path) -> Path:
    rows = [f"{p}-{n},P{p},{'test' if p != 'a' else 'train'}" for p in "abc" for n in "12"]
    path.write_text("\n".join(["case,patient,split", *rows]) + "\n")
    return path
