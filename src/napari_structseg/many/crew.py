"""Who works on many cases: this process, processes beside it, or a cluster."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_structseg.errors import InputError
from napari_structseg.io.channels import read_channels
from napari_structseg.io.model_files import shipped_models
from napari_structseg.many.work import Order, Outcome, failed, opened, work_on
from napari_structseg.memory import available_memory, resident_bytes
from napari_structseg.workers.cluster import Ended, spread
from napari_structseg.workers.crew import Crew, hired, threads_of
from napari_structseg.workers.number import cores, number_that_fits

if TYPE_CHECKING:
    from distributed import Client

# So many of the largest files are tried: the first may be damaged.
_TRIED = 3


def outcomes(orders: Sequence[Order], crew: Crew) -> Generator[Outcome]:
    """What becomes of each case, as it comes.

    Cases that lacked memory beside others are tried once more, one at a time, at the end.

    Parameters
    ----------
    orders
        The cases.
    crew
        Who works.

    Raises
    ------
    ConfigError, InputError
        If there are no such workers, or they are gone.
    """
    n_workers = 1
    if crew.scheduler is None:
        n_workers = min(crew.workers or _number_of_workers(orders), max(1, len(orders)))
    with hired(crew, n_workers) as client:
        if client is None:
            yield from map(work_on, orders)
            return
        threads = threads_of(client)
        handed = [_for_elsewhere(order, threads) for order in orders]
        lacking = []
        for order, outcome in _answers(client, handed, None):
            if outcome.lacked_memory:
                lacking.append(order)
            else:
                yield outcome
        yield from (outcome for _, outcome in _answers(client, lacking, 1))


def _answers(
    client: Client, orders: Sequence[Order], at_once: int | None
) -> Iterator[tuple[Order, Outcome]]:
    for order, answer in spread(client, work_on, orders, at_once):
        if isinstance(answer, Ended):
            outcome = Outcome(order.case, "failed", answer.reason, lacked_memory=True)
            yield order, failed(order.request.out, outcome)
        else:
            yield order, answer


def _for_elsewhere(order: Order, threads: int) -> Order:
    """An order that says the same to a process in another folder, and how many threads it has."""
    request = order.request
    changes: dict[str, object] = {
        "images": tuple(path.absolute() for path in request.images),
        "out": request.out.absolute(),
        "members": tuple(path.absolute() for path in request.members),
        "threads": request.threads or threads,
    }
    for name in ("model", "prior"):
        given = getattr(request, name)
        if given is not None and given not in shipped_models():
            changes[name] = str(Path(given).expanduser().absolute())
    return replace(order, request=request.model_copy(update=changes))


def _number_of_workers(orders: Sequence[Order]) -> int:
    """As many as there are processors and cases, and as fit into memory with the largest case."""
    if find_spec("distributed") is None or len(orders) < 2 or cores() < 2:
        return 1
    needed = _needed_bytes(orders)
    if needed is None:
        return 1
    return number_that_fits(needed, available_memory(), most=min(cores(), len(orders)))


def _needed_bytes(orders: Sequence[Order]) -> int | None:
    """What a process needs for the case with the largest files; None: not known.

    A GPU's memory is shared by all that compute there, and one process keeps it busy.
    """
    largest = sorted(orders, key=_bytes_on_disk, reverse=True)
    for order in largest[:_TRIED]:
        try:
            source = opened(order.request)
            if source.predictor.device.type != "cpu":
                return None
            image = read_channels(order.request.images, series=order.request.series)
        except InputError:
            # It will be listed as failed.
            continue
        refined = source.iterations is not None
        image_bytes = source.predictor.required_bytes(image, refined=refined)
        return resident_bytes() + image_bytes
    return None


def _bytes_on_disk(order: Order) -> int:
    total = 0
    for path in order.request.images:
        try:
            files = path.rglob("*") if path.is_dir() else (path,)
            total += sum(file.stat().st_size for file in files if file.is_file())
        except OSError:
            continue
    return total
