"""Stochastic segmentation models on LIDC-IDRI: the experiments of two papers, on open data.

Eight models on the same slices, with the same backbone and as many steps; once trained on one
rater of each nodule and once on all four. Monteiro et al., *Stochastic Segmentation Networks*,
NeurIPS 2020, Table 1; Kohl et al., *A Probabilistic U-Net*, NeurIPS 2018, Figure 4.

    python experiments/lidc/run.py --data DATA                # small.toml, on a CPU
    python experiments/lidc/run.py --data DATA --half all     # only what is trained on all raters
    python experiments/lidc/run.py --data DATA --half all --config medium     # three, for longer
    python experiments/lidc/run.py --data DATA --half all --config long       # for hours
    python experiments/lidc/run.py --data DATA --config full --device cuda    # for a GPU
    python experiments/lidc/run.py --report                   # the page, from the results

DATA holds ``lidc/first`` and ``lidc/second``, see prepare.py. What is trained and evaluated
already, down to the step and the case, is not repeated, so that the command can be stopped and
given again. Needs matplotlib beside the package.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prepare import prepare
from report import HALVES, RESULTS, write_report
from samples import SHOWN_HALF, draw_gallery

from napari_structseg.cohort.cases import Selection
from napari_structseg.cohort.draws import DrawSettings
from napari_structseg.cohort.rows import SUFFIX, RowFile
from napari_structseg.cohort.run import evaluate
from napari_structseg.cohort.settings import Evaluation
from napari_structseg.data.stack_table import TEST
from napari_structseg.io.atomic import atomic_path
from napari_structseg.training.config import AS_RECORDED, TrainConfig
from napari_structseg.training.sources import build_run
from napari_structseg.training.trainer import CHECKPOINT_NAME, WEIGHTS_NAME, Trainer

HERE = Path(__file__).resolve().parent
KEPT = (
    "ged",
    "ged_u",
    "sample_diversity",
    "rater_diversity",
    "matched_iou",
    "dice",
    "dice_marked",
    "dice_of_mean_probability",
    "dice_marked_of_mean_probability",
    "best_dice",
    "brier",
)
ENDS = ("mean", "low", "high", "standard_error")
COMPARED = ("ged",)
N_SMOOTHED = 100
RECORD_NAME = "training.json"
DIGITS = 4

logger = logging.getLogger("lidc")


def main() -> int:
    """Train and evaluate what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--config", choices=RESULTS, default="small", help="which NAME.toml")
    parser.add_argument("--half", choices=HALVES, help="trained on which raters; none: both")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "structseg-lidc",
        help="folder for the converted data, checkpoints and weights",
    )
    parser.add_argument("--report", action="store_true", help="use the results as they are")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if not arguments.report:
        if arguments.data is None:
            parser.error("give the folder of the data sets with --data, or --report")
        with (HERE / f"{arguments.config}.toml").open("rb") as file:
            config = tomllib.load(file)
        in_hu = config.get("hounsfield", False)
        stack, tested = (
            prepare(
                arguments.data / "lidc",
                arguments.work / f"{'hu' if in_hu else 'data'}-{size}",
                size,
                hounsfield=in_hu,
            )
            for size in (config["size"], config.get("tested_size", config["size"]))
        )
        device = torch.device(arguments.device)
        if device.type == "cpu":
            # As many as reproduce the results: sums in another order give other weights.
            torch.set_num_threads(1)
        work = arguments.work / arguments.config
        halves = [arguments.half] if arguments.half else list(HALVES)
        for half in halves:
            path = RESULTS[arguments.config][half]
            run_half(
                config,
                half,
                stack=stack,
                tested=tested,
                work=work / half,
                path=path,
                device=device,
            )
        if arguments.config == "small" and SHOWN_HALF in halves:
            draw_gallery(stack, work / SHOWN_HALF)
    write_report()
    return 0


