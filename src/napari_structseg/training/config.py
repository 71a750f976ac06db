"""The training configuration: one validated model, read from a TOML file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from napari_structseg.errors import ConfigError
from napari_structseg.models import (
    AnyHead,
    BackboneSpec,
    HeadSpec,
    IntensitySpec,
    LowRankSpec,
    head_kinds,
)
from napari_structseg.models.backbone_spec import PositiveInt
from napari_structseg.models.spec import HexColor
from napari_structseg.priors import PriorSpec
from napari_structseg.training.sections import (
    AugmentationConfig,
    LossConfig,
    MaxMarginConfig,
    OptimiserConfig,
    Positive,
    PriorConfig,
    Section,
)

# Of the low-rank heads of new models, in logits; see docs/experiments-covariance.md. The difference
# of two logits with Gumbel noise, whose labels are distributed as the softmax, has a standard
# deviation of pi / sqrt(3) = 1.81; the normal that is nearest to it has 1.70.
DEFAULT_BOUND = 1.7
# Of the same heads: from this margin of the mean on, its spread fades out.
DEFAULT_CERTAIN = 2.0
# Context of the validation of a configuration that a run was made with: nothing is added to it.
AS_RECORDED = "as recorded"

LATENT_KINDS = frozenset(kind for kind, head in head_kinds().items() if head.loss == "evidence")

# Of a file, and of a whole number in it.
_MAX_BYTES, _LARGEST = 1_000_000, 10**12

Probability = Annotated[float, Field(ge=0, le=1)]


class TrainConfig(Section):
    """Everything that determines a training run, apart from its data.

    Every random number is derived from ``seed`` and the step, so a resumed run continues
    exactly where it stopped.
    """

    name: str = Field(min_length=1, description="Name of the model.")
    description: str = Field(default="", description="What the model does, in a sentence.")
    dimensions: Literal[2, 3] = Field(description="Spatial dimensions of images and network.")
    source: Literal["images", "brain-label-maps"] = Field(
        default="images", description="Train on images, or on images synthesised from label maps."
    )
    several_protocols: bool = Field(
        default=False,
        description="Label each synthetic head as one of several raters would, so that a "
        "distribution learns where they differ; for brain-label-maps.",
    )
    patch: tuple[PositiveInt, ...] = Field(
        description="Patch size in voxels, in array order (Z, Y, X; 2-D: Y, X)."
    )
    spacing: tuple[Positive, ...] | None = Field(
        default=None,
        description="Resample cases to this voxel size (mm, array order); none: as they are.",
    )
    colors: tuple[HexColor, ...] | None = Field(
        default=None, description="One #rrggbb per class, background first; none: a palette."
    )
    licence: str = Field(default="", description="Licence of the weights.")
    data: str = Field(default="", description="What it is trained on, with attribution.")
    intensity: IntensitySpec = IntensitySpec()
    backbone: BackboneSpec = BackboneSpec()
    head: AnyHead = LowRankSpec(bound=DEFAULT_BOUND, certain=DEFAULT_CERTAIN)
    prior: PriorConfig | None = Field(
        default=None, description="A Markov random field over the labels; none: without."
    )
    max_margin: MaxMarginConfig | None = Field(
        default=None,
        description="A contrast-sensitive CRF, learned with a margin, for two classes; none: "
        "without.",
    )
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    batch: Annotated[int, Field(gt=0)] = Field(default=2, description="Patches per step.")
    steps: Annotated[int, Field(gt=0)] = Field(default=1000, description="Steps of the optimiser.")
    foreground: Probability = Field(
        default=0.5, description="Fraction of patches centred on a voxel that is not background."
    )
    rater: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Train on this rater of each case alone, counted from 0; none: on one at "
        "random for each patch.",
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Fixes the initial weights and every random choice."
    )
    validation_cases: Annotated[int, Field(ge=0)] = Field(
        default=2,
        description="Cases held out for validation: the last ones, in order of name; of a stack "
        "or a fold, so many of its validation split.",
    )
    validate_every: Annotated[int, Field(gt=0)] = Field(
        default=250, description="Steps between validations."
    )
    validation_samples: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=8,
        description="Samples drawn of each validation case, by which the best weights of a "
        "stochastic model are chosen; 0: by the Dice of the mean.",
    )
    checkpoint_every: Annotated[int, Field(gt=0)] = Field(
        default=250, description="Steps between checkpoints."
    )
    fold: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Train on the cases of this fold of nnU-Net's splits_final.json, counted from "
        "0; none: on all but the last validation_cases.",
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="Threads that prepare patches while the last ones train. The patches are the "
        "same with any number.",
    )
    mixed_precision: bool = Field(default=False, description="bfloat16 autocast.")

    @field_validator("head")
    @classmethod
    def _new_heads_are_held(cls, head: HeadSpec, info: ValidationInfo) -> HeadSpec:
        """A head that is not told otherwise is held; one that is told to have no bound is bare."""
        if info.context == AS_RECORDED or not isinstance(head, LowRankSpec):
            return head
        defaults = {"bound": DEFAULT_BOUND, "certain": DEFAULT_CERTAIN}
        told = head.model_fields_set
        if "bound" in told and not head.bound:
            return head
        untold = {name: value for name, value in defaults.items() if name not in told}
        return head.model_copy(update=untold)

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        if len(self.patch) != self.dimensions:
            raise ValueError(
                f"patch {list(self.patch)} needs {self.dimensions} sizes, one per dimension"
            )
        if self.spacing is not None and len(self.spacing) != self.dimensions:
            raise ValueError(
                f"spacing {list(self.spacing)} needs {self.dimensions} values, one per dimension"
            )
        if self.source == "brain-label-maps" and self.dimensions != 3:
            raise ValueError("brain-label-maps synthesises volumes: dimensions must be 3")
        if self.several_protocols and self.source != "brain-label-maps":
            raise ValueError(
                "several_protocols belongs to source = 'brain-label-maps', but source is "
                f"{self.source!r}"
            )
        if any(axis >= self.dimensions or axis < 0 for axis in self.augmentation.flip_axes):
            raise ValueError(
                f"augmentation.flip_axes {list(self.augmentation.flip_axes)} must lie "
                f"between 0 and {self.dimensions - 1}"
            )
        if self.augmentation.quarter_turns and self.patch[-1] != self.patch[-2]:
            raise ValueError(
                f"augmentation.quarter_turns needs a patch {list(self.patch)} whose last two "
                "sizes are equal"
            )
        for name in ("geco_target", "top_k_fraction"):
            if getattr(self.loss, name) is not None and self.head.kind not in LATENT_KINDS:
                raise ValueError(
                    f"loss.{name} belongs to the heads {', '.join(sorted(LATENT_KINDS))}, but "
                    f"head.kind is {self.head.kind!r}"
                )
        self.head.check(self.backbone)
        drawn = self.head.loss == "likelihood" and self.head.is_stochastic
        if self.prior is not None and self.prior.of_samples and not drawn:
            raise ValueError(
                "prior.of_samples draws from a distribution over logits, but head.kind is "
                f"{self.head.kind!r}; low_rank has one"
            )
        together = self.prior is not None and not self.model_frozen
        if together and not self.head.learns_with_prior:
            raise ValueError(
                f"a model with head.kind {self.head.kind!r} cannot be trained together with a "
                "prior: train it first, then the prior with prior.freeze_model = true and --start"
            )
        self._check_max_margin()
        if self.loss.mean_only_steps > self.steps:
            raise ValueError(
                f"loss.mean_only_steps ({self.loss.mean_only_steps}) exceeds steps ({self.steps})"
            )
        return self

    def _check_max_margin(self) -> None:
        if self.max_margin is None:
            return
        if self.prior is not None:
            raise ValueError("a model has an MRF (prior) or a CRF (max_margin), not both")
        if self.source != "images":
            raise ValueError("max_margin learns from images: source must be 'images'")
        joint = self.max_margin.mode == "joint"
        if self.head.loss != "likelihood" or (joint and self.head.is_stochastic):
            raise ValueError(
                f"max_margin learns from the logits of a mean, but head.kind is "
                f"{self.head.kind!r}; point has one, and in mode piecewise low_rank, too"
            )

    @property
    def prior_spec(self) -> PriorSpec | None:
        """The prior of the model to train; None without one."""
        return None if self.prior is None else self.prior.spec

    @property
    def model_frozen(self) -> bool:
        """Whether only the prior, or only a CRF, is trained."""
        if self.max_margin is not None:
            return self.max_margin.mode == "piecewise"
        return self.prior is not None and self.prior.freeze_model


def read_config(path: Path) -> TrainConfig:
    """Read and validate a TOML training configuration.

    Parameters
    ----------
    path
        A TOML file whose keys are the fields of :class:`TrainConfig`.

    Raises
    ------
    ConfigError
        With one line for every field that is wrong: which, what was expected, what came.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(
                f"{path} has {path.stat().st_size} bytes, but a configuration has at most "
                f"{_MAX_BYTES}. Is it another file?"
            )
        with path.open("rb") as file:
            raw = tomllib.load(file)
        large = next(_large_numbers(raw), None)
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except RecursionError as error:
        raise ConfigError(
            f"{path} is not valid TOML for a configuration: its arrays or tables are nested too "
            "deep. docs/training.md shows one that is."
        ) from error
    # Also for numbers of thousands of digits, which Python does not read.
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    if large is not None:
        raise ConfigError(
            f"{path} is not a valid training configuration:\n  {large}: whole numbers must lie "
            f"between -{_LARGEST:.0e} and {_LARGEST:.0e}\nCorrect it; docs/training.md explains "
            "each field."
        )
    return _validated(raw, str(path))


