"""What is held out of the corrected cases, to see whether tuning helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_structseg.data.cases import UNREVIEWED, ReadCase
from napari_structseg.errors import ConfigError

# Of a single case: the third and the eighth of ten slabs with equally many reviewed voxels.
_N_SLABS, _HELD_OUT_SLABS = 10, (2, 7)
_FEWEST_VOXELS = 100
_SHARE_OF_CASES = 4


@dataclass(frozen=True)
class Split:
    """Cases, and what of them is for what.

    Attributes
    ----------
    training
        To learn from.
    validation
        To score on; empty: nothing is held out.
    said
        What is held out, in words; empty: nothing.
    """

    training: list[ReadCase]
    validation: list[ReadCase]
    said: str = ""


def split(cases: Sequence[ReadCase], held_out: int | None) -> Split:
    """Hold out cases, or a part of a single one.

    Parameters
    ----------
    cases
        All of them.
    held_out
        How many, the last ones; None: a quarter, and of a single case two of ten slabs along the
        axis in which its reviewed voxels extend farthest; 0: nothing.

    Raises
    ------
    ConfigError
        If nothing would be left to learn from.
    """
    if held_out is None and len(cases) == 1:
        return _within(cases[0])
    n = -(-len(cases) // _SHARE_OF_CASES) if held_out is None else held_out
    if n >= len(cases):
        raise ConfigError(
            f"held_out = {n} leaves nothing to learn from: there are {len(cases)} corrected cases. "
            "Lower it, or add cases."
        )
    if n == 0:
        return Split(list(cases), [])
    validation = list(cases[-n:])
    names = ", ".join(one.name for one in validation)
    return Split(list(cases[:-n]), validation, f"{n} of {len(cases)} cases: {names}")


def _within(case: ReadCase) -> Split:
    """A single case: the image is seen, but not what was said of the held-out slabs."""
    reviewed = (case.raters != UNREVIEWED).all(axis=0)
    if np.count_nonzero(reviewed) < _FEWEST_VOXELS:
        return Split([case], [])
    positions = np.nonzero(reviewed)
    axis = int(np.argmax([int(one.max() - one.min()) for one in positions]))
    slab = _slabs(positions[axis], reviewed.shape[axis])
    held = np.isin(slab, _HELD_OUT_SLABS)
    shape = [-1 if index == axis else 1 for index in range(reviewed.ndim)]
    where = np.broadcast_to(held.reshape(shape), reviewed.shape)
    if not (reviewed & where).any() or not (reviewed & ~where).any():
        return Split([case], [])
    said = f"a fifth of the reviewed voxels of {case.name} (two slabs along axis {axis})"
    return Split([_without(case, where)], [_without(case, ~where)], said)


def _slabs(places: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """In which of the slabs each plane lies, ``(size,)``; slabs have equally many voxels."""
    counts = np.bincount(places, minlength=size)
    before = np.cumsum(counts) - counts / 2
    slabs: npt.NDArray[np.int64] = (before * _N_SLABS // max(1, counts.sum())).astype(np.int64)
    return slabs


def _without(case: ReadCase, where: npt.NDArray[np.bool_]) -> ReadCase:
    return replace(case, raters=np.where(where, np.uint8(UNREVIEWED), case.raters))
