"""What every head says of itself: the base of the specifications in :mod:`.kinds`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from napari_structseg.models.backbone_spec import BackboneSpec, Frame, FrozenSpec
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.priors import MarkovPrior

Family = Literal["normal", "members", "latent"]
"""Kinds of distributions: a normal or a point, a finite set, a latent decoder."""

Loss = Literal["likelihood", "evidence", "masks", "members", "best_head"]
"""What a training step minimises; see `training.objective`."""

DEFAULT_KIND = "low_rank"
_KINDS: dict[str, type[HeadSpec]] = {}


class HeadSpec(FrozenSpec):
    """How features become the parameters of a distribution over logits.

    Each kind is a class of its own, with its own fields only. ``HeadSpec(kind="point")`` makes
    the class of that kind, as a file does. What belongs to another kind is left out: files of
    earlier versions hold the fields of all kinds.

    Attributes
    ----------
    kind
        Which kind; each class has one.
    family
        The kind of distribution that it gives.
    loss
        What it is trained with.
    learns_with_prior
        Whether it can be trained together with an MRF.
    """

    family: ClassVar[Family]
    loss: ClassVar[Loss]
    learns_with_prior: ClassVar[bool] = False

    kind: str

    def __new__(cls, **fields: Any) -> HeadSpec:  # noqa: ANN401 -- as a file has them
        """Make the class of the kind that is asked for."""
        return super().__new__(kind_of(fields) if cls is HeadSpec else cls)

    @model_validator(mode="before")
    @classmethod
    def _own_fields(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        of_others = {name for other in _KINDS.values() for name in other.model_fields}
        foreign = of_others - set(cls.model_fields)
        return {name: value for name, value in data.items() if name not in foreign}

    @property
    def title(self) -> str:
        """The kind in words."""
        raise NotImplementedError

    @property
    def is_stochastic(self) -> bool:
        """Whether samples differ from the mean."""
        return True

    @property
    def factor_rank(self) -> int:
        """Columns of the covariance factor; 0 without one."""
        return 0

    @property
    def least_variance(self) -> float:
        """What is added to the diagonal of the covariance; 0 without one."""
        return 0.0

    @property
    def n_members(self) -> int:
        """Members of the finite set that the head gives; 0 where it is none."""
        return 0

    @property
    def n_latents(self) -> int:
        """Dimensions of the latent space of the distribution; 0 where there is none."""
        return 0

    def check(self, backbone: BackboneSpec) -> None:
        """Raise ValueError if the head does not fit a backbone."""

    def build(self, frame: Frame, prior: MarkovPrior | None) -> SegmentationNetwork:
        """The network, with fresh weights from torch's global generator."""
        raise NotImplementedError


def register(*kinds: type[HeadSpec]) -> None:
    """Make kinds known by their names."""
    _KINDS.update({kind.model_fields["kind"].default: kind for kind in kinds})


def head_kinds() -> dict[str, type[HeadSpec]]:
    """Every kind by its name."""
    return dict(_KINDS)


def kind_of(fields: dict[str, Any]) -> type[HeadSpec]:
    """The class of the kind that a file names.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    kind = fields.get("kind", DEFAULT_KIND)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, but it is {kind!r:.80}")
    return _KINDS[kind]
