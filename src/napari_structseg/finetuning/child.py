"""The process that fine-tunes: ``python -m napari_structseg.finetuning.child FOLDER``.

Commands come in as JSON lines, events go out as JSON lines. Where the commands end, the program
that began the run has gone: the run writes a checkpoint and ends.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch

from napari_structseg.errors import Cancelled, Diverged, MemoryLimitError, StructSegError
from napari_structseg.finetuning.events import Ended, Event, Paused, Reason
from napari_structseg.finetuning.gate import ASIDE_SECONDS, Gate
from napari_structseg.finetuning.run import TUNED_NAME, finetune
from napari_structseg.finetuning.settings import FinetuneSettings, read_settings
from napari_structseg.memory import is_out_of_memory
from napari_structseg.training.trainer import CHECKPOINT_NAME, WEIGHTS_NAME

logger = logging.getLogger(__name__)

_NICENESS = 10
CANCELLED, ORPHANED = "cancelled", "orphaned"


def main(folder: Path) -> int:
    """Run what the settings in a folder say; go on where there is a checkpoint.

    Returns
    -------
    exit_code
        0 where the run ended as it should, or was told to.
    """
    outwards = _own_output()
    gate = Gate()
    told = _Teller(outwards, gate)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Ctrl-C in a terminal reaches every process of it; this one listens to its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    threading.Thread(
        target=_listen, args=(sys.stdin.buffer, gate, told), daemon=True, name="structseg-commands"
    ).start()
    try:
        settings = read_settings(folder)
        torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) - 1))
        ended = _run(settings, folder, told, gate)
    except StructSegError as error:
        ended = Ended(reason="refused", message=str(error))
    told(ended)
    return 0 if ended.reason in ("finished", CANCELLED, ORPHANED) else 1


def _run(
    settings: FinetuneSettings, folder: Path, tell: Callable[[Event], None], gate: Gate
) -> Ended:
    resume = (folder / CHECKPOINT_NAME).exists()
    last = folder / WEIGHTS_NAME
    try:
        report = finetune(settings, folder, tell=tell, gate=gate, resume=resume)
    # Whatever a step raises: the parent is told why, and the log has the traceback.
    except Exception as error:
        reason, message = _why(error, gate)
        if reason == "crashed":
            logger.exception("the run failed")
        return Ended(reason=reason, message=message, weights=_there(last))
    return Ended(
        reason="finished",
        step=report.steps,
        weights=str(folder / TUNED_NAME),
        helped=report.corrections.helped,
    )


def _why(error: Exception, gate: Gate) -> tuple[Reason, str]:
    """How a run ended, and what is said of it."""
    if isinstance(error, Cancelled):
        return ("orphaned" if gate.cancelled == ORPHANED else "cancelled"), ""
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if isinstance(error, MemoryLimitError):
        return "out of memory", str(error)
    if isinstance(error, StructSegError):
        return "refused", str(error)
    if is_out_of_memory(error):
        return "out of memory", "There is not enough memory to go on. Close other programs."
    return "crashed", f"{type(error).__name__}: {error}"


def _there(path: Path) -> str | None:
    return str(path) if path.exists() else None


class _Teller:
    """Writes events, from several threads."""

    def __init__(self, stream: BinaryIO, gate: Gate) -> None:
        self._stream, self._gate = stream, gate
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            try:
                self._stream.write(event.model_dump_json().encode() + b"\n")
                self._stream.flush()
            except OSError:
                # Nobody listens.
                self._gate.cancel(ORPHANED)


def _listen(commands: BinaryIO, gate: Gate, tell: Callable[[Event], None]) -> None:
    for line in commands:
        try:
            command = json.loads(line)
            name = command["do"]
        except (ValueError, KeyError, TypeError):
            logger.warning("not a command: %.80r", line)
            continue
        if name == "pause":
            gate.pause()
            tell(Paused(is_paused=True))
        elif name == "resume":
            gate.resume()
            tell(Paused(is_paused=False))
        elif name == "step aside":
            gate.step_aside(float(command.get("seconds", ASIDE_SECONDS)))
        elif name == "cancel":
            gate.cancel(CANCELLED)
    gate.cancel(ORPHANED)


def _own_output() -> BinaryIO:
    """The standard output for events alone; whatever else is printed goes to the log."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
