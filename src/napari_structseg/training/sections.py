"""The sections of a training configuration: optimiser, loss, prior and augmentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from napari_structseg.priors import AnyPrior, NetworkSpec, PriorSpec
from napari_structseg.priors.contrast import SCALE_MAX, SCALE_MIN, Neighbours

Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of a configuration: no unknown fields, nothing that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OptimiserConfig(Section):
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


class LossConfig(Section):
    """The loss of the head's kind: likelihood, cross-entropy, or evidence lower bound."""

    samples: Annotated[int, Field(gt=0)] = Field(default=20, description="Monte Carlo samples M.")
    antithetic: bool = Field(default=False, description="Mirror half the samples about the mean.")
    average_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Weight of the cross-entropy of the average sample, beside the likelihood, "
        "which only asks for one good sample.",
    )
    mean_weight: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="Weight of the cross-entropy of the mean, beside the likelihood, under which "
        "its softmax need not say how certain the model is; none: 0.2 where head.bound holds the "
        "spread, which goes by the mean, otherwise 0.",
    )
    mean_only_steps: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Steps of mean-only pre-training (cross-entropy) before the likelihood.",
    )
    zero_is_background: bool = Field(
        default=False,
        # Its name in configurations of earlier versions is the second.
        validation_alias=AliasChoices("zero_is_background", "roi"),
        description="Count only voxels where the image is not 0 in every channel.",
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


class PriorConfig(Section):
    """A Markov random field over the labels, trained through unrolled mean field.

    One table holds these fields and those of the MRF's kind.
    """

    mrf: AnyPrior = NetworkSpec()
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
    of_samples: bool = Field(
        default=False,
        description="Refine samples of the model in training, each step another, in place of its "
        "mean; with freeze_model.",
    )
    speckle: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="What a voxel without a face neighbour of its class costs, in nats, beside the "
        "cross-entropy.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_one_table(cls, data: object) -> object:
        if not isinstance(data, dict) or "mrf" in data:
            return data
        own = {name: value for name, value in data.items() if name in cls.model_fields}
        return own | {"mrf": {name: value for name, value in data.items() if name not in own}}

    @model_serializer(mode="wrap")
    def _as_one_table(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        table: dict[str, Any] = handler(self)
        mrf: dict[str, Any] = table.pop("mrf")
        return mrf | table

    @model_validator(mode="after")
    def _ordered(self) -> PriorConfig:
        if self.min_iterations > self.max_iterations:
            raise ValueError(
                f"min_iterations ({self.min_iterations}) exceeds max_iterations "
                f"({self.max_iterations})"
            )
        if self.of_samples and not self.freeze_model:
            raise ValueError(
                "of_samples needs freeze_model = true: the samples are those of a trained model"
            )
        return self

    @property
    def spec(self) -> PriorSpec:
        """What the trained model says about its prior."""
        return self.mrf.for_training()


class MaxMarginConfig(Section):
    """A CRF that is learned with a margin, together with the network or after it."""

    mode: Literal["joint", "piecewise"] = Field(
        default="joint",
        description="joint: the network learns with the CRF; piecewise: only the CRF does. Both on "
        "top of a trained network given with --start.",
    )
    cost: Positive = Field(
        default=1.0, description="C: what a voxel of slack costs, beside half the squared weights."
    )
    tolerance: Annotated[float, Field(ge=1e-6, lt=1)] = Field(
        default=1e-3,
        description="By how much the margin of any labelling may be missed, as a share of the "
        "voxels of a patch.",
    )
    epoch_steps: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="Steps of an epoch, at whose end the CRF is that of all its patches; none: all "
        "steps are one.",
    )
    rounds: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Rounds of cutting planes after the merged problem of an epoch; 0: none, as in "
        "the paper; none: until every margin is kept.",
    )
    scale: float = Field(
        default=1.0,
        ge=SCALE_MIN,
        le=SCALE_MAX,
        description="Which difference of intensities counts as an edge, in units of the noise of "
        "the patch.",
    )
    neighbours: Neighbours = Field(
        default="faces", description="faces: 4 in 2-D and 6 in 3-D; all: 8 and 26."
    )


class AugmentationConfig(Section):
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
    shift: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Largest shift along each axis; what comes into the patch beyond the image's "
        "edge is its mirror image, with the labels.",
    )
    without: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Fraction of patches that show only what lies beside everything that any rater "
        "marked, mirrored until it fills the patch: all of it is background. Where too little lies "
        "beside it, an ordinary patch.",
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
    window: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        default=0.0,
        description="Largest move of either end of the intensity window, as a share of its width.",
    )
