"""The user's own result as files: labelling, volumes, strokes, and how it came to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.stored import StoredStep, stored_step
from napari_structseg.errors import InputError
from napari_structseg.exports.dicom.segmentation import Maker
from napari_structseg.image import Image
from napari_structseg.io.nifti import write_volume
from napari_structseg.io.references import FileReference, Sha256, refer_to, voxel_hash
from napari_structseg.models import ClassSpec
from napari_structseg.results.kept_files import check_name, stem_of, write_labels
from napari_structseg.results.labelling import volume_table, write_text
from napari_structseg.results.recipe import installed_versions

# Strokes are 0 for nothing and k + 1 for class k, in one byte.
_MOST_CLASSES_OF_STROKES = 255


class ResultRecord(BaseModel):
    """How a result came to be. Written as JSON beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    file: str = Field(description="Name of the labelling's file.")
    voxels: Sha256 = Field(description="SHA-256 of its voxels, in the order of read_image.")
    classes: tuple[ClassSpec, ...] = Field(description="Name and colour of label 0, 1, ...")
    image: str = Field(description="What the image is called.")
    image_file: FileReference | None = Field(description="None: it came from no file.")
    strokes_file: str | None = Field(
        description="Voxels of which the user has said the class: 0 nothing, k + 1 class k; None: "
        "there are none."
    )
    locked_classes: tuple[int, ...]
    steps: tuple[StoredStep, ...] = Field(
        description="Every action that has led to it, the first one first; none that was undone."
    )
    source: dict[str, JsonValue] | None = Field(
        description="What made the segmentation that was corrected; None: it was not noted."
    )
    versions: dict[str, str]


def save_result(
    path: Path,
    correction: Correction,
    image: Image,
    classes: Sequence[ClassSpec],
    *,
    image_path: Path | None = None,
    source: Mapping[str, JsonValue] | None = None,
    volumes_over_samples: npt.NDArray[np.float64] | None = None,
    keep_patient: bool = False,
) -> list[Path]:
    """Write a result on the grid of its image, and beside it what belongs to it.

    ``NAME.nii.gz`` is the labelling, ``NAME.csv`` the volumes of its classes, ``NAME.json`` a
    :class:`ResultRecord`, and ``NAME-strokes.nii.gz`` the strokes, if there are any.

    Parameters
    ----------
    path
        See :func:`~napari_structseg.results.kept_files.check_name`.
    correction
        What is saved. In another thread, give a copy.
    image
        What it belongs to.
    classes
        In label order.
    image_path
        File of the image; None: it came from no file.
    source
        What made the segmentation that was corrected, as JSON has it; None: it is not known.
    volumes_over_samples
        mL of samples of the distribution that was explored, ``(N, C)``; None: not known.
    keep_patient
        Whether a DICOM file says who the patient is.

    Returns
    -------
    paths
        The labelling first, the record last. Each is whole or not there.

    Raises
    ------
    InputError
        If the image has another shape, the name cannot be used, or a file cannot be written.
    """
    check_name(path, image)
    result = correction.result
    if image.spatial_shape != result.shape:
        raise InputError(
            f"An image of the result's shape {result.shape} was expected, but it is "
            f"{image.spatial_shape}. Give the image that was corrected."
        )
    stem = stem_of(path)
    table, record, strokes = (
        path.parent / f"{stem}{end}" for end in (".csv", ".json", "-strokes.nii.gz")
    )
    has_strokes = len(correction.strokes) > 0 and len(classes) <= _MOST_CLASSES_OF_STROKES
    made = ResultRecord(
        file=path.name,
        voxels=voxel_hash(result.labels),
        classes=tuple(classes),
        image=image.name,
        image_file=None if image_path is None else refer_to(image_path),
        strokes_file=strokes.name if has_strokes else None,
        locked_classes=tuple(sorted(result.locked_classes)),
        steps=tuple(stored_step(step) for step in correction.past.steps),
        source=None if source is None else dict(source),
        versions=installed_versions(),
    )
    description = "napari-structseg"
    write_labels(
        path,
        result.labels,
        image,
        classes,
        maker=Maker("napari-structseg, corrected by hand", by_hand=True),
        what="corrected by hand",
        keep_patient=keep_patient,
    )
    write_text(table, volume_table(result.counts, image, classes, volumes_over_samples))
    if has_strokes:
        array = correction.strokes.to_array().astype(np.uint8)
        write_volume(strokes, array, image.geometry, dtype=np.uint8, description=description)
    write_text(record, made.model_dump_json(indent=2))
    return [path, table, *([strokes] if has_strokes else []), record]
