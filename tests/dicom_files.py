"""DICOM series for tests, written with pydicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

AXIAL = (1, 0, 0, 0, 1, 0)
SERIES_UID = "1.2.826.0.1.3680043.8.498.1"
FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.2"
PATIENT = "Doe^Jane"


def oblique(degrees: float = 25.0) -> tuple[float, ...]:
    """Cosines of rows and columns that lie along no axis."""
    about_z, about_x = np.radians(degrees), np.radians(degrees / 2)
    turn_z = np.array(
        [[np.cos(about_z), -np.sin(about_z), 0], [np.sin(about_z), np.cos(about_z), 0], [0, 0, 1]]
    )
    turn_x = np.array(
        [[1, 0, 0], [0, np.cos(about_x), -np.sin(about_x)], [0, np.sin(about_x), np.cos(about_x)]]
    )
    axes = turn_z @ turn_x
    return (*axes[:, 0].round(9), *axes[:, 1].round(9))


def normal_of(orientation: tuple[float, ...]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def make_slice(
    pixels: np.ndarray,
    *,
    position: tuple[float, float, float] | np.ndarray = (0, 0, 0),
    orientation: tuple[float, ...] = AXIAL,
    spacing: tuple[float, float] = (0.8, 0.6),
    **attributes: object,
) -> Dataset:
    """A CT slice; `attributes` replace or, where None, remove what it says."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = SERIES_UID
    dataset.StudyInstanceUID = f"{SERIES_UID}.9"
    dataset.FrameOfReferenceUID = FRAME_OF_REFERENCE
    dataset.PatientName, dataset.PatientID = PATIENT, "4711"
    dataset.Modality, dataset.SeriesDescription, dataset.SeriesNumber = "CT", "Thorax 2.0", 3
    dataset.InstanceNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelSpacing = list(spacing)
    dataset.SliceThickness = 2
    dataset.ImagePositionPatient = [float(one) for one in position]
    dataset.ImageOrientationPatient = list(orientation)
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def make_series(
    volume: np.ndarray,
    *,
    step: float = 2.0,
    origin: tuple[float, float, float] = (-30.0, 40.0, -100.0),
    orientation: tuple[float, ...] = AXIAL,
    **attributes: object,
) -> list[Dataset]:
    """Slices ``volume[k]`` at equal distances along the normal, in that order."""
    normal = normal_of(orientation)
    return [
        make_slice(
            pixels,
            position=np.array(origin) + step * k * normal,
            orientation=orientation,
            **attributes,
        )
        for k, pixels in enumerate(volume)
    ]


def save_series(folder: Path, slices: list[Dataset], seed: int = 0) -> Path:
    """Write slices under names and with numbers that say nothing about their order."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(slices))
    for name, index in enumerate(order):
        slices[index].InstanceNumber = name + 1
        save(slices[index], folder / f"I{name:04d}.dcm")
    return folder


def make_enhanced(slices: list[Dataset], order: list[int]) -> Dataset:
    """The same slices as one multi-frame file, its frames in another order."""
    dataset = slices[0]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    frames = []
    for index in order:
        frame, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = slices[index].ImagePositionPatient
        values.RescaleSlope = slices[index].RescaleSlope
        values.RescaleIntercept = slices[index].RescaleIntercept
        frame.PlanePositionSequence = Sequence([place])
        frame.PixelValueTransformationSequence = Sequence([values])
        frames.append(frame)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = dataset.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, 2
    shared.PlaneOrientationSequence = Sequence([plane])
    shared.PixelMeasuresSequence = Sequence([measures])
    dataset.PixelData = b"".join(slices[index].PixelData for index in order)
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(dataset, name)
    dataset.NumberOfFrames = len(order)
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset
