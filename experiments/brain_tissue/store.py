"""The trained brain-tissue as it is shipped: weights in half precision, below 5 MB.

    python experiments/brain_tissue/store.py --model run-3/model.safetensors \\
        --out src/napari_structseg/weights/brain-tissue.safetensors

Says in how many voxels of MNI152 the labels of the mean differ from those of the model as it was
trained. A file that would be too large is not written.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from napari_structseg.controls import Controls
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.weights import load_weights, write_tensors
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.render.rendering import Renderer
from napari_structseg.sample_data import load_mni152

LARGEST_BYTES = 5_000_000

logger = logging.getLogger("store")


def main() -> int:
    """Write the file, and compare both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    # Sound, and of this program.
    load_weights(options.model)
    with safe_open(options.model, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    halved = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    with atomic_path(options.out) as temporary:
        write_tensors(temporary, halved, metadata)
        size = temporary.stat().st_size
        if size > LARGEST_BYTES:
            raise SystemExit(f"{size} bytes are more than {LARGEST_BYTES}: nothing was written.")
    share = (labels(options.model) != labels(options.out)).mean()
    logger.info("%d bytes; labels of %.4f %% of the voxels differ", size, 100 * share)
    return 0


def labels(model: Path) -> npt.NDArray[np.uint8]:
    """Of the mean, on MNI152."""
    network, spec = load_weights(model)
    with torch.inference_mode():
        distribution = Predictor(network, spec).predict(load_mni152())
        return Renderer(distribution).render_volume(Controls())


if __name__ == "__main__":
    sys.exit(main())
