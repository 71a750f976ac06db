"""Whether bfloat16 serves as well as float32: Dice of the mean of every scan, with both.

    python experiments/brain_tissue/precision.py --data DATA --model stored.safetensors \\
        --out experiments/brain_tissue/precision.json --write brain-tissue.safetensors

Where no Dice moves by as much as .002, the model written says so (``bfloat16``), and ``auto``
computes its features in bfloat16 on processors made for it. On others this takes very long.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from cases import scans

from napari_structseg.calibration.run import write_spec
from napari_structseg.controls import Controls
from napari_structseg.io.weights import load_weights, read_spec, weights_hash
from napari_structseg.prediction.precision import Precision
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.render.rendering import Renderer

LARGEST_DIFFERENCE = 0.002
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

logger = logging.getLogger("precision")


def main() -> int:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="the model with what was found")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    rows = compare(options.data, options.model)
    largest = max(abs(row["bfloat16"] - row["float32"]) for row in rows)
    logger.info("largest difference %.5f", largest)
    found = {"sha256": weights_hash(options.model), "largest": largest, "scans": rows}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.write:
        spec = read_spec(options.model)
        spec = spec.model_copy(update={"bfloat16": largest < LARGEST_DIFFERENCE})
        write_spec(options.model, options.write, spec)
    return 0


def compare(data: Path, model: Path) -> list[dict[str, Any]]:
    """Dice of each tissue of each scan, with both precisions."""
    network, spec = load_weights(model)
    rows: list[dict[str, Any]] = []
    for scan in scans(data):
        dice: dict[str, dict[str, float]] = {}
        for precision in PRECISIONS:
            with torch.inference_mode():
                predictor = Predictor(network, spec, precision=precision)
                labels = Renderer(predictor.predict(scan.image)).render_volume(Controls())
            for tissue, reference in scan.reference.items():
                found = labels == spec.class_names.index(tissue)
                common = 2 * (found & reference).sum() / (found.sum() + reference.sum())
                dice.setdefault(tissue, {})[precision] = round(float(common), 5)
        for tissue, both in dice.items():
            rows.append({"scan": scan.name, "tissue": tissue, **both})
            logger.info("%s", rows[-1])
    return rows


if __name__ == "__main__":
    sys.exit(main())