def run_half(
    config: dict[str, Any],
    half: str,
    *,
    stack: Path,
    tested: Path,
    work: Path,
    path: Path,
    device: torch.device,
) -> None:
    """Train and evaluate every model of a half; the results are written to `path` after each."""
    known: dict[str, Any] = {"runs": {}}
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["config"] != config:
            raise SystemExit(f"{path} was made with another configuration: move it away first.")
    runs = known["runs"]
    for name in config["models"]:
        if name not in runs:
            runs[name] = train(settings(config, name, half), stack, work / name, device)
            found = evaluated(config, [work / each for each in runs], tested, work, device)
            results = {
                "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
                "device": device.type,
                "torch": torch.__version__,
                "config": config,
                "runs": runs,
                **found,
            }
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(results) + "\n", encoding="utf-8")
            scores = found["scores"][name]
            logger.info(
                "%s, %s: %.0f s, GED %.3f",
                half,
                name,
                runs[name]["cpu_seconds"],
                scores["ged"]["mean"],
            )


def settings(config: dict[str, Any], name: str, half: str) -> TrainConfig:
    """The training configuration of a model: what all have in common, and its own."""
    own = config["models"][name]
    raters = {} if half == "all" else {"rater": config["rater"]}
    given = {"name": name, **config["training"], **own, **raters}
    # As published: a head without the bound that new models have.
    return TrainConfig.model_validate(given, context=AS_RECORDED)


def train(settings: TrainConfig, stack: Path, folder: Path, device: torch.device) -> dict[str, Any]:
    """Train a model, or go on where its training stopped; gives how it went."""
    path = folder / RECORD_NAME
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    spec, source, validator = build_run(settings, stack)
    losses: list[float] = []
    started, started_cpu = time.perf_counter(), time.process_time()
    trainer = Trainer(
        settings,
        spec,
        source,
        folder,
        device=device,
        validate=validator,
        resume=(folder / CHECKPOINT_NAME).exists(),
    )
    first = trainer.step
    trainer.run(lambda progress: losses.append(progress.loss))
    record: dict[str, Any] = {
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "steps": settings.steps,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - started_cpu, 1),
        "loss": round(float(np.mean(losses[-N_SMOOTHED:])), DIGITS) if losses else None,
    }
    if first:
        # Times and loss are of what followed.
        record["resumed_at"] = first
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record), encoding="utf-8")
    return record


def evaluated(
    config: dict[str, Any], folders: list[Path], stack: Path, work: Path, device: torch.device
) -> dict[str, Any]:
    """Scores of each model, of each case, and comparisons of all pairs of models."""
    evaluation = Evaluation(
        dataset=stack,
        models=tuple(str(folder / WEIGHTS_NAME) for folder in folders),
        drawing=DrawSettings(config["samples"]),
        selection=Selection(split=TEST),
        counts=tuple(config["counts"]),
        compared=COMPARED,
        device=str(device),
    )
    out = work / "evaluation.json"
    rows_path = out.with_name(out.stem + SUFFIX)
    summary = evaluate(evaluation, out, resume=rows_path.exists())
    kept = (*KEPT, *(f"ged_{n}" for n in config["counts"]))
    scores = {
        model["label"]: {
            **{name: rounded(model["metrics"][name]) for name in kept},
            "ece": rounded(model["ece_pooled"]),
        }
        for model in summary["models"]
    }
    labels = {model["sha256"]: model["label"] for model in summary["models"]}
    with RowFile(rows_path, summary["settings"], resume=True) as rows:
        cases = [(labels.get(row.model), row.case, row.scores["ged"][0]) for row in rows]
    return {
        "data": summary["data"],
        "samples": config["samples"],
        "scores": scores,
        "ged_by_case": {
            label: {case: round(ged, DIGITS) for model, case, ged in cases if model == label}
            for label in labels.values()
        },
        "comparisons": summary["comparisons"],
    }


def rounded(metric: dict[str, Any]) -> dict[str, float]:
    """A mean with its interval, to the digits that are shown."""
    return {end: round(metric[end], DIGITS) for end in ENDS if metric[end] is not None}


if __name__ == "__main__":
    sys.exit(main())
