"""How far the samples of a distribution stray from its mean."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Temperature and class scales together.

    Attributes
    ----------
    temperature
        0 or more: all classes together.
    class_scale
        For each class, ``(C,)``.
    """

    temperature: float
    class_scale: tuple[float, ...]

    @classmethod
    def neutral(cls, n_classes: int) -> Spread:
        """The distribution as its network gives it: all are 1."""
        return cls(1.0, (1.0,) * n_classes)
