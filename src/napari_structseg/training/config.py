"""The training configuration: one validated model, read from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_structseg.errors import ConfigError
from napari_structseg.models import (
    AnyHead,
    BackboneSpec,
    IntensitySpec,
    LowRankSpec,
    head_kinds,
)
from napari_structseg.models.spec import HexColor
from napari_structseg.priors import PriorSpec

LATENT_KINDS = frozenset(kind for kind, head in head_kinds().items() if head.loss == "evidence")

Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OptimiserConfig(_Config):
    """Adam with a warm-up and a cosine decay to zero."""

    learning_rate: Positive = Field(default=1e-3, description="Highest learning rate.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=1e-5,
        description="L2 penalty of Adam, beside the loss per voxel; for latent, hierarchical and "
        "image2image_vae beside the loss of an image.",
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        default=50, description="Steps of linear warm-up."
    )
    gradient_clip: Positive = Field(
        default=1.0, description="Largest norm of the gradient of the loss per voxel."
    )


class LossConfig(_Config):
    """The loss of the head's kind: likelihood, cross-entropy, or evidence lower bound."""

    samples: Annotated[int, Field(gt=0)] = Field(default=20, description="Monte Carlo samples M.")
    antithetic: bool = Field(default=False, description="Mirror half the samples about the mean.")
    mean_only_steps: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Steps of mean-only pre-training (cross-entropy) before the likelihood.",
    )
    roi: bool = Field(
        default=False, description="Count only voxels where the image is not 0 in every channel."
    )

    beta: Positive = Field(
        default=1.0,
        description="Weight of the KL divergence, for latent, hierarchical and image2image_vae.",
    )
    geco_target: Positive | None = Field(
        default=None,
        description="Cross-entropy per voxel to reach; its weight is moved until it is (GECO). "
        "None: the weight is 1.",
    )
    geco_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.99, description="Decay of GECO's moving average."
    )
    geco_rate: Positive = Field(
        default=1e-2,
        description="Scales the gradient of the weight; Adam, with the learning rate of the "
        "network, then moves it.",
    )
    top_k_fraction: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of the voxels of a batch that count, drawn in proportion to their "
        "cross-entropy, for the same kinds as beta. None: all.",
    )
    heads_epsilon: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.05, description="Share of all heads but the best one, for heads."
    )

    @model_validator(mode="after")
    def _pairs(self) -> LossConfig:
        if self.antithetic and self.samples % 2:
            raise ValueError(f"antithetic needs an even number of samples, got {self.samples}")
        return self


class PriorConfig(PriorSpec):
    """A Markov random field over the labels, trained through unrolled mean field."""

    min_iterations: int = Field(
        default=5,
        ge=1,
        le=50,
        description="Fewest iterations of a training step; each step draws its own number.",
    )
    max_iterations: int = Field(
        default=15, ge=1, le=50, description="Most iterations of a training step."
    )
    freeze_model: bool = Field(
        default=False,
        description="Train only the prior, on top of a trained model given with --start.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> PriorConfig:
        if self.min_iterations > self.max_iterations:
            raise ValueError(
                f"min_iterations ({self.min_iterations}) exceeds max_iterations "
                f"({self.max_iterations})"
            )
        return self

    @property
    def spec(self) -> PriorSpec:
        """What the trained model says about its prior."""
        return PriorSpec(kind=self.kind, iterations=self.iterations)


class AugmentationConfig(_Config):
    """Random changes of training patches from images. Lengths in voxels, angles in degrees."""

    flip_axes: tuple[int, ...] = Field(
        default=(), description="Spatial axes that may be mirrored; 0 is the first of the patch."
    )
    quarter_turns: bool = Field(
        default=False, description="Turn by 0, 90, 180 or 270 degrees in the last two axes."
    )
    rotation: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Largest rotation about each axis, in degrees."
    )
    scaling: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Largest change of size along each axis: 0.1 is 90 to 110 %."
    )
    displacement: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Standard deviation of a smooth random velocity, in voxels; its flow over a "
        "unit of time is a diffeomorphism.",
    )
    bias: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Largest standard deviation of the logarithm of a bias field."
    )
    noise: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Largest standard deviation of Gaussian noise."
    )
    gamma: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Standard deviation of the logarithm of a random gamma."
    )


class TrainConfig(_Config):
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
    patch: tuple[Annotated[int, Field(gt=0)], ...] = Field(
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
    head: AnyHead = LowRankSpec()
    prior: PriorConfig | None = Field(
        default=None, description="A Markov random field over the labels; none: without."
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
        description="Cases held out for validation: the last ones, in order of name; of a stack, "
        "so many of its validation split.",
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
    mixed_precision: bool = Field(default=False, description="bfloat16 autocast on a GPU.")

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
        together = self.prior is not None and not self.model_frozen
        if together and not self.head.learns_with_prior:
            raise ValueError(
                f"a model with head.kind {self.head.kind!r} cannot be trained together with a "
                "prior: train it first, then the prior with prior.freeze_model = true and --start"
            )
        if self.loss.mean_only_steps > self.steps:
            raise ValueError(
                f"loss.mean_only_steps ({self.loss.mean_only_steps}) exceeds steps ({self.steps})"
            )
        return self

    @property
    def prior_spec(self) -> PriorSpec | None:
        """The prior of the model to train; None without one."""
        return None if self.prior is None else self.prior.spec

    @property
    def model_frozen(self) -> bool:
        """Whether only the prior is trained."""
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
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    try:
        return TrainConfig.model_validate(raw)
    except ValidationError as error:
        lines = [f"{path} is not a valid training configuration:"]
        for problem in error.errors():
            place = problem["loc"]
            # The kind of a head comes after it, and is no part of a field's name.
            named = (*place[:1], *place[2:]) if place[:1] == ("head",) else place
            field = ".".join(map(str, named)) or "configuration"
            # Our own checks name what came; pydantic's do not.
            said = problem["type"] in ("missing", "value_error")
            came = "" if said else f" (got {problem['input']!r:.80})"
            lines.append(f"  {field}: {problem['msg'].removeprefix('Value error, ')}{came}")
        lines.append("Correct these fields; docs/training.md explains each of them.")
        raise ConfigError("\n".join(lines)) from error
