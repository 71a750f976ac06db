"""No word comes back that the glossary has replaced: in code, messages or pages."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import REPOSITORY

GLOSSARY = REPOSITORY / "docs" / "glossary.md"
HEADING = "## Words that are not used"
# A statistic, not what a sample adds to the mean.
ALLOWED = {"deviation": r"(?<!standard )"}
FILES = sorted(
    path
    for folder, pattern in (
        (".", "*.md"),
        ("docs", "**/*.md"),
        ("src", "**/*.py"),
        ("src", "**/*.md"),
        ("src", "**/*.yaml"),
        ("tests", "**/*.py"),
        ("scripts", "**/*.py"),
        ("experiments", "**/*.py"),
        ("experiments", "**/*.md"),
    )
    for path in (REPOSITORY / folder).glob(pattern)
    if path.name not in {GLOSSARY.name, Path(__file__).name}
)


def words_not_used() -> list[str]:
    table = GLOSSARY.read_text(encoding="utf-8").partition(HEADING)[2]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows[0] == "Not"
    return [word.strip() for row in rows[1:] for word in row.split(",")]


def running_text(text: str) -> str:
    """A file as it is read: lines of a comment, or parts of a string, are one sentence."""
    text = re.sub(r"[\"']\s*\n\s*f?[\"']", "", text)
    return re.sub(r"\s*\n\s*(# )?", " ", text)


def found_in(text: str, words: list[str]) -> list[str]:
    read = running_text(text).lower()
    return [word for word in words if word.lower() in read and pattern_of(word).search(read)]


def pattern_of(word: str) -> re.Pattern[str]:
    return re.compile(rf"{ALLOWED.get(word, '')}(?<![a-z]){re.escape(word.lower())}(?![a-z])")


def test_the_table_is_read() -> None:
    words = words_not_used()
    assert {"thrice", "any more", "deviation", "whence"} <= set(words)
    assert all(re.fullmatch(r"[A-Za-z ]+", word) for word in words)


def test_words_are_found_across_lines_and_in_names() -> None:
    words = words_not_used()
    assert found_in("It is not so any\n    # more.", words) == ["any more"]
    assert found_in('("no deviation and "\n "thrice")', words) == ["thrice", "deviation"]
    assert found_in("n_tally = 1", words) == ["tally"]
    assert found_in("Standard\ndeviation; kind; many more; Henceforth", words) == []


def test_no_word_comes_back() -> None:
    words = words_not_used()
    found = {
        path.relative_to(REPOSITORY).as_posix(): said
        for path in FILES
        if (said := found_in(path.read_text(encoding="utf-8"), words))
    }
    assert found == {}
