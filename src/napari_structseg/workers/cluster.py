"""Processes that work, and calls that are spread over them.

dask.distributed starts them, restarts one that was ended, and calls again what it was at. A call
is thus made at least once, and has to give the same when it is made twice. It comes with an
extra, and is imported where it is needed.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import napari_structseg
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.io.extras import require

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

# How long a scheduler may take to answer, and how often it is asked for its workers.
_CONNECT_SECONDS = "20s"
_LOOK_SECONDS = 5
_ENDED = (
    "It was given up after {times} process(es) that worked on it were ended, most likely for want "
    "of memory. Take fewer workers."
)


@dataclass(frozen=True, slots=True)
class Ended:
    """What comes in place of a result when every process that worked on it was ended."""

    reason: str


def require_distributed() -> None:
    """Raise InputError where the library is not installed."""
    require("distributed", extra="cohort", what="Several workers")


@contextmanager
def local_workers(number: int) -> Iterator[Client]:
    """Some processes on this computer, ended with the block.

    Parameters
    ----------
    number
        How many.
    """
    require_distributed()
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=number,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                # None would take dask's usual port, of which there is one, for several runs.
                dashboard_address="127.0.0.1:0",
                # We know what a case needs. Dask would end a process at its share of the memory.
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
        )
        client = stack.enter_context(Client(cluster))
        client.register_plugin(_deaf_to_interrupts())
        yield client


@contextmanager
def scheduled(address: str) -> Iterator[Client]:
    """The workers of a scheduler that runs somewhere.

    Parameters
    ----------
    address
        Of the scheduler, such as ``tcp://node7:8786``; or a file that it wrote, ``*.json``.

    Raises
    ------
    ConfigError
        If it does not answer, or its workers have another version of this package.
    """
    require_distributed()
    from distributed import Client

    named: dict[str, Any] = {"address": address}
    if address.endswith(".json"):
        if not Path(address).is_file():
            raise ConfigError(f"There is no file {address} of a scheduler. Check --scheduler.")
        named = {"scheduler_file": address}
    try:
        client = Client(**named, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"No scheduler of dask.distributed answers at {address}: {error}. Check --scheduler: "
            "'dask scheduler' prints its address."
        ) from error
    with client:
        _check_versions(client)
        yield client


def spread(
    client: Client,
    call: Callable[[Item], Result],
    items: Iterable[Item],
    at_once: int | None = None,
) -> Iterator[tuple[Item, Result | Ended]]:
    """Results of a call for each item, as they come.

    No more calls are handed out than there are workers: when a process is ended, only the call
    that it was at is to blame.

    Parameters
    ----------
    client
        Of the workers.
    call
        A function of a module; what it raises is raised here.
    items
        Taken as workers become free.
    at_once
        At most so many calls at a time; None: one for each worker.

    Raises
    ------
    InputError
        If the scheduler is gone.
    """
    from distributed import KilledWorker, wait
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    left = iter(items)
    running: dict[Any, Item] = {}
    try:
        while True:
            free = (at_once or len(client.nthreads()) or 1) - len(running)
            for _ in range(free):
                item = next(left, _NOTHING)
                if item is _NOTHING:
                    break
                running[client.submit(_called, call, item, pure=False)] = item
            if not running:
                return
            try:
                done = wait([*running], timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                # More workers may have come.
                continue
            for future in done:
                item = running.pop(future)
                try:
                    yield item, future.result()
                except KilledWorker as error:
                    yield item, Ended(_ENDED.format(times=error.allowed_failures + 1))
    except (FutureCancelledError, CommClosedError) as error:
        raise InputError(
            f"The scheduler of the workers is gone ({error}). What was done is kept; start it "
            "again, and go on."
        ) from error
    finally:
        if client.status == "running":
            client.cancel([*running], force=True)


class _Nothing:
    pass


_NOTHING: Any = _Nothing()
_alone = threading.Lock()


def _called(call: Callable[[Item], Result], item: Item) -> Result:
    # A worker may have several threads. Threads of torch, and memory, are of the whole process.
    with _alone:
        return call(item)


def _deaf_to_interrupts() -> Any:  # noqa: ANN401 -- a class of an extra
    """A plugin by which workers leave Ctrl-C to the process that started them."""
    from distributed import WorkerPlugin

    class DeafToInterrupts(WorkerPlugin):
        """A terminal sends Ctrl-C to all processes at once."""

        name = "structseg-deaf-to-interrupts"

        def setup(self, worker: object) -> None:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return DeafToInterrupts()


def _version() -> str:
    return napari_structseg.__version__


def _check_versions(client: Client) -> None:
    try:
        found = set(client.run(_version).values())
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The workers of the scheduler cannot work for us: {error}. Install napari-structseg "
            "where they run."
        ) from error
    if found - {_version()}:
        raise ConfigError(
            f"The workers of the scheduler have napari-structseg {', '.join(sorted(found))}, but "
            f"here it is {_version()}. Install the same version for all."
        )
