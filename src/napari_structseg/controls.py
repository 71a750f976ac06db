"""Controls: what a user may change about a distribution's picture, in one validated model.

Sliders, command line options and the recipe of a saved result all come from here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from napari_structseg.distributions import LogitDistribution, Noise
from napari_structseg.errors import ConfigError
from napari_structseg.priors import Update
from napari_structseg.priors.contrast import CRFSpec

MEAN = 0
TEMPERATURE_MAX = 3.0
CLASS_SCALE_MAX = 3.0
ITERATIONS_MAX = 50
MRF_STRENGTH_MAX = 5.0
DAMPING_MIN = 0.05
LATENT_MAX = 10.0
NUDGE_MAX = 5.0
# What sliders are dragged over; larger values can be typed, and recipes may hold them. Measured
# with brain-tissue on the MNI152 brain, ten iterations: at strength 1.25 mean field begins to
# oscillate, at 1.5 each iteration changes 1 % of the labels, at 2 6 %, at 3 31 %. Pairs nudged by
# up to 1.5 change 0.3 to 3 % of the labels; by 2 up to 14 %, by 3 up to 66 %.
USEFUL_STRENGTH = 1.5
USEFUL_NUDGE = 1.5

Coupling = Literal["none", "mrf", "crf"]


def coupling_of(learned: CRFSpec | None) -> Coupling:
    """Where a dock starts: at the CRF if its weights were learned with the model."""
    return "mrf" if learned is None else "crf"


ClassScale = Annotated[float, Field(ge=-CLASS_SCALE_MAX, le=CLASS_SCALE_MAX, allow_inf_nan=False)]

Coordinate = Annotated[float, Field(ge=-LATENT_MAX, le=LATENT_MAX, allow_inf_nan=False)]


class Nudge(BaseModel):
    """Two classes that should touch more, or less, than the MRF wants.

    The message to each of the two gains `amount` times the mean responsibility of the other
    among the neighbours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: int = Field(ge=0, description="Label of one class.")
    second: int = Field(ge=0, description="Label of the other, or the same one.")
    amount: float = Field(
        ge=-NUDGE_MAX,
        le=NUDGE_MAX,
        allow_inf_nan=False,
        description="Positive: they attract; negative: they repel.",
    )


class SamplingSettings(BaseModel):
    """What the samples of a distribution are and how far they stray."""

    model_config = ConfigDict(extra="forbid")

    seed: int = Field(
        7,
        ge=0,
        lt=2**31,
        title="Seed",
        description="Which series of samples. The same seed always gives the same ones.",
    )
    temperature: float = Field(
        1.0,
        ge=0,
        le=TEMPERATURE_MAX,
        allow_inf_nan=False,
        title="Temperature",
        description="How far samples stray from the mean, all classes together; 0 is the mean.",
    )
    class_scale: tuple[ClassScale, ...] = Field(
        (),
        title="Class scale",
        description=(
            "How far each class strays: 0 holds it at its mean, a negative value mirrors the "
            "sample about the mean. Empty: 1 for every class."
        ),
    )


class MeanFieldSettings(BaseModel):
    """Settings of mean field with an MRF, and nothing else: the logits do not depend on them."""

    model_config = ConfigDict(extra="forbid")

    iterations: int = Field(
        0,
        ge=0,
        le=ITERATIONS_MAX,
        title="Iterations",
        description="Iterations of mean field with the prior; 0 is the model alone.",
    )
    mrf_strength: float = Field(
        1.0,
        ge=0,
        le=MRF_STRENGTH_MAX,
        allow_inf_nan=False,
        title="Strength",
        description="How much neighbours count beside the model; 0 is the model alone.",
    )
    damping: float = Field(
        1.0,
        ge=DAMPING_MIN,
        le=1,
        allow_inf_nan=False,
        title="Damping",
        description="Share of each step that is taken; less than 1 calms oscillations.",
    )
    # Not `update`: evented models have a method of that name. Options and recipes keep the word.
    update_rule: Update = Field(
        "parallel",
        validation_alias=AliasChoices("update_rule", "update"),
        title="Update",
        description="parallel: all voxels at once; proximal: at once, held back where they are; "
        "coloured: one set of voxels that are not neighbours after the other.",
    )
    nudges: tuple[Nudge, ...] = Field(
        (),
        title="Nudges",
        description="Pairs of classes that should touch more (positive) or less (negative).",
    )

    @property
    def refines(self) -> bool:
        """Whether the MRF has a say."""
        return self.iterations > 0 and self.mrf_strength > 0


