"""Predictions as other programs write them, of an image whose truth is known."""

from __future__ import annotations

import json
import pickle  # noqa: TID251 -- writes what nnU-Net writes; the package never reads it so
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from nifti_files import save

# In file order: x, y, z.
SHAPE = (11, 9, 7)
N_CLASSES = 3
# Turned by half a radian, anisotropic, with x towards the left and an origin of its own.
OBLIQUE = np.array(
    [
        [-0.8 * np.cos(0.5), 1.5 * np.sin(0.5), 0, 40],
        [0.8 * np.sin(0.5), 1.5 * np.cos(0.5), 0, -25],
        [0, 0, 3, 12],
        [0, 0, 0, 1],
    ]
)
# No two axes, and no two ends of one, are alike.
CROP = ((1, 7), (2, 9), (3, 10))


def truth() -> np.ndarray:
    """Labels in file order: blocks that no flip and no exchange of axes maps onto themselves."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:8, 2:6, 1:3] = 1
    labels[6:10, 4:8, 2:6] = 2
    return labels


def probabilities(labels: np.ndarray, seed: int = 0, sure: float = 3.0) -> np.ndarray:
    """Probabilities of classes, ``(*labels.shape, C)``, the most probable as in the labels."""
    logits = np.random.default_rng(seed).uniform(-1, 1, (*labels.shape, N_CLASSES))
    np.put_along_axis(logits, labels[..., np.newaxis].astype(int), sure, axis=-1)
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)


def write_image(folder: Path, name: str = "case_0000.nii.gz") -> Path:
    voxels = np.random.default_rng(5).uniform(1, 200, SHAPE).astype(np.float32)
    return save(folder / name, voxels, OBLIQUE)


def itk_of(affine: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Spacing, origin and direction as ITK reads a file with this affine."""
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return {
        "spacing": tuple(map(float, spacing)),
        "origin": tuple(map(float, lps[:3, 3])),
        "direction": tuple(map(float, (lps[:3, :3] / spacing).ravel())),
    }


def write_v2(
    folder: Path, maps: np.ndarray, case: str = "case", affine: np.ndarray = OBLIQUE, **more: Any
) -> Path:
    """As nnU-Net v2: the whole grid, (C, z, y, x), and what SimpleITK says of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{case}.npz", probabilities=maps.transpose(3, 2, 1, 0))
    itk = itk_of(affine)
    properties = {
        "sitk_stuff": itk,
        "spacing": list(itk["spacing"])[::-1],
        "shape_before_cropping": maps.shape[2::-1],
        "bbox_used_for_cropping": [[0, size] for size in maps.shape[2::-1]],
        "class_locations": {1: np.arange(6).reshape(2, 3), 2: []},
        **more,
    }
    (folder / f"{case}.pkl").write_bytes(pickle.dumps(properties))
    return folder / f"{case}.npz"


def write_v1(
    folder: Path, maps: np.ndarray, crop: Sequence[Sequence[int]] = CROP, **more: Any
) -> Path:
    """As nnU-Net v1: half floats of the cropped grid, (C, z, y, x), and ITK's words in the .pkl."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = maps.transpose(3, 2, 1, 0)
    inside = tuple(slice(start, stop) for start, stop in crop)
    np.savez_compressed(
        folder / "case.npz", softmax=ordered[(slice(None), *inside)].astype(np.float16)
    )
    itk = itk_of(OBLIQUE)
    properties = OrderedDict(
        original_size_of_raw_data=np.array(ordered.shape[1:]),
        original_spacing=np.array(itk["spacing"])[::-1],
        crop_bbox=[list(part) for part in crop],
        size_after_cropping=tuple(part.stop - part.start for part in inside),
        **{f"itk_{name}": value for name, value in itk.items()},
    )
    properties.update(more)
    (folder / "case.pkl").write_bytes(pickle.dumps(properties))
    return folder / "case.npz"


def write_dataset(folder: Path, labels: dict[str, Any], **more: Any) -> None:
    """A dataset.json of nnU-Net."""
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, **more}))


def in_file_order(path: Path) -> np.ndarray:
    """Voxels of a NIfTI file, as stored."""
    return np.asanyarray(nib.load(path).dataobj)
