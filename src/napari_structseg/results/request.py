"""One prediction as it is asked for: the command line, Python, recipes and the dock fill it in.

Every option is said here once: the options of ``structseg predict``, the keywords of
:func:`napari_structseg.predict` and the command in a recipe are made from these fields. Nothing
here loads torch: `structseg --help` needs it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from napari_structseg.errors import ConfigError
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.results.options import (
    CLASS_SCALE,
    MEMBERS,
    MEMBERS_AS,
    NUDGES,
    REPORT,
    STROKE_LABELS,
    TENSORS,
    WINDOW,
    Alias,
    Option,
    check_pairs,
)

DEFAULT_SAMPLES = 10
SAMPLES_MAX = 100_000
# prediction.augmented.PASSES, which loads torch.
AUGMENTATION_PASSES = 8
# Far beyond what helps; the operating system refuses so many more, and torch then ends the process.
THREADS_MAX = 1024

# Fields of a CRF and, with this before them, of a request. Naming the class would load torch.
CUT = "cut_"
_OF_CUT = ("unary", "smooth", "contrast", "scale", "neighbours")

FilePath = str | os.PathLike[str]
Function = TypeVar("Function", bound=Callable[..., Any])


def files(given: FilePath | Sequence[FilePath] | None) -> Sequence[FilePath]:
    """One file or several, as several; None: none."""
    if given is None:
        return ()
    return (given,) if isinstance(given, str | os.PathLike) else given


def _folder(given: object) -> object:
    # Path("") is the working folder, which nobody names by an empty text on purpose.
    if given == "":
        raise ConfigError("A folder for the results was expected with --out, but it is empty.")
    return given


def _name(given: object) -> object:
    return os.fspath(given) if isinstance(given, os.PathLike) else given


Files = Annotated[tuple[Path, ...], BeforeValidator(files)]
Name = Annotated[str, BeforeValidator(_name)]


class PredictionRequest(BaseModel):
    """What to predict, with what, and where the results go.

    A control that is None has the default of :class:`napari_structseg.Controls`; the number of
    iterations, that of the MRF.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: Files = Field(
        min_length=1,
        description="A NIfTI or PNG file, or a DICOM series: a folder, or all its files. Several "
        "channels: a 4-D NIfTI file, or one file or folder for each channel.",
    )
    series: str | None = Field(
        None,
        description="Which DICOM series of the folder: its Series Instance UID or its number. "
        "Needed where there are several.",
    )
    out: Annotated[Path, BeforeValidator(_folder)] = Field(
        description="Folder for the results; made if it is missing."
    )
    model: Annotated[Name | None, TENSORS] = Field(
        None,
        description="Name of a model that comes with the program, a .safetensors file, or the "
        ".toml file that describes a TorchScript or torch.export program of yours. Or a file of "
        "mean, factor and diagonal of a distribution (.npz, .safetensors).",
    )
    probabilities: Files = Field(
        (),
        description="Instead of a model: class probabilities on the voxel grid of the image, as a "
        "4-D NIfTI file or, given once for each class, one file for each. The background comes "
        "first, and they sum to one.",
    )
    members: Annotated[Files, MEMBERS] = Field(
        (),
        description="Instead of a model: predictions of this image that other programs made, each "
        "an .npz of nnU-Net with its .pkl, a NIfTI file of probabilities or labels, or a folder "
        "that holds one for the image, such as one for each fold of nnU-Net.",
    )
    members_as: Annotated[Literal["members", "normal"], MEMBERS_AS] = Field(
        "members",
        description="Whether samples are these members, or are drawn from a low-rank normal that "
        "is fitted to their logits: members or normal; members if not given.",
    )
    augment: tuple[Literal["flips", "intensity", "rotations"], ...] = Field(
        (),
        description="For a deterministic model: test-time augmentation. The image is changed by "
        "flips, intensity or rotations (may be given several times), and each result is a member.",
    )
    passes: int = Field(
        AUGMENTATION_PASSES,
        description="How many members test-time augmentation makes, from 2 to 64; 8 if not given.",
    )
    prior: Name | None = Field(
        None,
        description="A model, by name or file, whose MRF is used in place of the model's own. It "
        "has to be for as many classes and dimensions.",
    )
    roi: RegionOfInterest | None = Field(
        None,
        description="For a 2-D model on a volume: the slices that it is applied to. The rest is "
        "background.",
    )
    window: Annotated[tuple[float, float] | None, WINDOW] = Field(
        None,
        description="Intensities that the model sees as 0 and 1, as LOW:HIGH; the model's own if "
        "not given.",
    )
    strokes: Path | None = Field(
        None,
        description="A label image on the voxel grid of the image: voxels of which you know the "
        "class. 0: nothing is said; k + 1: class k. The model answers with what it then believes "
        "everywhere.",
    )
    stroke_labels: Annotated[dict[int, int] | None, STROKE_LABELS] = Field(
        None,
        description="Which values in the strokes stand for which labels, as "
        "VALUE=LABEL,VALUE=LABEL, where they are not the labels plus one.",
    )
    samples: int = Field(DEFAULT_SAMPLES, description="How many samples to write; 10 if not given.")
    save_probabilities: bool = Field(
        False,
        description="Write probabilities.nii.gz, too: of each class, averaged over the samples, "
        "after mean field where there is an MRF.",
    )
    format: Literal["nifti", "nrrd", "dicom-seg"] = Field(
        "nifti",
        description="What the images are written as: nifti; nrrd, segmentations that 3D Slicer "
        "opens with names and colours; or dicom-seg, where the image is a DICOM series. nifti if "
        "not given.",
    )
    sr: bool = Field(
        False,
        description="With dicom-seg: write volumes, their spread over the samples and the "
        "hypotheses as DICOM SR, too.",
    )
    keep_patient: bool = Field(
        False,
        description="Write who the patient is into DICOM results, as the series says it. Otherwise "
        "these fields are empty.",
    )
    report_file: Annotated[str | None, REPORT] = Field(
        None,
        description="Write a one-page report with pictures for readers without this program, too, "
        "by this name in --out: report.html, for example.",
    )
    seed: int | None = Field(None, description="Which series of samples; 7 if not given.")
    temperature: float | None = Field(
        None,
        description="How far samples stray from the mean, from 0 to 3; as the model was "
        "calibrated, else 1, if not given.",
    )
    class_scale: Annotated[dict[str, float] | None, CLASS_SCALE] = Field(
        None,
        description="How far one class strays, from -3 to 3, as NAME=VALUE; those not given as the "
        "model was calibrated, else 1. May be given several times.",
    )
    iterations: int | None = Field(
        None,
        description="Iterations of mean field with the MRF, from 0 to 50; as many as the MRF was "
        "made for if not given. This option and the next four need an MRF.",
    )
    mrf_strength: float | None = Field(
        None,
        description="How much neighbours count beside the model, from 0 to 5; 1 if not given.",
    )
    damping: float | None = Field(
        None,
        description="Share of each step of mean field that is taken, from 0.05 to 1; 1 if not "
        "given.",
    )
    update: Literal["parallel", "proximal", "coloured"] | None = Field(
        None,
        description="Which voxels a step takes: parallel, proximal or coloured; parallel if not "
        "given.",
    )
    nudges: Annotated[dict[tuple[str, str], float] | None, NUDGES, BeforeValidator(check_pairs)] = (
        Field(
            None,
            description="Two classes that should touch more (up to 5) or less (down to -5), as "
            "NAME,NAME=VALUE. May be given several times.",
        )
    )
    cut: bool = Field(
        False,
        description="Label by the graph cut of a CRF, whose pairs see the edges of the image, in "
        "place of mean field; strokes are kept. Probabilities and entropy stay the model's own. "
        "The next five options need it; each is as learned with the model, else as said, if not "
        "given.",
    )
    cut_unary: float | None = Field(
        None, description="How much the model counts, from 0 to 100; 1 if not given."
    )
    cut_smooth: float | None = Field(
        None,
        description="What two neighbours of different classes cost, from 0 to 100; 0.3 if not "
        "given.",
    )
    cut_contrast: float | None = Field(
        None,
        description="What they cost besides where the image is the same at both, from 0 to 100; "
        "0.7 if not given.",
    )
    cut_scale: float | None = Field(
        None,
        description="Which difference of intensities counts as an edge, from 0.01 to 1000, in "
        "units of the typical difference of neighbouring voxels of the image; 1 if not given.",
    )
    cut_neighbours: Literal["faces", "all"] | None = Field(
        None,
        description="Which voxels are neighbours: faces (4 in 2-D, 6 in 3-D) or all (8 and 26); "
        "faces if not given.",
    )
    # devices.AUTO, which loads torch.
    device: str = Field("auto", description="auto (a GPU if there is one), cpu, cuda:0, ...")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="What a network computes in: float32; bfloat16, which is faster on processors "
        "made for it and differs in few voxels; or auto, which is bfloat16 on such processors for "
        "models that say it serves as well. auto if not given.",
    )
    threads: int | None = Field(
        None,
        description="Threads of the processor; the last digits of a network's output depend on "
        "their number. As torch is set if not given.",
    )
    overwrite: bool = Field(
        False, description="Replace the results of an earlier prediction in --out."
    )

    @property
    def n_files(self) -> int:
        """How many results there are, without the recipe."""
        return self.samples + 2 + self.save_probabilities

    @property
    def gathers_samples(self) -> bool:
        """Whether something is written that looks at all samples together."""
        return self.report_file is not None or self.format != "nifti"

    @property
    def of_mrf(self) -> dict[str, Any]:
        """The controls of an MRF that were given."""
        names = ("iterations", "mrf_strength", "damping", "update", "nudges")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def of_cut(self) -> dict[str, Any]:
        """The weights of a CRF that were given, by their names in it."""
        values = {name: getattr(self, f"{CUT}{name}") for name in _OF_CUT}
        return {name: value for name, value in values.items() if value is not None}

    def arguments(self) -> list[str]:
        """What stands behind ``structseg predict`` to ask for the same."""
        words = [str(path) for path in self.images]
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name == "images" or value is None:
                continue
            if isinstance(value, RegionOfInterest):
                words += value.arguments
                continue
            option = option_of(field)
            texts = option.write(value) if option else _texts(value)
            for text in texts:
                word = f"--{option.name if option else _dashed(name)}"
                # With an equals sign, or a negative number would be taken for an option.
                words += [f"{word}={text}"] if text.startswith("-") else [word, text]
            if value is True:
                words.append(f"--{_dashed(name)}")
        return words


