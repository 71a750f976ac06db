"""Whether work fits into memory, asked before anything is allocated."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from napari_structseg.errors import MemoryLimitError

_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")
_BYTES_PER_GB = 1e9


def available_memory() -> int | None:
    """Return how many bytes new work can use; None where the system does not tell.

    On Linux this is the kernel's own estimate, which counts what it can reclaim; elsewhere it is
    all the memory of the machine, an upper bound, so that only the impossible is refused. A limit
    on the address space of this process (``ulimit -v``) counts, too.
    """
    limits = [limit for limit in (_of_machine(), _below_limit()) if limit is not None]
    return min(limits, default=None)


def resident_bytes() -> int:
    """Main memory that this process takes by now; 0 where the system does not tell."""
    if not _STATM.exists():
        return 0
    import resource

    return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory: of Python, of torch, of the C++ library."""
    # Torch has a class for a GPU's memory alone; of the processor's it says so in words.
    words = ("out of memory", "can't allocate memory", "bad_alloc", "not enough memory")
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(word in said for word in words)


def _below_limit() -> int | None:
    """What this process may still map; None where nothing limits it."""
    if not _STATM.exists():
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    mapped = int(_STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    return max(0, limit - mapped)


def _of_machine() -> int | None:
    if _MEMINFO.exists():
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            field, _, value = line.partition(":")
            if field == "MemAvailable":
                return int(value.split()[0]) * 1024
    if sys.platform != "win32" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def check_memory(required_bytes: int, what: str, available: int | None = None) -> None:
    """Raise if work that is about to start cannot fit into memory.

    Parameters
    ----------
    required_bytes
        Peak need of the work.
    what
        The work, as the subject of a sentence: "Opening T1.nii.gz".
    available
        Bytes that it can use; by default, of the machine's main memory.

    Raises
    ------
    MemoryLimitError
        If more is needed than is available.
    """
    if available is None:
        available = available_memory()
    if available is not None and required_bytes > available:
        raise MemoryLimitError(
            f"{what} needs about {required_bytes / _BYTES_PER_GB:.1f} GB of memory, but "
            f"{available / _BYTES_PER_GB:.1f} GB are available. Close other programs or images, "
            f"crop or downsample the image, or use a machine with more memory.",
            required_bytes - available,
        )
