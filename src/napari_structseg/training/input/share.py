"""Which patches of a batch a process trains on, where several share it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a batch.

    Attributes
    ----------
    first
        Place of its first patch in the batch.
    count
        How many patches it has.
    total
        How many the whole batch has.
    """

    first: int
    count: int
    total: int

    @property
    def places(self) -> range:
        """Places in the batch."""
        return range(self.first, self.first + self.count)

    @property
    def part(self) -> slice:
        """The same, to index with."""
        return slice(self.first, self.first + self.count)
