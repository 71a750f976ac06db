"""CNN, CNN + CRF piecewise, CNN + CRF joint: the experiment of Larsson, Alvén and Kahl, SCIA 2017.

    python experiments/max_margin/run.py --data DATA --work WORK --seeds 3
    python experiments/max_margin/run.py --data DATA --work WORK --quick    # a minute: it runs
    python experiments/max_margin/run.py --work WORK --report    # the page, from what there is

DATA holds ``horses`` and ``lidc``. Stopped, with Ctrl-C or SIGTERM, the same command goes on where
it was: a training from its checkpoint, and what is finished is in ``WORK/results.json``.
Needs matplotlib beside the package for the report.
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
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prepare import prepare

from napari_structseg.controls import Controls
from napari_structseg.data.stack import read_stack
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.weights import load_weights
from napari_structseg.models import BackboneSpec, HeadSpec, IntensitySpec, ModelSpec
from napari_structseg.models import SegmentationNetwork as Network
from napari_structseg.training.config import AugmentationConfig, OptimiserConfig, TrainConfig
from napari_structseg.training.sections import MaxMarginConfig
from napari_structseg.training.sources import build_run
from napari_structseg.training.start import start_from
from napari_structseg.training.trainer import (
    BEST_NAME,
    CHECKPOINT_NAME,
    Progress,
    Trainer,
)
from napari_structseg.training.validation import open_labeller

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
SETS = ("horses", "lidc")
CNN, LONGER, PIECEWISE, JOINT = "CNN", "CNN, longer", "piecewise", "joint"
# Images in the figure, of the first seed.
_SHOWN = 5

logger = logging.getLogger("max_margin")


def main() -> int:
    """Train what is missing, or write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--work", type=Path, help="folder for checkpoints and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--quick", action="store_true", help="few steps: that all of it runs")
    parser.add_argument("--report", action="store_true", help="write the page from the results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if arguments.report:
        return _report(arguments.work)
    if arguments.data is None or arguments.work is None:
        parser.error("give --data and --work, or --report")
    with (HERE / "config.toml").open("rb") as file:
        config = tomllib.load(file)
    if arguments.quick:
        config = quick(config)
    torch.set_num_threads(1)
    for seed in range(arguments.seeds):
        for name in arguments.sets:
            Experiment(config, name, seed, arguments.data, arguments.work).run()
    return 0


def quick(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of which nothing is to be learned."""
    few = config["quick"]
    for name in SETS:
        of_splits = {key: few[f"n_{key}"] for key in ("training", "validation", "test")}
        config[name] = config[name] | of_splits
    config["cnn"]["steps"] = few["cnn_steps"]
    config["cnn"]["validate_every"] = few["cnn_steps"]
    config["cnn"]["learning_rate"] = few["learning_rate"]
    config["joint"]["epochs"] = few["joint_epochs"]
    config["crf"]["scales"] = config["crf"]["scales"][:1]
    config["network"]["widths"] = [4, 8, 8, 16]
    return config


def _report(work: Path | None) -> int:
    from report import write_report

    if work is not None:
        shutil.copyfile(work / "results.json", RESULTS)
    pictures = None if work is None else work / "pictures"
    write_report(json.loads(RESULTS.read_text(encoding="utf-8")), pictures)
    return 0


@dataclass
class Experiment:
    """All runs of one data set and seed."""

    config: dict[str, Any]
    name: str
    seed: int
    data: Path
    work: Path

    def run(self) -> None:
        """Make every run that the results lack."""
        self.folder = prepare(
            self.name, self.data, self.work / "data" / self.name, self.config[self.name]
        )
        self.stack = read_stack(self.folder)
        cnn = self._stage(CNN, self._settings(CNN), None)
        joint = self.config["joint"]
        n_steps = joint["epochs"] * self.epoch_steps
        self._stage(LONGER, self._settings(LONGER, steps=n_steps, **_rate(joint)), cnn)
        best = self._piecewise(cnn)
        margin = MaxMarginConfig(
            mode="joint",
            cost=self.config["crf"]["cost"],
            epoch_steps=self.epoch_steps,
            scale=best,
        )
        settings = self._settings(JOINT, steps=n_steps, max_margin=margin, **_rate(joint))
        self._stage(JOINT, settings, cnn)

    @property
    def epoch_steps(self) -> int:
        """Steps that go through all cases once."""
        return -(-len(self.stack.of_split("train")) // self.config[self.name]["batch"])

    def _piecewise(self, cnn: Path) -> float:
        """Learn the CRF with each scale; the one that is best on the validation cases."""
        scores = {}
        for scale in self.config["crf"]["scales"]:
            margin = MaxMarginConfig(mode="piecewise", cost=self.config["crf"]["cost"], scale=scale)
            settings = self._settings(
                PIECEWISE,
                steps=self.epoch_steps,
                max_margin=margin,
                augmentation=AugmentationConfig(),
            )
            stage = f"{PIECEWISE} {scale:g}"
            self._stage(stage, settings, cnn)
            scores[scale] = np.mean(list(self._known(stage)["validation"].values()))
        return max(scores, key=lambda scale: scores[scale])

    def _settings(self, stage: str, **changed: Any) -> TrainConfig:
        own, cnn = self.config[self.name], self.config["cnn"]
        fields: dict[str, Any] = {
            "name": f"{self.name}, {stage}, seed {self.seed}",
            "dimensions": 2,
            "patch": tuple(own["size"]),
            "foreground": 0,
            "intensity": IntensitySpec(kind="window", low=0, high=255),
            "backbone": BackboneSpec(**self.config["network"]),
            "head": HeadSpec(kind="point"),
            "optimiser": OptimiserConfig(learning_rate=cnn["learning_rate"]),
            "augmentation": AugmentationConfig(**self.config["augmentation"]),
            "batch": own["batch"],
            "steps": cnn["steps"],
            "validation_cases": own["validation"],
            "validate_every": cnn["validate_every"] if stage == CNN else self.epoch_steps,
            "checkpoint_every": 50,
            "seed": self.seed,
        }
        return TrainConfig(**(fields | changed))

    def _stage(self, stage: str, settings: TrainConfig, start: Path | None) -> Path:
        """Train, or go on, and test; the weights that are best on the validation cases."""
        out = self.work / "runs" / f"{self.name}-{self.seed}" / stage.replace(", ", "-")
        if self._known(stage) is not None:
            return out / BEST_NAME
        logger.info("%s, seed %d: %s", self.name, self.seed, stage)
        spec, source, validator = build_run(settings, self.folder)
        initial = None
        if start is not None:
            initial, spec = start_from(str(start), spec, frozen=settings.model_frozen)
        trainer = Trainer(
            settings,
            spec,
            source,
            out,
            validate=validator,
            initial=initial,
            resume=(out / CHECKPOINT_NAME).exists(),
        )
        trainer.run(self._curve(trainer, out))
        network, trained = load_weights(out / BEST_NAME)
        result = {
            "set": self.name,
            "seed": self.seed,
            "stage": stage,
            "steps": settings.steps,
            "best_step": trained.steps,
            "cpu_seconds": round(_read(out / "cpu_seconds.json", 0)),
            "crf": None if trained.crf is None else trained.crf.model_dump(),
            "curve": _read(out / "curve.json", []),
        }
        for split in ("validation", "test"):
            labels = dict(self._labels(network, trained, split))
            result[split] = {name: one[1] for name, one in labels.items()}
        if self.seed == 0:
            self._keep_pictures(stage, labels)
        self._write(result)
        return out / BEST_NAME

    def _curve(self, trainer: Trainer, out: Path) -> Callable[[Progress], None]:
        """Keeps the time, and gamma of the batches and Jaccard of some cases of each epoch."""
        path, clock = out / "curve.json", out / "cpu_seconds.json"
        known, losses = _read(path, []), []
        before, started = _read(clock, 0.0), time.process_time()

        def report(progress: Progress) -> None:
            losses.append(progress.loss)
            if progress.step % 50 == 0 or progress.step == progress.steps:
                _write_json(clock, before + time.process_time() - started)
                logger.info("step %d of %d: %.4f", progress.step, progress.steps, progress.loss)
            if progress.step % self.epoch_steps or out.name != JOINT:
                return
            spec = trainer.spec.model_copy(update={"crf": trainer.crf})
            trainer.network.eval()
            n_shown = len(self.stack.of_split("val"))
            found = {
                split: dict(self._labels(trainer.network, spec, split, n_shown))
                for split in ("train", "validation")
            }
            row = {
                "step": progress.step,
                "loss": float(np.mean(losses)),
                "weights": trainer.crf.weights.tolist(),
                **{k: float(np.mean([one[1] for one in v.values()])) for k, v in found.items()},
            }
            # Steps after the last checkpoint are taken again.
            known[:] = [*(one for one in known if one["step"] < row["step"]), row]
            _write_json(path, known)
            losses.clear()

        return report

    def _labels(
        self, network: Network, spec: ModelSpec, split: str, limit: int | None = None
    ) -> Iterator[tuple[str, tuple[np.ndarray, float]]]:
        """Labels of each case of a split, and their Jaccard index."""
        for case in self.stack.of_split({"validation": "val"}.get(split, split))[:limit]:
            read = self.stack.read(case)
            labels = open_labeller(network, spec, read.image)(Controls())
            both = (labels == 1) & (read.raters[0] == 1)
            either = (labels == 1) | (read.raters[0] == 1)
            yield case.name, (labels, round(float(both.sum() / either.sum()), 4))

    def _keep_pictures(self, stage: str, labels: dict[str, tuple[np.ndarray, float]]) -> None:
        """The first test images, with truth and labels, for the figure."""
        cases = self.stack.of_split("test")[:_SHOWN]
        folder = self.work / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            folder / f"{self.name} {stage}.npz",
            images=np.stack([self.stack.pixels(case)[0] for case in cases]),
            truths=np.stack([self.stack.labels(case)[0] for case in cases]),
            labels=np.stack([labels[case.name][0] for case in cases]),
        )

    def _known(self, stage: str) -> dict[str, Any] | None:
        key = {"set": self.name, "seed": self.seed, "stage": stage}
        runs = _read(self.work / "results.json", {"runs": []})["runs"]
        return next((run for run in runs if key.items() <= run.items()), None)

    def _write(self, result: dict[str, Any]) -> None:
        path = self.work / "results.json"
        patients = {case.name: case.patient for case in self.stack.of_split("test")}
        known = _read(path, {"runs": [], "patients": {}})
        known |= {
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, one thread",
            "torch": torch.__version__,
            "config": self.config,
            "runs": [*known["runs"], result],
        }
        known["patients"][self.name] = patients
        _write_json(path, known)
        jaccard = np.mean(list(result["test"].values()))
        logger.info(
            "%s, seed %d, %s: Jaccard %.4f, %d s",
            *(result[key] for key in ("set", "seed", "stage")),
            jaccard,
            result["cpu_seconds"],
        )


def _rate(settings: dict[str, Any]) -> dict[str, OptimiserConfig]:
    fields = {name: settings[name] for name in ("learning_rate", "warmup_steps")}
    return {"optimiser": OptimiserConfig(**fields)}


def _read(path: Path, missing: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else missing


def _write_json(path: Path, content: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
