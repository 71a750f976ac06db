"""What was found of an image that is outside what a model was made for."""

from __future__ import annotations

from dataclasses import dataclass

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """A statistic of an image that no case like those of the model should have.

    Attributes
    ----------
    what
        Of what, in words: ``grey matter``, ``mean entropy of what is segmented``.
    value, seen
        What was found, and what was seen in the model's cases, in words with the unit.
    excess
        How far it is outside of what is accepted, in widths of that range.
    """

    what: str
    value: str
    seen: str
    excess: float

    @property
    def text(self) -> str:
        """All of it, as a part of a sentence."""
        return f"{self.what} {self.value}, seen {self.seen}"


@dataclass(frozen=True, slots=True)
class DomainCheck:
    """Whether an image is one of those that a model was made for.

    Attributes
    ----------
    model
        Name of the model.
    findings
        What is outside, the farthest first; empty: nothing.
    """

    model: str
    findings: tuple[Finding, ...] = ()

    @property
    def is_outside(self) -> bool:
        """Whether anything is outside."""
        return bool(self.findings)

    @property
    def texts(self) -> tuple[str, ...]:
        """What is outside, for files."""
        return tuple(one.text for one in self.findings)

    @property
    def message(self) -> str:
        """What is said to the user; empty where nothing is outside."""
        if not self.findings:
            return ""
        named = "; ".join(one.text for one in self.findings[:_MOST_NAMED])
        more = len(self.findings) - _MOST_NAMED
        rest = f"; and {more} more" if more > 0 else ""
        return (
            f"This image is outside what the model {self.model!r} was made for: {named}{rest}. "
            "Its segmentation, volumes and samples may all be wrong."
        )
