"""What models say of themselves: read once for each version of a file."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from napari_structseg.errors import ConfigError, WeightsError
from napari_structseg.io.checks import is_nifti_path
from napari_structseg.io.model_files import find_model
from napari_structseg.io.other_programs.members import is_given
from napari_structseg.io.weights import read_spec
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.other_prior import check_fits
from napari_structseg.prediction.specs import Spec


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
    if model is None or is_nifti_path(model) or is_given(model):
        return None
    try:
        path = find_model(model)
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except (WeightsError, OSError):
        return None


def fitting_priors(models: Iterable[str], refined: Spec) -> list[str]:
    """Those models, by name or file, whose MRF can refine what another one gives."""
    fitting = []
    for model in models:
        spec = spec_of(model)
        if spec is None:
            continue
        try:
            check_fits(spec, refined)
        except ConfigError:
            continue
        fitting.append(model)
    return fitting


@lru_cache(maxsize=64)
def _read(path: Path, _changed: int, _size: int) -> ModelSpec:
    return read_spec(path)
