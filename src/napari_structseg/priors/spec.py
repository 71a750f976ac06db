"""What an MRF is, in words: the metadata that travels with its weights."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

# Not from pydantic itself before version 2.10.
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import InitErrorDetails

from napari_structseg.priors.base import MarkovPrior

DEFAULT_KIND = "network"
_KINDS: dict[str, type[PriorSpec]] = {}


class PriorSpec(BaseModel):
    """A Markov random field over labels, refined by mean field.

    Each kind is a class of its own, with its own fields. ``PriorSpec(kind="energy")`` makes the
    class of that kind, as a file does. What belongs to another kind is left out: files of
    earlier versions hold the fields of all kinds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(description="Which kind; each class has one.")
    iterations: int = Field(10, ge=1, le=50, description="Iterations of mean field in use.")

    def __new__(cls, **fields: Any) -> PriorSpec:  # noqa: ANN401 -- as a file has them
        """Make the class of the kind that is asked for."""
        return super().__new__(kind_of(fields) if cls is PriorSpec else cls)

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_kind(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> PriorSpec:
        if not isinstance(data, dict):
            return handler(data)
        if cls is PriorSpec:
            return kind_of(data).model_validate(data)
        of_others = {name for other in _KINDS.values() for name in other.model_fields}
        foreign = of_others - set(cls.model_fields)
        return handler({name: value for name, value in data.items() if name not in foreign})

    @property
    def title(self) -> str:
        """The kind in words."""
        raise NotImplementedError

    def build(self, dimensions: int, n_classes: int) -> MarkovPrior:
        """The MRF, with fresh weights from torch's global generator.

        Parameters
        ----------
        dimensions
            2 or 3.
        n_classes
            Number of classes K.
        """
        raise NotImplementedError

    def for_training(self) -> PriorSpec:
        """The same for new weights: what was left open is what training sets."""
        return self

    def fitting(self, weights: PriorSpec) -> PriorSpec:
        """The same for weights of this kind, whose specification says what shape they have."""
        return self


AnyPrior = SerializeAsAny[PriorSpec]
"""The specification of any MRF as a field of another model; without ``kind``, the network."""


def register(*kinds: type[PriorSpec]) -> None:
    """Make kinds known by their names, to files, configurations and the program alike.

    Raises
    ------
    ValueError
        If another class has the name.
    """
    for kind in kinds:
        name = kind.model_fields["kind"].default
        if _KINDS.setdefault(name, kind) is not kind:
            raise ValueError(f"there is a kind of MRF called {name!r} already: {_KINDS[name]}")


def prior_kinds() -> dict[str, type[PriorSpec]]:
    """Every kind by its name."""
    return dict(_KINDS)


def kind_of(fields: dict[str, Any]) -> type[PriorSpec]:
    """The class of the kind that a file names.

    Raises
    ------
    ValidationError
        If there is none of that name; it says at which field.
    """
    kind = fields.get("kind", DEFAULT_KIND)
    if not isinstance(kind, str) or kind not in _KINDS:
        *others, last = map(repr, _KINDS)
        problem = InitErrorDetails(
            type="literal_error",
            loc=("kind",),
            input=kind,
            ctx={"expected": f"{', '.join(others)} or {last}"},
        )
        raise ValidationError.from_exception_data("PriorSpec", [problem])
    return _KINDS[kind]
