"""One labelling that is kept: the file, what made it, and a table of its volumes.

The command line writes a folder of results with one recipe. Here a user keeps the one picture that
is chosen: ``NAME.nii.gz``, and beside it ``NAME.json`` and ``NAME.csv``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from napari_structseg.controls import MEAN, Controls
from napari_structseg.distributions import DomainCheck, Strokes
from napari_structseg.exports.dicom.segmentation import Maker
from napari_structseg.image import Image
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.checks import is_nifti_path
from napari_structseg.io.other_programs.members import is_given
from napari_structseg.io.references import (
    FileReference,
    ModelReference,
    Sha256,
    refer_to,
    voxel_hash,
)
from napari_structseg.io.weights import refer_to_model
from napari_structseg.models import ClassSpec
from napari_structseg.prediction.precision import Precision
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.results.kept_files import check_name, stem_of, write_labels
from napari_structseg.results.recipe import installed_versions
from napari_structseg.results.request import CUT, PredictionRequest

_RANGE_PERCENT = (5, 95)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a labelling comes from.

    Attributes
    ----------
    image_path
        File of the image; None: it came from no file.
    model
        Name or path of the model; None: a distribution that was handed over.
    model_path
        Its file.
    prior
        Name or path of another model whose MRF refined the labels.
    roi, window, device, precision, members_as, augment
        What the run was asked for besides.
    until_converged
        Whether mean field ended once converged, which no command asks for.
    has_prior
        Whether there is an MRF at all.
    strokes
        What the user had said of the voxels that were segmented; None: nothing.
    domain
        Whether the model serves the image; None: it does not say.
    """

    image_path: Path | None = None
    model: str | None = None
    model_path: Path | None = None
    prior: str | None = None
    roi: RegionOfInterest | None = None
    window: tuple[float, float] | None = None
    device: str = "cpu"
    precision: Precision = "float32"
    members_as: Literal["members", "normal"] = "members"
    augment: tuple[str, ...] = ()
    until_converged: bool = False
    has_prior: bool = False
    strokes: Strokes | None = None
    domain: DomainCheck | None = None


class LabellingRecord(BaseModel):
    """What made a labelling. Written as JSON beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    file: str = Field(description="Name of the labelling's file.")
    voxels: Sha256 = Field(description="SHA-256 of its voxels, in the order of read_image.")
    classes: tuple[ClassSpec, ...] = Field(description="Name and colour of label 0, 1, ...")
    image: str = Field(description="What the image is called.")
    image_file: FileReference | None = Field(description="None: it came from no file.")
    model: ModelReference | None = Field(description="None: the distribution was handed over.")
    prior: str | None = Field(description="Another model whose MRF refined the labels.")
    controls: Controls
    roi: RegionOfInterest | None
    window: tuple[float, float] | None
    members_as: Literal["members", "normal"] = Field(
        "members", description="Of predictions of other programs, and of test-time augmentation."
    )
    augment: tuple[str, ...] = Field((), description="Changes of test-time augmentation.")
    device: str
    until_converged: bool
    strokes: str | None = Field(
        None,
        description="Strokes that conditioned the model, as packed text of Strokes.to_json; None: "
        "there were none.",
    )
    outside_domain: tuple[str, ...] | None = Field(
        None, description="As in a recipe: what of the image the model was not made for."
    )
    versions: dict[str, str]
    command: tuple[str, ...] | None = Field(
        description="A command that makes the same labels; None: no command does."
    )
    command_file: str | None = Field(description="The file of its results that holds them.")


def write_labelling(
    path: Path,
    labels: npt.NDArray[np.uint8],
    image: Image,
    classes: Sequence[ClassSpec],
    *,
    controls: Controls,
    origin: Origin,
    volumes_over_samples: npt.NDArray[np.float64] | None = None,
    keep_patient: bool = False,
) -> list[Path]:
    """Write a labelling, what made it, and its volumes.

    Parameters
    ----------
    path
        See :func:`~napari_structseg.results.kept_files.check_name`.
    labels
        Of the whole image, ``(*spatial)``.
    image
        What was segmented.
    classes
        Of the model, in label order.
    controls
        By which the labels were made.
    origin
        What they were made from.
    volumes_over_samples
        mL of samples of the same distribution, ``(N, C)``; None: not known.
    keep_patient
        Whether a DICOM file says who the patient is.

    Returns
    -------
    paths
        The labelling first, then the table, then the record. Each is whole or not there.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    check_name(path, image)
    stem = stem_of(path)
    record_path, table_path = (path.parent / f"{stem}{end}" for end in (".json", ".csv"))
    record = labelling_record(path, labels, image, classes, controls=controls, origin=origin)
    voxels = np.bincount(labels.ravel(), minlength=len(classes))
    table = volume_table(voxels, image, classes, volumes_over_samples, domain=origin.domain)
    maker = Maker(origin.model or "unknown model")
    if record.model is not None:
        maker = Maker(record.model.model, record.model.sha256[:16])
    what = f"{which_of(controls)} of {maker.name}"
    write_labels(path, labels, image, classes, maker=maker, what=what, keep_patient=keep_patient)
    for target, text in ((table_path, table), (record_path, record.model_dump_json(indent=2))):
        write_text(target, text)
    return [path, table_path, record_path]