class NeighbourSettings(MeanFieldSettings):
    """What couples the labels of neighbouring voxels, and its settings."""

    model_config = ConfigDict(extra="forbid")

    coupling: Coupling = Field(
        "mrf",
        title="Neighbours",
        description="What couples neighbouring voxels: none; mrf, by mean field; or crf, whose "
        "pairs see the edges of the image, by graph cut.",
    )
    crf: CRFSpec = Field(
        CRFSpec(), title="CRF", description="The weights of the CRF; used where it is chosen."
    )

    @property
    def refines(self) -> bool:
        """Whether an MRF has a say."""
        return self.coupling == "mrf" and self.iterations > 0 and self.mrf_strength > 0

    @property
    def cuts(self) -> bool:
        """Whether a CRF has a say."""
        return self.coupling == "crf"

    @property
    def is_coupled(self) -> bool:
        """Whether labels depend on their neighbours, be it by an MRF or by a CRF."""
        return self.refines or self.cuts


# Fields of the last base come first, in recipes and in lists of options.
class Settings(NeighbourSettings, SamplingSettings):
    """What controls a picture besides the choice of what is pictured.

    Shared by :class:`Controls`, which is frozen, and by the live state of a viewer.
    """

    model_config = ConfigDict(extra="forbid")


class Controls(Settings):
    """The state of every slider.

    Shown logits are ``mu_c + temperature * class_scale_c * offset_c``. Scaling the
    offsets scales the covariance to S Sigma S with S = diag(temperature * class_scale): the
    noise is not drawn again (Monteiro 2020, and the authors' WeightedSampler). Where a network
    decodes the noise (Probabilistic U-Net), temperature scales the noise instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample: int = Field(
        MEAN,
        ge=0,
        lt=2**31,
        title="Sample",
        description="Which sample of the series; 0 is the mean.",
    )
    latent: tuple[Coordinate, ...] = Field(
        (),
        title="Latent position",
        description="A chosen position in the latent space, or of the factors of a low-rank "
        "normal, instead of a sample, in standard deviations from the mean. Empty: the sample.",
    )

    @property
    def unrefined(self) -> Controls:
        """These controls with those of MRF and CRF as by default: what the logits depend on."""
        defaults = {
            name: field.get_default() for name, field in NeighbourSettings.model_fields.items()
        }
        return self.model_copy(update=defaults)

    @property
    def noise(self) -> Noise | None:
        """The noise of the chosen position or sample, not tempered; None for the mean."""
        if self.latent:
            return Noise(self.seed, MEAN, position=self.latent)
        return None if self.sample == MEAN else Noise(self.seed, self.sample)

    def tempered(self, noise: Noise, distribution: LogitDistribution) -> Noise:
        """Noise as a distribution is to see it at this temperature.

        Parameters
        ----------
        noise
            Of any sample.
        distribution
            If it tempers noise, the temperature goes into the noise; otherwise it is among the
            :meth:`weights_of` the offset.

        Raises
        ------
        ConfigError
            If a position was chosen that the distribution does not have.
        """
        if noise.position and len(noise.position) != distribution.n_coordinates:
            n_latents, n_coordinates = distribution.n_latents, distribution.n_coordinates
            has = f"has {n_latents} latent dimensions" if n_latents else "has no latent space"
            has += f" but {n_coordinates} factors" if n_coordinates > n_latents else ""
            raise ConfigError(
                f"A latent position with {len(noise.position)} coordinates was chosen, but the "
                f"model {has}. Choose a sample instead."
            )
        return replace(noise, scale=self.temperature) if distribution.tempers_noise else noise

    def weights_of(self, distribution: LogitDistribution) -> tuple[float, ...]:
        """What the offset of each class is multiplied with, after :meth:`tempered` noise.

        Raises
        ------
        ConfigError
            If ``class_scale`` was set for another number of classes.
        """
        untempered = self.model_copy(update={"temperature": 1.0})
        controls = untempered if distribution.tempers_noise else self
        return controls.weights(distribution.n_classes)

    def weights(self, n_classes: int) -> tuple[float, ...]:
        """What the offset of each class is multiplied with.

        Raises
        ------
        ConfigError
            If ``class_scale`` was set for another number of classes.
        """
        scale = self.class_scale or (1.0,) * n_classes
        if len(scale) != n_classes:
            raise ConfigError(
                f"There are {len(scale)} class scales, but the model has {n_classes} classes. "
                "Give one for each class, or none."
            )
        return tuple(self.temperature * value for value in scale)
