"""What a trained model is, in words: the metadata that travels with its weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from napari_structseg.distributions import Spread
from napari_structseg.models.backbone_spec import BackboneSpec, Frame, FrozenSpec, PositiveInt
from napari_structseg.models.calibration_spec import CalibrationSpec
from napari_structseg.models.domain_spec import DomainSpec
from napari_structseg.models.kinds import AnyHead, LowRankSpec
from napari_structseg.models.program_spec import ProgramSpec
from napari_structseg.priors import AnyPrior
from napari_structseg.priors.contrast import CRFSpec

FORMAT_VERSION: Literal[1] = 1

HexColor = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class ClassSpec(FrozenSpec):
    """A label value's meaning: class ``k`` of the list is label ``k`` of every output."""

    name: str = Field(min_length=1, description="Name shown beside sliders and in reports.")
    color: HexColor = Field(description="Colour of the class wherever it appears, as #rrggbb.")


class IntensitySpec(FrozenSpec):
    """How intensities are brought to the range the network was trained on."""

    kind: Literal["percentile", "zscore", "window"] = Field(
        "percentile",
        description=(
            "percentile: nonzero voxels' [low, high] percentiles to [0, 1]; "
            "zscore: nonzero voxels to mean 0 and variance 1; window: [low, high] to [0, 1]."
        ),
    )
    low: float = Field(1.0, description="Lower percentile, or lower end of the window.")
    high: float = Field(99.0, description="Upper percentile, or upper end of the window.")
    unit: str = Field(
        "", max_length=16, description="Unit of the window, shown beside it: HU, 8-bit."
    )
    hounsfield: tuple[float, float] | None = Field(
        None,
        description="Window in HU that takes the place of an 8-bit one on images in HU; none: "
        "there is one window.",
    )
    eight_bit: tuple[float, float] | None = Field(
        None,
        description="The window is in HU, and 8-bit pictures of the lung are brought to HU by the "
        "peaks of their histogram; where these are not found, by this: HU of a grey level, and of "
        "grey 0. None: 8-bit numbers are taken as they are.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> IntensitySpec:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.kind == "percentile" and not 0 <= self.low < self.high <= 100:
            raise ValueError(
                f"percentiles lie between 0 and 100, but low is {self.low} and high is {self.high}"
            )
        if self.hounsfield is not None and (
            self.kind != "window" or self.hounsfield[0] >= self.hounsfield[1]
        ):
            raise ValueError(
                f"hounsfield ({self.hounsfield}) must be two ascending numbers, beside a window"
            )
        if self.eight_bit is not None and (
            self.kind != "window" or self.hounsfield is not None or self.eight_bit[0] <= 0
        ):
            raise ValueError(
                f"eight_bit ({self.eight_bit}) must be HU of a grey level, above 0, and of grey 0, "
                "beside a window in HU and without hounsfield"
            )
        return self

    @property
    def depends_on_values(self) -> bool:
        """Whether the window depends on the values of an image: 8-bit numbers or HU."""
        return self.hounsfield is not None or self.eight_bit is not None


class TrainingRecord(FrozenSpec):
    """How the weights came to be."""

    recipe: dict[str, Any] = Field(default_factory=dict, description="The training configuration.")
    data: str = Field("", description="What the model was trained on, with attribution.")
    licence: str = Field("", description="Licence of the weights.")
    steps: int = Field(0, ge=0, description="Optimiser steps taken.")
    initial: str = Field("", description="SHA-256 of the weights that training started from.")
    software: str = Field("", description="Version of napari-structseg that trained it.")


class ModelSpec(FrozenSpec):
    """Everything needed to rebuild a network and to feed it an image correctly.

    Serialised as JSON into the metadata of the safetensors file.
    """

    format_version: Literal[1] = FORMAT_VERSION
    name: str = Field(min_length=1)
    description: str = ""
    dimensions: Literal[2, 3] = Field(description="Spatial dimensions of the network.")
    channels: tuple[str, ...] = Field(min_length=1, description="Names of the input channels.")
    classes: tuple[ClassSpec, ...] = Field(min_length=2, max_length=255)
    spacing: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="Voxel size in mm the network expects, in array order; None: any."
    )
    patch: tuple[PositiveInt, ...] = Field(description="Patch size of training, in voxels.")
    intensity: IntensitySpec = IntensitySpec()
    zero_is_background: bool = Field(
        False,
        # Its name in files of earlier versions is the second.
        validation_alias=AliasChoices("zero_is_background", "roi"),
        description="Voxels that are 0 in every channel are no data: background with certainty.",
    )
    backbone: BackboneSpec = BackboneSpec()
    program: ProgramSpec | None = Field(
        None,
        description="A program of another origin in the place of the network. The backbone is then "
        "what a head of our own reads beside it.",
    )
    head: AnyHead = LowRankSpec()
    prior: AnyPrior | None = Field(
        None, description="A Markov random field over the labels; None: without."
    )
    crf: CRFSpec | None = Field(
        None, description="The weights of a CRF that were learned for it; None: none were."
    )
    training: TrainingRecord = TrainingRecord()
    calibration: CalibrationSpec | None = Field(
        None, description="Where temperature and class scales start; None: all at 1."
    )
    domain: DomainSpec | None = Field(
        None, description="What images it was made for; None: it does not say."
    )
    bfloat16: bool = Field(
        False,
        description="Features in bfloat16 serve as well as in float32: somebody has measured it.",
    )

    @model_validator(mode="after")
    def _dimensions_agree(self) -> ModelSpec:
        if len(self.patch) != self.dimensions:
            raise ValueError(
                f"patch {self.patch} needs {self.dimensions} sizes for a {self.dimensions}-D model"
            )
        if self.spacing is not None and len(self.spacing) != self.dimensions:
            raise ValueError(
                f"spacing {self.spacing} needs {self.dimensions} values "
                f"for a {self.dimensions}-D model"
            )
        self.head.check(self.backbone)
        if self.program is not None:
            self._check_program(self.program)
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"class names must differ: {names}")
        scales = () if self.calibration is None else self.calibration.class_scale
        if self.calibration is not None and len(scales) != len(names):
            raise ValueError(f"{len(scales)} calibrated scales need {len(names)} classes")
        return self

    def _check_program(self, program: ProgramSpec) -> None:
        if self.head.family != "normal":
            raise ValueError(f"a program gives a point or a low-rank normal, not {self.head.kind}")
        if program.head_is_own and not self.head.is_stochastic:
            raise ValueError("a head that was learned for a program is stochastic")
        one = program.n_outputs == 1 and self.n_classes == 2
        if program.n_outputs != self.n_classes and not one:
            raise ValueError(
                f"{self.n_classes} classes do not fit a program that returns {program.n_outputs} "
                "channels"
            )
        if program.sizes == "patch" and any(size % program.divisor for size in self.patch):
            raise ValueError(f"patch {self.patch} is no multiple of the divisor {program.divisor}")
        if program.span != (0.0, 1.0) and self.intensity.kind == "zscore":
            raise ValueError("zscore has no range whose ends could become others: leave out span")

    @property
    def calibrated(self) -> Spread | None:
        """Where temperature and class scales start; None: all at 1."""
        return None if self.calibration is None else self.calibration.calibrated

    @property
    def frame(self) -> Frame:
        """What the network is built in."""
        return Frame(self.dimensions, len(self.channels), self.n_classes, self.backbone)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order."""
        return tuple(c.name for c in self.classes)

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.classes)

    @property
    def kind(self) -> str:
        """Kind of its head, and so of its distribution."""
        return self.head.kind

    @property
    def n_members(self) -> int:
        """Members of the finite set that the model gives; 0 where it is none."""
        return self.head.n_members

    @property
    def steps(self) -> int:
        """Optimiser steps of its training."""
        return self.training.steps
