"""Tiny corrected cases and models for tests of fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

from napari_structseg.finetuning.settings import FinetuneSettings, make_settings
from napari_structseg.models import ClassSpec, HeadSpec
from tiny_models import tiny_model

SHAPE = (20, 18, 16)
CLASSES = (
    ClassSpec(name="background", color="#000000"),
    ClassSpec(name="ball", color="#ff0000"),
)


def ball(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image with a bright ball in noise, and its labels."""
    grid = np.indices(shape) - np.reshape([n / 2 for n in shape], (-1, *[1] * len(shape)))
    labels = (np.sqrt((grid**2).sum(axis=0)) < min(shape) / 3).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(100, 10, shape)
    return (noise + 80 * labels).astype(np.float32), labels


def write_map(path: Path, values: np.ndarray) -> Path:
    # Files are in order x, y, z; the arrays of this program run the other way.
    nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), path)
    return path


def write_case(folder: Path, name: str = "case", seed: int = 0) -> dict[str, object]:
    """A corrected case as files, as the settings name it."""
    image, labels = ball(seed=seed)
    return {
        "image": [write_map(folder / f"{name}.nii.gz", image)],
        "labels": write_map(folder / f"{name}-labels.nii.gz", labels),
    }


def write_dataset(folder: Path, names: tuple[str, ...] = ("background", "ball")) -> Path:
    """Three cases in the layout that training takes."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        image, labels = ball(seed=10 + number)
        write_map(folder / "imagesTr" / f"c{number}_0000.nii.gz", image)
        write_map(folder / "labelsTr" / f"c{number}.nii.gz", labels)
    description = {
        "channel_names": {"0": "T1"},
        "labels": {name: label for label, name in enumerate(names)},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def ball_model(folder: Path, kind: str = "low_rank", **fields) -> Path:
    head = HeadSpec(kind=kind, **({"rank": 2} if kind == "low_rank" else {}))
    return tiny_model(
        folder / f"{kind}.safetensors",
        **{"classes": CLASSES, "head": head, "patch": (8, 8, 8), **fields},
    )


def ball_settings(folder: Path, **fields) -> FinetuneSettings:
    """Few short steps on one case."""
    if "model" not in fields:
        fields["model"] = str(ball_model(folder))
    if "cases" not in fields and "sessions" not in fields:
        fields["cases"] = [write_case(folder)]
    return make_settings(
        **{
            "steps": 6,
            "learning_rate": 1e-2,
            "samples": 4,
            "validate_every": 3,
            "weights_every": 2,
            "device": "cpu",
            "augment": False,
            **fields,
        }
    )
