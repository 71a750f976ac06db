"""The files of a prediction in the format that was asked for: NIfTI, or that of another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_structseg.exports.dicom.measurement_report import write_measurement_report
from napari_structseg.exports.dicom.segmentation import (
    Maker,
    Place,
    new_uid,
    write_dicom_segmentation,
)
from napari_structseg.exports.dicom.source import SourceSeries, check_source, read_source
from napari_structseg.exports.nrrd import write_map, write_segmentation
from napari_structseg.exports.samples import SampleSet
from napari_structseg.exports.segments import Segment, segments_of, segments_of_modes
from napari_structseg.image import Image
from napari_structseg.io.nifti import write_volume
from napari_structseg.models import ClassSpec

if TYPE_CHECKING:
    from pydicom import Dataset

Format = Literal["nifti", "nrrd", "dicom-seg"]
NIFTI = ".nii.gz"
# Of labellings, of maps, and of the probabilities of all classes.
_SUFFIXES: dict[Format, tuple[str, str, str]] = {
    "nifti": (NIFTI, NIFTI, NIFTI),
    "nrrd": (".seg.nrrd", ".nrrd", ".nrrd"),
    # DICOM SEG has no maps of other numbers.
    "dicom-seg": (".dcm", NIFTI, ".dcm"),
}
SUFFIXES = tuple(dict.fromkeys(one for kind in _SUFFIXES.values() for one in kind))
HYPOTHESES = "hypotheses"
SR_NAME = "measurements.dcm"


def check_format(kind: Format, image: Image) -> None:
    """Refuse a format that an image cannot be written in, before anything is computed.

    Raises
    ------
    InputError
        If it is DICOM, and the image did not come from a DICOM series, or a library is missing.
    """
    if kind == "dicom-seg":
        check_source(image)


@dataclass(frozen=True, eq=False)
class ResultWriter:
    """Writes the results of one prediction.

    Attributes
    ----------
    folder
        Where.
    kind
        The format.
    image
        What was segmented.
    classes
        In label order.
    maker
        What made them.
    keep_patient
        Whether DICOM files say who the patient is.
    """

    folder: Path
    kind: Format
    image: Image
    classes: Sequence[ClassSpec]
    maker: Maker
    keep_patient: bool = False
    _made: list[Dataset | None] = field(default_factory=list, init=False)

    def write(self, plain: str, array: npt.NDArray[Any]) -> str:
        """Write labels, a map, or probabilities.

        Parameters
        ----------
        plain
            What it is called as NIfTI.
        array
            Labels, uint8, ``(*spatial)``; a map, float32, the same; or probabilities
            ``(C, *spatial)``.

        Returns
        -------
        name
            Of the file.

        Raises
        ------
        InputError
            If the system refuses.
        """
        stem = plain.removesuffix(NIFTI)
        is_map = array.dtype.kind == "f"
        is_stack = array.ndim > self.image.ndim
        path = self.folder / (stem + _SUFFIXES[self.kind][is_map + is_stack])
        if path.name.endswith(NIFTI):
            description = f"napari-structseg {stem} of {self.maker.name}"
            write_volume(path, array, self.image.geometry, description=description)
        elif path.name.endswith(".dcm"):
            self._write_dicom(path, array, segments_of(self.classes))
        elif is_map:
            write_map(path, array, self.image.geometry)
        else:
            write_segmentation(path, array, self.image.geometry, segments_of(self.classes))
        return path.name

    def write_hypotheses(self, samples: SampleSet) -> list[Path]:
        """Write the representatives of the hypotheses as one file of several segment sets.

        Returns
        -------
        paths
            What was written: nothing where there are too few samples for hypotheses, or the
            format has no such files.

        Raises
        ------
        InputError
            If the system refuses.
        MemoryLimitError
            If it does not fit into memory.
        """
        found = samples.hypotheses()
        if found is None or self.kind == "nifti":
            return []
        path = self.folder / (HYPOTHESES + _SUFFIXES[self.kind][0])
        stack = np.stack([samples.whole(mode.representative) for mode in found.modes])
        segments = segments_of_modes(self.classes, found)
        if self.kind == "nrrd":
            write_segmentation(path, stack, self.image.geometry, segments)
        else:
            # Of a hypothesis only what is there: each segment is a set of frames.
            there = [one for one in segments if (stack[one.layer] == one.label).any()]
            self._write_dicom(path, stack, there or segments[:1])
        return [path]

    def write_measurements(self, samples: SampleSet) -> Path:
        """Write volumes and hypotheses as DICOM SR, about the labelling that was written first.

        Raises
        ------
        InputError
            If the system refuses.
        """
        segmentation = self._made[0]
        if segmentation is None:
            raise AssertionError("the first one is kept")
        path = self.folder / SR_NAME
        segments = segments_of(self.classes)
        write_measurement_report(
            path, samples, segmentation, self._source, segments, maker=self.maker
        )
        return path

    def _write_dicom(
        self, path: Path, array: npt.NDArray[Any], segments: Sequence[Segment]
    ) -> None:
        made = write_dicom_segmentation(
            path,
            array,
            self._source,
            segments,
            maker=self.maker,
            place=Place(self._series_uid, len(self._made) + 1),
            what=path.name.removesuffix(".dcm"),
        )
        # Of the others only their number is needed.
        self._made.append(None if self._made else made)

    @cached_property
    def _series_uid(self) -> str:
        # The results of one prediction are one series.
        return new_uid()

    @cached_property
    def _source(self) -> SourceSeries:
        return read_source(self.image, keep_patient=self.keep_patient)
