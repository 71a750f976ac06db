"""DICOM SR: volumes with their spread over samples, and hypotheses with their frequencies.

A measurement report (TID 1500) of highdicom. DICOM has codes for a mean and a median, not for a
percentile over samples nor for the frequency of a hypothesis: these are private, with their meaning
in words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_structseg.errors import InputError
from napari_structseg.evaluation.volumes import volume_interval
from napari_structseg.exports.dicom.codes import PRIVATE_SCHEME, as_text, codes_of
from napari_structseg.exports.dicom.segmentation import (
    MANUFACTURER,
    MODEL_NAME,
    SUFFIX,
    Maker,
    new_uid,
)
from napari_structseg.exports.dicom.source import SourceSeries
from napari_structseg.exports.samples import SampleSet
from napari_structseg.exports.segments import Segment
from napari_structseg.io.atomic import atomic_path
from napari_structseg.render.hypotheses import Hypotheses, Mode

if TYPE_CHECKING:
    from pydicom import Dataset

_SERIES_NUMBER = 901
_MILLILITRE, _SQUARE_MILLIMETRE = ("ml", "milliliter"), ("mm2", "square millimeter")


def write_measurement_report(
    path: str | Path,
    samples: SampleSet,
    segmentation: Dataset,
    source: SourceSeries,
    segments: Sequence[Segment],
    *,
    maker: Maker,
) -> None:
    """Write the volumes of a labelling and of samples, and the hypotheses.

    Parameters
    ----------
    path
        Ends in .dcm. Written atomically.
    samples
        The labelling, and the samples.
    segmentation
        The DICOM SEG of the labelling, which the volumes refer to.
    source
        What it lies over.
    segments
        Of the segmentation, in its order.
    maker
        What made it.

    Raises
    ------
    InputError
        If the name ends otherwise, or the system refuses.
    """
    from highdicom.sr import Comprehensive3DSR

    if not str(path).lower().endswith(SUFFIX):
        raise InputError(f"Cannot write {path}: the name of a DICOM SR must end in {SUFFIX}.")
    made = Comprehensive3DSR(
        evidence=[*source.datasets, segmentation],
        content=_content(samples, segmentation, segments, maker),
        series_instance_uid=new_uid(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=version("napari-structseg")[:64],
        device_serial_number="none",
        series_description=as_text(f"{maker.name}, volumes (research)"),
        specific_character_set=source.datasets[0].SpecificCharacterSet,
    )
    with atomic_path(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)


def _content(
    samples: SampleSet, segmentation: Dataset, segments: Sequence[Segment], maker: Maker
) -> Any:  # noqa: ANN401 -- highdicom's
    from highdicom.sr import (
        CodedConcept,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    device = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=new_uid(), name=as_text(maker.name), manufacturer_name=MANUFACTURER
        ),
    )
    groups = [
        _volumes(samples, segmentation, number, one) for number, one in enumerate(segments, start=1)
    ]
    found = samples.hypotheses()
    if found is not None:
        groups.append(_hypotheses(found))
    return MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device),
        procedure_reported=CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )


def _volumes(samples: SampleSet, segmentation: Dataset, number: int, segment: Segment) -> Any:  # noqa: ANN401 -- highdicom's
    from highdicom.sr import (
        CodedConcept,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        ReferencedSegment,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes

    is_area = samples.unit == "mm²"
    value, meaning = _SQUARE_MILLIMETRE if is_area else _MILLILITRE
    unit = CodedConcept(value, "UCUM", meaning)
    name = codes.SCT.Area if is_area else codes.SCT.Volume
    found: list[tuple[float, Any]] = [(float(samples.shown_sizes[segment.label]), None)]
    if len(samples):
        sizes = samples.sizes[:, segment.label]
        low, high = volume_interval(sizes)
        found += [
            (float(sizes.mean()), codes.SCT.Mean),
            (float(np.median(sizes)), codes.SCT.Median),
            (float(low), CodedConcept("P05", PRIVATE_SCHEME, "5th percentile over samples")),
            (float(high), CodedConcept("P95", PRIVATE_SCHEME, "95th percentile over samples")),
        ]
    category, kind = codes_of(segment.class_name or segment.name)
    about: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=new_uid(), identifier=as_text(segment.name)),
        "finding_category": CodedConcept(*category),
        "finding_type": CodedConcept(*kind),
        "measurements": [
            Measurement(name=name, value=size, unit=unit, derivation=derivation)
            for size, derivation in found
        ],
    }
    if not samples.shown_sizes[segment.label]:
        # There is no frame of it that could be referred to.
        return MeasurementsAndQualitativeEvaluations(**about)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=ReferencedSegment.from_segmentation(segmentation, number), **about
    )


def _hypotheses(found: Hypotheses) -> Any:  # noqa: ANN401 -- highdicom's
    from highdicom.sr import (
        CodedConcept,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        TrackingIdentifier,
    )

    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=new_uid(), identifier="Hypotheses"),
        finding_type=CodedConcept("HYPOTHESES", PRIVATE_SCHEME, "Hypotheses of the segmentation"),
        measurements=[
            Measurement(
                name=CodedConcept(*_frequency_of(mode)),
                value=100 * mode.frequency,
                unit=CodedConcept("%", "UCUM", "percent"),
            )
            for mode in found.modes
        ],
    )


def _frequency_of(mode: Mode) -> tuple[str, str, str]:
    value = hashlib.sha256(mode.name.encode("utf-8")).hexdigest()[:16].upper()
    return value, PRIVATE_SCHEME, as_text(f"Share of samples: {mode.name}")
