"""Short names of models: files of one name are told apart by their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from napari_structseg.io.checks import file_stem, is_nifti_path
from napari_structseg.io.other_programs.members import is_given


def told_apart(models: Sequence[str]) -> list[str]:
    """Names of models, each with as many of its folders as tell it from the others.

    Parameters
    ----------
    models
        Names of shipped models, which stay as they are, and paths of files; all different.
    """
    n_folders = [0] * len(models)
    while True:
        names = [_name(model, n) for model, n in zip(models, n_folders, strict=True)]
        counts = Counter(names)
        grown = [
            min(n + (counts[name] > 1), len(_folders(model)))
            for model, name, n in zip(models, names, n_folders, strict=True)
        ]
        if grown == n_folders:
            return names
        n_folders = grown


def _folders(model: str) -> tuple[str, ...]:
    """The folders of a file; none for a shipped model."""
    path = Path(model)
    return path.absolute().parent.parts[1:] if path.suffix or path.is_absolute() else ()


def _name(model: str, n_folders: int) -> str:
    path, folders = Path(model), _folders(model)
    name = f"{file_stem(path)} (probabilities)" if is_nifti_path(path) else path.stem
    if is_given(model):
        name = f"{path.name} (predictions)"
    return "/".join((*folders[len(folders) - n_folders :], name))
