"""How many processes can work at once on this computer."""

from __future__ import annotations

import os

from napari_structseg.errors import ConfigError

WORKERS_MAX = 1024
# What is left for the system and for what was not foreseen.
_SHARE = 0.8


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def number_that_fits(needed: int, available: int | None, *, most: int) -> int:
    """How many workers fit into memory, at least one.

    Parameters
    ----------
    needed
        Bytes that one of them needs at its peak, with its program and its model.
    available
        Bytes that all of them can use; None: not known, and one worker is safe.
    most
        So many at most: cases, or processors.
    """
    if available is None:
        return 1
    return max(1, min(most, int(available * _SHARE) // max(1, needed)))


def check_number(workers: int) -> None:
    """Raise ConfigError for a number of workers that no computer has."""
    if not 1 <= workers <= WORKERS_MAX:
        raise ConfigError(f"--workers must be 1 or more, up to {WORKERS_MAX}, but it is {workers}.")
