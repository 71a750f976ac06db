"""``python -m tests.kill_sessions --kills 200``: kill a process while it works, again and again.

A child does actions one after the other, and says after each that it was done. It is killed at a
moment chosen by chance. What it left is read, compared with the same actions done here, and gone on
with by the next child, or a new session is begun.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from correction_helpers import CLASSES, everything, identity_of, next_event
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.autosave import Autosave
from napari_structseg.correction.folders import find_sessions
from napari_structseg.correction.journal import JOURNAL_NAME, read_work

SHAPE = (12, 20, 24)
# A whole journal is written every few actions, so that many a kill falls into that.
SHORTEN_BEYOND = 30_000
LONGEST_SECONDS = 0.4
_NUMBER = struct.Struct("<Q")


@dataclass
class Expected:
    """What a session should hold, followed as far as was read."""

    seed: int
    correction: Correction
    number: int = 0

    def follow(self, number: int) -> Correction:
        """The correction after so many events."""
        while self.number < number:
            next_event(self.correction, self.seed, self.number)
            self.number += 1
        return self.correction


def work_until_killed(
    root: Path, folder: Path | None, seed: int, shape: tuple[int, ...], pipe: int
) -> None:
    """What the child does."""
    if folder is None:
        correction, number = Correction(shape, len(CLASSES)), 0
        autosave = Autosave(
            correction, identity_of(shape), CLASSES, root=root, shorten_beyond=SHORTEN_BEYOND
        )
    else:
        autosave, work = Autosave.reopen(folder, shorten_beyond=SHORTEN_BEYOND)
        correction, number = work.correction, work.number
    random = np.random.default_rng()
    while True:
        next_event(correction, seed, number)
        number += 1
        os.write(pipe, _NUMBER.pack(number))
        if random.random() < 0.1:
            autosave.note_saved()
        if random.random() < 0.3:
            autosave.note(state=f'{{"number": {number}}}')


def killed(root: Path, folder: Path | None, expected: Expected, seconds: float) -> int:
    """Run a child and kill it; the number of events that it had done, 0 if it had said none."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            work_until_killed(root, folder, expected.seed, expected.correction.result.shape, writer)
        finally:
            os._exit(1)
    os.close(writer)
    # The moment is counted from the first action, or a bit earlier.
    select.select([reader], [], [], 60 if seconds > 0.02 else 0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    if not os.WIFSIGNALED(status):
        raise RuntimeError("the child ended before it was killed")
    whole = len(said) // _NUMBER.size * _NUMBER.size
    return int(_NUMBER.unpack(said[whole - _NUMBER.size : whole])[0]) if whole else 0


def main() -> int:
    """Kill, look, go on; 1 if anything was lost or damaged."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_sessions", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--shape", type=int, nargs="+", default=SHAPE, help="of the image")
    parser.add_argument("--root", type=Path, help="where sessions are kept; left there")
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.root or Path(temporary)
        shape = tuple(options.shape)
        expected, folder = _new(options.seed, shape), None
        for kill in range(options.kills):
            if random.random() < 0.2:
                expected, folder = _new(options.seed + kill + 1, shape), None
            n_before = len(find_sessions(root))
            seconds = float(random.random()) * LONGEST_SECONDS
            seconds = 0.01 if kill % 16 == 15 else seconds
            n_done = killed(root, folder, expected, seconds)
            counted["events"] += max(0, n_done - expected.number)
            if folder is None:
                sessions = find_sessions(root)
                if len(sessions) == n_before:
                    # Nothing was written yet: then nothing but one action may have been done.
                    problem = "" if n_done <= 1 else f"{n_done} actions are gone"
                    counted["before the first record"] += 1
                    if problem:
                        return _bad(kill, problem)
                    expected = _new(options.seed + kill + 1, shape)
                    continue
                folder = sessions[0].folder
            problem = _problem(folder, expected, n_done, counted)
            if problem:
                return _bad(kill, f"{problem} ({folder})")
    said = ", ".join(f"{count} {what}" for what, count in sorted(counted.items()))
    sys.stdout.write(f"{options.kills} kills, nothing lost but the last action: {said}\n")
    return 0


def _problem(folder: Path, expected: Expected, n_done: int, counted: Counter[str]) -> str:
    """What is wrong with a session; empty where nothing is."""
    work = read_work(folder)
    n_said = max(n_done, expected.number)
    if not n_said - 1 <= work.number <= n_said + 1:
        return f"{n_said} actions were done, and {work.number} are there"
    if everything(work.correction) != everything(expected.follow(work.number)):
        return f"the session after {work.number} actions is another one"
    counted["torn records"] += work.n_lost_bytes > 0
    counted["last actions lost"] += work.number < n_said
    others = {path.name for path in folder.iterdir()} - {JOURNAL_NAME, "lock"}
    counted["kills while a whole journal was written"] += bool(others)
    return f"{len(others)} temporary files are left" if len(others) > 1 else ""


def _new(seed: int, shape: tuple[int, ...]) -> Expected:
    return Expected(seed, Correction(shape, len(CLASSES)))


def _bad(kill: int, problem: str) -> int:
    sys.stdout.write(f"kill {kill}: {problem}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
