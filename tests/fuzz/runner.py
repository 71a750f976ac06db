"""Runs cases in child processes that live on, and judges what became of each."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .cases import Case, make_case

SECONDS = 20
PATIENCE_SECONDS = 12
START_SECONDS = 180
# Beside what the libraries take: an input of a few kilobytes is worth less.
MOST_MEMORY = 1 << 30
INTERRUPTED = 130
_TOOK_STEPS = re.compile(r"Stopped\. Step [1-9]\d* of \d+ is kept")
_WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Verdict:
    """What became of a case.

    Attributes
    ----------
    number, case
        Which.
    problem
        What is wrong; empty where nothing is.
    seconds
        How long it took.
    """

    number: int
    case: Case
    problem: str
    seconds: float

    @property
    def reproduction(self) -> str:
        """How to run this case alone."""
        return f"python -m tests.fuzz --case {self.number}"

    def __str__(self) -> str:
        command = " ".join(self.case.arguments)
        if len(command) > 300:
            command = f"{command[:300]}..."
        return (
            f"case {self.number} ({self.case.kind}): {self.problem}\n"
            f"  structseg {command}\n  {self.reproduction}"
        )


class Runner:
    """One child process at a time, and a folder for it.

    Parameters
    ----------
    inputs
        Folder of the valid inputs.
    folder
        An empty folder, for the cases.
    """

    def __init__(self, inputs: Path, folder: Path) -> None:
        self._inputs = inputs
        self._folder = folder
        self._child: subprocess.Popen[str] | None = None
        self._is_worn = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def judge(self, number: int) -> Verdict:
        """Run a case."""
        case = make_case(number, self._inputs)
        place = self._folder / "case"
        shutil.copytree(self._inputs / case.base, place)
        for name, content in case.files.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(content)
        before = _contents(self._folder)
        self._start()
        started = time.monotonic()
        answer = self._ask(case, place)
        seconds = time.monotonic() - started
        problem = _problem(answer, _contents(self._folder), before, place)
        shutil.rmtree(place)
        return Verdict(number, case, problem, seconds)

    def _start(self) -> None:
        if self._child is not None:
            return
        self._child = subprocess.Popen(
            [sys.executable, str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        )
        if self._line(START_SECONDS) != "ready\n":
            raise RuntimeError("the child process of the fuzzing suite does not start")

    def _ask(self, case: Case, place: Path) -> dict[str, object] | str:
        assert self._child is not None
        assert self._child.stdin is not None
        task = {"arguments": case.arguments, "folder": str(place)}
        self._child.stdin.write(json.dumps(task) + "\n")
        self._child.stdin.flush()
        trains = case.arguments[0] == "train"
        line = self._line(PATIENCE_SECONDS if trains else SECONDS)
        if line is None and trains:
            # A training that was asked for many steps is no fault, if it takes them.
            self._child.send_signal(signal.SIGINT)
            line = self._line(SECONDS - PATIENCE_SECONDS)
            # An import that was interrupted leaves half a module for all later cases.
            self._is_worn = True
        if line is None:
            self._end()
            return f"takes more than {SECONDS} s"
        if not line:
            code = self._child.wait()
            self._end()
            return f"crashes the process (exit status {code})"
        if self._is_worn:
            self._end()
        answer: dict[str, object] = json.loads(line)
        return answer

    def _line(self, seconds: float) -> str | None:
        assert self._child is not None
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], seconds)
        return self._child.stdout.readline() if ready else None

    def _end(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.communicate()
        self._child = None
        self._is_worn = False


def judge(numbers: Iterable[int], inputs: Path, folder: Path) -> Iterator[Verdict]:
    """Run cases, one after the other."""
    with Runner(inputs, folder) as runner:
        for number in numbers:
            yield runner.judge(number)


def _contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file and folder."""
    return {
        str(path.relative_to(folder)): (0, 0) if path.is_dir() else _state(path)
        for path in folder.rglob("*")
    }


def _state(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_size, found.st_mtime_ns


def _problem(
    answer: dict[str, object] | str,
    after: dict[str, tuple[int, int]],
    before: dict[str, tuple[int, int]],
    place: Path,
) -> str:
    if isinstance(answer, str):
        return answer
    return _problem_of(answer) or _problem_of_files(after, before, f"{place.name}/out")


def _problem_of(answer: dict[str, object]) -> str:
    code, message = answer["code"], str(answer["message"])
    if answer["traceback"] or "Traceback (most recent call last)" in message:
        return f"ends in a traceback\n{answer['traceback'] or message}"
    if code == INTERRUPTED and _TOOK_STEPS.search(message):
        return ""
    if code not in (0, 2):
        return f"ends with exit code {code}: {message}"
    if code == 2 and not message:
        return "is refused without a word"
    mib = int(str(answer["memory"])) >> 20
    return f"takes {mib} MiB" if mib > MOST_MEMORY >> 20 else ""


def _problem_of_files(
    after: dict[str, tuple[int, int]], before: dict[str, tuple[int, int]], out: str
) -> str:
    changed = sorted(name for name in after if after[name] != before.get(name))
    outside = [name for name in changed if name != out and not name.startswith(f"{out}/")]
    if outside:
        return f"writes outside of --out: {', '.join(outside[:3])}"
    hidden = [name for name in changed if Path(name).name.startswith(".")]
    if hidden:
        return f"leaves temporary files: {', '.join(hidden[:3])}"
    gone = sorted(set(before) - set(after))
    return f"removes {', '.join(gone[:3])}" if gone else ""
