"""The short form: seeded cases of every kind, none of which ends badly."""

from __future__ import annotations

from pathlib import Path

from .cases import make_case, n_kinds, write_inputs
from .runner import judge

CASES = 240


def test_no_case_ends_badly(tmp_path: Path) -> None:
    inputs, place = tmp_path / "inputs", tmp_path / "place"
    inputs.mkdir()
    place.mkdir()
    write_inputs(inputs)
    bad = [verdict for verdict in judge(range(CASES), inputs, place) if verdict.problem]
    assert not bad, "\n\n".join(map(str, bad))


def test_a_number_is_always_the_same_case(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    numbers = range(2 * n_kinds())
    for number in numbers:
        assert make_case(number, tmp_path) == make_case(number, tmp_path)
    assert len({make_case(number, tmp_path).kind for number in numbers}) == n_kinds()
