"""Dice of brain-tissue, and of the deterministic U-Net beside it, on scans neither ever saw.

    python experiments/brain_tissue/evaluate.py --data DATA --ssn SSN.safetensors \\
        --unet UNET.safetensors --out experiments/brain_tissue/results.json \\
        --card src/napari_structseg/weights/brain-tissue.md

DATA holds ``ibsr18/0.94mm`` and ``ibsr18/1.0mm`` (``CASE.nii.gz`` and ``CASE_seg.nii.gz``); the
MNI152 template and its tissue maps come with nilearn. A model whose results are in OUT already is
not evaluated again. Labels are the argmax of the mean logits
(Monteiro 2020). A tissue map of MNI152 counts as its tissue where its probability exceeds 0.5.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.controls import Controls
from napari_structseg.image import Image
from napari_structseg.inference.predictor import Predictor
from napari_structseg.inference.rendering import render_labels
from napari_structseg.io.nifti import read_image
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.sample_data import load_mni152, load_mni152_tissue_maps

TISSUES = {1: "CSF", 2: "grey matter", 3: "white matter"}
BEGIN, END = "<!-- table: experiments/brain_tissue/evaluate.py -->", "<!-- end of table -->"
Reference = dict[str, npt.NDArray[np.bool_]]


def cases(data: Path) -> Iterator[tuple[str, str, Image, Reference]]:
    """Group, case, image and the reference mask of each tissue."""
    maps = load_mni152_tissue_maps()
    yield (
        "MNI152",
        "MNI152",
        load_mni152(),
        {"grey matter": maps["gm"] > 0.5, "white matter": maps["wm"] > 0.5},
    )
    for group in ("0.94mm", "1.0mm"):
        for path in sorted((data / "ibsr18" / group).glob("*_seg.nii.gz")):
            case = path.name.removesuffix("_seg.nii.gz")
            labels = read_image(path).data[0]
            reference = {name: labels == label for label, name in TISSUES.items()}
            yield f"IBSR {group}", case, read_image(path.with_name(f"{case}.nii.gz")), reference


def evaluate(weights: Path, data: Path) -> dict[str, object]:
    """Dice per class of one model on every case."""
    network, spec = load_weights(weights)
    rows = []
    began = time.perf_counter()
    for group, case, image, reference in cases(data):
        started = time.perf_counter()
        distribution = Predictor(network, spec).predict(image)
        seconds = time.perf_counter() - started
        labels = render_labels(distribution, None, Controls())
        scores = {
            name: dice(labels == label, reference[name])
            for label, name in TISSUES.items()
            if name in reference
        }
        rows.append({"group": group, "case": case, "dice": scores, "seconds": round(seconds, 1)})
    return {
        "model": spec.name,
        "sha256": weights_hash(weights),
        "steps": spec.training.steps,
        "seconds": round(time.perf_counter() - began),
        "cases": rows,
        "mean_dice": summarise(rows),
    }


def dice(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Dice of two masks."""
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())


def summarise(rows: list[dict[str, object]]) -> dict[str, dict[str, float]]:
    """Mean Dice of each group and tissue."""
    groups: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for name, value in row["dice"].items():
            groups.setdefault(row["group"], {}).setdefault(name, []).append(value)
    return {
        group: {name: round(float(np.mean(values)), 3) for name, values in tissues.items()}
        for group, tissues in groups.items()
    }


def table(models: list[dict[str, object]]) -> str:
    """Mean Dice of every model and group as a Markdown table."""
    lines = ["| Scans | Model | CSF | Grey matter | White matter |", "|---|---|---|---|---|"]
    for group in models[0]["mean_dice"]:
        n_cases = sum(row["group"] == group for row in models[0]["cases"])
        for model in models:
            scores = model["mean_dice"][group]
            cells = [f"{scores[name]:.3f}" if name in scores else "–" for name in TISSUES.values()]
            label = f"{model['model']}, {model['steps']} steps"
            lines.append(f"| {group} ({n_cases}) | {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_card(card: Path, results: dict[str, object]) -> None:
    """Put the table between its markers in the model card."""
    text = card.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    seconds = " and ".join(f"{model['seconds']} s" for model in results["models"])
    source = f"Measured on {results['machine']}, in {seconds}."
    card.write_text(f"{before}{BEGIN}\n{table(results['models'])}\n\n{source}\n{END}{after}")


def main() -> None:
    """Evaluate both models and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ssn", type=Path, required=True)
    parser.add_argument("--unet", type=Path, help="the deterministic U-Net beside it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--card", type=Path, help="model card to put the table into")
    options = parser.parse_args()
    known = {}
    if options.out.exists():
        known = {model["sha256"]: model for model in json.loads(options.out.read_text())["models"]}
    models = [
        known.get(weights_hash(path)) or evaluate(path, options.data)
        for path in (options.ssn, options.unet)
        if path is not None
    ]
    results = {
        "models": models,
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}",
        "command": "python experiments/brain_tissue/evaluate.py --data DATA --ssn SSN --unet UNET",
    }
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    if options.card:
        write_card(options.card, results)


if __name__ == "__main__":
    main()
