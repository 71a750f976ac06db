"""What fine-tuning buys: Dice of cases that nobody corrected against the number of corrected ones.

    python experiments/finetune/run.py --data DATA --work FOLDER               # everything
    python experiments/finetune/run.py --data DATA --work FOLDER --domain lidc --limit 1
    python experiments/finetune/run.py --report --work FOLDER                  # figure and page

DATA holds ``ibsr18``, ``hippocampus``, ``lidc`` and ``synthseg_label_maps``. Each cell (a number
of corrected cases, what is learned from, what holds the weights, a seed) is a run of some minutes,
and one line of FOLDER/rows.jsonl. What is there is skipped; a cell that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from domains import DOMAINS, Domain, Measured
from report import read_rows, write_report

from napari_structseg.finetuning.events import Event, Written
from napari_structseg.finetuning.run import finetune
from napari_structseg.finetuning.settings import make_settings
from napari_structseg.io.weights import load_weights
from napari_structseg.training.trainer import CHECKPOINT_NAME

SEEDS = (0, 1, 2)
PULL = 0.001
# How strongly the weights are held, tried on few corrected cases, where most is forgotten.
SWEEP = (0.0, 0.0001, 0.0003, 0.003, 0.01)
RATE = 1e-4

logger = logging.getLogger("finetune")


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes
    ----------
    n
        Corrected cases that it learns from.
    learn_from
        All of each ("result"), or strokes into the model's mistakes.
    guard
        Against forgetting: "pull", "replay", or "none".
    pull
        Share of the way back with each step.
    """

    domain: str
    n: int
    learn_from: str
    guard: str
    pull: float
    seed: int

    @property
    def key(self) -> str:
        """A name for folders."""
        parts = (self.domain, self.n, self.learn_from, self.guard, f"{self.pull:g}", self.seed)
        return "-".join(map(str, parts))


def main() -> int:
    """Run what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--domain", choices=DOMAINS, help="only this one")
    parser.add_argument("--limit", type=int, help="so many cells and no more")
    parser.add_argument("--report", action="store_true", help="use the rows as they are")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if options.report:
        write_report(options.work / "rows.jsonl")
        return 0
    if options.data is None:
        parser.error("give the folder of the data with --data, or --report")
    # As many as reproduce the results: sums in another order give other weights.
    torch.set_num_threads(1)
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    names = list(DOMAINS) if options.domain is None else [options.domain]
    left = options.limit
    domains = cache(lambda name: DOMAINS[name](options.data, work))
    for cell in missing(names, work / "rows.jsonl"):
        if left == 0:
            break
        left = None if left is None else left - 1
        row = made(cell, domains(cell.domain), work)
        with (work / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        logger.info("%s: %.3f", cell.key, np.mean(row["looks"][-1]["dice"]))
    return 0


def missing(names: list[str], path: Path) -> Iterator[Cell]:
    """Cells that have no row yet, the first seed of everything before the second of anything."""
    known = {(row["key"]) for row in read_rows(path)}
    for seed in SEEDS:
        for plan in (starts, counts, guards, sweep):
            for name in names:
                for cell in plan(name, seed):
                    if cell.key not in known:
                        known.add(cell.key)
                        yield cell


def starts(name: str, seed: int) -> Iterator[Cell]:
    """The model as it is, which is the same for every seed."""
    if seed == SEEDS[0]:
        yield Cell(name, 0, "result", "none", 0.0, seed)


COUNTS = {"hippocampus": (1, 2, 4, 16), "lidc": (1, 4, 16, 64), "ibsr": (1, 2, 4)}


def counts(name: str, seed: int) -> Iterator[Cell]:
    """More and more corrected cases, whole and with strokes alone."""
    for n in COUNTS[name]:
        for learn_from in ("result", "strokes"):
            yield Cell(name, n, learn_from, "pull", PULL, seed)


def guards(name: str, seed: int) -> Iterator[Cell]:
    """With replay, and with nothing that holds the weights."""
    for n in COUNTS[name][1:]:
        for guard in ("none", "replay"):
            yield Cell(name, n, "result", guard, 0.0, seed)


def sweep(name: str, seed: int) -> Iterator[Cell]:
    """How strongly the weights are held."""
    for pull in SWEEP:
        yield Cell(name, COUNTS[name][1], "result", "pull" if pull else "none", pull, seed)


def made(cell: Cell, domain: Domain, work: Path) -> dict[str, Any]:
    """Fine-tune, and measure after each look."""
    folder = work / "cells" / cell.key
    if folder.exists() and not (folder / "run" / CHECKPOINT_NAME).exists():
        shutil.rmtree(folder)
    started = time.process_time()
    looks: list[dict[str, Any]] = []
    if cell.n == 0:
        looks.append({"step": 0, "cpu_minutes": 0.0, **measured(domain.model, domain)})
    else:
        for step, seconds, weights in tuned(cell, domain, folder, work):
            found = measured(weights, domain)
            looks.append({"step": step, "cpu_minutes": round(seconds / 60, 3), **found})
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "key": cell.key,
        **asdict(cell),
        "rate": RATE,
        "tests": [case.name for case in domain.tests],
        "looks": looks,
        "cpu_seconds": round(time.process_time() - started, 1),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}",
    }


def tuned(cell: Cell, domain: Domain, folder: Path, work: Path) -> list[tuple[int, float, Path]]:
    """Steps, processor seconds and weights of each look."""
    order = np.random.default_rng(cell.seed).permutation(len(domain.pool))
    cases = [domain.pool[index] for index in order[: cell.n]]
    corrected = work / "corrected" / cell.domain
    # The fewest steps between two looks, so that each of them falls on a checkpoint.
    every = int(np.gcd.reduce(domain.looks))
    settings = make_settings(
        model=str(domain.model),
        cases=[domain.files(case, cell.learn_from, corrected) for case in cases],
        learn_from={"strokes": "strokes"}.get(
            cell.learn_from, "locked" if domain.only_reviewed else "result"
        ),
        steps=domain.looks[-1],
        learning_rate=RATE,
        pull=cell.pull,
        replay=domain.replay if cell.guard == "replay" else None,
        held_out=0,
        validate_every=domain.looks[-1],
        weights_every=every,
        seed=cell.seed,
        device="cpu",
        **domain.fields,
    )
    folder.mkdir(parents=True, exist_ok=True)
    times = folder / "seconds.json"
    seconds: dict[str, float] = json.loads(times.read_text()) if times.exists() else {}
    before = max(seconds.values(), default=0.0)
    began = time.process_time()

    def tell(event: Event) -> None:
        if isinstance(event, Written) and event.step in domain.looks:
            shutil.copyfile(event.path, folder / f"look-{event.step}.safetensors")
            # What was measured before a stop is counted, what was lost then is not.
            seconds[str(event.step)] = before + time.process_time() - began
            times.write_text(json.dumps(seconds), encoding="utf-8")

    resume = (folder / "run" / CHECKPOINT_NAME).exists()
    finetune(settings, folder / "run", tell=tell, resume=resume)
    return [
        (step, seconds[str(step)], folder / f"look-{step}.safetensors") for step in domain.looks
    ]


def measured(weights: Path, domain: Domain) -> Measured:
    """What weights are worth, see :meth:`Domain.measure`."""
    network, spec = load_weights(weights)
    return domain.measure(network.eval(), spec)


if __name__ == "__main__":
    sys.exit(main())
