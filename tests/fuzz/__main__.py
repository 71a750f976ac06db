"""``python -m tests.fuzz --cases 10000``: the long form, and single cases."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from .cases import write_inputs
from .runner import judge


def main() -> int:
    """Run cases and report those that went wrong; 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--case", type=int, help="run this one alone")
    options = parser.parse_args()
    first = options.first if options.case is None else options.case
    numbers = range(first, first + (options.cases if options.case is None else 1))
    bad = 0
    kinds: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        inputs, place = Path(folder) / "inputs", Path(folder) / "place"
        inputs.mkdir()
        place.mkdir()
        write_inputs(inputs)
        for verdict in judge(numbers, inputs, place):
            kinds[verdict.case.kind] += 1
            slowest = max(slowest, verdict.seconds)
            if verdict.problem:
                bad += 1
                sys.stdout.write(f"{verdict}\n\n")
                sys.stdout.flush()
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    sys.stdout.write(f"{len(numbers)} cases ({counted}), slowest {slowest:.1f} s: {bad} bad\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
