"""What conditioning buys: Dice against the number of strokes of a simulated user.

    python experiments/correction/run.py hippocampus --data DATA --model MODEL.safetensors
    python experiments/correction/run.py ibsr --data DATA --model brain-tissue
    python experiments/correction/run.py lidc --data LIDC --model lung-nodule
    python experiments/correction/run.py acdc --data ACDC --model RUN/model.safetensors --strokes 4
    python experiments/correction/run.py hippocampus --data DATA --model MODEL --users 3
    python experiments/correction/run.py hippocampus --data DATA --model MODEL --sweep
    python experiments/correction/run.py --report

DATA holds ``images`` and ``labels`` of Task04 of the Medical Segmentation Decathlon, or
``0.94mm`` and ``1.0mm`` of IBSR; LIDC is what ``experiments/lidc/prepare.py`` writes, ACDC and its
model what ``acdc.py`` says. The strokes of each way answer its own mistakes, but for ACDC, where a
person has scribbled. ``--users`` has so many users who take mistakes by chance. ``--sweep`` tries
settings of the conditioning, on cases that the figures are not of. Results are added to
results.json; the page and its figure are made of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cases import READERS, CorrectionCase
from report import write_page
from user import next_dab
from ways import Labels, Way, conditioning, nearby, painting, rerun

from napari_structseg.distributions import SampledDistribution, Strokes
from napari_structseg.distributions.conditioning.settings import EXACT, Conditioning
from napari_structseg.evaluation.dice import dice_per_class
from napari_structseg.io.atomic import atomic_path
from napari_structseg.prediction.source import Source, open_source

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
# Of the sweep: weights of a stroke voxel and of one that was not corrected, and the prior's scale.
WEIGHTS = ((0.3, 0.03), (0.3, 0.1), (1.0, 0.1), (1.0, 0.3))
SCALES = (1.0, 5.0)

logger = logging.getLogger("correction")


def main() -> int:
    """Run what was asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", choices=READERS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--strokes", type=int, default=12, help="how many at most, for each case")
    parser.add_argument("--users", type=int, default=0, help="so many who correct by chance")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--report", action="store_true", help="use the results as they are")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if not options.report:
        if options.dataset is None or options.data is None or options.model is None:
            parser.error("give a data set, --data and --model; or --report")
        run(options)
    write_page(read_results())
    return 0


def read_results() -> dict[str, Any]:
    """Results as they are written."""
    if not RESULTS.exists():
        return {}
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def run(options: argparse.Namespace) -> None:
    """Correct every case in every way, and add the results."""
    # Dots of a sum in another order give other labels in a few voxels.
    torch.set_num_threads(1)
    source = open_source(options.model, torch.device("cpu"))
    cases = READERS[options.dataset](options.data, options.cases, options.sweep)
    if not cases:
        raise SystemExit(f"{options.data} holds no cases of {options.dataset} to correct.")
    began = time.process_time()
    rows: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        distribution = case.distribution(source)
        for name, way in ways(distribution, source, case, options.sweep):
            for user in range(1, options.users + 1) if options.users else (None,):
                chance = None if user is None else np.random.default_rng(user)
                row = {"case": case.name, **corrected(way, case, options.strokes, chance)}
                rows.setdefault(name, []).append(row)
                logger.info("%s, %s: %s", case.name, name, row["dice"])
    result = {
        "model": source.spec.name,
        "strokes": options.strokes,
        "cpu_seconds": round(time.process_time() - began),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}",
        "ways": rows,
    }
    key = f"{options.dataset} sweep" if options.sweep else options.dataset
    if options.users:
        key += f", {options.users} users"
    with atomic_path(RESULTS) as temporary:
        text = json.dumps(read_results() | {key: result}, indent=1)
        # A curve is one line.
        text = re.sub(
            r"\[\s+([-\d., \n]+?)\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text
        )
        temporary.write_text(text + "\n", encoding="utf-8")


def ways(
    distribution: SampledDistribution, source: Source, case: CorrectionCase, is_sweep: bool
) -> Iterator[tuple[str, Way]]:
    """What is compared, by name."""
    if is_sweep:
        yield "Bayes' rule alone", conditioning(distribution, EXACT)
        for scale in SCALES:
            for weight, confirmed in WEIGHTS:
                settings = Conditioning(weight=weight, confirmed=confirmed, prior_scale=scale)
                name = f"scale {scale:g}, weight {weight:g}, confirmed {confirmed:g}"
                yield name, conditioning(distribution, settings)
        return
    yield "painting", painting(distribution)
    yield "deterministic", nearby(distribution)
    prior, iterations = source.prior(case.image), source.iterations
    if prior is not None and iterations:
        yield "deterministic with MRF", rerun(distribution, prior, iterations)
    yield "conditioning", conditioning(distribution)


def corrected(
    way: Way, case: CorrectionCase, n_strokes: int, chance: np.random.Generator | None = None
) -> dict[str, Any]:
    """Dice after each stroke, and the milliseconds that a way took for one."""
    said = Strokes.none(case.truth.shape)
    labels = way(said)
    dice, seconds = [score(labels, case)], []
    for step in range(n_strokes):
        if case.scribbles:
            dab = case.scribbles[step] if step < len(case.scribbles) else None
        else:
            dab = next_dab(
                labels,
                case.truth,
                said,
                radius=case.radius,
                reviewed=case.reviewed,
                chance=chance,
            )
        if dab is None:
            # Nothing is left to say.
            dice.append(dice[-1])
            continue
        said = said.merged(dab)
        began = time.perf_counter()
        labels = way(said)
        seconds.append(time.perf_counter() - began)
        dice.append(score(labels, case))
    return {
        "dice": [round(one, 5) for one in dice],
        "ms": round(1e3 * float(np.median(seconds)), 1) if seconds else None,
    }


def score(labels: Labels, case: CorrectionCase) -> float:
    """Mean Dice of the classes that the reference has, the background not counted."""
    shown, truth = labels, case.truth
    if case.counted is not None:
        shown, truth = labels[case.counted], truth[case.counted]
    per_class: npt.NDArray[np.float64] = dice_per_class(shown, truth, case.n_classes)
    return float(np.nanmean(per_class[list(case.scored)]))


if __name__ == "__main__":
    sys.exit(main())
