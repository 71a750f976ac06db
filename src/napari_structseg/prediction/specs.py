"""What gives a distribution, in words: a model's specification, or that of maps."""

from __future__ import annotations

from dataclasses import dataclass

from napari_structseg.models import ClassSpec, ModelSpec


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What maps of probabilities are, in words: what a `ModelSpec` is to a model.

    Attributes
    ----------
    name
        Of the file, or of the first.
    dimensions
        2 or 3.
    classes
        In the order of the maps.
    kind
        What they are: no head made them.
    n_members
        Of how many members, whether they are shown or a normal was fitted to them; 0: one.
    """

    name: str
    dimensions: int
    classes: tuple[ClassSpec, ...]
    kind: str = "probabilities"
    n_members: int = 0

    @property
    def steps(self) -> int:
        """0: they are not trained."""
        return 0

    @property
    def calibration(self) -> None:
        """None: nobody calibrates maps."""

    @property
    def calibrated(self) -> None:
        """None, for the same reason."""

    @property
    def prior(self) -> None:
        """None: maps have no prior of their own."""

    @property
    def crf(self) -> None:
        """None: no weights of a CRF were learned for maps."""

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order."""
        return tuple(one.name for one in self.classes)


Spec = ModelSpec | MapSpec
"""What gives a distribution, in words."""


def are_alike(one: Spec, other: Spec) -> bool:
    """Whether two say the same of all but the intensity window that a model is shown."""
    if isinstance(one, ModelSpec) and isinstance(other, ModelSpec):
        one = one.model_copy(update={"intensity": other.intensity})
    return one == other
