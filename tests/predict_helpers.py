"""An image, a model and the command `structseg predict`, for its tests."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_structseg.cli import main
from nifti_files import save
from tiny_models import tiny_model

SHAPE = (20, 18, 12)
# Turned by half a radian about z, anisotropic, and with x towards the left.
OBLIQUE = np.array(
    [
        [-1.5 * np.cos(0.5), np.sin(0.5), 0, 40],
        [1.5 * np.sin(0.5), np.cos(0.5), 0, -25],
        [0, 0, 3, 12],
        [0, 0, 0, 1],
    ]
)
NAMES = ["entropy.nii.gz", "mean.nii.gz", "sample-001.nii.gz", "sample-002.nii.gz"]


def blob(*shape: int, seed: int = 0) -> np.ndarray:
    """A bright noisy ball, nowhere 0."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    noise = np.random.default_rng(seed).normal(scale=40, size=shape)
    return np.clip(700 * np.exp(-3 * (grid**2).sum(axis=0)) + noise, 1, None).astype(np.int16)


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny.safetensors")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "T1.nii.gz", blob(*SHAPE), OBLIQUE)


def run(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, says: tuple[str, ...]) -> None:
    """The command ends with code 2 and a message, and writes no results."""
    out = Path(str(arguments[arguments.index("--out") + 1]))
    before = sorted(out.iterdir()) if out.is_dir() else []
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for part in says:
        assert part in message.replace("\n", " ")
    assert (sorted(out.iterdir()) if out.is_dir() else []) == before
