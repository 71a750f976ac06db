"""The files of one prediction: labels of the mean and of samples, and their entropy."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.controls import MEAN, Controls
from napari_structseg.distributions import LogitDistribution, slabs
from napari_structseg.errors import InputError
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.graph_cut.labels import CutLabels
from napari_structseg.refine.refinement import Refinement
from napari_structseg.render.rendering import SLAB_VOXELS, argmax_labels, combine
from napari_structseg.results.formats import HYPOTHESES, NIFTI, SR_NAME, SUFFIXES
from napari_structseg.results.recipe_files import RECIPE_NAME

logger = logging.getLogger(__name__)

MEAN_NAME, ENTROPY_NAME = "mean.nii.gz", "entropy.nii.gz"
PROBABILITIES_NAME, VOLUMES_NAME = "probabilities.nii.gz", "volumes.csv"
# In any format. Without samples, whose number is open.
RESULT_NAMES = (
    *(
        f"{name.removesuffix(NIFTI)}{suffix}"
        for name in (MEAN_NAME, ENTROPY_NAME, PROBABILITIES_NAME, HYPOTHESES)
        for suffix in SUFFIXES
    ),
    VOLUMES_NAME,
    SR_NAME,
    RECIPE_NAME,
)
# A NIfTI header in gzip.
_FILE_OVERHEAD = 100
_SAMPLES = "sample-[0-9][0-9][0-9]*"


def prepare_folder(out: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Make a folder, and make sure that results may and can be written there.

    Parameters
    ----------
    out
        The folder.
    inputs
        Files that must not be overwritten.
    overwrite
        Whether earlier results may be.

    Raises
    ------
    InputError
        If the system refuses, or there is something in the folder that must stay.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            there = _results_of(out)
    except OSError as error:
        raise InputError(
            f"Cannot write to the folder {out}: {error.strerror or error}. Choose another one."
        ) from error
    for path in inputs:
        if path.resolve() in [one.resolve() for one in there]:
            raise InputError(
                f"The image {path} has the name of a result and lies in the folder for results. "
                "Choose another folder: an image is never overwritten."
            )
    if there and not overwrite:
        raise InputError(
            f"{out} already holds results ({', '.join(path.name for path in there[:3])}"
            f"{', …' if len(there) > 3 else ''}). Choose another folder, or replace them with "
            "--overwrite."
        )


def check_report(path: Path, *, overwrite: bool) -> None:
    """Raise InputError where there is a file of the report's name that is not to be replaced."""
    if path.exists() and not overwrite:
        raise InputError(
            f"There is a file {path} already. Choose another name with --report, or replace it "
            "with --overwrite."
        )


def check_disk(out: Path, spatial_shape: Sequence[int], n_samples: int) -> None:
    """Refuse samples that cannot fit on the disk however well they compress.

    Raises
    ------
    InputError
        If the disk has no room for them.
    """
    # gzip makes at best one byte of about a thousand, and every file has a header.
    required = n_samples * (math.prod(spatial_shape) // 1030 + _FILE_OVERHEAD)
    free = shutil.disk_usage(out).free
    if required > free:
        raise InputError(
            f"{n_samples} samples take at least {required / 1e9:.1f} GB on the disk of {out}, but "
            f"{free / 1e9:.1f} GB are free. Ask for fewer, or choose a folder on another disk."
        )


def remove_results(out: Path) -> None:
    """Remove the results of an earlier prediction, the recipe that promises them first."""
    for path in sorted(_results_of(out), key=lambda path: path.name != RECIPE_NAME):
        path.unlink()


def render_results(
    distribution: LogitDistribution,
    controls: Controls,
    n_samples: int,
    prior: MarkovPrior | None = None,
    *,
    cut: CutLabels | None = None,
    first_number: int = 1,
    with_probabilities: bool = False,
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Render what is written to files; of all samples only the sum of probabilities is kept.

    Parameters
    ----------
    distribution
        p(eta | x).
    controls
        Seed, temperature, class scales, and how the MRF is applied.
    n_samples
        How many samples of the series.
    prior
        What labels, probabilities and their entropy are refined with, if the controls say so.
    cut
        What labels are cut by, if the controls say so. Probabilities and entropy are the model's
        own then: a minimum has none.
    first_number
        What the file of the first sample, ``Noise(seed, 1)``, is called: 1, as in the viewer; 0
        in recipes of the first format.
    with_probabilities
        Give those of the classes, too: the mean over the samples, after mean field where an MRF
        refines the labels.

    Raises
    ------
    InputError
        If mean field leaves the finite numbers.

    Yields
    ------
    name
        Of the file.
    voxels
        Labels, uint8, or the entropy in nats, float32; ``(*spatial)``. Probabilities are
        ``(C, *spatial)``, float32. Overwritten by the next.
    """
    weights = controls.weights_of(distribution)
    shape = distribution.spatial_shape
    regions = list(slabs(shape, SLAB_VOXELS))
    refinement = None
    if prior is not None and controls.refines:
        refinement = Refinement(distribution, prior)
    cut = cut if controls.cuts else None
    # Mean field gives its probabilities as arrays, wherever it is computed.
    where = distribution.device if refinement is None else torch.device("cpu")
    total = torch.zeros((distribution.n_classes, *shape), device=where)
    labels = np.empty(shape, np.uint8)
    for sample in range(n_samples + 1):
        # Samples of a deterministic model are its mean: one trajectory serves all.
        drawn = sample if distribution.is_stochastic else MEAN
        shown = controls.model_copy(update={"sample": drawn, "latent": ()})
        noise = None if shown.noise is None else shown.tempered(shown.noise, distribution)
        if refinement is not None:
            with torch.inference_mode():
                labels = refinement.render_volume(shown)
            warning = refinement.trajectory(shown).convergence().warning
            if warning and sample == MEAN:
                logger.warning("%s", warning)
        elif cut is not None:
            labels = cut.render_volume(shown)
        counts = sample != MEAN or n_samples == 0
        for region in regions:
            part = total[(slice(None), *region)]
            if refinement is not None:
                if counts:
                    part += torch.from_numpy(refinement.probabilities(shown, region))
                continue
            mean = distribution.mean(region)
            offset = None if noise is None else distribution.offset(noise, region)
            if cut is None:
                labels[region] = argmax_labels(mean, offset, weights).cpu().numpy()
            if counts:
                part += combine(mean, offset, weights).softmax(dim=0)
        number = first_number + sample - 1
        yield MEAN_NAME if sample == MEAN else f"sample-{number:03d}.nii.gz", labels
    entropy = np.empty(shape, np.float32)
    for region in regions:
        probability = total[(slice(None), *region)] / max(n_samples, 1)
        # Rounding can bring a probability above 1, and the entropy below 0.
        nats = torch.special.entr(probability).sum(dim=0).clamp(min=0)
        entropy[region] = nats.cpu().numpy()
    yield ENTROPY_NAME, entropy
    if with_probabilities:
        yield PROBABILITIES_NAME, total.cpu().numpy() / np.float32(max(n_samples, 1))


def _results_of(folder: Path) -> list[Path]:
    """Files of the folder that have the name of a result."""
    named = (folder / name for name in RESULT_NAMES)
    samples = (folder.glob(f"{_SAMPLES}{suffix}") for suffix in SUFFIXES)
    return [*(path for path in named if path.exists()), *sorted(set(chain.from_iterable(samples)))]
