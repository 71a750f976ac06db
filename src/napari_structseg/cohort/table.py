"""A table that says which patient each case is of, and to which split it belongs."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from napari_structseg.errors import ConfigError

CaseTable = dict[str, dict[str, str]]
"""By case: `patient`, `split` or both."""

_CASE, _KNOWN = "case", ("patient", "split")
_MAX_NAMED = 5


def read_table(path: Path) -> CaseTable:
    """Read a CSV file with a column `case` and columns `patient`, `split` or both.

    Raises
    ------
    ConfigError
        If it cannot be read, lacks the columns, or names a case twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            columns = list(lines.fieldnames or [])
            rows = list(lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"Cannot read the table {path}: {error}. Give a CSV file with the columns case, "
            "patient and split."
        ) from error
    used = [name for name in _KNOWN if name in columns]
    if _CASE not in columns or not used:
        raise ConfigError(
            f"The table {path} needs a column case, and patient, split or both; its columns are "
            f"{', '.join(columns) or 'none'}. Add them to the first line."
        )
    twice = sorted(name for name, n in Counter(row[_CASE] for row in rows).items() if n > 1)
    if twice:
        raise ConfigError(f"The table {path} names {named(twice)} more than once. Keep one line.")
    return {row[_CASE]: {name: row[name] or "" for name in used} for row in rows}


def named(names: Sequence[str]) -> str:
    """The first of some names, in words."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(map(repr, names[:_MAX_NAMED])) + more
