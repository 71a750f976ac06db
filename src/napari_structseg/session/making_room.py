"""Which results to let go of when a run finds too little memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from napari_structseg.distributions import LogitDistribution


def n_to_close(missing_bytes: int, held_bytes: Sequence[int]) -> int:
    """How many results have to be closed for a run, the oldest first.

    Parameters
    ----------
    missing_bytes
        What the run needs beyond what is free.
    held_bytes
        What each result holds, in the order in which they may go.

    Returns
    -------
    int
        0 where closing all of them would not help: then all of them stay.

    Examples
    --------
    >>> n_to_close(50, [30, 30, 100]), n_to_close(500, [30, 30, 100])
    (2, 0)
    """
    freed = 0
    for n, held in enumerate(held_bytes, start=1):
        freed += held
        if freed >= missing_bytes:
            return n
    return 0


def held_bytes(distribution: LogitDistribution) -> int:
    """Memory of the tensors that a distribution is made of, each counted once."""
    storages: dict[int, int] = {}
    seen: set[int] = set()
    waiting: list[object] = [distribution]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
        else:
            waiting += _parts(one)
    return sum(storages.values())


def _parts(one: object) -> Iterable[object]:
    """What an object of this package is made of; nothing else is looked into."""
    if not type(one).__module__.startswith("napari_structseg.distributions"):
        return []
    slots = (name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ()))
    named = [getattr(one, name, None) for name in slots]
    return [*named, *getattr(one, "__dict__", {}).values()]
