"""What models say of themselves: read once for each version of a file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from napari_structseg.errors import WeightsError
from napari_structseg.io.checks import is_nifti_path
from napari_structseg.io.weights import find_model, read_spec
from napari_structseg.models import ModelSpec


def spec_of(model: str | None) -> ModelSpec | None:
    """A model's specification.

    Parameters
    ----------
    model
        Name of a shipped model, or a file.

    Returns
    -------
    ModelSpec or None
        None if there is none, as of a file of class probabilities, or it cannot be used: running
        it says why.
    """
    if model is None or is_nifti_path(model):
        return None
    try:
        path = find_model(model)
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except (WeightsError, OSError):
        return None


@lru_cache(maxsize=64)
def _read(path: Path, _changed: int, _size: int) -> ModelSpec:
    return read_spec(path)