def make_request(**fields: object) -> PredictionRequest:
    """A request, checked.

    Raises
    ------
    ConfigError
        If a field is unknown, of the wrong kind or out of range: what was expected and what came.
    """
    unknown = sorted(set(fields) - set(PredictionRequest.model_fields))
    if unknown:
        raise ConfigError(
            f"There is no option {unknown[0]!r}. The options are: "
            f"{', '.join(PredictionRequest.model_fields)}."
        )
    try:
        request = PredictionRequest.model_validate(fields)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']} (got {problem['input']!r})"
            for problem in error.errors()
        ]
        raise ConfigError(f"Invalid options. {'; '.join(lines)}.") from error
    check_numbers(request.samples, request.threads)
    _check_report(request.report_file)
    if request.sr and request.format != "dicom-seg":
        raise ConfigError(
            "--sr refers to a segmentation in DICOM. Add --format dicom-seg, or leave it out: "
            "volumes.csv has the same numbers."
        )
    if request.keep_patient and request.format != "dicom-seg":
        raise ConfigError(
            "--keep-patient is about DICOM results; no other file says who the patient is. Add "
            "--format dicom-seg, or leave it out."
        )
    if request.of_cut and not request.cut:
        name = _dashed(CUT + next(iter(request.of_cut)))
        raise ConfigError(f"--{name} is about a graph cut. Add --cut, or leave it out.")
    if request.cut and request.of_mrf:
        name = _dashed(next(iter(request.of_mrf)))
        raise ConfigError(
            f"Either a graph cut or mean field was expected, but --cut and --{name} came. Leave "
            "one of them out."
        )
    if request.members_as != "members" and not request.members and not request.augment:
        raise ConfigError(
            "--members-as is about predictions of other programs or test-time augmentation. Give "
            "--members or --augment."
        )
    if request.passes != AUGMENTATION_PASSES and not request.augment:
        raise ConfigError("--passes is about test-time augmentation. Give --augment, too.")
    if request.stroke_labels is not None and request.strokes is None:
        raise ConfigError("--stroke-labels is about strokes. Give a file of them with --strokes.")
    return request


