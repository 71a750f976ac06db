"""NIfTI files for tests."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None, **fields) -> Path:
    """Write a NIfTI file with header fields as given, however wrong they are."""
    nifti = nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    nifti.to_filename(path)
    if fields:
        header = nifti.header
        header["vox_offset"] = 352
        for name, value in fields.items():
            header[name] = value
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            path.write_bytes(gzip.compress(header.binaryblock + gzip.decompress(content)[348:]))
        else:
            path.write_bytes(header.binaryblock + content[348:])
    return path
