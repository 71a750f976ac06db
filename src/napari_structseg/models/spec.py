"""What a trained model is, in words: the metadata that travels with its weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_structseg.priors import PriorSpec

FORMAT_VERSION: Literal[1] = 1

FINITE_KINDS = frozenset({"heads", "ensemble", "dropout", "image2image_vae", "hierarchical"})

PositiveInt = Annotated[int, Field(gt=0)]
HexColor = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassSpec(_Spec):
    """A label value's meaning: class ``k`` of the list is label ``k`` of every output."""

    name: str = Field(min_length=1, description="Name shown beside sliders and in reports.")
    color: HexColor = Field(description="Colour of the class wherever it appears, as #rrggbb.")


class BackboneSpec(_Spec):
    """A U-Net: widths from the finest level to the coarsest."""

    kind: Literal["unet"] = Field("unet", description="The architecture.")
    widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64, 128), min_length=1, description="Feature channels of each level."
    )
    convolutions: tuple[PositiveInt, ...] = Field(
        (2, 2, 2, 2), description="Convolutions of each level, on the way down and up."
    )
    norm: Literal["instance", "batch", "none"] = Field(
        "instance", description="Normalisation after each convolution."
    )

    @model_validator(mode="after")
    def _levels_agree(self) -> BackboneSpec:
        if len(self.convolutions) != len(self.widths):
            raise ValueError(
                f"widths has {len(self.widths)} levels and convolutions has "
                f"{len(self.convolutions)}: give one number of convolutions per level"
            )
        return self


class HeadSpec(_Spec):
    """How features become the parameters of a distribution over logits."""

    kind: Literal[
        "point",
        "low_rank",
        "latent",
        "hierarchical",
        "heads",
        "ensemble",
        "dropout",
        "image2image_vae",
    ] = Field(
        "low_rank",
        description="point: deterministic; low_rank: SSN (Monteiro 2020); latent: Probabilistic "
        "U-Net (Kohl 2018); hierarchical: with latents at several scales (Kohl 2019); its "
        "baselines: heads, several last layers; ensemble, several U-Nets; dropout, several masks; "
        "image2image_vae, latents fed to the U-Net.",
    )
    rank: PositiveInt = Field(10, description="Rank of the covariance factor.")
    diagonal_only: bool = Field(
        False, description="Drop the factor: the independent-voxel baseline of SSN."
    )
    epsilon: Annotated[float, Field(gt=0)] = Field(
        1e-5, description="Added to the diagonal of the covariance."
    )
    latent_size: PositiveInt = Field(
        6, description="Dimensions of the latent space of latent and image2image_vae."
    )
    latent_scales: PositiveInt = Field(
        3, description="Scales with latents in hierarchical, from the coarsest."
    )
    members: Annotated[int, Field(ge=2, le=100)] = Field(
        4,
        description="Members of a finite set: heads, U-Nets of an ensemble, masks of dropout, "
        "or samples of image2image_vae and hierarchical.",
    )
    dropout: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5,
        description="Probability of dropout, in the three innermost blocks on the way down and up.",
    )

    @property
    def factor_rank(self) -> int:
        """Columns of the covariance factor; 0 without one."""
        return self.rank if self.kind == "low_rank" and not self.diagonal_only else 0

    @property
    def title(self) -> str:
        """The kind in words."""
        size = f"{self.latent_size} latent dimensions"
        if self.kind == "low_rank":
            rank = "diagonal" if self.diagonal_only else f"rank {self.rank}"
            return f"Stochastic Segmentation Network ({rank})"
        return {
            "point": "deterministic",
            "latent": f"Probabilistic U-Net ({size})",
            "hierarchical": f"Hierarchical Probabilistic U-Net ({self.latent_scales} latent "
            f"scales, {self.members} samples)",
            "heads": f"M-Heads ({self.members} heads)",
            "ensemble": f"ensemble of {self.members}",
            "dropout": f"dropout of {self.dropout:g} ({self.members} masks)",
            "image2image_vae": f"Image2Image VAE ({size}, {self.members} samples)",
        }[self.kind]

    @property
    def n_members(self) -> int:
        """Members of the finite set that the head gives; 0 where it is none."""
        return self.members if self.kind in FINITE_KINDS else 0


def check_latent_scales(head: HeadSpec, backbone: BackboneSpec) -> None:
    """Refuse more latent scales than the U-Net has levels below its finest.

    Raises
    ------
    ValueError
        With both numbers.
    """
    most = len(backbone.widths) - 1
    if head.kind == "hierarchical" and head.latent_scales > most:
        raise ValueError(
            f"head.latent_scales ({head.latent_scales}) must not exceed {most}: backbone.widths "
            f"has {len(backbone.widths)} levels, and the finest has no latents. Lower "
            "latent_scales, or give backbone.widths and backbone.convolutions more levels"
        )


class IntensitySpec(_Spec):
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
        return self


class TrainingRecord(_Spec):
    """How the weights came to be."""

    recipe: dict[str, Any] = Field(default_factory=dict, description="The training configuration.")
    data: str = Field("", description="What the model was trained on, with attribution.")
    licence: str = Field("", description="Licence of the weights.")
    steps: int = Field(0, ge=0, description="Optimiser steps taken.")
    initial: str = Field("", description="SHA-256 of the weights that training started from.")
    software: str = Field("", description="Version of napari-structseg that trained it.")


class ModelSpec(_Spec):
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
    roi: bool = Field(
        False,
        description="Voxels that are 0 in every channel are no data: background with certainty.",
    )
    backbone: BackboneSpec = BackboneSpec()
    head: HeadSpec = HeadSpec()
    prior: PriorSpec | None = Field(
        None, description="A Markov random field over the labels; None: without."
    )
    training: TrainingRecord = TrainingRecord()

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
        check_latent_scales(self.head, self.backbone)
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"class names must differ: {names}")
        return self

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
