"""What holds the covariance of a Stochastic Segmentation Network, on the hippocampus.

The same network is trained on the same patches, with the likelihood of Monteiro et al. (NeurIPS
2020) and with what may keep the volumes of samples from running away, see ``VARIANTS``.

    python experiments/covariance/run.py --data DATA                    # small.toml, and the page
    python experiments/covariance/run.py --data DATA --config full      # that of docs/training.md
    python experiments/covariance/run.py --report                       # the page as results are

DATA holds ``images`` and ``labels`` of Task04 of the Medical Segmentation Decathlon. A run that is
in the results already is skipped, and one that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measures import measured
from report import write_page

from napari_structseg.data.cases import PreparedCase, ReadCase, prepare, read_case
from napari_structseg.data.dataset import Case, Dataset
from napari_structseg.io.atomic import atomic_path
from napari_structseg.models import ClassSpec, ModelSpec
from napari_structseg.models.palette import palette
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.input.patches import ImagePatches
from napari_structseg.training.trainer import CHECKPOINT_NAME, Trainer

HERE = Path(__file__).resolve().parent
RESULTS = {"small": HERE / "results.json", "full": HERE / "full.json"}
CLASSES = ("background", "anterior", "posterior")
# What is changed of the plain model: fields of its head, and of its loss.
VARIANTS: dict[str, dict[str, dict[str, float]]] = {
    "plain": {"head": {"bound": 0.0}},
    "bound + certain + mean": {
        "head": {"bound": 1.7, "certain": 2.0},
        "loss": {"mean_weight": 0.2},
    },
    "bound + certain": {"head": {"bound": 1.7, "certain": 2.0}, "loss": {"mean_weight": 0.0}},
    "bound + mean": {"head": {"bound": 1.7, "certain": 0.0}, "loss": {"mean_weight": 0.2}},
    "bound": {"head": {"bound": 1.7, "certain": 0.0}, "loss": {"mean_weight": 0.0}},
    "average": {"head": {"bound": 0.0}, "loss": {"average_weight": 0.1}},
}

logger = logging.getLogger("covariance")


def main() -> int:
    """Train what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with images and labels")
    parser.add_argument("--config", choices=RESULTS, default="small", help="which NAME.toml")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/covariance"), help="checkpoints")
    parser.add_argument("--report", action="store_true", help="use the results as they are")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if not arguments.report:
        if arguments.data is None:
            parser.error("give the folder of the hippocampus with --data, or --report")
        train_missing(
            arguments.config, arguments.data, arguments.work, torch.device(arguments.device)
        )
    write_page({name: read_results(path) for name, path in RESULTS.items() if path.exists()})
    return 0


def read_results(path: Path) -> dict[str, Any]:
    """Results as they are written."""
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def train_missing(name: str, data: Path, work: Path, device: torch.device) -> None:
    """Make every run that the results lack; write them after each."""
    with (HERE / f"{name}.toml").open("rb") as file:
        config = tomllib.load(file)
    path = RESULTS[name]
    runs: list[dict[str, Any]] = []
    if path.exists():
        known = read_results(path)
        # More seeds may be added to what is there.
        if known["config"] | {"seeds": config["seeds"]} != config:
            raise SystemExit(f"{path} was made with another configuration: move it away first.")
        runs = known["runs"]
    if device.type == "cpu":
        # As many as reproduce the results: sums in another order give other weights.
        torch.set_num_threads(1)
    cases: tuple[list[PreparedCase], list[ReadCase]] | None = None
    for variant, seed in wanted(config):
        key = {"variant": variant, "changes": VARIANTS[variant], "seed": seed}
        if any(key.items() <= run.items() for run in runs):
            continue
        settings = configuration(config, variant, seed)
        cases = cases or read_cases(data, config, settings)
        folder = work / name / f"{variant.replace(' ', '')}-{seed}"
        run = key | train_and_test(config, settings, cases, folder, device)
        runs.append(run)
        command = "python experiments/covariance/run.py --data DATA"
        results = {
            "command": command if name == "small" else f"{command} --config {name}",
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
            "device": device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "config": config,
            "runs": runs,
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        logger.info("%s, seed %d: %s", variant, seed, run)


def wanted(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Every run, the first seed of everything before the second of anything."""
    for seed in config["seeds"]:
        for variant in VARIANTS:
            yield variant, seed


def configuration(config: dict[str, Any], variant: str, seed: int) -> TrainConfig:
    """That of docs/training.md but for what the file and the variant say."""
    given, changes = config["training"], VARIANTS[variant]
    return TrainConfig.model_validate(
        {
            "name": variant,
            "dimensions": 3,
            "intensity": {"kind": "zscore"},
            "augmentation": {"rotation": 15, "scaling": 0.1, "noise": 0.05},
            "seed": seed,
            "validation_cases": 0,
            **given,
            "head": {"kind": "low_rank", "rank": 10, **changes.get("head", {})},
            "loss": {**given["loss"], **changes.get("loss", {})},
        }
    )


def read_cases(
    data: Path, config: dict[str, Any], settings: TrainConfig
) -> tuple[list[PreparedCase], list[ReadCase]]:
    """The first cases, in order of name, to train on, and the last to test on."""
    names = sorted(path.name for path in (data / "images").glob("*.nii.gz"))
    n_training, n_test = config["training_cases"], config["test_cases"]
    if len(names) < n_training + n_test:
        raise SystemExit(f"{data} holds {len(names)} images of {n_training + n_test}.")
    dataset = Dataset(data, ("T1",), CLASSES, ())

    def read(name: str) -> ReadCase:
        files = (data / "images" / name,), (data / "labels" / name,)
        return read_case(Case(name.removesuffix(".nii.gz"), *files), dataset, 3)

    training = [
        prepare(read(name), intensity=settings.intensity, spacing=settings.spacing)
        for name in names[:n_training]
    ]
    return training, [read(name) for name in names[-n_test:]]


def train_and_test(
    config: dict[str, Any],
    settings: TrainConfig,
    cases: tuple[list[PreparedCase], list[ReadCase]],
    folder: Path,
    device: torch.device,
) -> dict[str, Any]:
    """Train one network, from its checkpoint where there is one, and measure its samples."""
    training, test = cases
    spec = specification(settings)
    started = time.process_time()
    trainer = Trainer(
        settings,
        spec,
        ImagePatches(training, settings),
        folder,
        device=device,
        resume=(folder / CHECKPOINT_NAME).exists(),
    )
    trainer.run()
    trained = time.process_time() - started
    scores = measured(trainer.network.eval(), spec, test, config["test_samples"])
    return {"cpu_seconds": round(trained, 1), **scores}


def specification(settings: TrainConfig) -> ModelSpec:
    """The model that a configuration trains."""
    return ModelSpec(
        name=settings.name,
        dimensions=3,
        channels=("T1",),
        classes=tuple(
            ClassSpec(name=name, color=color)
            for name, color in zip(CLASSES, palette(len(CLASSES)), strict=True)
        ),
        spacing=settings.spacing,
        patch=settings.patch,
        intensity=settings.intensity,
        backbone=settings.backbone,
        head=settings.head,
    )


if __name__ == "__main__":
    sys.exit(main())
