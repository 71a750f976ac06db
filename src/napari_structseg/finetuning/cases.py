"""Corrected cases, from files and from sessions, and which of their voxels carry loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from napari_structseg.correction.export import ResultRecord
from napari_structseg.correction.identity import identify
from napari_structseg.correction.journal import Work, read_work
from napari_structseg.data.cases import UNREVIEWED, ReadCase
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.finetuning.settings import (
    CaseFiles,
    FinetuneSettings,
    LearnFrom,
    SessionFolder,
)
from napari_structseg.image import Image
from napari_structseg.io.channels import read_channels
from napari_structseg.io.checks import file_stem
from napari_structseg.models import ModelSpec

Labels = npt.NDArray[np.uint8]

_MAX_NAMED = 5


def read_cases(settings: FinetuneSettings, spec: ModelSpec) -> list[ReadCase]:
    """Read every corrected case, and check that it is one of the model's.

    Returns
    -------
    list
        Their labels are ``UNREVIEWED`` where no loss is carried.

    Raises
    ------
    ConfigError
        If classes or channels are not those of the model.
    InputError, MemoryLimitError
        If a file or a session cannot be used.
    """
    files = [_from_files(one, settings.learn_from, spec) for one in settings.cases]
    sessions = [_from_session(one, settings.learn_from, spec) for one in settings.sessions]
    return [*files, *sessions]


def _from_files(files: CaseFiles, learn_from: LearnFrom, spec: ModelSpec) -> ReadCase:
    image = _image(files.image, spec)
    raters = []
    for path in (files.labels, *files.other_raters):
        labels = _map(path, image)
        _check_labels(labels, spec, path)
        _check_record(path, spec)
        raters.append(labels)
    if files.reviewed is not None:
        where = _map(files.reviewed, image)
        if learn_from == "strokes":
            _check_labels(where, spec, files.reviewed, most=spec.n_classes)
            raters = [where - 1]
        raters = [np.where(where != 0, labels, UNREVIEWED) for labels in raters]
    return _case(files.labels.name, image, np.stack(raters), str(files.labels))


def _from_session(session: SessionFolder, learn_from: LearnFrom, spec: ModelSpec) -> ReadCase:
    work = read_work(session.folder)
    names = tuple(one.name for one in work.header.classes)
    _check_names(names, spec, f"The session in {session.folder}")
    paths = session.image
    if not paths:
        if work.header.image.path is None:
            raise InputError(
                f"The session in {session.folder} is of {work.header.image.name}, which came from "
                "no file. Save that image, and name its file together with the session."
            )
        paths = (Path(work.header.image.path),)
    image = _image(paths, spec)
    if identify(image).grid != work.header.image.grid:
        raise InputError(
            f"The session in {session.folder} belongs to {work.header.image.name}, whose voxels "
            f"lie otherwise than those of {paths[0]}. Name the image that was corrected."
        )
    said = _said(work, learn_from)[None]
    return _case(work.header.image.name, image, said, str(session.folder))


def _said(work: Work, learn_from: LearnFrom) -> npt.NDArray[np.integer]:
    """The labels of a session, where they count."""
    result, strokes = work.correction.result, work.correction.strokes
    if learn_from == "strokes":
        said = np.full(result.shape, UNREVIEWED, np.uint8)
        said.reshape(-1)[strokes.voxels] = strokes.labels
        return said
    if learn_from == "locked":
        everything = tuple(slice(0, size) for size in result.shape)
        return np.where(result.protected(everything), result.labels, UNREVIEWED)
    return result.labels.copy()


def _case(name: str, image: Image, raters: npt.NDArray[Any], where: str) -> ReadCase:
    said = raters.astype(np.uint8)
    if (said == UNREVIEWED).all():
        raise InputError(
            f"{where} says of no voxel what it is, so there is nothing to learn from. Review or "
            "correct a part of it first, or learn from the whole result."
        )
    return ReadCase(name, "", image, said, where, image.geometry.has_spacing)


def _image(paths: Sequence[Path], spec: ModelSpec) -> Image:
    image = read_channels(list(paths))
    if image.ndim != spec.dimensions:
        raise ConfigError(
            f"The model {spec.name!r} is {spec.dimensions}-D, but {paths[0]} is {image.ndim}-D "
            f"with shape {image.spatial_shape}. Fine-tuning takes images of the model's own "
            "dimensions."
        )
    if image.n_channels != len(spec.channels):
        raise ConfigError(
            f"The model {spec.name!r} expects {len(spec.channels)} channels "
            f"({', '.join(spec.channels)}), but the case of {paths[0]} has {image.n_channels}. "
            "Name a file for each."
        )
    return image


def _map(path: Path, image: Image) -> npt.NDArray[Any]:
    """A map with one value for each voxel of an image."""
    found = read_channels([path])
    if found.n_channels != 1 or not image.geometry.same_grid(found.geometry):
        raise InputError(
            f"{path} must hold one value for each voxel of its image, of shape "
            f"{image.spatial_shape}, but it has the shape {found.spatial_shape} and "
            f"{found.n_channels} channels, or lies elsewhere. Resample it onto the image's grid."
        )
    values: npt.NDArray[Any] = found.data[0]
    return values


def _check_labels(
    labels: npt.NDArray[Any], spec: ModelSpec, path: Path, most: int | None = None
) -> None:
    values = np.unique(labels)
    largest = spec.n_classes - 1 if most is None else most
    wrong = [one for one in values if one < 0 or one > largest or one % 1]
    if wrong:
        named = ", ".join(f"{one:g}" for one in wrong[:_MAX_NAMED])
        raise ConfigError(
            f"{path} holds the values {named}, but the model {spec.name!r} has the labels 0 to "
            f"{spec.n_classes - 1} ({', '.join(spec.class_names)}), and strokes have a value that "
            "is larger by 1. Renumber them."
        )


def _check_record(path: Path, spec: ModelSpec) -> None:
    """Where a result was saved by this program, its record says what the labels mean."""
    beside = path.parent / f"{file_stem(path)}.json"
    try:
        record = ResultRecord.model_validate_json(beside.read_bytes())
    except (OSError, ValidationError):
        # Of files from elsewhere there is none: then the numbers have to do.
        return
    if record.file == path.name:
        _check_names(tuple(one.name for one in record.classes), spec, str(path))


def _check_names(names: tuple[str, ...], spec: ModelSpec, what: str) -> None:
    if names != spec.class_names:
        raise ConfigError(
            f"{what} has the classes {', '.join(names)} (labels 0, 1, ...), but the model "
            f"{spec.name!r} has {', '.join(spec.class_names)}. They must be the same, in the same "
            "order: fine-tune the model that was corrected, or renumber the labels."
        )
