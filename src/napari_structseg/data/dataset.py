"""Which files make up a data set: nnU-Net's raw layout, and several raters for an image.

.. code-block:: text

    DATASET/
        dataset.json
        imagesTr/CASE_0000.nii.gz    one file for each channel: _0000, _0001, ...
        labelsTr/CASE.nii.gz         the labels; or, with several raters,
        labelsTr/CASE__RATER.nii.gz  one file for each rater of that case

Isensee et al., *nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation*, Nature Methods 2021, for the layout; the raters are an extension of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from napari_structseg.data.description import (
    DESCRIPTION,
    channels_of,
    classes_of,
    read_description,
)
from napari_structseg.errors import ConfigError
from napari_structseg.io.png import SUFFIX as PNG_SUFFIX

RATER_SEPARATOR = "__"
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@dataclass(frozen=True, slots=True)
class Case:
    """One image and who labelled it.

    Attributes
    ----------
    name
        The part of the file names that its files share.
    images
        One file for each channel (or fewer, where a file holds several channels).
    labels
        One file for each rater, in order of name.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]

    @property
    def raters(self) -> tuple[str, ...]:
        """Names of the raters, from those of the files; a single one may have the empty name."""
        names = []
        for path in self.labels:
            name = path.name.removeprefix(self.name).removeprefix(RATER_SEPARATOR)
            for ending in (".gz", ".nii", PNG_SUFFIX):
                name = name.removesuffix(ending)
            names.append(name)
        return tuple(names)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The training part of a data set.

    Attributes
    ----------
    folder
        Where it is.
    channels
        Names of the channels.
    classes
        Names of the labels 0, 1, ...
    cases
        In order of name.
    """

    folder: Path
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    cases: tuple[Case, ...]


def read_dataset(folder: Path) -> Dataset:
    """Read dataset.json and find the files of each training case, without opening them.

    Parameters
    ----------
    folder
        In nnU-Net's raw layout, see the module.

    Raises
    ------
    ConfigError
        If a folder or a file is missing, superfluous or misnamed, or dataset.json is not valid;
        naming the file, and what to do.
    """
    description = read_description(folder / DESCRIPTION)
    channels = channels_of(description, folder)
    classes = classes_of(description, folder)
    ending = description.file_ending
    images = _images(folder / "imagesTr", ending)
    labels = _labels(folder / "labelsTr", ending, images)
    for name, files in labels.items():
        if not files:
            raise ConfigError(
                f"The case {name!r} has no labels: expected {name}{ending} or "
                f"{name}{RATER_SEPARATOR}RATER{ending} in {folder / 'labelsTr'}. Add them, or "
                f"remove its images from {folder / 'imagesTr'}."
            )
    cases = tuple(Case(name, images[name], labels[name]) for name in sorted(images))
    if description.n_training not in (None, len(cases)):
        raise ConfigError(
            f"{folder / DESCRIPTION} says numTraining = {description.n_training}, but "
            f"{folder / 'imagesTr'} holds {len(cases)} cases. Copy the missing cases, or correct "
            "the number."
        )
    return Dataset(folder, channels, classes, cases)


def _files(folder: Path, ending: str) -> list[tuple[str, Path]]:
    """Name without ending, and path, of the visible files of a folder, in order of name."""
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}. A data set has imagesTr and labelsTr.")
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_file() or not path.name.endswith(ending):
            raise ConfigError(
                f"{path} does not belong in a data set of {ending} files. Move it elsewhere, or "
                f"correct file_ending in {DESCRIPTION}."
            )
        found.append((path.name.removesuffix(ending), path))
    return found


def _images(folder: Path, ending: str) -> dict[str, tuple[Path, ...]]:
    by_case: dict[str, dict[int, Path]] = {}
    for stem, path in _files(folder, ending):
        match = _CHANNEL.fullmatch(stem)
        if match is None:
            raise ConfigError(
                f"{path} must be named CASE_0000{ending}, where 0000 counts the channels from 0. "
                "Rename it."
            )
        by_case.setdefault(match["case"], {})[int(match["channel"])] = path
    if not by_case:
        raise ConfigError(f"{folder} holds no {ending} files, so there is nothing to train on.")
    for name, files in by_case.items():
        if sorted(files) != list(range(len(files))):
            raise ConfigError(
                f"The case {name!r} in {folder} has the channels "
                f"{', '.join(f'{index:04d}' for index in sorted(files))}: some are missing. Add "
                "them, or remove the case."
            )
    return {name: tuple(files[i] for i in range(len(files))) for name, files in by_case.items()}


def _labels(folder: Path, ending: str, names: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    raters: dict[str, dict[str, Path]] = {name: {} for name in names}
    for stem, path in _files(folder, ending):
        case, rater = _case_and_rater(stem, raters)
        if case is None:
            raise ConfigError(
                f"{path} belongs to no case: there is no image {stem}_0000{ending}. Add the image, "
                "or remove the labels."
            )
        raters[case][rater] = path
    for name, files in raters.items():
        if "" in files and len(files) > 1:
            raise ConfigError(
                f"The case {name!r} has {files[''].name} beside labels of single raters. Name that "
                f"file {name}{RATER_SEPARATOR}RATER{ending} if it is a rater's, or move it "
                f"elsewhere."
            )
    return {name: tuple(files[rater] for rater in sorted(files)) for name, files in raters.items()}


def _case_and_rater(stem: str, names: Iterable[str]) -> tuple[str | None, str]:
    """The longest case name that fits, since a case's own name may hold the separator."""
    if stem in names:
        return stem, ""
    case = stem
    while RATER_SEPARATOR in case:
        case, _, _ = case.rpartition(RATER_SEPARATOR)
        if case in names:
            return case, stem.removeprefix(case + RATER_SEPARATOR)
    return None, ""
