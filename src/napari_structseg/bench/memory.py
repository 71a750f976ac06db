"""How much memory this process holds, and has ever held."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_BYTES_PER_MB = 1e6

METHOD = "growth of the largest resident set of a fresh process over the resident set after imports"


def peak_bytes() -> int:
    """The largest resident set so far.

    On Linux of this program alone. What getrusage reports there can be that of the process that
    started it, which the kernel carries over.
    """
    return _of_status("VmHWM") if _STATUS.exists() else _of_getrusage()


def resident_bytes() -> int:
    """The resident set now; where the system does not tell, the largest so far."""
    return _of_status("VmRSS") if _STATUS.exists() else _of_getrusage()


def megabytes(n_bytes: int) -> float:
    """In MB, 10^6 bytes."""
    return round(n_bytes / _BYTES_PER_MB, 1)


def _of_status(field: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"{_STATUS} has no field {field}")


def _of_getrusage() -> int:
    # Not on Windows, where the import fails.
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
