"""A process that runs one command after the other, as lines of JSON tell it, and reports each.

It is started by its path and imports nothing of the suite. A command that cannot end is ended
from outside, with the process.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import torch

from napari_structseg.cli import main

GIB = 1 << 30
# More than any command on inputs of a few kilobytes has a use for.
MORE_MEMORY = 3 * GIB
LARGEST_FILE = GIB // 4
_STATUS = Path("/proc/self/status")


def memory(field: str) -> int:
    """A size from the kernel's account of this process, in bytes."""
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024


def run(arguments: list[str], folder: str) -> dict[str, object]:
    """Run a command in a folder: its exit code, what it wrote, and the memory it took."""
    os.chdir(folder)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    out, err = io.StringIO(), io.StringIO()
    torn = ""
    code: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except BaseException:  # noqa: BLE001 -- what escapes is what is looked for
            torn = traceback.format_exc()
    torch.set_num_threads(1)
    return {
        "code": code,
        "traceback": torn,
        "message": err.getvalue()[-2000:],
        "memory": max(0, memory("VmHWM") - before),
    }


def serve() -> None:
    """Answer every line of the standard input with a line on the standard output."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # A shell that starts this in the background may have said otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    limit = memory("VmSize") + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    # What a command or a library writes to descriptor 1 is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        task = json.loads(line)
        answers.write(json.dumps(run(task["arguments"], task["folder"])) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
