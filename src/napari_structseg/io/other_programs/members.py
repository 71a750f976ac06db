"""Members of a distribution that other programs made: which files they are, and what they hold."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from napari_structseg.errors import InputError
from napari_structseg.io.checks import is_nifti_path
from napari_structseg.io.formats import NIFTI, PNG, has_ending
from napari_structseg.io.other_programs.maps import (
    FileMaps,
    LabelMap,
    find_map_of_each_class,
    find_maps,
    with_values,
)
from napari_structseg.io.other_programs.nnunet import SUFFIX, NnunetPrediction, find_prediction
from napari_structseg.io.tensors import holds_tensors

GivenMaps = NnunetPrediction | FileMaps
"""Probabilities of one member: looked at, and read when they are needed."""

MAX_MEMBERS = 256
# nnU-Net numbers the channels of a case: T1_0000.nii.gz is channel 0 of the case T1.
_CHANNEL = re.compile(r"_\d{4}$")
_DESCRIPTIONS = {"dataset.json", "plans.json", "plans.pkl"}


def find_members(
    paths: Sequence[Path], case: str, *, n_classes: int | None = None
) -> list[GivenMaps]:
    """Look at what each member gives for a case.

    Parameters
    ----------
    paths
        One for each member: a file (.npz of nnU-Net; NIfTI of probabilities or labels), or a
        folder with the file of the case. A single folder of nothing but such folders stands for
        them, in the order of their names and numbers.
    case
        What the image is called, without a suffix; nnU-Net's number of a channel may follow.
    n_classes
        How many classes label maps tell apart, whether they hold all or not; None: those that
        they hold together.

    Returns
    -------
    list
        In the order of the paths, all with as many classes on one voxel grid.

    Raises
    ------
    InputError
        If a file is missing, cannot be used, or does not fit to the first.
    """
    if not 1 <= len(paths) <= MAX_MEMBERS:
        raise InputError(
            f"From 1 to {MAX_MEMBERS} members were expected, but {len(paths)} came. Give one file "
            "or folder for each."
        )
    if len(paths) == 1:
        paths = _unfolded(paths[0].expanduser())
    members = _of_same_labels([_find(path, case) for path in paths], n_classes)
    first = members[0]
    for other in members[1:]:
        if other.n_classes != first.n_classes or _differ(first.names, other.names):
            raise InputError(
                f"The members must tell the same classes apart, but {first.path} has "
                f"{_described(first)}, and {other.path} has {_described(other)}. Leave one out."
            )
        if not other.geometry.same_grid(first.geometry):
            raise InputError(
                f"The members must lie on one voxel grid, but {other.path} has shape "
                f"{other.geometry.spatial_shape}, and {first.path} has "
                f"{first.geometry.spatial_shape}, or they lie in different places. Predict them "
                "from the same image."
            )
    return members


def find_file(folder: Path, case: str) -> Path | None:
    """The file, or the folder of files, that a folder holds for a case; None: there is none."""
    for name in dict.fromkeys((case, _CHANNEL.sub("", case))):
        for suffix in (SUFFIX, *reversed(NIFTI), *PNG, ""):
            found = folder / f"{name}{suffix}"
            if found.is_file() if suffix else found.is_dir() and name:
                return found
    return None


def is_given(path: str) -> bool:
    """Whether a name is that of predictions of other programs: an .npz, or a folder.

    An .npz that holds the parameters of a distribution stands in a model's place.
    """
    # Unlike pathlib, this has an answer for a name that the system refuses.
    if path.lower().endswith(SUFFIX):
        return not holds_tensors(path)
    return os.path.isdir(path)


def _unfolded(path: Path) -> list[Path]:
    """The folders in a folder that holds no predictions itself; otherwise the path."""
    try:
        inside = list(path.iterdir()) if path.is_dir() else []
    except OSError:
        # Whoever reads it says why it cannot be.
        return [path]
    folders = [one for one in inside if one.is_dir() and not one.name.startswith(".")]
    holds_files = any(
        is_nifti_path(one) or one.name.lower().endswith(SUFFIX) for one in inside if one.is_file()
    )
    if holds_files or not folders or len(folders) > MAX_MEMBERS:
        return [path]
    return sorted(folders, key=_by_number)


def _by_number(path: Path) -> list[tuple[int, str]]:
    """fold_10 comes after fold_9."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
    ]


def _find(path: Path, case: str) -> GivenMaps:
    path = path.expanduser()
    try:
        if path.is_dir():
            path = _in_folder(path, case)
        if path.is_dir():
            return find_map_of_each_class(path)
    except OSError as error:
        raise InputError(
            f"Cannot look into {path}: {error.strerror or error}. Check the name and the folder."
        ) from error
    if path.name.lower().endswith(SUFFIX):
        return find_prediction(path)
    if not has_ending(path, NIFTI + PNG):
        raise InputError(
            f"{path} is no prediction that can be read: a folder, an .npz of nnU-Net, a NIfTI "
            "file of probabilities or labels, or a PNG of labels was expected."
        )
    return find_maps(path)


def _in_folder(folder: Path, case: str) -> Path:
    """The file of a case in a folder of predictions, or the folder itself, of one case."""
    found = find_file(folder, case)
    if found is not None:
        return found
    names = sorted(path.name for path in folder.iterdir())
    predictions = [name for name in names if name.lower().endswith(SUFFIX)]
    if len(predictions) == 1:
        return folder / predictions[0]
    is_of_cases = bool(predictions) or not _DESCRIPTIONS.isdisjoint(names)
    if not is_of_cases and any(is_nifti_path(name) for name in names):
        return folder
    raise InputError(
        f"{folder} holds no prediction of the case {case!r}: {case}.npz, {case}.nii.gz or a "
        f"folder {case} was expected, but there are {', '.join(names[:5]) or 'no files'}. Name "
        "the file itself, or give the image the name of its case."
    )


def _of_same_labels(members: list[GivenMaps], n_classes: int | None) -> list[GivenMaps]:
    """Label maps know each other's labels."""
    values = [one.values for one in members if isinstance(one, LabelMap) and one.values is not None]
    union = sorted(set(chain.from_iterable(values)))
    if n_classes is not None and union:
        if union[-1] >= n_classes:
            raise InputError(
                f"{members[0].path}, or a member beside it, holds the label {union[-1]}, but there "
                f"are {n_classes} classes, from 0 to {n_classes - 1}. Renumber the labels."
            )
        union = list(range(n_classes))
    return [
        with_values(one, union) if isinstance(one, LabelMap) and one.values is not None else one
        for one in members
    ]


def _differ(first: tuple[str, ...] | None, other: tuple[str, ...] | None) -> bool:
    return first is not None and other is not None and first != other


def _described(one: GivenMaps) -> str:
    names = "" if one.names is None else f" ({', '.join(one.names)})"
    return f"{one.n_classes} classes{names}"
