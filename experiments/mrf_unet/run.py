"""U-Net against MRF-UNet: the experiment of Brudfors et al., MIDL 2021, on open data.

Both are trained in the same way, on the same patches; the MRF-UNet has a Markov random field over
the labels besides, trained with it through unrolled mean field. Widths are 2^j .. 2^(j+4).

    python experiments/mrf_unet/run.py --data DATA     # small.toml; the tables, the figures
    python experiments/mrf_unet/run.py --data DATA --config longer         # a U-Net for longer
    python experiments/mrf_unet/run.py --data DATA --config full --device cuda    # for a GPU
    python experiments/mrf_unet/run.py --report        # from the results as they are

DATA holds ``ibsr18/0.94mm``, ``ibsr18/1.0mm`` (``CASE.nii.gz``, ``CASE_seg.nii.gz``) and
``hippocampus/images``, ``hippocampus/labels``. A run that is in the results already is skipped, so
that the command can be stopped and given again. Needs matplotlib beside the package.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CLASSES, Split, read_split
from report import MODELS, write_figures, write_tables

from napari_structseg.controls import Controls
from napari_structseg.data.cases import PreparedCase
from napari_structseg.evaluation.dice import dice_per_class
from napari_structseg.image import Image
from napari_structseg.io.atomic import atomic_path
from napari_structseg.models import (
    BackboneSpec,
    ClassSpec,
    HeadSpec,
    ModelSpec,
    SegmentationNetwork,
)
from napari_structseg.models.palette import palette
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.priors import parallel_step, uniform
from napari_structseg.training.config import (
    AugmentationConfig,
    OptimiserConfig,
    PriorConfig,
    TrainConfig,
)
from napari_structseg.training.input.patches import ImagePatches
from napari_structseg.training.trainer import CHECKPOINT_NAME, Trainer
from napari_structseg.training.validation import open_labeller

HERE = Path(__file__).resolve().parent
RESULTS = {name: HERE / f"{name}.json" for name in ("longer", "full")}
RESULTS["small"] = HERE / "results.json"
N_SMOOTHED = 20
_CHECKPOINT_EVERY = 500

logger = logging.getLogger("mrf_unet")


def main() -> int:
    """Train what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--config", choices=RESULTS, default="small", help="which NAME.toml")
    parser.add_argument("--full", action="store_const", dest="config", const="full")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "structseg-mrf-unet",
        help="folder for the checkpoints of what is not finished",
    )
    parser.add_argument("--report", action="store_true", help="use the results as they are")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    path = RESULTS[arguments.config]
    if not arguments.report:
        if arguments.data is None:
            parser.error("give the folder of the data sets with --data, or --report")
        with (HERE / f"{arguments.config}.toml").open("rb") as file:
            config = tomllib.load(file)
        command = "python experiments/mrf_unet/run.py --data DATA"
        if arguments.config != "small":
            command += f" --config {arguments.config}"
        device = torch.device(arguments.device)
        train_missing(config, arguments.data, path, command, device=device, work=arguments.work)
    # What the page shows; the results of a GPU stand for themselves.
    results = read_complete(RESULTS["small"])
    if results is not None:
        write_tables(results, read_complete(RESULTS["longer"]))
        write_figures(results)
    return 0


def train_missing(
    config: dict[str, Any],
    data: Path,
    path: Path,
    command: str,
    *,
    device: torch.device,
    work: Path,
) -> None:
    """Make every run that the results lack; write them after each."""
    runs: list[dict[str, Any]] = []
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        # More seeds may be added to what is there.
        if known["config"] | {"seeds": config["seeds"]} != config:
            raise SystemExit(f"{path} was made with another configuration: move it away first.")
        runs = known["runs"]
    if device.type == "cpu":
        # As many as reproduce the results: sums in another order give other weights.
        torch.set_num_threads(1)
    splits: dict[str, Split] = {}
    for dataset, model, j, seed in wanted(config):
        key = {"dataset": dataset, "model": model, "j": j, "seed": seed}
        if any(key.items() <= run.items() for run in runs):
            continue
        if dataset not in splits:
            splits[dataset] = read_split(dataset, data, config["datasets"][dataset]["spacing"])
        folder = work / path.stem / "-".join(map(str, key.values()))
        run = key | train_and_test(config, splits[dataset], device, folder, **key)
        runs.append(run)
        results = {
            "command": command,
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
            "device": device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "config": config,
            "runs": runs,
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(results) + "\n", encoding="utf-8")
        shutil.rmtree(folder)
        logger.info(
            "%s, %s, j = %d, seed %d: loss %s, Dice %s, %.0f s",
            *key.values(),
            run["loss"],
            {where: round(mean_of(scores), 3) for where, scores in run["dice"].items()},
            run["seconds"],
        )


def wanted(config: dict[str, Any]) -> Iterator[tuple[str, str, int, int]]:
    """Every run, the first seed of everything before the second of anything."""
    for seed in config["seeds"]:
        for dataset in config["datasets"]:
            for j in config["j"]:
                for model in config.get("models", MODELS):
                    yield dataset, model, j, seed


