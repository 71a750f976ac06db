"""Fine-tuning in a process of its own, so that neither its threads nor its memory touch a window.

The optimisers of torch load its compiler, which ends a program that has a window with some builds;
and Python runs one thread at a time, which sliders would feel.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

from psygnal import Signal
from pydantic import ValidationError

from napari_structseg.errors import InputError
from napari_structseg.finetuning.events import Ended, Event, read_event
from napari_structseg.finetuning.gate import ASIDE_SECONDS
from napari_structseg.finetuning.settings import SETTINGS_NAME, FinetuneSettings
from napari_structseg.training.train import check_folder

logger = logging.getLogger(__name__)

LOG_NAME = "finetune.log"
_MODULE = "napari_structseg.finetuning.child"
_LAST_LINES = 5


class FinetuneProcess:
    """A run, seen from the program that began it.

    Parameters
    ----------
    settings
        What is asked for; None: those of the run in ``folder``, which goes on.
    folder
        Of the run; it is made.

    Attributes
    ----------
    told
        Every event, emitted in a thread of its own: hop to the main thread before you touch a
        window. The last one is :class:`~napari_structseg.finetuning.events.Ended`, always.

    Raises
    ------
    ConfigError
        If the folder holds another run, and settings are given.
    InputError
        If there is nothing to go on with, or the system refuses.
    """

    told = Signal(object)

    def __init__(self, settings: FinetuneSettings | None, folder: Path) -> None:
        self.folder = folder
        if settings is not None:
            check_folder(folder, resume=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if settings is not None:
                settings.write(folder)
            self._log = (folder / LOG_NAME).open("ab")
        except OSError as error:
            raise InputError(
                f"Cannot write to the folder of the run {folder}: {error.strerror or error}. "
                "Choose another."
            ) from error
        if not (folder / SETTINGS_NAME).is_file():
            self._log.close()
            raise InputError(f"There is no fine-tuning run in {folder} to go on with.")
        self._ended: Ended | None = None
        self._has_ended = threading.Event()
        self._writing = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Begin; connect to :attr:`told` before.

        Raises
        ------
        InputError
            If the system cannot start a process.
        """
        # On Windows a process is not made nicer by itself.
        lower = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                creationflags=lower,
            )
        except OSError as error:
            raise InputError(
                f"Cannot start a process for fine-tuning: {error.strerror or error}."
            ) from error
        self._reader = threading.Thread(
            target=self._read, args=(self._process,), daemon=True, name="structseg-finetuning"
        )
        self._reader.start()

    @property
    def pid(self) -> int | None:
        """Number of the process; None before it is started."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._ended is None

    @property
    def ended(self) -> Ended | None:
        """How it ended; None: it has not."""
        return self._ended

    def pause(self) -> None:
        """Hold the run, within a layer's time."""
        self._say({"do": "pause"})

    def resume(self) -> None:
        """Let it go on."""
        self._say({"do": "resume"})

    def step_aside(self, seconds: float = ASIDE_SECONDS) -> None:
        """Leave the processor to others for a moment; call it whenever a slider moves."""
        self._say({"do": "step aside", "seconds": seconds})

    def cancel(self) -> None:
        """End it after its step. The checkpoint stays: the run can go on later."""
        self._say({"do": "cancel"})

    def wait(self, timeout: float | None = None) -> Ended | None:
        """Wait for the end.

        Parameters
        ----------
        timeout
            Seconds; None: as long as it takes.

        Returns
        -------
        Ended or None
            None: it has not ended by then.
        """
        self._has_ended.wait(timeout)
        return self._ended

    def close(self, timeout: float | None = 10) -> None:
        """Let go of it: the run writes a checkpoint and ends by itself.

        Parameters
        ----------
        timeout
            Seconds to wait for that; beyond, it is left to itself.
        """
        process = self._process
        if process is None:
            return
        self._close_commands(process)
        self._has_ended.wait(timeout)

    def _close_commands(self, process: subprocess.Popen[bytes]) -> None:
        with self._writing:
            try:
                if process.stdin is not None:
                    process.stdin.close()
            except OSError:
                # What was not written is no longer wanted.
                logger.debug("the process has gone already")

    def _say(self, command: dict[str, object]) -> None:
        process = self._process
        if process is None or process.stdin is None or self._ended is not None:
            return
        with self._writing:
            try:
                process.stdin.write(json.dumps(command).encode() + b"\n")
                process.stdin.flush()
            except (OSError, ValueError):
                # It has ended; the reader tells so.
                logger.debug("the process no longer listens")

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        ended: Ended | None = None
        stdout = process.stdout
        assert stdout is not None
        for line in stdout:
            try:
                event = read_event(line)
            except ValidationError:
                # Half a line of a process that was killed.
                continue
            if isinstance(event, Ended):
                ended = event
            else:
                self._emit(event)
        code = process.wait()
        stdout.close()
        self._log.close()
        self._close_commands(process)
        self._ended = ended or Ended(reason="crashed", message=self._why(code))
        self._emit(self._ended)
        self._has_ended.set()

    def _emit(self, event: Event) -> None:
        try:
            self.told.emit(event)
        # Whatever a listener does: the process must be read on, or it would never end.
        except Exception:
            logger.exception("a listener failed")

    def _why(self, code: int) -> str:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        try:
            lines = (self.folder / LOG_NAME).read_text(encoding="utf-8", errors="replace")
            last: deque[str] = deque(lines.splitlines(), maxlen=_LAST_LINES)
        except OSError:
            last = deque()
        said = "\n".join(last)
        return (
            f"The process that was fine-tuning {how}. The model in use is what it was. Its last "
            f"checkpoint is in {self.folder}.{chr(10) if said else ''}{said}"
        )
