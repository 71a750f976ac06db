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
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_structseg.errors import ConfigError

RATER_SEPARATOR = "__"
DESCRIPTION = "dataset.json"
_MAX_CLASSES, _MAX_NAMED = 255, 5
# Of dataset.json.
_MAX_BYTES = 10_000_000
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


class Description(BaseModel):
    """dataset.json of nnU-Net, version 2 or 1; `raters` and `spacing` are for stacks alone."""

    model_config = ConfigDict(extra="ignore")

    channel_names: dict[int, str] | None = None
    modality: dict[int, str] | None = None
    labels: dict[str, Any]
    file_ending: Literal[".nii.gz", ".nii", ".png"] = ".nii.gz"
    n_training: int | None = Field(default=None, alias="numTraining")
    raters: tuple[str, ...] = ()
    spacing: tuple[Annotated[float, Field(gt=0)], ...] | None = None


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


def read_description(path: Path) -> Description:
    """Read dataset.json.

    Raises
    ------
    ConfigError
        If it cannot be read, or is not valid.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"There is no folder {path.parent}. Give the folder of a data set.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(
                f"{path} has {path.stat().st_size} bytes, but a description of a data set has at "
                f"most {_MAX_BYTES}. Is it another file?"
            )
        return Description.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"Cannot read {path}: {error.strerror}. A data set needs a {DESCRIPTION}, as in "
            "nnU-Net's raw layout; docs/training.md shows one."
        ) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc'])) or 'the file':.80}: {p['msg']}"
            for p in error.errors()[:_MAX_NAMED]
        )
        raise ConfigError(
            f"{path} is not a valid description of a data set ({problems}). docs/training.md "
            "shows one that is."
        ) from error


def channels_of(description: Description, folder: Path) -> tuple[str, ...]:
    """Names of the channels, or ConfigError if they are not numbered from 0."""
    names = description.channel_names or description.modality or {}
    if not names or sorted(names) != list(range(len(names))):
        raise ConfigError(
            f'{folder / DESCRIPTION} must name the channels, as in "channel_names": {{"0": "T1", '
            f'"1": "FLAIR"}}, counted from 0; it has {f"{sorted(names)}":.80}.'
        )
    return tuple(names[index] for index in sorted(names))


def classes_of(description: Description, folder: Path) -> tuple[str, ...]:
    """Names of the labels 0, 1, ..., or ConfigError if there are gaps or doubles."""
    # Version 1 maps numbers to names, version 2 names to numbers.
    first_version = all(isinstance(value, str) for value in description.labels.values())
    pairs = [
        (key, value) if first_version else (value, key) for key, value in description.labels.items()
    ]
    by_value = {}
    for value, name in pairs:
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value)):
            raise ConfigError(
                f"{folder / DESCRIPTION}: the label {name!r:.80} must be one whole number, but it "
                f"is {value!r:.80}. Regions of several labels are not supported: give each its own "
                "number."
            )
        by_value[int(value)] = name
    if "ignore" in by_value.values():
        raise ConfigError(
            f"{folder / DESCRIPTION} has an 'ignore' label, which is not supported. Remove it, "
            "and give the voxels that have it another label."
        )
    if len(pairs) < 2 or sorted(by_value) != list(range(len(pairs))):
        raise ConfigError(
            f"{folder / DESCRIPTION} must name at least two labels, numbered 0 (background), 1, "
            f"2, ... without gaps; it has {f'{sorted(by_value)}':.80}."
        )
    names = tuple(by_value[value] for value in sorted(by_value))
    if len(set(names)) < len(names) or not all(names) or len(names) > _MAX_CLASSES:
        raise ConfigError(
            f"{folder / DESCRIPTION} must give each label a name of its own, and have at most "
            f"{_MAX_CLASSES} labels; it has {', '.join(map(repr, names))}."
        )
    return names


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
