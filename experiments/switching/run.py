"""Five independent class flips: does a model know the 32 modes, and how frequent each is?

The second experiment of Kohl et al., *A Probabilistic U-Net for Segmentation of Ambiguous Images*,
NeurIPS 2018 (section 4.2, Figure 5), on synthetic scenes instead of Cityscapes.

    python experiments/switching/run.py              # small.toml: the table, the figures
    python experiments/switching/run.py --config longer    # the Probabilistic U-Net for longer
    python experiments/switching/run.py --config full --device cuda    # for a GPU
    python experiments/switching/run.py --report     # the page, from the results

Needs no data: scenes are made from a seed. What is trained already, down to the last checkpoint,
is not repeated, so that the command can be stopped and given again. Needs matplotlib beside the
package.
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
from measures import rounded, score, summarise
from report import N_SHOWN, RESULTS, TRUTH, packed, write_report
from samplers import draw_labels, reconstruct_labels
from scenes import (
    CLASSES,
    MODE_PROBABILITIES,
    TEST_STREAM,
    TRAINING_STREAM,
    TRUTH_STREAM,
    Labels,
    ScenePatches,
    Scenes,
    modes,
)

from napari_structseg.io.atomic import atomic_path
from napari_structseg.models import (
    ClassSpec,
    ImageToImageVAE,
    LatentNetwork,
    ModelSpec,
    SegmentationNetwork,
)
from napari_structseg.models.palette import palette
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.trainer import CHECKPOINT_NAME, Trainer

HERE = Path(__file__).resolve().parent
N_SMOOTHED = 100
# Scenes that go through a network at a time.
N_TOGETHER = 50

logger = logging.getLogger("switching")


def main() -> int:
    """Train and evaluate what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=RESULTS, default="small", help="which NAME.toml")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "structseg-switching",
        help="folder for checkpoints and weights",
    )
    parser.add_argument("--report", action="store_true", help="use the results as they are")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if not arguments.report:
        with (HERE / f"{arguments.config}.toml").open("rb") as file:
            config = tomllib.load(file)
        device = torch.device(arguments.device)
        if device.type == "cpu":
            # As many as reproduce the results: sums in another order give other weights.
            torch.set_num_threads(1)
        run(config, arguments.work / arguments.config, RESULTS[arguments.config], device)
    write_report()
    return 0


def run(config: dict[str, Any], work: Path, path: Path, device: torch.device) -> None:
    """Every model that the results lack; they are written after each."""
    runs: dict[str, Any] = {}
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["config"] != config:
            raise SystemExit(f"{path} was made with another configuration: move it away first.")
        runs = known["runs"]
    seed = config["seed"]
    training = Scenes(config["training_scenes"], np.random.default_rng((seed, TRAINING_STREAM)))
    test = Scenes(config["test_scenes"], np.random.default_rng((seed, TEST_STREAM)))
    for name in (TRUTH, *config["models"]):
        if name in runs:
            continue
        if name == TRUTH:
            runs[name] = evaluate(drawn_by_readers(test, config), test, config)
        else:
            trainer, facts = train(configuration(config, name), training, work / name, device)
            network = trainer.network.eval()
            runs[name] = facts | evaluate(drawn_by(network, test, config, device), test, config)
            if isinstance(network, LatentNetwork | ImageToImageVAE):
                runs[name]["posterior"] = evaluate_posterior(network, test, config, device)
        results = {
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
            "device": device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "config": config,
            "runs": runs,
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(results) + "\n", encoding="utf-8")
        logger.info(
            "%s: total variation %.3f, energy distance %s",
            name,
            runs[name]["total_variation"],
            {n: round(value["mean"], 3) for n, value in runs[name]["energy"].items()},
        )


def configuration(config: dict[str, Any], name: str) -> TrainConfig:
    """The training configuration of a model: what all have in common, and its own."""
    return TrainConfig.model_validate(
        {"name": name, "seed": config["seed"], **config["training"], **config["models"][name]}
    )