def _large_numbers(value: object, name: str = "") -> Iterator[str]:
    """Names of the fields whose whole numbers no run can use."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _large_numbers(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for item in value:
            yield from _large_numbers(item, name)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        yield name


def check_patch(config: TrainConfig) -> None:
    """Refuse a patch that the coarsest level of the network sees as a single voxel.

    Raises
    ------
    ConfigError
        If its features could not be normalised.
    """
    backbone = config.backbone
    stride = 1 << (len(backbone.widths) - 1)
    n_coarsest = math.prod(-(-size // stride) for size in config.patch)
    n_coarsest *= config.batch if backbone.norm == "batch" else 1
    if backbone.norm in ("instance", "batch") and n_coarsest == 1:
        raise ConfigError(
            f"The patch {list(config.patch)} is a single voxel at the coarsest of "
            f"{len(backbone.widths)} levels, which cannot be normalised. Give it more than "
            f"{stride} voxels along at least one axis, or backbone.widths fewer levels."
        )


def with_options(config: TrainConfig, **options: object) -> TrainConfig:
    """A configuration with some fields of the command line; None leaves a field as it is.

    Raises
    ------
    ConfigError
        If a value is not valid.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        return config
    return _validated(config.model_dump() | given, f"With {', '.join(f'--{n}' for n in given)} it")


def _validated(raw: dict[str, Any], what: str) -> TrainConfig:
    try:
        return TrainConfig.model_validate(raw)
    except ValidationError as error:
        lines = [f"{what} is not a valid training configuration:"]
        for problem in error.errors():
            place = problem["loc"]
            # Inside, a head is under its kind and an MRF under "mrf"; in the file neither is.
            inner = place[:1] == ("head",) or place[:2] == ("prior", "mrf")
            named = (*place[:1], *place[2:]) if inner else place
            field = ".".join(map(str, named)) or "configuration"
            # Our own checks name what came; pydantic's do not.
            said = problem["type"] in ("missing", "value_error")
            came = "" if said else f" (got {problem['input']!r:.80})"
            lines.append(f"  {field}: {problem['msg'].removeprefix('Value error, ')}{came}")
        lines.append("Correct these fields; docs/training.md explains each of them.")
        raise ConfigError("\n".join(lines)) from error
