"""Where brain-tissue is weaker: heads with their skulls, and what its MRF leaves of single voxels.

    python experiments/brain_tissue/limits.py --data DATA --model MODEL.safetensors \\
        --out experiments/brain_tissue/limits.json

DATA holds ``ibsr18`` and ``ixi10_2mm_dlmuse``; the MNI152 template comes with nilearn. Regions of
DLMUSE are taken together as tissues: the ventricles, the lobes' white matter with brain stem and
corpus callosum, and grey matter, which is the rest.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from cases import scans
from domain_cases import masked
from scipy import ndimage

from napari_structseg.controls import MEAN, Controls
from napari_structseg.evaluation.dice import dice_per_class
from napari_structseg.image import Image
from napari_structseg.io.nifti import read_image
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.prediction.predictor import Predictor, prior_for
from napari_structseg.refine.refinement import Refinement
from napari_structseg.render.rendering import Renderer

GREY, WHITE = 2, 3
VENTRICLES = (4, 11, 49, 50, 51, 52)
WHITE_MATTER = (35, 40, 41, 44, 45, *range(81, 96))
N_HEADS, ITERATIONS, SEED = 3, 10, 7
SMOOTHED = ("MNI152", "IBSR_01", "IBSR_07")

logger = logging.getLogger("limits")


def heads(data: Path) -> Iterator[tuple[str, Image, np.ndarray]]:
    """Heads of IXI, without and with their skulls, and the tissues of DLMUSE."""
    folder = data / "ixi10_2mm_dlmuse"
    for path in islice(sorted((folder / "nifti").glob("*_ds.nii.gz")), N_HEADS):
        regions = folder / "dlmuse" / path.name.replace("_ds.", "_ds_DLMUSE.")
        found = read_image(regions).data[0].astype(int)
        truth = np.select(
            [found == 0, np.isin(found, VENTRICLES), np.isin(found, WHITE_MATTER)],
            [0, 1, WHITE],
            GREY,
        )
        name = path.name.split("-")[0]
        yield f"{name}, stripped", masked(path, regions), truth
        yield f"{name}, with skull", read_image(path), truth


def singles(labels: np.ndarray) -> int:
    """Components of one voxel, of every class."""
    return sum(
        int((np.bincount(ndimage.label(labels == label)[0].ravel())[1:] == 1).sum())
        for label in np.unique(labels)
    )


def main() -> int:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    network, spec = load_weights(options.model)
    skulls, smoothed = [], []
    with torch.inference_mode():
        for name, image, truth in heads(options.data):
            labels = Renderer(Predictor(network, spec).predict(image)).render_volume(Controls())
            dice = dice_per_class(labels, truth, spec.n_classes)
            skulls.append({"head": name, "grey": dice[GREY], "white": dice[WHITE]})
            logger.info("%s", skulls[-1])
        for scan in scans(options.data):
            if scan.name in SMOOTHED:
                distribution = Predictor(network, spec).predict(scan.image)
                own = Controls(sample=MEAN, seed=SEED)
                before = Renderer(distribution).render_volume(own)
                refined = Refinement(distribution, prior_for(network, scan.image))
                after = refined.render_volume(own.model_copy(update={"iterations": ITERATIONS}))
                volumes = [np.bincount(one.ravel(), minlength=4)[1:] for one in (before, after)]
                smoothed.append(
                    {
                        "scan": scan.name,
                        "single_voxels": [singles(before), singles(after)],
                        "volume_change": (volumes[1] / volumes[0] - 1).round(4).tolist(),
                    }
                )
                logger.info("%s", smoothed[-1])
    found = {"sha256": weights_hash(options.model), "heads": skulls, "mrf": smoothed}
    options.out.write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