def train(
    settings: TrainConfig, scenes: Scenes, folder: Path, device: torch.device
) -> tuple[Trainer, dict[str, Any]]:
    """Train a model, or go on where its training stopped."""
    losses: list[float] = []
    started, started_cpu = time.perf_counter(), time.process_time()
    trainer = Trainer(
        settings,
        specification(settings),
        ScenePatches(scenes),
        folder,
        device=device,
        resume=(folder / CHECKPOINT_NAME).exists(),
    )
    first = trainer.step
    trainer.run(lambda progress: losses.append(progress.loss))
    facts: dict[str, Any] = {
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "steps": settings.steps,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - started_cpu, 1),
        "loss": rounded(np.mean(losses[-N_SMOOTHED:])) if losses else None,
    }
    # Times are of the last part of a training that was stopped.
    return trainer, facts | ({"resumed_at": first} if first else {})


def specification(settings: TrainConfig) -> ModelSpec:
    """The model that a configuration trains."""
    return ModelSpec(
        name=settings.name,
        dimensions=2,
        channels=("red", "green", "blue"),
        classes=tuple(
            ClassSpec(name=name, color=color)
            for name, color in zip(CLASSES, palette(len(CLASSES)), strict=True)
        ),
        patch=settings.patch,
        intensity=settings.intensity,
        backbone=settings.backbone,
        head=settings.head,
    )


def drawn_by(
    network: SegmentationNetwork, scenes: Scenes, config: dict[str, Any], device: torch.device
) -> Labels:
    """Samples of a network, (scenes, N, 32, 32)."""
    generator = torch.Generator(device).manual_seed(config["seed"])
    images = torch.from_numpy(scenes.images).to(device).split(N_TOGETHER)
    return np.concatenate(
        [draw_labels(network, part, config["samples"], generator) for part in images]
    )


def drawn_by_readers(scenes: Scenes, config: dict[str, Any]) -> Labels:
    """Samples of the truth itself: as good as a model can be with so many of them."""
    rng = np.random.default_rng((config["seed"], TRUTH_STREAM))
    n_modes, n_samples = len(MODE_PROBABILITIES), config["samples"]
    return np.stack(
        [
            modes(layout)[rng.choice(n_modes, n_samples, p=MODE_PROBABILITIES)]
            for layout in scenes.layouts
        ]
    )


def evaluate_posterior(
    network: LatentNetwork | ImageToImageVAE,
    scenes: Scenes,
    config: dict[str, Any],
    device: torch.device,
) -> dict[str, Any]:
    """Scores of what is decoded from the posterior, given what readers drew.

    Whether modes are missed by the decoder, or because the prior is not where it expects latents.
    """
    generator = torch.Generator(device).manual_seed(config["seed"])
    parts = zip(
        torch.from_numpy(scenes.images).to(device).split(N_TOGETHER),
        torch.from_numpy(drawn_by_readers(scenes, config)).to(device).split(N_TOGETHER),
        strict=True,
    )
    decoded, divergences = zip(
        *(reconstruct_labels(network, *part, generator) for part in parts), strict=True
    )
    scores = evaluate(np.concatenate(decoded), scenes, config)
    kept = {name: scores[name] for name in ("total_variation", "all_or_nothing", "energy")}
    return kept | {"divergence": rounded(np.mean(divergences))}


def evaluate(samples: Labels, scenes: Scenes, config: dict[str, Any]) -> dict[str, Any]:
    """Scores of samples, and the first ones themselves, for the figure."""
    counts = config["counts"]
    rows = [score(*pair, counts) for pair in zip(samples, scenes.layouts, strict=True)]
    shown = [packed(labels) for labels in samples[0, :N_SHOWN]]
    return summarise(rows, counts) | {"shown": shown}


if __name__ == "__main__":
    sys.exit(main())