def write_text(path: Path, text: str) -> None:
    """Write text whole or not at all, with one end of line at its end."""
    with atomic_path(path) as temporary:
        temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def volume_table(
    counts: npt.NDArray[np.integer],
    image: Image,
    classes: Sequence[ClassSpec],
    volumes_over_samples: npt.NDArray[np.float64] | None = None,
    *,
    domain: DomainCheck | None = None,
) -> str:
    """Volumes of every class as CSV.

    mL are left empty where the voxel size is not known, the range where the samples are not.

    Parameters
    ----------
    counts
        Voxels of each class, ``(C,)``.
    image
        Says how large a voxel is.
    classes
        Of the model, in label order.
    volumes_over_samples
        mL of samples of the same distribution, ``(N, C)``; None: not known.
    domain
        Whether the model serves the image, in every row as yes or no; None: it is left empty.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    low, high = _RANGE_PERCENT
    columns = (f"ml_p{low}", f"ml_p{high}", "samples", "in_domain")
    writer.writerow(("label", "class", "voxels", "ml", *columns))
    serves = "" if domain is None else "no" if domain.is_outside else "yes"
    knows_size = image.has_spacing
    for label, one in enumerate(classes):
        voxels = int(counts[label])
        row: list[object] = [label, one.name, voxels]
        row.append(f"{voxels * image.voxel_volume_ml:.4f}" if knows_size else "")
        if knows_size and volumes_over_samples is not None and len(volumes_over_samples):
            ends = np.percentile(volumes_over_samples[:, label], _RANGE_PERCENT)
            row += [*(f"{end:.4f}" for end in ends), len(volumes_over_samples)]
        else:
            row += ["", "", ""]
        writer.writerow([*row, serves])
    return stream.getvalue()


def which_of(controls: Controls) -> str:
    """Which segmentation controls stand for, in words."""
    if controls.latent:
        return "a chosen position"
    return "the mean" if controls.sample == MEAN else f"sample {controls.sample}"


def labelling_record(
    path: Path,
    labels: npt.NDArray[np.uint8],
    image: Image,
    classes: Sequence[ClassSpec],
    *,
    controls: Controls,
    origin: Origin,
) -> LabellingRecord:
    """What made a labelling; the parameters are those of :func:`write_labelling`."""
    model = None
    if origin.model is not None and origin.model_path is not None:
        reference = refer_to_model(origin.model_path)
        model = ModelReference(model=origin.model, **reference.model_dump())
    command, command_file = _command(classes, controls, origin)
    return LabellingRecord(
        file=path.name,
        voxels=voxel_hash(labels),
        classes=tuple(classes),
        image=image.name,
        image_file=None if origin.image_path is None else refer_to(origin.image_path),
        model=model,
        prior=origin.prior,
        controls=controls,
        roi=origin.roi,
        window=origin.window,
        members_as=origin.members_as,
        augment=origin.augment,
        device=origin.device,
        until_converged=origin.until_converged,
        strokes=None if origin.strokes is None else origin.strokes.to_json(),
        outside_domain=None if origin.domain is None else origin.domain.texts,
        versions=installed_versions(),
        command=command,
        command_file=command_file,
    )


def _command(
    classes: Sequence[ClassSpec], controls: Controls, origin: Origin
) -> tuple[tuple[str, ...] | None, str | None]:
    """The command that makes the same labels, and the file of its results that holds them."""
    stops_early = origin.until_converged and controls.refines
    # Strokes of the dock are in no file that a command could name.
    is_by_hand = bool(controls.latent) or origin.strokes is not None
    if origin.image_path is None or origin.model is None or is_by_hand or stops_early:
        return None, None
    names = [one.name for one in classes]
    is_map, is_members = is_nifti_path(origin.model), is_given(origin.model)
    is_varied = is_members or bool(origin.augment)
    mrf: dict[str, object] = {}
    if controls.cuts:
        mrf = {"cut": True, **{CUT + name: value for name, value in controls.crf}}
    elif origin.has_prior:
        mrf = {
            "iterations": controls.iterations if controls.coupling == "mrf" else 0,
            "mrf_strength": controls.mrf_strength,
            "damping": controls.damping,
            "update": controls.update_rule,
            "nudges": {(names[one.first], names[one.second]): one.amount for one in controls.nudges}
            or None,
        }
    request = PredictionRequest.model_validate(
        {
            "images": (origin.image_path,),
            "out": Path("result"),
            "model": None if is_map or is_members else origin.model,
            "probabilities": (Path(origin.model),) if is_map else (),
            "members": (Path(origin.model),) if is_members else (),
            "members_as": origin.members_as if is_varied else "members",
            "augment": origin.augment,
            "prior": origin.prior,
            "roi": origin.roi,
            "window": origin.window,
            "samples": controls.sample,
            "seed": controls.seed,
            "temperature": controls.temperature,
            "class_scale": dict(zip(names, controls.class_scale, strict=False)) or None,
            "device": origin.device,
            "precision": origin.precision,
            **mrf,
        }
    )
    name = "mean" if controls.sample == MEAN else f"sample-{controls.sample:03d}"
    return ("structseg", "predict", *request.arguments()), f"{name}.nii.gz"
