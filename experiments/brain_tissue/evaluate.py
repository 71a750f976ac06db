"""What brain-tissue is worth on scans it never saw: its mean, its samples and their volumes.

    python experiments/brain_tissue/evaluate.py --data DATA --model MODEL.safetensors \\
        --beside UNET.safetensors --samples 100 --montages docs/figures \\
        --out experiments/brain_tissue/results.json \\
        --card src/napari_structseg/weights/brain-tissue.md

DATA holds ``ibsr18/0.94mm`` and ``ibsr18/1.0mm`` (``CASE.nii.gz`` and ``CASE_seg.nii.gz``); the
MNI152 template and its tissue maps come with nilearn. A model whose results are in OUT already is
not evaluated again. Labels are the argmax of the mean logits (Monteiro 2020). A tissue map of
MNI152 counts as its tissue where its probability exceeds 0.5. Needs matplotlib for montages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch
from cases import TISSUES, scans
from measures import measured, summary

from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.prediction.predictor import Predictor, prior_for
from napari_structseg.refine.refinement import Refinement
from napari_structseg.render.rendering import Renderer

BEGIN, END = "<!-- table: experiments/brain_tissue/evaluate.py -->", "<!-- end of table -->"
# Scans of which montages are drawn: the template, and the first of each group of IBSR.
SHOWN = ("MNI152", "IBSR_01", "IBSR_05")
COLUMNS = (
    ("dice", "Dice of the mean"),
    ("average_below", "average sample below it"),
    ("worst_below", "worst 5 % below it"),
    ("covered", "volume within 5-95 %"),
    ("width", "width of that / volume"),
)


def evaluate(
    weights: Path, data: Path, n_samples: int, montages: Path | None
) -> list[dict[str, object]]:
    """Scores of one model on every scan: as it is, and its mean with its MRF where it has one."""
    network, spec = load_weights(weights)
    rows: dict[int, list[dict[str, object]]] = {0: []}
    if spec.prior is not None:
        rows[spec.prior.iterations] = []
    drawn = n_samples if spec.head.is_stochastic else 0
    began = time.perf_counter()
    with torch.inference_mode():
        for scan in scans(data):
            distribution = Predictor(network, spec).predict(scan.image)
            prior = prior_for(network, scan.image)
            for iterations, of_model in rows.items():
                refined = iterations and prior is not None
                shown = Refinement(distribution, prior) if refined else Renderer(distribution)
                # Mean field of every sample would take hours.
                n_drawn = 0 if iterations else drawn
                of_model.append(measured(shown.render_volume, scan, iterations, n_drawn))
                if montages is not None and scan.name in SHOWN:
                    # Scores need no matplotlib.
                    from montage import draw_montage

                    name = f"{spec.name}-{scan.name}-{iterations}.png".lower()
                    draw_montage(shown.render_volume, scan, iterations, montages / name)
    seconds = round(time.perf_counter() - began)
    return [
        {
            "model": spec.name + (f", {iterations} iterations" if iterations else ""),
            "sha256": weights_hash(weights),
            "seconds": seconds,
            "samples": 0 if iterations else drawn,
            "scans": of_model,
            "summary": summary(of_model),
        }
        for iterations, of_model in rows.items()
    ]


def table(models: list[dict[str, object]]) -> str:
    """The scores of every model and group of scans as a Markdown table."""
    titles = ["Scans", "Model", "Tissue", *(title for _, title in COLUMNS), "samples that lose 5 %"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for group in models[0]["summary"]:
        for model in models:
            found = model["summary"][group]
            for name in TISSUES.values():
                if name not in found["dice"]:
                    continue
                cells = [f"{found[key][name]:.3f}" if key in found else "" for key, _ in COLUMNS]
                lost = f"{found['lost']:.2f}" if "lost" in found else ""
                head = f"| {group} ({found['n']}) | {model['model']} | {name}"
                lines.append(f"{head} | {' | '.join(cells)} | {lost} |")
    return "\n".join(lines)


def write_card(card: Path, results: dict[str, object]) -> None:
    """Put the table between its markers in the model card."""
    text = card.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    taken = {model["sha256"]: model["seconds"] for model in results["models"]}
    seconds = " and ".join(f"{one} s" for one in taken.values())
    source = f"Measured on {results['machine']}, in {seconds}."
    text = f"{before}{BEGIN}\n{table(results['models'])}\n\n{source}\n{END}{after}"
    card.write_text(text, encoding="utf-8")


def main() -> None:
    """Evaluate the models and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="models beside it")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--montages", type=Path, help="folder for pictures to look at")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--card", type=Path, help="model card to put the table into")
    options = parser.parse_args()
    known: dict[str, list[dict[str, object]]] = {}
    if options.out.exists():
        for model in json.loads(options.out.read_text(encoding="utf-8"))["models"]:
            known.setdefault(model["sha256"], []).append(model)
    models = []
    for path in (options.model, *options.beside):
        found = known.get(weights_hash(path))
        models += found or evaluate(path, options.data, options.samples, options.montages)
    results = {
        "models": models,
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}",
        "command": "python experiments/brain_tissue/evaluate.py --data DATA --model MODEL",
    }
    options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if options.card:
        write_card(options.card, results)


if __name__ == "__main__":
    main()
