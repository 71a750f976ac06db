"""Weights of a run that are taken over, also while the run goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

from napari_structseg.errors import InputError
from napari_structseg.finetuning.families import adopt_run, versions_of
from napari_structseg.finetuning.report import read_report
from napari_structseg.finetuning.run import PARENT_NAME, TUNED_NAME
from napari_structseg.finetuning.versions import Version
from napari_structseg.io.atomic import atomic_path


def copy_weights(weights: Path, step: int) -> Path:
    """Copy weights that the run is going to replace; the best ones at its end stay as they are.

    Raises
    ------
    InputError
        If the system refuses.
    """
    if weights.name == TUNED_NAME:
        return weights
    copied = weights.parent / f"step-{step}.safetensors"
    try:
        with atomic_path(copied) as temporary:
            shutil.copyfile(weights, temporary)
    except OSError as error:
        raise InputError(
            f"Cannot copy {weights}: {error.strerror or error}. Check that the disk has room."
        ) from error
    return copied


def adopt_weights(weights: Path, step: int) -> Version:
    """Keep weights of a run as a version, and put them into use.

    Parameters
    ----------
    weights
        In the folder of the run, from :func:`copy_weights`.
    step
        After which they were written.

    Raises
    ------
    InputError, WeightsError
        If they cannot be kept. Nothing has changed then.
    """
    folder = weights.parent
    if weights.name == TUNED_NAME:
        return adopt_run(folder)
    report = read_report(folder).model_copy(update={"steps": step, "weights_step": step})
    parent = folder / PARENT_NAME
    family = versions_of(parent)
    if not family.all():
        family.adopt(parent)
    return family.adopt(weights, report)