def read_complete(path: Path) -> dict[str, Any] | None:
    """Results of the seeds of which every run is there; None without any."""
    if not path.exists():
        return None
    results = json.loads(path.read_text(encoding="utf-8"))
    made = [(run["dataset"], run["model"], run["j"], run["seed"]) for run in results["runs"]]
    unfinished = {key[-1] for key in wanted(results["config"]) if key not in made}
    results["seeds"] = [seed for seed in results["config"]["seeds"] if seed not in unfinished]
    results["runs"] = [run for run in results["runs"] if run["seed"] in results["seeds"]]
    return results if results["runs"] else None


def mean_of(scores: dict[str, list[float | None]]) -> float:
    """Mean Dice over cases and classes that have one."""
    return float(np.mean([d for case in scores.values() for d in case if d is not None]))


def train_and_test(
    config: dict[str, Any],
    split: Split,
    device: torch.device,
    folder: Path,
    *,
    dataset: str,
    model: str,
    j: int,
    seed: int,
) -> dict[str, Any]:
    """Train one network, or go on where its training stopped, and test it."""
    settings = configuration(config, dataset, model, j, seed)
    spec = specification(settings, CLASSES[dataset])
    losses: list[float] = []
    started, started_cpu = time.perf_counter(), time.process_time()
    trainer = Trainer(
        settings,
        spec,
        ImagePatches(split.training, settings),
        folder,
        device=device,
        resume=(folder / CHECKPOINT_NAME).exists(),
    )
    first = trainer.step
    trainer.run(lambda progress: losses.append(progress.loss))
    seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    network = trainer.network.eval()
    dice = {
        where: {
            case.name: scored(predicted(network, spec, case), case, spec.n_classes)
            for case in cases
        }
        for where, cases in split.test.items()
    }
    result = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": settings.steps,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "loss": round(float(np.mean(losses[-N_SMOOTHED:])), 4) if losses else None,
        "dice": dice,
    }
    if first:
        # Times and the loss are of the last part of a training that was stopped.
        result["resumed_at"] = first
    if network.prior is not None:
        n = config["shown_iterations"]
        result["dice_by_iteration"] = {
            where: convergence(network, spec, cases, n) for where, cases in split.test.items()
        }
    return result


def configuration(
    config: dict[str, Any], dataset: str, model: str, j: int, seed: int
) -> TrainConfig:
    """The same for both models but for the prior."""
    own = config["datasets"][dataset]
    levels = config["levels"]
    return TrainConfig(
        name=f"{model} {j}",
        dimensions=3,
        patch=own["patch"],
        spacing=own["spacing"],
        batch=config["batch"],
        steps=own["steps"],
        seed=seed,
        foreground=config["foreground"],
        backbone=BackboneSpec(
            widths=tuple(2 ** (j + level) for level in range(levels)),
            convolutions=(config["convolutions"],) * levels,
            norm=config["norm"],
        ),
        head=HeadSpec(kind="point"),
        prior=PriorConfig() if model == "MRF-UNet" else None,
        optimiser=OptimiserConfig(
            learning_rate=own["learning_rate"], warmup_steps=config["warmup_steps"]
        ),
        augmentation=AugmentationConfig(**config["augmentation"]),
        validation_cases=0,
        checkpoint_every=_CHECKPOINT_EVERY,
    )


def specification(settings: TrainConfig, classes: tuple[str, ...]) -> ModelSpec:
    """The model that a configuration trains."""
    return ModelSpec(
        name=settings.name,
        dimensions=3,
        channels=("T1",),
        classes=tuple(
            ClassSpec(name=name, color=color)
            for name, color in zip(classes, palette(len(classes)), strict=True)
        ),
        spacing=settings.spacing,
        patch=settings.patch,
        backbone=settings.backbone,
        head=settings.head,
        prior=settings.prior_spec,
    )


def image_of(case: PreparedCase, spec: ModelSpec) -> Image:
    """A prepared case as an image; normalising it once more changes next to nothing."""
    return Image.from_array(case.image, channel_axis=0, spacing=spec.spacing, name=case.name)


def predicted(network: SegmentationNetwork, spec: ModelSpec, case: PreparedCase) -> np.ndarray:
    """Labels as `structseg predict` gives them, on the grid of the network."""
    return open_labeller(network, spec, image_of(case, spec))(Controls())


def scored(labels: np.ndarray, case: PreparedCase, n_classes: int) -> list[float | None]:
    """Dice of each class but the background; None where neither has it."""
    dice = dice_per_class(labels, case.labels[0], n_classes)[1:]
    return [None if np.isnan(value) else round(float(value), 4) for value in dice]


def convergence(
    network: SegmentationNetwork, spec: ModelSpec, cases: list[PreparedCase], n_iterations: int
) -> list[list[float]]:
    """Mean Dice over cases of each class but the background, after 0, 1, 2, ... iterations.

    After 0 iterations it is that of the U-Net in the product, alone.
    """
    curves = []
    for case in cases:
        with torch.inference_mode():
            distribution = Predictor(network, spec).predict(image_of(case, spec))
            unary = torch.log_softmax(distribution.mean(), dim=0)[None]
            refined, shown = uniform(unary), [unary]
            for _ in range(n_iterations):
                refined = parallel_step(unary, refined, network.prior.message(refined))
                shown.append(refined)
            labels = [scores[0].argmax(dim=0).to(torch.uint8).cpu().numpy() for scores in shown]
        curves.append([dice_per_class(k, case.labels[0], spec.n_classes)[1:] for k in labels])
    return np.nanmean(curves, axis=0).round(4).tolist()


if __name__ == "__main__":
    sys.exit(main())
