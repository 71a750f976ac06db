"""dataset.json: what a data set says of itself, in nnU-Net's words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_structseg.errors import ConfigError

DESCRIPTION = "dataset.json"
_MAX_CLASSES, _MAX_NAMED = 255, 5
# Of dataset.json.
_MAX_BYTES = 10_000_000


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
