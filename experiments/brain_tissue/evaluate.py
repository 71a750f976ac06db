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
from napari_structseg.io.nifti import read_image
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.prediction.predictor import Predictor, prior_for
from napari_structseg.refine.refinement import labels_with_prior
from napari_structseg.render.rendering import render_labels
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


def evaluate(weights: Path, data: Path) -> list[dict[str, object]]:
    """Dice per class of one model on every case: as it is, and with its prior where it has one."""
    network, spec = load_weights(weights)
    rows: dict[int, list[dict[str, object]]] = {0: []}
    if spec.prior is not None:
        rows[spec.prior.iterations] = []
    began = time.perf_counter()
    for group, case, image, reference in cases(data):
        distribution = Predictor(network, spec).predict(image)
        prior = prior_for(network, image)
        for iterations, of_model in rows.items():
            controls = Controls(iterations=iterations)
            if iterations and prior is not None:
                labels = labels_with_prior(distribution, prior, controls)
            else:
                labels = render_labels(distribution, None, controls)
            scores = {
                name: dice(labels == label, reference[name])
                for label, name in TISSUES.items()
                if name in reference
            }
            of_model.append({"group": group, "case": case, "dice": scores})
    seconds = round(time.perf_counter() - began)
    return [
        {
            "model": spec.name + (f", {iterations} iterations" if iterations else ""),
            "sha256": weights_hash(weights),
            "seconds": seconds,
            "cases": of_model,
            "mean_dice": summarise(of_model),
        }
        for iterations, of_model in rows.items()
    ]


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
            lines.append(f"| {group} ({n_cases}) | {model['model']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_card(card: Path, results: dict[str, object]) -> None:
    """Put the table between its markers in the model card."""
    text = card.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    taken = {model["sha256"]: model["seconds"] for model in results["models"]}
    seconds = " and ".join(f"{one} s" for one in taken.values())
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
    known: dict[str, list[dict[str, object]]] = {}
    if options.out.exists():
        for model in json.loads(options.out.read_text())["models"]:
            known.setdefault(model["sha256"], []).append(model)
    models = []
    for path in (options.ssn, options.unet):
        if path is not None:
            models += known.get(weights_hash(path)) or evaluate(path, options.data)
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
