"""What an MRF is, in words: the metadata that travels with its weights."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from napari_structseg.priors.base import MarkovPrior
from napari_structseg.priors.energy import EnergyPrior
from napari_structseg.priors.network import NetworkPrior


class PriorSpec(BaseModel):
    """A Markov random field over labels, refined by mean field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["network", "energy"] = Field(
        "network",
        description="network: that of the MRF-UNet (Brudfors 2021); energy: symmetric linear "
        "couplings, whose free energy mean field lowers.",
    )
    iterations: int = Field(10, ge=1, le=50, description="Iterations of mean field in use.")
    # Files from before there was a limit do not have this field.
    max_filters: int | None = Field(
        None,
        ge=1,
        le=255**2,
        description="network: most filters of its first layer, which has one for each pair of "
        "classes; training sets 64.",
    )


def build_prior(spec: PriorSpec, dimensions: int, n_classes: int) -> MarkovPrior:
    """Build the MRF a specification describes, with fresh weights."""
    if spec.kind == "network":
        return NetworkPrior(dimensions, n_classes, spec.max_filters)
    return EnergyPrior(dimensions, n_classes)