def check_numbers(samples: int, threads: int | None) -> None:
    """Raise ConfigError for numbers of samples or threads that nothing could serve."""
    if not 0 <= samples <= SAMPLES_MAX:
        raise ConfigError(
            f"The number of samples must be 0 or more, up to {SAMPLES_MAX}, but it is {samples}."
        )
    if threads is not None and not 1 <= threads <= THREADS_MAX:
        raise ConfigError(
            f"The number of threads must be 1 or more, up to {THREADS_MAX}, but it is {threads}. "
            "More than the processor has are of no advantage."
        )


def _check_report(name: str | None) -> None:
    """Raise ConfigError for a report that is no HTML file in the folder of the results."""
    if name is None:
        return
    is_in_folder = name == os.path.basename(name) and "\\" not in name and "\0" not in name
    if not is_in_folder or not name.lower().endswith(".html") or name.lower() == ".html":
        raise ConfigError(
            "A file name that ends in .html was expected with --report, without a folder, but it "
            f"is {name!r}. The report is written to --out: name it report.html, for example."
        )


def takes_options(function: Function) -> Function:
    """Give a function that passes ``**options`` to a request their signature and their words.

    Parameters
    ----------
    function
        Its docstring has ``{options}`` where they are to be described.
    """
    own = inspect.signature(function).parameters
    named = {"images", *own}
    fields = {
        name: field for name, field in PredictionRequest.model_fields.items() if name not in named
    }
    parts = [part for part in own.values() if part.kind is not inspect.Parameter.VAR_KEYWORD]
    parts += [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=field.annotation,
        )
        for name, field in fields.items()
    ]
    lines = "\n".join(f"        {name}: {field.description}" for name, field in fields.items())
    # Python leaves docstrings out when it is asked to optimise.
    function.__doc__ = (function.__doc__ or "").replace("{options}", lines.lstrip())
    function.__dict__["__signature__"] = inspect.Signature(
        parts, return_annotation=inspect.signature(function).return_annotation
    )
    return function


def option_of(field: FieldInfo) -> Option | None:
    """The form that a field has in a terminal; None: that of its value."""
    return next((part for part in field.metadata if isinstance(part, Option)), None)


def alias_of(field: FieldInfo) -> Alias | None:
    """Another name of the option of a field; None: it has one name."""
    return next((part for part in field.metadata if isinstance(part, Alias)), None)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _texts(value: object) -> list[str]:
    if isinstance(value, bool):
        return []
    if isinstance(value, tuple):
        return [str(part) for part in value]
    return [repr(value) if isinstance(value, float) else str(value)]
