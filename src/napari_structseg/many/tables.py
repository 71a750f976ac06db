"""The tables of many predictions: volumes of all cases, and what failed.

Both are made of what lies in the folders of the cases, which alone is what happened: a table can
be made again at any time, and several processes that write it agree in the end.
"""

from __future__ import annotations

import csv
import io
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from napari_structseg.errors import InputError
from napari_structseg.many.work import FAILED_NAME
from napari_structseg.results.files import VOLUMES_NAME
from napari_structseg.results.labelling import write_text
from napari_structseg.results.recipe_files import RECIPE_NAME

FAILED_TABLE = "failed.csv"
# Of the time that goes by, so much may go to writing tables again while cases come in.
_SHARE = 0.02

_Seen = tuple[tuple[str, str, int], ...]


class Tables:
    """``volumes.csv`` and ``failed.csv`` of a folder.

    Parameters
    ----------
    out
        With a folder for each case.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._written = time.monotonic()
        self._cost = 0.0

    def write_now_and_then(self, failed: Mapping[str, str]) -> None:
        """Write them, unless they were written not long ago."""
        if (time.monotonic() - self._written) * _SHARE >= self._cost:
            self.write(failed)

    def write(self, failed: Mapping[str, str]) -> None:
        """Write them, with all that is whole in the folder by now.

        Another process may write the same tables with what it saw. Whoever writes looks once
        more afterwards: the last one has seen everything.

        Parameters
        ----------
        failed
            Errors by case, for those whose folder could not be written.

        Raises
        ------
        InputError
            If the system refuses to write.
        """
        began = time.monotonic()
        seen: _Seen | None = None
        while seen != (seen := self._seen()):
            problems = dict(failed)
            problems |= {name: self._problem(name) for name, kind, _ in seen if kind == FAILED_NAME}
            done = [name for name, kind, _ in seen if kind == RECIPE_NAME]
            volumes, unread = self._volumes(done)
            write_text(self._out / VOLUMES_NAME, volumes)
            write_text(self._out / FAILED_TABLE, _table(("case", "error"), (problems | unread)))
        self._written = time.monotonic()
        self._cost = self._written - began

    def _seen(self) -> _Seen:
        """Folders with results or an error, and when these were written."""
        seen = []
        for folder in sorted(self._out.iterdir()):
            for name in (RECIPE_NAME, FAILED_NAME):
                try:
                    seen.append((folder.name, name, (folder / name).stat().st_mtime_ns))
                # Not there, or no folder.
                except OSError:
                    continue
        return tuple(seen)

    def _problem(self, case: str) -> str:
        try:
            lines = (self._out / case / FAILED_NAME).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            # It has succeeded meanwhile, or the folder is closed to us.
            return "unknown"
        # The last line of a traceback says what went wrong.
        return lines[-1] if lines else "unknown"

    def _volumes(self, cases: Iterable[str]) -> tuple[str, dict[str, str]]:
        """One row for each case and class; and cases whose own table cannot be read."""
        columns: dict[str, None] = {"case": None}
        rows: list[dict[str, str]] = []
        unread = {}
        for case in cases:
            path = self._out / case / VOLUMES_NAME
            try:
                table = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                unread[case] = f"Cannot read {path}: {error}. Predict this case again."
                continue
            for row in table:
                # Cells beyond the named columns, or missing ones, are of no column.
                named = {key: value for key, value in row.items() if key and value is not None}
                columns.update(dict.fromkeys(named))
                rows.append({**named, "case": case})
        stream = io.StringIO()
        writer = csv.DictWriter(stream, [*columns], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue(), unread


def _table(header: tuple[str, str], rows: Mapping[str, str]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(sorted(rows.items()))
    return stream.getvalue()


def check_folder(out: Path) -> None:
    """Make a folder, and make sure that tables can be written there.

    Raises
    ------
    InputError
        If not.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(
            f"Cannot write to the folder {out}: {error.strerror or error}. Choose another one."
        ) from error
